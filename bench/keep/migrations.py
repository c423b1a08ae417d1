"""Archives of earlier schema versions: brought up to date where they are written to, read as they are elsewhere.

Each version has the statements that make the next one of it, and those that let a reader, who may change nothing, see
it as the next one. `tests/archives/` holds an archive of every version that was released.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from bench.keep import seals


@dataclass(frozen=True)
class Step:
    """From one version to the next. tables: those the version has otherwise than the next, None where it has none."""

    tables: dict[str, str | None]
    upgrade: str
    views: str


STEPS = {
    # Values that are no ordinary numbers, workers that ended early, and seals.
    1: Step(
        tables={
            "readings": "CREATE TABLE readings ( trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL,"
            " name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (trial, name, step)) WITHOUT ROWID",
            "faults": None,
            "seals": None,
        },
        upgrade="""
            ALTER TABLE readings RENAME TO readings_1;
            CREATE TABLE readings (
                trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL,
                status TEXT, PRIMARY KEY (trial, name, step)) WITHOUT ROWID;
            INSERT INTO readings SELECT trial, step, name, value, NULL FROM readings_1;
            DROP TABLE readings_1;
            CREATE TABLE faults (
                number INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES studies, trials TEXT NOT NULL,
                outcome TEXT NOT NULL, signal TEXT, message TEXT NOT NULL, trace TEXT NOT NULL);
            CREATE TABLE seals (
                kind TEXT NOT NULL, name TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
        """,
        views="""
            CREATE TEMP VIEW readings AS SELECT trial, step, name, value, NULL AS status FROM main.readings;
            CREATE TEMP TABLE faults (number, study, trials, outcome, signal, message, trace);
            CREATE TEMP TABLE seals (kind, name, hash);
        """,
    ),
}


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Brings an archive to the present version, whole or not at all, and seals what it holds."""
    upgrades = "".join(step.upgrade for before, step in sorted(STEPS.items()) if before >= version)
    connection.executescript(f"BEGIN IMMEDIATE; {upgrades}")
    try:
        seals.seal_all(connection)
        connection.execute(f"PRAGMA user_version = {max(STEPS) + 1}")
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def tables(version: int) -> dict[str, str | None]:
    """The statements that make the tables which a version has otherwise than the present one, None where none does."""
    return {
        name: made
        for before in sorted(STEPS, reverse=True)
        if before >= version
        for name, made in STEPS[before].tables.items()
    }


def views(version: int) -> str:
    """Statements after which a reader finds the tables of the present version."""
    return "".join(step.views for before, step in sorted(STEPS.items()) if before >= version)
