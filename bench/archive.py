"""The archive: one SQLite file that keeps every reading and outcome. All SQL is here.

What is concluded is not stored. One process writes, and commits at every evaluation, so that a run that is killed
loses no evaluation it has shown; others may read meanwhile. When the writer is done the file needs no companions.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NotRequired, cast, get_args

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from bench import migrations, seals, shape, storage
from bench.contracts import (
    Ended,
    Evaluated,
    Event,
    Failed,
    Finished,
    Known,
    Lost,
    Outcome,
    Recalled,
    Seated,
    Started,
)
from bench.errors import ArchiveError
from bench.plan import Phase, Plan, Study, TimedMeasure, Timing, Trial
from bench.search import Space, Value, as_plain
from bench.suite import UNITS, Growth, Threshold, TimingOptions

SCHEMA_VERSION = 2

# faults: a worker that ended early, the trials it was training as {id: last step seen}, and its last words.
# seals: hashes of what will not change any more, so that what changed all the same is noticed (`seals.py`).
SCHEMA = f"""
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
    trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, status TEXT,
    PRIMARY KEY (trial, name, step)) WITHOUT ROWID;
CREATE TABLE faults (
    number INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES studies, trials TEXT NOT NULL, outcome TEXT NOT NULL,
    signal TEXT, message TEXT NOT NULL, trace TEXT NOT NULL);
