"""How what happened is written into an archive: rows, in the transaction under way, sealed where they are final."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.ask.plan import PlanUnit, Trial
from bench.events import Ended, Failed, Lost, Way
from bench.keep import seals
from bench.keep.records import ImportedTrial, StudyRecord, content_of, kept

if TYPE_CHECKING:
    import sqlite3


def suite(db: sqlite3.Connection, name: str, text: str, planned: str) -> None:
    """A suite that is asked for from now on; planned: the ids of its studies, as JSON."""
    added = db.execute("INSERT INTO suites (name, text, planned) VALUES (?, ?, ?)", (name, text, planned))
    seals.seal(db, "suite", str(added.lastrowid))


def studies(db: sqlite3.Connection, units: Sequence[PlanUnit]) -> None:
    """What is planned, new or known."""
    # What a study measures depends on its id; what its workload is called, and how it is read, does not.
    db.executemany(
        "INSERT INTO studies (id, workload, batch_size, content) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET workload = excluded.workload, content = excluded.content",
        [(unit.id, unit.workload.name, unit.batch_size, json.dumps(content_of(unit))) for unit in units],
    )
    for unit in units:
        seals.renew_study(db, unit.id)


def start(db: sqlite3.Connection, trial: Trial, environment: str) -> None:
    """A trial begins."""
    # A trial that did not end is from a run that was cut off: it begins again, and in the same environment its
    # readings are replaced, one after the other, by the same. One that was overtaken, and now has to go further,
    # belongs to a finished study too: it stands as it is until its new outcome takes its place.
    seals.remove(db, "trial", trial.id)
    db.execute(
        "DELETE FROM readings WHERE trial ="
        " (SELECT key FROM trials WHERE id = ? AND coalesce(outcome, '') != 'overtaken' AND environment != ?)",
        (trial.id, environment),
    )
    db.execute(
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


def join(db: sqlite3.Connection, study: PlanUnit | StudyRecord, trials: Iterable[Trial]) -> None:
    """Trials are of a study, which may share them with others."""
    db.executemany(
        "INSERT OR IGNORE INTO members SELECT ?, key FROM trials WHERE id = ?",
        [(study.id, trial.id) for trial in trials],
    )
    seals.renew_study(db, study.id)


def readings(db: sqlite3.Connection, step: int, seen: Mapping[str, Mapping[str, float]]) -> None:
    """What was read at a step, of each trial by its id."""
    db.executemany(
        "INSERT OR REPLACE INTO readings SELECT key, ?, ?, ?, ? FROM trials WHERE id = ?",
        [
            (step, _encodable(name), *kept(value), trial)
            for trial, values in seen.items()
            for name, value in values.items()
        ],
    )


def end(db: sqlite3.Connection, ended: Ended, environment: str) -> None:
    """A trial has ended."""
    trial = ended.trial.id
    db.execute(
        "UPDATE trials SET outcome = ?, step = ?, train_seconds = ?, environment = ? WHERE id = ?",
        (ended.outcome, ended.step, ended.train_seconds, environment, trial),
    )
    # Where it had gone further once, before it was cut off, is beyond its end.
    db.execute(
        "DELETE FROM readings WHERE step > ? AND trial = (SELECT key FROM trials WHERE id = ?)", (ended.step, trial)
    )
    seals.seal(db, "trial", trial)


def seat(db: sqlite3.Connection, trials: Sequence[Trial], way: Way) -> None:
    """Which way trials are trained, and why."""
    db.executemany(
        "UPDATE trials SET way = ? WHERE id = ?", [(f"{way.name}: {way.reason}", trial.id) for trial in trials]
    )


def finish(db: sqlite3.Connection, study: PlanUnit) -> None:
    """A study was measured whole."""
    db.execute("UPDATE studies SET finished = 1 WHERE id = ?", (study.id,))
    seals.seal(db, "study", study.id)


def unfinish(db: sqlite3.Connection, study: PlanUnit) -> None:
    """A study was not measured whole after all."""
    db.execute("UPDATE studies SET finished = 0 WHERE id = ?", (study.id,))
    seals.remove(db, "study", study.id)


def close_study(db: sqlite3.Connection, study: PlanUnit, outcome: str, training: Mapping[Trial, int]) -> None:
    """The trials of a study that have not ended are over; training: the last step seen of each."""
    db.executemany(
        "UPDATE trials SET step = ? WHERE outcome IS NULL AND id = ?",
        [(step, trial.id) for trial, step in training.items()],
    )
    db.execute(
        "UPDATE trials SET outcome = ? WHERE outcome IS NULL AND key IN (SELECT trial FROM members WHERE study = ?)",
        (outcome, study.id),
    )


def fault(db: sqlite3.Connection, study: PlanUnit, event: Failed | Lost, training: Mapping[Trial, int]) -> None:
    """A study's worker ended early, and with it what was training there."""
    outcome, signal = (event.outcome, event.signal) if isinstance(event, Lost) else ("crashed", None)
    steps = {trial.id: step for trial, step in training.items()}
    db.execute(
        "INSERT INTO faults (study, trials, outcome, signal, message, trace) VALUES (?, ?, ?, ?, ?, ?)",
        (study.id, json.dumps(steps), outcome, signal, _encodable(event.message), _encodable(event.trace)),
    )
    close_study(db, study, outcome, training)


def imported(db: sqlite3.Connection, study: StudyRecord, environment: str, trials: Iterable[ImportedTrial]) -> None:
    """A study that another program measured, and its trials, taken one at a time."""
    db.execute(
        "INSERT INTO studies VALUES (?, ?, ?, ?, ?)",
        (study.id, study.workload, study.batch_size, json.dumps(study.content), study.finished),
    )
    for each in trials:
        start(db, each.trial, environment)
        join(db, study, [each.trial])
        (key,) = db.execute("SELECT key FROM trials WHERE id = ?", (each.trial.id,)).fetchone()
        db.execute("UPDATE trials SET outcome = ?, step = ? WHERE key = ?", (each.outcome, each.step, key))
        db.executemany(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?)",
            ((key, step, name, *kept(value)) for step, name, value in each.readings),
        )
        seals.seal(db, "trial", each.trial.id)
    seals.seal(db, "study", study.id)


def _encodable(text: str) -> str:
    """What a component said, which may hold what no encoding has, such as half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()
