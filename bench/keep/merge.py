"""Joins archives made on several machines into a new one, by what trials are: contradictions are refused."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from bench.ask.plan import TimedMeasure
from bench.errors import ArchiveError, ContradictionError, StorageError
from bench.keep import seals, storage
from bench.keep.archive import Archive
from bench.keep.database import made, written
from bench.keep.reader import Reader

_ENDED = ("reached", "overtaken", "exhausted", "diverged", "infeasible")
# What a trial is: its columns `phase` to `max_steps`.
_IDENTITY = slice(2, 8)
_PHASE, _OUTCOME, _STEP = 2, 10, 11
_OF_FINISHED = "SELECT 1 FROM members JOIN studies ON id = study WHERE trial = ? AND finished"

Row = tuple[Any, ...]


def merge(paths: Sequence[Path], new: Path) -> int:
    """Writes the studies and trials of archives into a new one; how many studies it holds whole.

    The suite is the first archive's. Raises ArchiveError where the new file exists or an archive is broken, and
    ContradictionError where two archives contradict each other.
    """
    with made(new) as connection:
        for path in paths:
            with Archive.reading(path, whole=True) as archive, written(new):
                _add(archive, connection)
        return len(Reader(new, connection).finished())


def add(paths: Sequence[Path], archive: Archive) -> list[ArchiveError]:
    """Writes what archives hold into one that is open for writing; why some could not be, of which nothing is written.

    What it holds already stands. That all is written or nothing holds for all together, whatever ends it.
    """
    refused: list[ArchiveError] = []
    advice = "what it held before is kept: free space and try again"
    with archive.filled() as connection:
        for path in paths:
            connection.execute("SAVEPOINT before")
            try:
                with Archive.reading(path, whole=True) as more, storage.full_disk_told(archive.path, advice):
                    _add(more, connection)
            except StorageError:
                raise
            except ArchiveError as error:
                connection.execute("ROLLBACK TO before")
                refused.append(error)
            connection.execute("RELEASE before")
    return refused


def _add(archive: Archive, new: sqlite3.Connection) -> None:
    if new.execute("SELECT count(*) FROM suites").fetchone()[0] == 0:
        new.executemany("INSERT INTO suites VALUES (?, ?, ?, ?)", archive.rows("suites"))
    new.executemany("INSERT OR IGNORE INTO environments VALUES (?, ?)", archive.rows("environments"))
    trials = {row[0]: row for row in archive.rows("trials")}
    members = archive.rows("members")
    finished = {study[0] for study in archive.rows("studies") if study[4]}
    final = {key for study, key in members if study in finished}
    outdone = {
        study[0]
        for study in archive.rows("studies")
        if _outdone(new, study, [trials[key] for name, key in members if name == study[0]])
    }
    left_out = {key for study, key in members if study in outdone} - {
        key for study, key in members if study not in outdone
    }
    for key, row in trials.items():
        if key not in left_out:
            _add_trial(archive, new, row, final=key in final)
    for study in archive.rows("studies"):
        held = new.execute("SELECT batch_size FROM studies WHERE id = ?", study[:1]).fetchone()
        if held not in (None, study[2:3]):
            raise ArchiveError(f"{archive.path}: holds another study {study[0]!r} than an archive before it")
        new.execute(
            "INSERT INTO studies VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET finished = max(finished, excluded.finished)",
            (*study[:4], study[4] and study[0] not in outdone),
        )
    new.executemany(
        "INSERT OR IGNORE INTO members SELECT ?, key FROM trials WHERE id = ?",
        [(study, trials[key][1]) for study, key in members if study not in outdone],
    )
    # Those that are there already are the same, seen twice.
    there = Counter(new.execute("SELECT study, trials, outcome, signal, message, trace FROM faults").fetchall())
    new.executemany(
        "INSERT INTO faults (study, trials, outcome, signal, message, trace) VALUES (?, ?, ?, ?, ?, ?)",
        (Counter(fault[1:] for fault in archive.rows("faults")) - there).elements(),
    )


def _outdone(new: sqlite3.Connection, study: Row, rows: list[Row]) -> bool:
    """Whether a timing is known better from an archive before; what is known worse of it there is taken out.

    A machine's times are its own: those of two would make one number of neither.
    """
    held = new.execute("SELECT finished FROM studies WHERE id = ?", study[:1]).fetchone()
    if held is None or not all(row[_PHASE] in get_args(TimedMeasure) for row in rows):
        return False
    there = new.execute("SELECT trials.* FROM trials JOIN members ON trial = key WHERE study = ?", study[:1]).fetchall()
    if _worth(bool(held[0]), there) >= _worth(bool(study[4]), rows):
        return True
    new.execute("DELETE FROM members WHERE study = ?", study[:1])
    for row in there:
        if not new.execute("SELECT 1 FROM members WHERE trial = ?", row[:1]).fetchone():
            new.execute("DELETE FROM readings WHERE trial = ?", row[:1])
            new.execute("DELETE FROM trials WHERE key = ?", row[:1])
            seals.remove(new, "trial", row[1])
    new.execute("UPDATE studies SET finished = 0 WHERE id = ?", study[:1])
    seals.remove(new, "study", study[0])
    return False


def _worth(finished: bool, rows: list[Row]) -> tuple[bool, bool, int]:
    """How well a timing is known: what was timed is better than what did not fit, and whole is better than a part."""
    timed = sum(row[_OUTCOME] in ("reached", "exhausted") for row in rows)
    return timed > 0, finished, timed


def _add_trial(archive: Archive, new: sqlite3.Connection, row: Row, *, final: bool) -> None:
    """Of a trial that two archives saw, the one that went further stands, and the other may say nothing else.

    Where and how fast it was trained may differ. One that did not end, or did not fit there, has nothing to say; nor,
    against one of a finished study, has one whose study was cut off: a run would train that anew. final: whether its
    study was finished.
    """
    readings = [reading[1:] for reading in archive.rows("readings", row[0])]
    held = new.execute("SELECT * FROM trials WHERE id = ?", row[1:2]).fetchone()
    ended = held is not None and held[_OUTCOME] in _ENDED
    silent = row[_OUTCOME] not in _ENDED or row[_OUTCOME] == "infeasible" or row[_PHASE] in get_args(TimedMeasure)
    if ended and silent:
        return  # a time that another study has taken from an archive before stands: machines need not agree
    if held is not None and held[_OUTCOME] in _ENDED and held[_OUTCOME] != "infeasible":
        there = new.execute(
            "SELECT step, name, value, status FROM readings WHERE trial = ? ORDER BY name, step", held[:1]
        ).fetchall()
        if _agree((held, there), (row, readings)):
            if row[_STEP] <= held[_STEP]:
                return
        elif new.execute(_OF_FINISHED, held[:1]).fetchone():
            if not final:
                return
            raise ContradictionError(
                f"{archive.path}: its trial {row[1]!r} contradicts that of an archive before it; "
                "one of them was trained by other code, or on a machine that computes otherwise"
            )
    if held is not None:
        new.execute("DELETE FROM readings WHERE trial = ?", held[:1])
        new.execute(
            "UPDATE trials SET environment = ?, way = ?, outcome = ?, step = ?, train_seconds = ? WHERE key = ?",
            (*row[8:13], held[0]),
        )
        key = held[0]
    else:
        key = new.execute(f"INSERT INTO trials VALUES (NULL, {', '.join('?' * 12)})", row[1:]).lastrowid
    new.executemany("INSERT INTO readings VALUES (?, ?, ?, ?, ?)", [(key, *reading) for reading in readings])


def _agree(left: tuple[Row, list[Row]], right: tuple[Row, list[Row]]) -> bool:
    """Whether two records of a trial that ended tell of the same training."""
    (shorter, few), (longer, many) = sorted((left, right), key=lambda record: record[0][_STEP])
    end = shorter[_STEP]
    if shorter[_IDENTITY] != longer[_IDENTITY] or few != [reading for reading in many if reading[0] <= end]:
        return False
    return bool(shorter[_OUTCOME] == (longer[_OUTCOME] if end == longer[_STEP] else "overtaken"))
