"""Seals: hashes of what an archive will not change any more, so that what did change is noticed and not shown.

A trial is sealed when it ends, with its readings; a study when it is finished, with the ids of its trials; a suite
when it is planned. An environment's id is its own hash. A seal shows a bit that turned or a row that was lost; it is
no signature, and does not show who wrote the archive.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Literal

Kind = Literal["suite", "study", "trial"]

_ROWS = {
    "suite": ["SELECT name, text, planned FROM suites WHERE number = ?"],
    "study": [
        "SELECT id, workload, batch_size, content, finished FROM studies WHERE id = ?",
        "SELECT trials.id FROM members JOIN trials ON key = trial WHERE study = ? ORDER BY trials.id",
    ],
    "trial": [
        "SELECT id, phase, number, metaparameters, init_seed, order_seed, max_steps, environment, way, outcome, step,"
        " train_seconds FROM trials WHERE id = ?",
        "SELECT readings.step, name, value, status FROM readings JOIN trials ON key = trial WHERE id = ?"
        " ORDER BY name, readings.step",
    ],
}
# What has to have a seal. A trial that was overtaken may be on its way further for another study.
_SEALED = {
    "suite": "SELECT number FROM suites",
    "study": "SELECT id FROM studies WHERE finished",
    "trial": "SELECT id FROM trials WHERE outcome IN ('reached', 'exhausted', 'diverged', 'infeasible')",
}


def seal(db: sqlite3.Connection, kind: Kind, name: str) -> None:
    """Seals something as it stands, in the transaction under way."""
    db.execute("INSERT OR REPLACE INTO seals VALUES (?, ?, ?)", (kind, name, _hash(db, kind, name)))


def remove(db: sqlite3.Connection, kind: Kind, name: str) -> None:
    """Takes the seal off something that will change."""
    db.execute("DELETE FROM seals WHERE kind = ? AND name = ?", (kind, name))


def renew_study(db: sqlite3.Connection, study: str) -> None:
    """Seals a finished study anew, where its name or its trials changed."""
    if db.execute("SELECT 1 FROM seals WHERE kind = 'study' AND name = ?", (study,)).fetchone():
        seal(db, "study", study)


def seal_all(db: sqlite3.Connection) -> None:
    """Seals everything that has to be sealed, as it stands."""
    for kind, rows in _SEALED.items():
        for (name,) in db.execute(rows).fetchall():
            seal(db, kind, str(name))  # type: ignore[arg-type]
    for (name,) in db.execute("SELECT id FROM trials WHERE outcome = 'overtaken'").fetchall():
        seal(db, "trial", name)


def broken(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that is not what was written, including what is gone and what has lost its seal."""
    seals: dict[tuple[str, str], str] = {
        (kind, name): digest for kind, name, digest in db.execute("SELECT kind, name, hash FROM seals").fetchall()
    }
    for (kind, name), digest in seals.items():
        if kind not in _ROWS or _hash(db, kind, name) != digest:
            yield kind, name
    for kind, rows in _SEALED.items():
        for (name,) in db.execute(rows).fetchall():
            if (kind, str(name)) not in seals:
                yield kind, str(name)
    for name, content in db.execute("SELECT id, content FROM environments").fetchall():
        if not environment_intact(name, content):
            yield "environment", name


def intact(db: sqlite3.Connection, kind: Kind, name: str) -> bool:
    """Whether something can be read and is what was sealed."""
    try:
        row = db.execute("SELECT hash FROM seals WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return row is not None and _hash(db, kind, name) == row[0]
    except sqlite3.DatabaseError:
        return False


def environment_intact(name: str, content: object) -> bool:
    """Whether an environment is the one it was named after."""
    return hashlib.sha256(str(content).encode()).hexdigest()[:16] == name


def _hash(db: sqlite3.Connection, kind: str, name: str) -> str:
    digest = hashlib.sha256()
    for rows in _ROWS[kind]:
        for row in db.execute(rows, (name,)):
            digest.update(json.dumps([_plain(value) for value in row]).encode() + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
