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
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ArchiveError, StorageError

# What SQLite says where it cannot write, whatever the reason.
_TAKES_NO_MORE = (
    sqlite3.SQLITE_FULL,
    *(sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC),
    *(sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE),
)
# A study writes about as much before it has anything to show.
PROBE_BYTES = 2**20


_CHOOSE = "choose a folder with --results"


@contextmanager
def locked(path: Path, *, once: bool = False) -> Iterator[Lock]:
    """Holds an archive for writing; raises ArchiveError where another process does, or where nothing can be written.

    The lock is the system's and ends with its holder, however that ends; the file beside the archive says who that is.
    It stays for the next run, but where the archive is written `once`.
    """
    if path.is_dir() or path.suffix == ".lock":
        what = "a folder" if path.is_dir() else "the name of a lock"
        raise ArchiveError(f"{path}: is {what}; an archive is a file, such as main.sqlite")
    place = path.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = place.open("a+")
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be written: {error.strerror}; {_CHOOSE}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(200).strip() or "a process that has not said its name"
            raise ArchiveError(
                f"{path}: another bench run is writing to it ({holder}); wait for it, or use --label"
            ) from None
        except OSError as error:
            raise ArchiveError(f"{place}: cannot be locked: {error.strerror}; {_CHOOSE}") from error
        _probe(path)
        try:
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
        except OSError as error:
            raise ArchiveError(f"{place}: cannot be written: {error.strerror}; {_CHOOSE}") from error
        held = Lock(place, os.fstat(lock.fileno()))
        held.insist()  # who wrote once may have removed the file between our opening and locking it
        try:
            yield held
        finally:
            if once:
                place.unlink(missing_ok=True)


@dataclass(frozen=True)
class Lock:
    """A lock that is held, as long as its file is the one that lies there."""

    place: Path
    file: os.stat_result

    def insist(self) -> None:
        """Raises ArchiveError where the file was taken away: another run may hold one of that name by now."""
        try:
            held = os.path.samestat(self.place.stat(), self.file)
        except OSError:
            held = False
        if not held:
            raise ArchiveError(
                f"{self.place}: was taken away while this run held it, so that another may be writing; "
                "nothing more is written: run the suite again when no other run is left"
            )


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


@contextmanager
def full_disk_told(path: Path, advice: str) -> Iterator[None]:
    """A disk that took the probe and takes no more is a StorageError, with the advice at its end."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) not in _TAKES_NO_MORE:
            raise
        size = sum(file.stat().st_size for file in (path, _wal(path)) if file.exists())
        raise StorageError(
            f"{path}: cannot be written further ({error}): it holds {size:,} bytes, {_free(path)}; {advice}"
        ) from error


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place to write what lies at `path` when this is left, whole; nothing does where it fails.

    Raises ArchiveError where there is something already, or the disk does not take it.
    """
    if path.exists() or path.is_symlink():
        raise ArchiveError(f"{path}: exists already; name what does not")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
            place = Path(folder) / path.name
            yield place
            place.rename(path)
    except OSError as error:
        raise ArchiveError(
            f"{path}: cannot be written: {error.strerror or error}; free space, or choose another place"
        ) from error


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path.parent).free:,} bytes are free there"


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C and a request to end wait until this is left: a write in hand is finished."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
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
