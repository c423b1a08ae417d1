"""The archive: one SQLite file that keeps every reading and outcome.

What is concluded is not stored. One process writes, and commits at every evaluation, so that a run that is killed
loses no evaluation it has shown; others may read meanwhile. When the writer is done the file needs no companions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.ask.plan import Plan, PlanUnit, Timing, Trial
from bench.errors import ArchiveError
from bench.events import Ended, Evaluated, Event, Failed, Finished, Lost, Recalled, Seated, Started
from bench.keep import database, entries, seals, shape, storage
from bench.keep.reader import Reader
from bench.keep.records import SETTLED, ImportedTrial, StudyRecord
from bench.keep.schema import SCHEMA, Table

if TYPE_CHECKING:
    import sqlite3


class Archive(Reader):
    """An open archive. `Archive.reading` and `Archive.writing` open one."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: storage.Lock | None = None) -> None:
        super().__init__(path, connection)
        self._lock = lock
        self._importing = False

    @classmethod
    @contextmanager
    def reading(cls, path: Path, *, whole: bool = False) -> Iterator[Archive]:
        """An archive that exists, for reading; raises ArchiveError if it is missing or not an archive.

        whole: looks at every seal of an archive of any size, as must be before what it holds is sealed anew elsewhere.
        """
        with database.readable(path, whole=whole) as connection:
            yield cls(path, connection)

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Archive]:
        """An archive to write to, made if it is missing and brought to this schema version if it is older.

        Raises ArchiveError if another process writes to it, or nothing can be written where it lies, and StorageError
        where the disk takes no more later on.
        """
        with storage.locked(path) as lock, database.writable(path) as connection:
            archive = cls(path, connection, lock)
            try:
                yield archive
            finally:
                if archive._counts_as_empty():
                    path.unlink()

    def _counts_as_empty(self) -> bool:
        """Whether nothing was planned, or an import got nowhere. What was salvaged may hold trials and no suite."""
        held = [
            table for table in ("suites", "studies", "trials") if self._db.execute(f"SELECT 1 FROM {table}").fetchone()
        ]
        return not held or (self._importing and "suites" not in held)

    @contextmanager
    def _written(self, *, outcome: bool = True) -> Iterator[None]:
        """What is written inside is in the archive afterwards, whole, or not at all; Ctrl-C waits until it is.

        An outcome is on the disk before anything else happens; a reading may be lost with the power, and only then.
        """
        self._db.execute(f"PRAGMA synchronous = {'FULL' if outcome else 'NORMAL'}")
        with storage.interrupts_held(), self._db:
            yield
            if self._lock:
                self._lock.insist()

    def plan(self, plan: Plan) -> None:
        """Records what the suite now asks for, and its text."""
        planned = json.dumps([unit.id for unit in plan.units])
        last = self._db.execute("SELECT text, planned FROM suites ORDER BY number DESC").fetchone()
        with self._written():
            if last != (plan.suite.text, planned):
                entries.suite(self._db, plan.suite.name, plan.suite.text, planned)
            entries.studies(self._db, plan.units)

    def environment(self, content: Mapping[str, Any]) -> str:
        """Records an environment once; its id."""
        text = json.dumps(content, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        with self._written():
            self._db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (name, text))
        return name

    def record(self, study: PlanUnit, environment: str, event: Event) -> None:
        """Keeps one event, committed when this returns."""
        with self._written(outcome=not isinstance(event, Evaluated)):
            match event:
                case Started(trials):
                    for trial in trials:
                        entries.start(self._db, trial, environment)
                    entries.join(self._db, study, trials)
                case Evaluated(step, readings):
                    entries.readings(self._db, step, readings)
                case Ended(trial, "infeasible") if self.outcome(trial) == "overtaken":
                    seals.seal(self._db, "trial", trial.id)  # as far as it went elsewhere, it is as it was
                case Ended():
                    entries.end(self._db, event, environment)
                case Recalled(trials):
                    entries.join(self._db, study, trials)
                case Seated(trials, way):
                    entries.seat(self._db, trials, way)
                case Finished():
                    entries.finish(self._db, study)

    def unfinish(self, study: PlanUnit) -> None:
        """Takes back that a study was measured whole: begun again, it fell short."""
        with self._written():
            entries.unfinish(self._db, study)

    def fault(self, study: PlanUnit, event: Failed | Lost, training: Mapping[Trial, int]) -> None:
        """Records that a study's worker ended early, and what was training there, with the last step seen of each."""
        with self._written():
            entries.fault(self._db, study, event, training)

    def interrupt(self, study: PlanUnit, training: Mapping[Trial, int]) -> None:
        """Marks the trials of a study that have not ended: the run that trained them is over."""
        with self._written():
            entries.close_study(self._db, study, "interrupted", training)

    def recall(self, timing: Timing) -> list[Trial]:
        """The processes of a timing that are still to be timed; where there are none, it is finished.

        Those timed before, by a suite that asked for more or fewer of them, take part in it.
        """
        marks = ", ".join("?" * len(SETTLED))
        known = f"SELECT 1 FROM trials WHERE id = ? AND outcome IN ({marks})"
        left = [each for each in timing.processes() if not self._db.execute(known, (each.id, *SETTLED)).fetchone()]
        with self._written():
            entries.join(self._db, timing, [each for each in timing.processes() if each not in left])
            if not left:
                entries.finish(self._db, timing)
        return left

    @contextmanager
    def filled(self) -> Iterator[sqlite3.Connection]:
        """The tables, to be filled by `merge`; what is put in is sealed, and is in the archive whole or not at all."""
        self._db.execute("PRAGMA synchronous = FULL")
        with self._db:
            self._db.execute("BEGIN")
            yield self._db
            seals.seal_all(self._db)
            if self._lock:
                self._lock.insist()

    def copy(self, path: Path) -> None:
        """Puts the archive as it stands at `path`, whole, in place of what lies there."""
        database.copy(self._db, path)

    def begin_import(self) -> None:
        """Drops what an import that was killed left behind; raises ArchiveError if the archive holds anything else."""
        held = self._db.execute("SELECT name FROM suites").fetchone()
        if held is not None:
            raise ArchiveError(f"{self.path}: holds the suite '{held[0]}' already; import into another with --label")
        imported = (
            "SELECT study, trial FROM members JOIN trials ON key = trial JOIN environments ON environments.id ="
            " environment WHERE content LIKE '{\"imported_from\"%'"
        )
        own = self._db.execute(
            f"SELECT 1 FROM studies WHERE id NOT IN (SELECT study FROM ({imported}))"
            f" UNION ALL SELECT 1 FROM trials WHERE key NOT IN (SELECT trial FROM ({imported}))"
        ).fetchone()
        if own is not None:
            raise ArchiveError(f"{self.path}: holds trials that were measured; import into another with --label")
        self._importing = True
        with self._written():
            for table in ("readings", "members", "trials", "studies", "environments", "seals"):
                self._db.execute(f"DELETE FROM {table}")

    def import_study(self, study: StudyRecord, environment: str, trials: Iterable[ImportedTrial]) -> None:
        """Keeps a study and its trials, taken one at a time, whole or not at all."""
        with self._written():
            entries.imported(self._db, study, environment, trials)

    def finish_import(self, name: str, text: str, studies: Sequence[str]) -> None:
        """Records what was imported as a suite: until then the archive counts as empty, and is not left behind."""
        with self._written():
            entries.suite(self._db, name, text, json.dumps(studies))


def restore(path: Path, rows: Mapping[Table, Sequence[tuple[Any, ...]]]) -> None:
    """Writes a new archive of what another held, and seals it; raises ArchiveError, and leaves none behind, where that
    is not what bench writes.
    """
    with database.made(path) as connection:
        for table, values in rows.items():
            if values:
                places = ", ".join("?" * len(values[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise ArchiveError(f"{path}: holds rows that refer to what is not there")
        for odd in shape.odd_cells(connection, SCHEMA):
            raise ArchiveError(f"{path}: {odd}")
        Reader(path, connection).look_through()
