"""Where an archive lies: the lock on it, whether its disk takes more, what lies beside it, and opening one that is not
to be trusted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from bench.errors import ArchiveError, StorageError

# A study writes about as much before it has anything to show.
PROBE_BYTES = 2**20


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an archive for writing; raises ArchiveError where another process does, or where nothing can be written.

    The lock is the system's and ends with its holder, however that ends; the file beside the archive says who that is.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a+")
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be written: {error.strerror}; choose a folder with --results") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(200).strip() or "a process that has not said its name"
            raise ArchiveError(
                f"{path}: another bench run is writing to it ({holder}); wait for it, or use --label"
            ) from None
        _probe(path)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def _probe(path: Path) -> None:
    """Writes as much as a beginning needs where the archive will lie, and takes it away again."""
    try:
        if path.exists():
            with path.open("r+b"):
                pass
        with tempfile.TemporaryFile(dir=path.parent) as probe:  # nameless: a run that is killed leaves nothing behind
            probe.write(os.urandom(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise ArchiveError(
            f"{path}: cannot be written: {error.strerror} (tried with {PROBE_BYTES:,} bytes, {_free(path)}); "
            "free space, or choose a folder with --results"
        ) from error


def full(path: Path, error: sqlite3.Error) -> StorageError:
    """What to say where a disk that took the probe takes no more."""
    size = sum(file.stat().st_size for file in (path, _wal(path)) if file.exists())
    return StorageError(
        f"{path}: cannot be written further ({error}): it holds {size:,} bytes, {_free(path)}; "
        "what was measured before is kept: free space and run the suite again"
    )


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path.parent).free:,} bytes are free there"


def checkpoint(path: Path, study: str) -> Path:
    """Where a study of an archive is kept while it goes on."""
    return path.with_suffix(".checkpoints") / f"{study}.pt"


def checkpoint_files(checkpoint: Path) -> tuple[Path, Path, Path]:
    """A checkpoint's files: the newest, the one before, and the one that is being written."""
    return checkpoint, checkpoint.with_suffix(".previous.pt"), checkpoint.with_suffix(".begun")


def forget_checkpoint(checkpoint: Path) -> None:
    """Removes a checkpoint, and the folder when it was the last."""
    for file in checkpoint_files(checkpoint):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # there are others, or there never was a folder
        checkpoint.parent.rmdir()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C and a request to end wait until this is left: a write in hand is finished."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def opened_for_reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes nothing and runs nothing that lies in the file.

    A run that was killed leaves a -wal beside its archive, for which SQLite needs a place to write: where the folder
    gives none, the two are read from a copy.
    """
    try:
        connection = _connect(path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            for file in (path, _wal(path)):
                if file.exists():
                    shutil.copyfile(file, copy.with_name(file.name))
            with closing(_connect(copy)) as connection:
                distrust(path, connection)
                yield connection
    else:
        with closing(connection):
            distrust(path, connection)
            yield connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def distrust(path: Path, connection: sqlite3.Connection) -> None:
    """Has SQLite look twice at what the file says; raises ArchiveError where it holds anything that could be run."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    row = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if row:
        raise ArchiveError(
            f"{path}: holds the {row[0]} {row[1]!r}; an archive of bench holds tables, and nothing to run"
        )


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
