"""The tables of an archive, as SQLite is told to make them."""

from __future__ import annotations

from typing import Literal

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

Table = Literal["suites", "environments", "studies", "trials", "members", "readings", "faults"]
KEYS: dict[Table, str] = {
    "suites": "number",
    "environments": "id",
    "studies": "id",
    "trials": "key",
    "members": "study, trial",
    "readings": "trial, name, step",
    "faults": "number",
}