CREATE TABLE seals (
    kind TEXT NOT NULL, name TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
"""

# What is sealed is looked at whenever an archive of at most so many bytes is opened, about a second each 16 MiB;
# `bench verify` looks at any.
CHECKED_BYTES = 2**26

Table = Literal["suites", "environments", "studies", "trials", "members", "readings", "faults"]
_KEYS: dict[Table, str] = {
    "suites": "number",
    "environments": "id",
    "studies": "id",
    "trials": "key",
    "members": "study, trial",
    "readings": "trial, name, step",
    "faults": "number",
}

# A trial with one of these is not measured again; any other is as good as not begun.
_SETTLED = ("reached", "overtaken", "exhausted", "diverged")


@dataclass(frozen=True)
class TrialRecord:
    """What the archive holds of a trial; outcome, step and seconds are None while it has not ended."""

    key: int
    id: str
    phase: Phase
    number: int
    metaparameters: dict[str, Value]
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

    @property
    def measure(self) -> str:
        """What it measures, of the measures a suite may ask for."""
        return str(self.content.get("measure", "steps_to_target"))


class _Content(TypedDict):
    """What a reader relies on in any study's content."""

    model: str
    dataset: str
    optimizer: str
    schedule: str
    devices: NotRequired[int]


class _TimedContent(_Content):
    precision: str
    compile: bool
    channels_last: bool
    micro_batch: int | str | None
    input: str
    timing: TimingOptions


class _TrainedContent(_Content):
    reading: str
    threshold: Threshold
    max_steps: int
    trials: int
    seeds: int
    slack: float | None
    probes: dict[str, dict[str, Any]]
    space: dict[str, Space]
    growth: NotRequired[Growth]


_TIMED = TypeAdapter(_TimedContent)
_TRAINED = TypeAdapter(_TrainedContent)
_TRIAL = TypeAdapter(TrialRecord)
_PLANNED = TypeAdapter(list[str])
_ENVIRONMENT = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class ImportedTrial:
    """A trial that another program trained, how it ended, and its readings as (step, name, value)."""

    trial: Trial
    outcome: Outcome
    step: int
    readings: Sequence[tuple[int, str, float]]


class Archive:
    """An open archive. `Archive.reading` and `Archive.writing` open one."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: storage.Lock | None = None) -> None:
        self.path = path
        self._db = connection
        self._lock = lock
        self._importing = False

    @classmethod
    @contextmanager
    def reading(cls, path: Path, *, whole: bool = False) -> Iterator[Archive]:
        """An archive that exists, for reading; raises ArchiveError if it is missing or not an archive.

        whole: looks at every seal of an archive of any size, as must be before what it holds is sealed anew elsewhere.
        """
        if not path.is_file():
            raise ArchiveError(
                f"{path}: no such archive; 'bench run SUITE' writes one, 'bench list archives' shows those here"
            )
        with _sqlite_errors(path), storage.opened_for_reading(path) as connection:
            version = _check_version(path, connection)
            connection.executescript(migrations.views(version))
            if whole or path.stat().st_size <= CHECKED_BYTES:
                _check(path, connection, version)
            yield cls(path, connection)

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Archive]:
        """An archive to write to, made if it is missing and brought to this schema version if it is older.

        Raises ArchiveError if another process writes to it, or nothing can be written where it lies, and StorageError
        where the disk takes no more later on.
        """
        with (
            storage.locked(path) as lock,
            _sqlite_errors(path),
            storage.full_disk_told(path, "what was measured before is kept: free space and run the suite again"),
            closing(sqlite3.connect(path)) as connection,
        ):
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
            storage.distrust(path, connection)
            version = _check_version(path, connection)
            if version < SCHEMA_VERSION:
                migrations.migrate(connection, version)
            if path.stat().st_size <= CHECKED_BYTES:
                _check(path, connection, SCHEMA_VERSION)
            # Readers are not held up while a run writes; a closed file must open in a read-only folder.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            archive = cls(path, connection, lock)
            try:
                yield archive
            finally:
                if archive._counts_as_empty():
                    path.unlink()
                # Refused while somebody reads; the next writer to close will do it.
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = DELETE")

    def _counts_as_empty(self) -> bool:
        """Whether nothing was planned, or an import got nowhere. What was salvaged may hold trials and no suite."""
        held = [
            table for table in ("suites", "studies", "trials") if self._db.execute(f"SELECT 1 FROM {table}").fetchone()
        ]
        return not held or (self._importing and "suites" not in held)

    # ---- writing ------------------------------------------------------------------------------------------------

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
                self._suite(plan.suite.name, plan.suite.text, planned)
            # What a study measures depends on its id; what its workload is called, and how it is read, does not.
            self._db.executemany(
                "INSERT INTO studies (id, workload, batch_size, content) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET workload = excluded.workload, content = excluded.content",
                [(unit.id, unit.workload.name, unit.batch_size, json.dumps(_content(unit))) for unit in plan.units],
            )
            for unit in plan.units:
                seals.renew_study(self._db, unit.id)

    def _suite(self, name: str, text: str, planned: str) -> None:
        added = self._db.execute("INSERT INTO suites (name, text, planned) VALUES (?, ?, ?)", (name, text, planned))
        seals.seal(self._db, "suite", str(added.lastrowid))

    def environment(self, content: Mapping[str, Any]) -> str:
        """Records an environment once; its id."""
        text = json.dumps(content, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        with self._written():
            self._db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (name, text))
        return name

    def record(self, study: Study | Timing, environment: str, event: Event) -> None:
        """Keeps one event, committed when this returns."""
        with self._written(outcome=not isinstance(event, Evaluated)):
            match event:
                case Started(trials):
                    for trial in trials:
                        self._start(trial, environment)
                    self._join(study, trials)
                case Evaluated(step, readings):
                    self._db.executemany(
                        "INSERT OR REPLACE INTO readings SELECT key, ?, ?, ?, ? FROM trials WHERE id = ?",
                        [
                            (step, _encodable(name), *kept(value), trial)
                            for trial, seen in readings.items()
                            for name, value in seen.items()
                        ],
                    )
                case Ended(trial, "infeasible") if self.outcome(trial) == "overtaken":
                    seals.seal(self._db, "trial", trial.id)  # as far as it went elsewhere, it is as it was
                case Ended(trial, outcome, step, seconds):
                    self._db.execute(
                        "UPDATE trials SET outcome = ?, step = ?, train_seconds = ?, environment = ? WHERE id = ?",
                        (outcome, step, seconds, environment, trial.id),
                    )
                    # Where it had gone further once, before it was cut off, is beyond its end.
                    self._db.execute(
                        "DELETE FROM readings WHERE step > ? AND trial = (SELECT key FROM trials WHERE id = ?)",
                        (step, trial.id),
                    )
                    seals.seal(self._db, "trial", trial.id)
                case Recalled(trials):
                    self._join(study, trials)
                case Seated(trials, way):
                    self._db.executemany(
                        "UPDATE trials SET way = ? WHERE id = ?",
                        [(f"{way.name}: {way.reason}", trial.id) for trial in trials],
                    )
                case Finished():
                    self._finish(study)

    def _finish(self, study: Study | Timing) -> None:
        self._db.execute("UPDATE studies SET finished = 1 WHERE id = ?", (study.id,))
        seals.seal(self._db, "study", study.id)

    def unfinish(self, study: Study | Timing) -> None:
        """Takes back that a study was measured whole: begun again, it fell short."""
        with self._written():
            self._db.execute("UPDATE studies SET finished = 0 WHERE id = ?", (study.id,))
            seals.remove(self._db, "study", study.id)

    def fault(self, study: Study | Timing, event: Failed | Lost, training: Mapping[Trial, int]) -> None:
        """Records that a study's worker ended early, and what was training there, with the last step seen of each."""
        outcome, signal = (event.outcome, event.signal) if isinstance(event, Lost) else ("crashed", None)
        steps = {trial.id: step for trial, step in training.items()}
        with self._written():
            self._db.execute(
                "INSERT INTO faults (study, trials, outcome, signal, message, trace) VALUES (?, ?, ?, ?, ?, ?)",
                (study.id, json.dumps(steps), outcome, signal, _encodable(event.message), _encodable(event.trace)),
            )
            self._close(study, outcome, training)

    def interrupt(self, study: Study | Timing, training: Mapping[Trial, int]) -> None:
        """Marks the trials of a study that have not ended: the run that trained them is over."""
        with self._written():
            self._close(study, "interrupted", training)

    def _close(self, study: Study | Timing, outcome: str, training: Mapping[Trial, int]) -> None:
        self._db.executemany(
            "UPDATE trials SET step = ? WHERE outcome IS NULL AND id = ?",
            [(step, trial.id) for trial, step in training.items()],
        )
        self._db.execute(
            "UPDATE trials SET outcome = ? WHERE outcome IS NULL"
            " AND key IN (SELECT trial FROM members WHERE study = ?)",
            (outcome, study.id),
        )

    def _start(self, trial: Trial, environment: str) -> None:
        # A trial that did not end is from a run that was cut off: it begins again, and in the same environment its
        # readings are replaced, one after the other, by the same. One that was overtaken, and now has to go further,
        # belongs to a finished study too: it stands as it is until its new outcome takes its place.
        seals.remove(self._db, "trial", trial.id)
        self._db.execute(
            "DELETE FROM readings WHERE trial ="
            " (SELECT key FROM trials WHERE id = ? AND coalesce(outcome, '') != 'overtaken' AND environment != ?)",
            (trial.id, environment),
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

    def _join(self, study: Study | Timing | StudyRecord, trials: Iterable[Trial]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO members SELECT ?, key FROM trials WHERE id = ?",
            [(study.id, trial.id) for trial in trials],
        )
        seals.renew_study(self._db, study.id)

    # ---- importing ----------------------------------------------------------------------------------------------

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
                    "INSERT INTO readings VALUES (?, ?, ?, ?, ?)",
                    ((key, step, name, *kept(value)) for step, name, value in imported.readings),
                )
                seals.seal(self._db, "trial", imported.trial.id)
            seals.seal(self._db, "study", study.id)

    def finish_import(self, name: str, text: str, studies: Sequence[str]) -> None:
        """Records what was imported as a suite: until then the archive counts as empty, and is not left behind."""
        with self._written():
            self._suite(name, text, json.dumps(studies))

    # ---- reading ------------------------------------------------------------------------------------------------

    def finished(self) -> set[str]:
        """The ids of studies that have been measured, each of their trials to an outcome of its own."""
        own = ", ".join("?" * len(_SETTLED))
        rows = self._db.execute(
            "SELECT id FROM studies WHERE finished AND NOT EXISTS (SELECT 1 FROM members JOIN trials ON key = trial"
            f" WHERE study = studies.id AND coalesce(outcome, '') NOT IN ('infeasible', {own}))",
            _SETTLED,
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

    def recall(self, timing: Timing) -> list[Trial]:
        """The processes of a timing that are still to be timed; where there are none, it is finished.

        Those timed before, by a suite that asked for more or fewer of them, take part in it.
        """
        marks = ", ".join("?" * len(_SETTLED))
        known = f"SELECT 1 FROM trials WHERE id = ? AND outcome IN ({marks})"
        left = [each for each in timing.processes() if not self._db.execute(known, (each.id, *_SETTLED)).fetchone()]
        with self._written():
            self._join(timing, [each for each in timing.processes() if each not in left])
            if not left:
                self._finish(timing)
        return left

    def known(self, study: Study, also: Iterable[str] = ()) -> dict[str, Known]:
        """Settled trials, by id, among which the study will find its own: those of finished studies at its batch size.

        A study that was cut off is begun again whole: which trials train side by side can change the last digits.
        also: ids of trials that count as well, though their study is not finished.
        """
        rows = self._db.execute(
            "SELECT DISTINCT trials.key, trials.id, outcome, step FROM trials"
            " JOIN members ON members.trial = trials.key JOIN studies ON studies.id = members.study"
            " WHERE (finished AND batch_size = ? OR trials.id IN (SELECT value FROM json_each(?)))"
            f" AND outcome IN ({', '.join('?' * len(_SETTLED))})",
            (study.batch_size, json.dumps(list(also)), *_SETTLED),
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
        return StudyRecord(name, workload, batch_size, described(content), bool(finished), tuple(self._trials(name)))

    def rows(self, table: Table, trial: int | None = None) -> list[tuple[Any, ...]]:
        """Every row of a table as it is kept, in the order of its key; of readings, those of a trial."""
        where, values = ("", ()) if trial is None else (" WHERE trial = ?", (trial,))
        return self._db.execute(f"SELECT * FROM {table}{where} ORDER BY {_KEYS[table]}", values).fetchall()

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


def _content(study: Study | Timing) -> dict[str, Any]:
    """What a reader needs of a study without its suite."""
    workload = study.workload
    entry = workload.entry
    described = {
        "measure": study.what if isinstance(study, Timing) else "steps_to_target",
        "open_ended": workload.open_ended,
        **{key: str(getattr(workload, key)) for key in ("model", "dataset", "optimizer", "schedule")},
        "precision": entry.precision,
        **({"devices": workload.devices} if workload.devices > 1 else {}),
    }
    if isinstance(study, Timing):
        settings = {key: getattr(entry, key) for key in ("compile", "channels_last", "micro_batch", "input")}
        return {**described, **settings, "timing": entry.timing.model_dump()}
    # The target as the suite gives it, where that is in another unit than the reading's.
    target = {name: each.model_dump(exclude_none=True) for name, each in entry.target.items() if name in UNITS}
    return {
        **described,
        **({"target": target} if target else {}),
        "reading": workload.reading,
        "threshold": workload.threshold.model_dump(exclude_none=True),
        "max_steps": entry.max_steps,
        "trials": entry.search.trials,
        "seeds": entry.confirm.seeds,
        "slack": workload.slack,
        "probes": entry.probes,
        "space": as_plain(workload.space),
        **({"growth": entry.growth.model_dump(exclude_none=True)} if entry.growth else {}),
    }


def described(content: str) -> dict[str, Any]:
    """What is said of a study; raises ValueError where a reader could make nothing of it."""
    said = shape.parsed(content)
    timed = isinstance(said, dict) and said.get("measure") in get_args(TimedMeasure)
    (_TIMED if timed else _TRAINED).validate_python(said)
    return cast("dict[str, Any]", said)


def written(path: Path) -> AbstractContextManager[None]:
    """What is written inside is of a new archive; raises StorageError where the disk takes no more."""
    return storage.full_disk_told(path, "nothing is left of it: free space, or name another place")


@contextmanager
def made(path: Path) -> Iterator[sqlite3.Connection]:
    """A new archive to be filled; what was put in is sealed when this is left, and nothing is there where it fails.

    Raises ArchiveError where there is something already or nothing can be written, StorageError on a full disk.
    """
    with (
        storage.locked(path),
        storage.beside(path) as place,
        _sqlite_errors(path),
        written(path),
        closing(sqlite3.connect(place)) as connection,
    ):
        connection.executescript(f"{SCHEMA} BEGIN;")
        yield connection
        seals.seal_all(connection)
        connection.commit()


def restore(path: Path, rows: Mapping[Table, Sequence[tuple[Any, ...]]]) -> None:
    """Writes a new archive of what another held, and seals it; raises ArchiveError, and leaves none behind, where that
    is not what bench writes.
    """
    with made(path) as connection:
        for table, values in rows.items():
            if values:
                places = ", ".join("?" * len(values[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise ArchiveError(f"{path}: holds rows that refer to what is not there")
        for odd in shape.odd_cells(connection, SCHEMA):
            raise ArchiveError(f"{path}: {odd}")
        Archive(path, connection).look_through()


def kept(value: float) -> tuple[float | None, str | None]:
    """A reading as SQLite can hold it, and beside it the name of what it cannot: NaN, an infinity, a negative zero."""
    value = float(value)
    if math.isnan(value):
        return None, "nan"
    if math.isinf(value):
        return value, "inf" if value > 0 else "-inf"
    return value, "-0" if value == 0 and math.copysign(1, value) < 0 else None


def _encodable(text: str) -> str:
    """What a component said, which may hold what no encoding has, such as half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def found(value: float | None, status: str | None) -> float:
    """The reading that was kept."""
    return float(status) if status else cast("float", value)


def _check_version(path: Path, connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (*migrations.STEPS, SCHEMA_VERSION):
        raise ArchiveError(
            f"{path}: has schema version {version}; this bench reads and writes version {SCHEMA_VERSION}"
        )
    for odd in shape.odd_tables(connection, SCHEMA, version):
        raise ArchiveError(f"{path}: {odd}; 'bench verify' says what can be saved")
    return version


@contextmanager
def _plausible(path: Path) -> Iterator[None]:
    """What an archive holds may have been written by anybody."""
    try:
        yield
    except (KeyError, ValueError) as error:  # of JSON and of pydantic too
        what = f"misses {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ArchiveError(f"{path}: holds what bench does not write ({what})") from error


def _check(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """Raises ArchiveError where an archive is not what was written, or not what bench writes."""
    for kind, name in seals.broken(connection) if version == SCHEMA_VERSION else ():
        raise ArchiveError(
            f"{path}: the {kind} {name!r} is not what was written, so nothing of it is shown; "
            "'bench verify' says what can be saved"
        )
    for odd in shape.odd_cells(connection, SCHEMA):
        raise ArchiveError(f"{path}: {odd}, so nothing of it is shown")


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ArchiveError(f"{path}: cannot be used as an archive: {error}") from error
