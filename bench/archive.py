"""The archive: one SQLite file that keeps every reading and outcome. All SQL is here.

What is concluded is not stored. One process writes, and commits at every evaluation, so that a run that is killed
loses no evaluation it has shown; others may read meanwhile. When the writer is done the file needs no companions.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench.contracts import Ended, Evaluated, Event, Finished, Known, Outcome, Recalled, Seated, Started
from bench.errors import ArchiveError
from bench.plan import Phase, Plan, Study, Trial
from bench.search import Dimension
from bench.suite import Threshold

SCHEMA_VERSION = 1

_SCHEMA = f"""
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE suites (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL, planned TEXT NOT NULL);
CREATE TABLE environments (
    id TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE studies (
    id TEXT PRIMARY KEY, workload TEXT NOT NULL, batch_size INTEGER NOT NULL, content TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0);
CREATE TABLE trials (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, phase TEXT NOT NULL, number INTEGER NOT NULL,
    metaparameters TEXT NOT NULL, init_seed INTEGER NOT NULL, order_seed INTEGER NOT NULL, max_steps INTEGER NOT NULL,
    environment TEXT NOT NULL REFERENCES environments, way TEXT, outcome TEXT, step INTEGER, train_seconds REAL);
CREATE TABLE members (
    study TEXT NOT NULL REFERENCES studies, trial INTEGER NOT NULL REFERENCES trials, PRIMARY KEY (study, trial))
    WITHOUT ROWID;
CREATE TABLE readings (
    trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (trial, name, step)) WITHOUT ROWID;
"""

# A trial with one of these is not measured again; any other is as good as not begun.
_SETTLED = ("reached", "overtaken", "exhausted", "diverged")


@dataclass(frozen=True)
class TrialRecord:
    """What the archive holds of a trial; outcome, step and seconds are None while it has not ended."""

    key: int
    id: str
    phase: Phase
    number: int
    metaparameters: dict[str, Any]
    max_steps: int
    environment: str
    outcome: Outcome | None
    step: int | None
    train_seconds: float | None


@dataclass(frozen=True)
class StudyRecord:
    """What the archive holds of a study. `content` is what the suite says of it (`_content`)."""

    id: str
    workload: str
    batch_size: int
    content: dict[str, Any]
    finished: bool
    trials: tuple[TrialRecord, ...]


@dataclass(frozen=True)
class ImportedTrial:
    """A trial that another program trained, how it ended, and its readings as (step, name, value)."""

    trial: Trial
    outcome: Outcome
    step: int
    readings: Sequence[tuple[int, str, float]]


class Archive:
    """An open archive. `Archive.reading` and `Archive.writing` open one."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    @contextmanager
    def reading(cls, path: Path) -> Iterator[Archive]:
        """An archive that exists, for reading; raises ArchiveError if it is missing or not an archive."""
        if not path.is_file():
            raise ArchiveError(
                f"{path}: no such archive; 'bench run SUITE' writes one, 'bench list archives' shows those here"
            )
        with (
            _sqlite_errors(path),
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection,
        ):
            _check_version(path, connection)
            yield cls(path, connection)

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Archive]:
        """An archive to write to, made if it is missing; raises ArchiveError if another process writes to it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_suffix(".lock").open("w")
        except OSError as error:
            raise ArchiveError(
                f"{path}: cannot be written: {error.strerror}; choose a folder with --results"
            ) from error
        with lock, _sqlite_errors(path):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArchiveError(f"{path}: another bench run is writing to it; wait for it, or use --label") from None
            with closing(sqlite3.connect(path)) as connection:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                _check_version(path, connection)
                # Readers are not held up while a run writes; a closed file must open in a read-only folder.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA foreign_keys = ON")
                try:
                    yield cls(path, connection)
                finally:
                    if connection.execute("SELECT count(*) FROM suites").fetchone()[0] == 0:
                        path.unlink()  # nothing was planned: the run was refused
                    # Refused while somebody reads; the next writer to close will do it.
                    with suppress(sqlite3.OperationalError):
                        connection.execute("PRAGMA journal_mode = DELETE")

    # ---- writing ------------------------------------------------------------------------------------------------

    def plan(self, plan: Plan) -> None:
        """Records what the suite now asks for, and its text."""
        planned = json.dumps([study.id for study in plan.studies])
        last = self._db.execute("SELECT text, planned FROM suites ORDER BY number DESC").fetchone()
        with self._db:
            if last != (plan.suite.text, planned):
                self._db.execute(
                    "INSERT INTO suites (name, text, planned) VALUES (?, ?, ?)",
                    (plan.suite.name, plan.suite.text, planned),
                )
            # What a study is depends on its id, what its workload is called does not.
            self._db.executemany(
                "INSERT INTO studies (id, workload, batch_size, content) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET workload = excluded.workload",
                [
                    (study.id, study.workload.name, study.batch_size, json.dumps(_content(study)))
                    for study in plan.studies
                ],
            )

    def environment(self, content: Mapping[str, Any]) -> str:
        """Records an environment once; its id."""
        text = json.dumps(content, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (name, text))
        return name

    def record(self, study: Study, environment: str, event: Event) -> None:
        """Keeps one event, committed when this returns."""
        with self._db:
            match event:
                case Started(trials):
                    for trial in trials:
                        self._start(trial, environment)
                    self._join(study, trials)
                case Evaluated(step, readings):
                    self._db.executemany(
                        "INSERT OR REPLACE INTO readings SELECT key, ?, ?, ? FROM trials WHERE id = ?",
                        [
                            (step, name, value, trial)
                            for trial, seen in readings.items()
                            for name, value in seen.items()
                        ],
                    )
                case Ended(trial, outcome, step, seconds):
                    self._db.execute(
                        "UPDATE trials SET outcome = ?, step = ?, train_seconds = ? WHERE id = ?",
                        (outcome, step, seconds, trial.id),
                    )
                case Recalled(trials):
                    self._join(study, trials)
                case Seated(trials, way):
                    self._db.executemany(
                        "UPDATE trials SET way = ? WHERE id = ?",
                        [(f"{way.name}: {way.reason}", trial.id) for trial in trials],
                    )
                case Finished():
                    self._db.execute("UPDATE studies SET finished = 1 WHERE id = ?", (study.id,))

    def close_open_trials(self, study: Study, outcome: Outcome) -> None:
        """Gives the trials of a study that have not ended an outcome: the process that ran them is gone."""
        with self._db:
            self._db.execute(
                "UPDATE trials SET outcome = ? WHERE outcome IS NULL"
                " AND key IN (SELECT trial FROM members WHERE study = ?)",
                (outcome, study.id),
            )

    def _start(self, trial: Trial, environment: str) -> None:
        # A trial that did not end is from a run that was cut off: begin again. One that was overtaken, and now has to
        # go further, belongs to a finished study too: it stands as it is until its new outcome takes its place.
        self._db.execute(
            "DELETE FROM readings WHERE trial ="
            " (SELECT key FROM trials WHERE id = ? AND coalesce(outcome, '') != 'overtaken')",
            (trial.id,),
        )
        self._db.execute(
            "INSERT INTO trials (id, phase, number, metaparameters, init_seed, order_seed, max_steps, environment)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET outcome = NULL, step = NULL, train_seconds = NULL,"
            " environment = excluded.environment WHERE outcome IS NOT 'overtaken'",
            (
                trial.id,
                trial.phase,
                trial.number,
                json.dumps(trial.metaparameters, sort_keys=True),
                trial.init_seed,
                trial.order_seed,
                trial.max_steps,
                environment,
            ),
        )

    def _join(self, study: Study | StudyRecord, trials: Iterable[Trial]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO members SELECT ?, key FROM trials WHERE id = ?",
            [(study.id, trial.id) for trial in trials],
        )

    # ---- importing ----------------------------------------------------------------------------------------------

    def begin_import(self) -> None:
        """Drops what an import that was killed left behind; raises ArchiveError if the archive holds a suite."""
        held = self._db.execute("SELECT name FROM suites").fetchone()
        if held is not None:
            raise ArchiveError(f"{self.path}: holds the suite '{held[0]}' already; import into another with --label")
        with self._db:
            for table in ("readings", "members", "trials", "studies", "environments"):
                self._db.execute(f"DELETE FROM {table}")

    def import_study(self, study: StudyRecord, environment: str, trials: Iterable[ImportedTrial]) -> None:
        """Keeps a study and its trials, taken one at a time, whole or not at all."""
        with self._db:
            self._db.execute(
                "INSERT INTO studies VALUES (?, ?, ?, ?, ?)",
                (study.id, study.workload, study.batch_size, json.dumps(study.content), study.finished),
            )
            for imported in trials:
                self._start(imported.trial, environment)
                self._join(study, [imported.trial])
                (key,) = self._db.execute("SELECT key FROM trials WHERE id = ?", (imported.trial.id,)).fetchone()
                self._db.execute(
                    "UPDATE trials SET outcome = ?, step = ? WHERE key = ?", (imported.outcome, imported.step, key)
                )
                self._db.executemany(
                    "INSERT INTO readings VALUES (?, ?, ?, ?)", ((key, *reading) for reading in imported.readings)
                )

    def finish_import(self, name: str, text: str, studies: Sequence[str]) -> None:
        """Records what was imported as a suite: until then the archive counts as empty, and is not left behind."""
        with self._db:
            self._db.execute(
                "INSERT INTO suites (name, text, planned) VALUES (?, ?, ?)", (name, text, json.dumps(studies))
            )

    # ---- reading ------------------------------------------------------------------------------------------------

    def finished(self) -> set[str]:
        """The ids of studies that have been measured."""
        return {row[0] for row in self._db.execute("SELECT id FROM studies WHERE finished")}

    def known(self, study: Study) -> dict[str, Known]:
        """Settled trials, by id, among which the study will find its own: those of finished studies at its batch size.

        A study that was cut off is begun again whole: which trials train side by side can change the last digits.
        """
        rows = self._db.execute(
            "SELECT DISTINCT trials.key, trials.id, outcome, step FROM trials"
            " JOIN members ON members.trial = trials.key JOIN studies ON studies.id = members.study"
            f" WHERE finished AND batch_size = ? AND outcome IN ({', '.join('?' * len(_SETTLED))})",
            (study.batch_size, *_SETTLED),
        ).fetchall()
        workload = study.workload
        return {
            name: Known(outcome, step, self.first_step(key, workload.reading, workload.threshold))
            for key, name, outcome, step in rows
        }

    def first_step(self, trial: int, reading: str, threshold: Threshold) -> int | None:
        """Steps to target: the first evaluated step whose reading meets the threshold; None for a miss."""
        comparison, bound = ("<=", threshold.at_most) if threshold.at_most is not None else ("<", threshold.below)
        row = self._db.execute(
            f"SELECT min(step) FROM readings WHERE trial = ? AND name = ? AND value {comparison} ?",
            (trial, reading, bound),
        ).fetchone()
        return cast("int | None", row[0])

    def step_before(self, trial: int, reading: str, step: int) -> int:
        """The evaluated step before a step; 0 where it was the first."""
        row = self._db.execute(
            "SELECT max(step) FROM readings WHERE trial = ? AND name = ? AND step < ?", (trial, reading, step)
        ).fetchone()
        return cast("int | None", row[0]) or 0

    def readings(self, trial: int) -> list[tuple[int, str, float]]:
        """Every reading of a trial as (step, name, value), in the order of steps."""
        return self._db.execute(
            "SELECT step, name, value FROM readings WHERE trial = ? ORDER BY step, name", (trial,)
        ).fetchall()

    def suite_name(self) -> str:
        """The name of the suite last run into this archive."""
        return self._last_suite()[0]

    def suite_text(self) -> str:
        """The suite last run into this archive, as its file had it."""
        row = self._db.execute("SELECT text FROM suites ORDER BY number DESC LIMIT 1").fetchone()
        return cast("str", row[0]) if row else ""

    def studies(self) -> list[StudyRecord]:
        """The studies that the suite last run asks for, in its order."""
        records = {
            row[0]: StudyRecord(row[0], row[1], row[2], json.loads(row[3]), bool(row[4]), tuple(self._trials(row[0])))
            for row in self._db.execute("SELECT id, workload, batch_size, content, finished FROM studies")
        }
        return [records[study] for study in json.loads(self._last_suite()[1])]

    def environments(self) -> dict[str, dict[str, Any]]:
        """Every environment in which readings were taken, by id."""
        return {name: json.loads(text) for name, text in self._db.execute("SELECT id, content FROM environments")}

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
        for key, name, phase, number, metaparameters, *rest in rows:
            yield TrialRecord(key, name, phase, number, json.loads(metaparameters), *rest)


def _content(study: Study) -> dict[str, Any]:
    """What a reader needs of a study without its suite."""
    workload = study.workload
    entry = workload.entry
    return {
        **{key: str(getattr(workload, key)) for key in ("model", "dataset", "optimizer", "schedule")},
        "reading": workload.reading,
        "threshold": workload.threshold.model_dump(exclude_none=True),
        "max_steps": entry.max_steps,
        "trials": entry.search.trials,
        "seeds": entry.confirm.seeds,
        "slack": workload.slack,
        "probes": entry.probes,
        "precision": entry.precision,
        "space": {
            name: dimension.model_dump() if isinstance(dimension, Dimension) else dimension
            for name, dimension in workload.space.items()
        },
    }


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise ArchiveError(
            f"{path}: has schema version {version}; this bench reads and writes version {SCHEMA_VERSION}"
        )


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ArchiveError(f"{path}: cannot be used as an archive: {error}") from error
