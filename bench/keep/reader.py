"""What may be asked of an archive: its studies, trials, readings and environments, each checked as it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from bench.ask.plan import Study, Trial
from bench.ask.suite import Threshold
from bench.crossing import Crossing, CrossingRule, crossing_of
from bench.errors import ArchiveError, first_line
from bench.events import Known
from bench.keep import shape
from bench.keep.records import SETTLED, StudyRecord, TrialRecord, described, found
from bench.keep.schema import KEYS, SCHEMA, Table

if TYPE_CHECKING:
    import sqlite3

_TRIAL = TypeAdapter(TrialRecord)
_PLANNED = TypeAdapter(list[str])
_ENVIRONMENT = TypeAdapter(dict[str, Any])


class Reader:
    """Answers out of an archive that is open."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    def finished(self) -> set[str]:
        """The ids of studies that have been measured, each of their trials to an outcome of its own."""
        own = ", ".join("?" * len(SETTLED))
        rows = self._db.execute(
            "SELECT id FROM studies WHERE finished AND NOT EXISTS (SELECT 1 FROM members JOIN trials ON key = trial"
            f" WHERE study = studies.id AND coalesce(outcome, '') NOT IN ('infeasible', {own}))",
            SETTLED,
        )
        return {row[0] for row in rows}

    def outcome(self, trial: Trial) -> str | None:
        """How a trial ended; None where it has not, or was never begun."""
        row = self._db.execute("SELECT outcome FROM trials WHERE id = ?", (trial.id,)).fetchone()
        return cast("str | None", row[0]) if row else None

    def infeasible(self) -> set[str]:
        """The ids of studies of which a trial did not fit in memory."""
        rows = self._db.execute(
            "SELECT study FROM members JOIN trials ON trials.key = members.trial WHERE outcome = 'infeasible'"
        )
        return {row[0] for row in rows}

    def known(self, study: Study, also: Iterable[str] = ()) -> dict[str, Known]:
        """Settled trials, by id, among which the study will find its own: those of finished studies at its batch size.

        A study that was cut off is begun again whole: which trials train side by side can change the last digits.
        also: ids of trials that count as well, though their study is not finished.
        """
        rows = self._db.execute(
            "SELECT DISTINCT trials.key, trials.id, outcome, step, max_steps FROM trials"
            " JOIN members ON members.trial = trials.key JOIN studies ON studies.id = members.study"
            " WHERE (finished AND batch_size = ? OR trials.id IN (SELECT value FROM json_each(?)))"
            f" AND outcome IN ({', '.join('?' * len(SETTLED))})",
            (study.batch_size, json.dumps(list(also)), *SETTLED),
        ).fetchall()
        workload = study.workload
        return {
            name: Known(outcome, step, self.crossing(key, budget, workload.reading, workload.threshold).at)
            for key, name, outcome, step, budget in rows
        }

    def crossing(
        self, trial: int, budget: int, reading: str, threshold: Threshold, rule: CrossingRule | None = None
    ) -> Crossing:
        """Where a trial of `budget` steps at most crosses its target, by the threshold's own rule or another; raises
        ArchiveError where a reading is no number.
        """
        rows = self._db.execute(
            "SELECT step, value, status FROM readings WHERE trial = ? AND name = ? ORDER BY step", (trial, reading)
        )
        try:
            path = [(step, float(found(value, status))) for step, value, status in rows]
        except (TypeError, ValueError) as error:
            raise ArchiveError(f"{self.path}: holds a reading that is no number ({first_line(error)})") from error
        return crossing_of(path, threshold.met, rule or threshold.rule, budget)

    def readings(self, trial: int) -> list[tuple[int, str, float]]:
        """Every reading of a trial as (step, name, value), in the order of steps."""
        rows = self._db.execute(
            "SELECT step, name, value, status FROM readings WHERE trial = ? ORDER BY step, name", (trial,)
        )
        return [(step, name, found(value, status)) for step, name, value, status in rows]

    def look_through(self) -> None:
        """Reads all but the readings; raises ArchiveError where it is not what bench writes."""
        self.studies()
        self.environments()

    def suite_name(self) -> str:
        """The name of the suite last run into this archive."""
        return self._last_suite()[0]

    def studies(self) -> list[StudyRecord]:
        """The studies that the suite last run asks for, in its order."""
        rows = {
            row[0]: row for row in self._db.execute("SELECT id, workload, batch_size, content, finished FROM studies")
        }
        with _plausible(self.path):
            planned = _PLANNED.validate_python(shape.parsed(self._last_suite()[1]))
            return [self._study(*rows[study]) for study in planned]

    def _study(self, name: str, workload: str, batch_size: int, content: str, finished: int) -> StudyRecord:
        trials, fault = tuple(self._trials(name)), None if finished else self._fault(name)
        return StudyRecord(name, workload, batch_size, described(content), bool(finished), trials, fault)

    def _fault(self, study: str) -> str | None:
        """The last words of a study's workers that a machine did not take along, nor a lack of memory; None where it
        was begun again since, and cut off or still goes on.
        """
        row = self._db.execute(
            "SELECT message FROM faults WHERE study = ? AND outcome IN ('crashed', 'timed out') AND NOT EXISTS"
            " (SELECT 1 FROM members JOIN trials ON key = trial WHERE study = ?"
            " AND coalesce(outcome, 'interrupted') = 'interrupted') ORDER BY number DESC LIMIT 1",
            (study, study),
        ).fetchone()
        return cast("str | None", row[0]) if row else None

    def rows(self, table: Table, trial: int | None = None) -> list[tuple[Any, ...]]:
        """Every row of a table as it is kept, in the order of its key; of readings, those of a trial."""
        where, values = ("", ()) if trial is None else (" WHERE trial = ?", (trial,))
        return self._db.execute(f"SELECT * FROM {table}{where} ORDER BY {KEYS[table]}", values).fetchall()

    @staticmethod
    def layout(table: Table) -> dict[str, shape.Column]:
        """The columns of a table, and what may stand in each."""
        return shape.columns(SCHEMA)[table]

    def suite_text(self) -> str:
        """The text of the suite last run into this archive."""
        row = self._db.execute("SELECT text FROM suites ORDER BY number DESC LIMIT 1").fetchone()
        return str(row[0]) if row else ""

    def environments(self) -> dict[str, dict[str, Any]]:
        """Every environment in which readings were taken, by id."""
        with _plausible(self.path):
            rows = self._db.execute("SELECT id, content FROM environments")
            return {name: _ENVIRONMENT.validate_python(shape.parsed(text)) for name, text in rows}

    def _last_suite(self) -> tuple[str, str]:
        row = self._db.execute("SELECT name, planned FROM suites ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            raise ArchiveError(f"{self.path}: holds no suite; it was made by a run that was cut off, run it again")
        return cast("tuple[str, str]", row)

    def _trials(self, study: str) -> Iterator[TrialRecord]:
        rows = self._db.execute(
            "SELECT key, id, phase, number, metaparameters, max_steps, environment, outcome, step, train_seconds"
            " FROM trials JOIN members ON members.trial = trials.key WHERE study = ? ORDER BY phase DESC, number",
            (study,),
        )
        names = [field.name for field in fields(TrialRecord)]
        for key, name, phase, number, metaparameters, *rest in rows:
            values = (key, name, phase, number, shape.parsed(metaparameters), *rest)
            yield _TRIAL.validate_python(dict(zip(names, values, strict=True)))


@contextmanager
def _plausible(path: Path) -> Iterator[None]:
    """What an archive holds may have been written by anybody."""
    try:
        yield
    except (KeyError, ValueError) as error:  # of JSON and of pydantic too
        what = f"misses {error}" if isinstance(error, KeyError) else first_line(error)
        raise ArchiveError(f"{path}: holds what bench does not write ({what})") from error
