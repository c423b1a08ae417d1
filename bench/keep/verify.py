"""Is an archive what was written, and what of it can be saved? Salvages into a new file, never in place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import ArchiveError
from bench.keep import migrations, seals, shape, storage
from bench.keep.database import made
from bench.keep.reader import Reader
from bench.keep.records import described
from bench.keep.schema import SCHEMA, SCHEMA_VERSION, Table

_MOST_SAID = 20

# Readings that contradict an outcome: (what is wrong, a query for the ids of such trials). A trial that was overtaken
# may have gone further since, for a study that was cut off.
_TARGET = (
    "readings.name = json_extract(content, '$.reading')"
    " AND (value <= json_extract(content, '$.threshold.at_most') OR value < json_extract(content, '$.threshold.below'))"
)
# By first passage one reading decides; by the isotonic rule, which archives of before do not name, no single one does.
_BY_FIRST = "coalesce(json_extract(content, '$.threshold.rule'), 'first') = 'first'"
_OF_TRIAL = "FROM trials JOIN members ON trial = key JOIN studies ON studies.id = study"
# Of what was timed, to reach means that its time was known well enough: no reading contradicts it.
_TRAINED = "phase IN ('search', 'confirm')"
_CONTRADICTIONS = {
    "reached its target, and no reading does": (
        f"SELECT DISTINCT trials.id {_OF_TRIAL} WHERE {_TRAINED} AND outcome = 'reached' AND NOT EXISTS"
        f" (SELECT 1 FROM readings WHERE readings.trial = key AND {_TARGET})"
    ),
    "did not reach its target, and a reading does": (
        f"SELECT DISTINCT trials.id {_OF_TRIAL} WHERE {_TRAINED} AND outcome IN ('exhausted', 'overtaken')"
        f" AND {_BY_FIRST} AND EXISTS"
        f" (SELECT 1 FROM readings WHERE readings.trial = key AND readings.step <= trials.step AND {_TARGET})"
    ),
    "has readings beyond its last step": (
        "SELECT trials.id FROM trials WHERE outcome IN ('reached', 'exhausted')"
        " AND EXISTS (SELECT 1 FROM readings WHERE readings.trial = key AND readings.step > trials.step)"
    ),
}


@dataclass(frozen=True)
class Salvage:
    """How much of an archive could be read and was what was written, and how much there was."""

    studies: int
    of_studies: int
    trials: int
    of_trials: int


def problems(path: Path) -> list[str]:
    """Everything that is wrong with an archive, a sentence each; raises ArchiveError where it is none at all."""
    with _opened(path) as (connection, version):
        said = (str(row[0]) for row in connection.execute("PRAGMA integrity_check"))
        found = _told(f"the file: {each}" for each in said if each != "ok")
        dangling = ((table, other) for table, _, other, _ in _rows(connection, "PRAGMA main.foreign_key_check"))
        found += [
            f"a row of {table} refers to one of {other} that is not there" for table, other in dict.fromkeys(dangling)
        ]
        found += _told(f"it {odd}" for odd in shape.odd_tables(connection, SCHEMA, version))
        found += _told(f"it {odd}" for odd in shape.odd_cells(connection, SCHEMA))
        if version == SCHEMA_VERSION:
            found += _told(f"the {kind} {name!r} is not what was written" for kind, name in seals.broken(connection))
        for wrong, query in _CONTRADICTIONS.items():
            found += [f"the trial {name!r} {wrong}" for (name,) in _rows(connection, query)]
        found += _told(_contradicted(path, connection))
        found += _told(_unreadable(path, connection))
    more = len(found) - _MOST_SAID
    return [*found[:_MOST_SAID], f"and {more:,} more"] if more > 0 else found


def repair(path: Path, new: Path) -> Salvage:
    """Writes what is as it was written into a new archive; a study of which a trial is lost is there to be run again.

    Raises ArchiveError where the new file exists, or nothing can be read of the old one.
    """
    with _opened(path) as (old, version), made(new) as connection:
        of_studies, trials, of_trials = _copy(old, connection, everything=version < SCHEMA_VERSION)
        return Salvage(len(Reader(new, connection).finished()), of_studies, trials, of_trials)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, *, everything: bool) -> tuple[int, int, int]:
    """How many studies there were, how many trials were copied, and how many there were."""

    def intact(kind: seals.Kind, name: str) -> bool:
        return everything or seals.intact(old, kind, name)

    environments = [row for row in _both_ways(old, "environments") if seals.environment_intact(*row)]
    new.executemany("INSERT OR IGNORE INTO environments VALUES (?, ?)", environments)
    known = {name for name, _ in environments}
    trials = _both_ways(old, "trials")
    kept: dict[int, str] = {}
    for row in trials:
        key, name, environment = row[0], row[1], row[8]
        if not isinstance(name, str) or not intact("trial", name) or environment not in known:
            continue
        new.execute(f"INSERT OR IGNORE INTO trials VALUES ({', '.join('?' * len(row))})", row)
        readings = _rows(old, "SELECT * FROM readings WHERE trial = ?", key)
        new.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?, ?)", readings)
        kept[key] = name
    studies = _both_ways(old, "studies")
    for name, workload, batch_size, content, finished in studies:
        if not _reads(described, content):
            continue
        members = [key for (key,) in _rows(old, "SELECT trial FROM members WHERE study = ?", name)]
        sound = bool(finished) and intact("study", name) and all(key in kept for key in members)
        new.execute(
            "INSERT OR IGNORE INTO studies VALUES (?, ?, ?, ?, ?)", (name, workload, batch_size, content, sound)
        )
        new.executemany("INSERT OR IGNORE INTO members VALUES (?, ?)", [(name, key) for key in members if key in kept])
    # All suites, or none: one that asks for a study that is lost would ask for what is not there, and where the last is
    # lost the one before it is not what was asked for. Running the suite again plans it again.
    saved = {name for (name,) in _rows(new, "SELECT id FROM studies")}
    suites = _both_ways(old, "suites")
    sealed = {name for (name,) in _rows(old, "SELECT name FROM seals WHERE kind = 'suite'")}
    sound = all(intact("suite", str(row[0])) and saved.issuperset(_planned(row[3]) or {None}) for row in suites)
    if sound and (everything or sealed == {str(row[0]) for row in suites}):
        new.executemany("INSERT INTO suites VALUES (?, ?, ?, ?)", suites)
    return len(studies), len(kept), len(trials)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """An archive to be looked at, whatever state it is in, and its schema version."""
    if not path.is_file():
        raise ArchiveError(f"{path}: no such archive; 'bench list archives' shows those here")
    try:
        with storage.opened_for_reading(path) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (*migrations.STEPS, SCHEMA_VERSION):
                raise ArchiveError(f"{path}: has schema version {version}, which this bench does not know")
            connection.executescript(migrations.views(version))
            yield connection, version
    except sqlite3.DatabaseError as error:
        raise ArchiveError(f"{path}: nothing of it can be read: {error}") from error


def _told(sentences: Iterator[str]) -> list[str]:
    """As many sentences as can be said; where something cannot be read, that is the last."""
    told: list[str] = []
    try:
        for sentence in sentences:
            told.append(sentence)
    except sqlite3.DatabaseError as error:
        told.append(f"a part of it cannot be read: {error}")
    return told


def _contradicted(path: Path, connection: sqlite3.Connection) -> Iterator[str]:
    """Trials that are told to have reached their target, or not to have, where their readings cross it otherwise."""
    query = f"SELECT key, trials.id, outcome, max_steps, content {_OF_TRIAL} WHERE {_TRAINED} AND NOT {_BY_FIRST}"
    for key, name, outcome, budget, content in _rows(connection, query):
        if outcome not in ("reached", "exhausted") or not _reads(described, content) or not isinstance(budget, int):
            continue
        study = described(content)
        try:
            found = Reader(path, connection).crossing(key, budget, study["reading"], study["threshold"])
        except ArchiveError:
            continue  # its cells are told of already
        if found.settled != (outcome == "reached"):
            said = "reached" if outcome == "reached" else "did not reach"
            yield f"the trial {name!r} {said} its target, and its readings say otherwise"


def _unreadable(path: Path, connection: sqlite3.Connection) -> Iterator[str]:
    """Why what is read whenever an archive is shown cannot be."""
    try:
        Reader(path, connection).look_through()
    except ArchiveError as error:
        yield str(error).removeprefix(f"{path}: ")


def _rows(connection: sqlite3.Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    """As many rows as can be read."""
    rows: list[tuple[Any, ...]] = []
    # What is broken is told by the integrity check; what was read before it is good.
    with suppress(sqlite3.DatabaseError):
        for row in connection.execute(query, values):
            rows.append(row)
    return rows


def _both_ways(connection: sqlite3.Connection, table: Table) -> list[tuple[Any, ...]]:
    """As many rows of a table as can be read from its two ends, once each."""
    query = f"SELECT {', '.join(Reader.layout(table))} FROM {table} ORDER BY 1"
    return list(dict.fromkeys([*_rows(connection, query), *_rows(connection, f"{query} DESC")]))


def _reads(reader: Callable[[str], Any], text: object) -> bool:
    try:
        reader(str(text))
    except ValueError:
        return False
    return True


def _planned(text: object) -> list[str]:
    """The studies that a suite asks for; none where that cannot be read."""
    found = shape.parsed(str(text)) if _reads(shape.parsed, text) else []
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else []
