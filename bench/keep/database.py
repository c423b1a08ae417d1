"""Opens an archive's file: made or brought up to date where it is written, looked through before it is read.

SQL has its home here and in `reader.py`, `entries.py` and `archive.py`, which ask and write over what is opened here;
in `storage.py`, `seals.py`, `migrations.py` and `shape.py`, which keep the file sound; and in `merge.py` and
`verify.py`, which write one file out of others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from bench.errors import ArchiveError
from bench.keep import migrations, seals, shape, storage
from bench.keep.schema import SCHEMA, SCHEMA_VERSION

# What is sealed is looked at whenever an archive of at most so many bytes is opened, about a second each 16 MiB;
# `bench verify` looks at any.
CHECKED_BYTES = 2**26


@contextmanager
def readable(path: Path, *, whole: bool) -> Iterator[sqlite3.Connection]:
    """A connection to an archive that exists, which is what was written; `Archive.reading` says what it raises."""
    if not path.is_file():
        raise ArchiveError(
            f"{path}: no such archive; 'bench run SUITE' writes one, 'bench list archives' shows those here"
        )
    with _sqlite_errors(path), storage.opened_for_reading(path) as connection:
        version = _check_version(path, connection)
        connection.executescript(migrations.views(version))
        if whole or path.stat().st_size <= CHECKED_BYTES:
            _check(path, connection, version)
        yield connection


@contextmanager
def writable(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an archive of this schema version, under a lock that is held; `Archive.writing` says what it
    raises.
    """
    with (
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
        try:
            yield connection
        finally:
            # Refused while somebody reads; the next writer to close will do it.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = DELETE")


def written(path: Path) -> AbstractContextManager[None]:
    """What is written inside is of a new archive; raises StorageError where the disk takes no more."""
    return storage.full_disk_told(path, "nothing is left of it: free space, or name another place")


@contextmanager
def made(path: Path) -> Iterator[sqlite3.Connection]:
    """A new archive to be filled; what was put in is sealed when this is left, and nothing is there where it fails.

    Raises ArchiveError where there is something already or nothing can be written, StorageError on a full disk.
    """
    with (
        storage.locked(path, once=True),
        storage.beside(path) as place,
        _sqlite_errors(path),
        written(path),
        closing(sqlite3.connect(place)) as connection,
    ):
        connection.executescript(f"{SCHEMA} BEGIN;")
        yield connection
        seals.seal_all(connection)
        connection.commit()


def copy(connection: sqlite3.Connection, path: Path) -> None:
    """Puts an archive that is open as it stands at `path`, whole, in place of what lies there."""
    begun = path.with_suffix(".begun")
    begun.unlink(missing_ok=True)
    with closing(sqlite3.connect(begun)) as copied:
        connection.backup(copied)
        copied.execute("PRAGMA journal_mode = DELETE")
    begun.replace(path)


def _check_version(path: Path, connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (*migrations.STEPS, SCHEMA_VERSION):
        raise ArchiveError(
            f"{path}: has schema version {version}; this bench reads and writes version {SCHEMA_VERSION}"
        )
    for odd in shape.odd_tables(connection, SCHEMA, version):
        raise ArchiveError(f"{path}: {odd}; 'bench verify' says what can be saved")
    return version


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
