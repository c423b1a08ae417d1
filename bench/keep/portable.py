"""Archives that travel: Parquet and a manifest of hashes, in a folder or a .tar.zst; readings as CSV or JSON.

What comes in is not trusted: only files of known names that the manifest lists are read, no path of it is ever used,
and size and hash are looked at before anything is read as Parquet.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, get_args

import numpy

from bench.errors import ArchiveError, first_line
from bench.keep import storage
from bench.keep.archive import Archive, restore
from bench.keep.records import found
from bench.keep.schema import SCHEMA_VERSION, Table
from bench.table import harmless

FORMAT = "bench-archive"
MANIFEST = "manifest.json"
SUITE = "suite.yaml"
TABLES: tuple[Table, ...] = get_args(Table)
FILES = {SUITE: None, **{f"{table}.parquet": table for table in TABLES}}

_TYPES = {"INTEGER": "BIGINT", "REAL": "DOUBLE", "TEXT": "VARCHAR"}
_MOST_MANIFEST_BYTES = 2**20
# What unpacks to more than so many times its size, and more than so many bytes, was made to fill a disk.
_MOST_UNPACKED, _ALWAYS_UNPACKED = 200, 2**26
_MOST_HEADER_BYTES = 2**18
_CHUNK = 2**20


# ---- out ------------------------------------------------------------------------------------------------------------


def export(archive: Archive, target: Path) -> None:
    """Writes an archive to a folder or a .tar.zst, or its readings to a .csv or .json; never over what is there."""
    with storage.beside(target) as place:
        if target.suffix in (".csv", ".json"):
            _readings(archive, place)
        elif target.name.endswith(".tar.zst"):
            folder = place.with_name("packed")
            _write(archive, folder)
            _pack(folder, place)
        else:
            _write(archive, place)


def _write(archive: Archive, folder: Path) -> None:
    folder.mkdir()
    (folder / SUITE).write_text(archive.suite_text(), encoding="utf-8")
    for table in TABLES:
        columns = archive.layout(table)
        rows = archive.rows(table)
        arrays = {name: numpy.empty(len(rows), dtype=object) for name in columns}
        for place, values in enumerate(arrays.values()):
            values[:] = [row[place] for row in rows]
        casts = ", ".join(f"CAST({name} AS {_TYPES[column.type]}) AS {name}" for name, column in columns.items())
        with _duckdb() as database:
            import duckdb

            database.register("arrays", arrays)
            database.execute(f"CREATE TABLE made AS SELECT {casts} FROM arrays")
            try:
                database.execute(f"COPY made TO '{_quoted(folder / f'{table}.parquet')}' (FORMAT parquet)")
            except duckdb.IOException as error:
                raise OSError(first_line(error)) from error
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": _hash(folder / name)} for name in FILES}
    manifest = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _pack(folder: Path, target: Path) -> None:
    with (
        target.open("xb") as file,
        _zstandard().ZstdCompressor().stream_writer(file) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for name in (MANIFEST, *FILES):
            tar.add(folder / name, arcname=name, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who packed it, and when, is nobody's business."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def _readings(archive: Archive, target: Path) -> None:
    """Every reading, a row each; what is no ordinary number has its name under `status`."""
    conditions = ["init_seed", "order_seed", "deterministic"]
    columns = [
        "workload",
        "devices",
        "batch_size",
        "trial",
        "phase",
        "number",
        *conditions,
        "step",
        "name",
        "value",
        "status",
    ]
    rows = []
    places = archive.environments()
    seeds = {key: (init, order) for key, _, _, _, _, init, order, *_ in archive.rows("trials")}
    for study in archive.studies():
        for trial in study.trials:
            for _, step, name, value, status in archive.rows("readings", trial.key):
                deterministic = places[trial.environment].get("deterministic")
                labels = (
                    *(study.workload, study.devices, study.batch_size, trial.id, trial.phase, trial.number),
                    *(*seeds[trial.key], deterministic),
                )
                rows.append([*labels, step, name, None if status else found(value, status), status])
    with target.open("x", encoding="utf-8", newline="") as file:
        if target.suffix == ".json":
            json.dump([dict(zip(columns, row, strict=True)) for row in rows], file, indent=1, allow_nan=False)
        else:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([harmless(cell) for cell in row] for row in rows)


# ---- in -------------------------------------------------------------------------------------------------------------


def read(source: Path, place_of: Callable[[str], Path]) -> Path:
    """Writes an archive that was exported into a new one, at the place of the suite of that name; where that is.

    Raises ArchiveError, and writes nothing, where it is not as its manifest says, or not what bench writes.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            (_take_folder if source.is_dir() else _take_packed)(source, copy)
            rows = {table: list(_rows(source, copy / f"{table}.parquet", table)) for table in TABLES}
    except OSError as error:
        place = tempfile.gettempdir()
        raise ArchiveError(
            f"{source}: cannot be unpacked in {place}: {error.strerror}; free space, or set TMPDIR to another folder"
        ) from error
    if not rows["suites"]:
        raise ArchiveError(f"{source}: holds no suite; an archive that was exported has one")
    target = place_of(str(max(rows["suites"])[1]))
    restore(target, rows)
    return target


def _take_folder(source: Path, place: Path) -> None:
    with _opened(source / MANIFEST) as file:
        listed = _manifest(source, file.read(_MOST_MANIFEST_BYTES + 1))
    for name, (size, digest) in listed.items():
        with _opened(source / name) as file:
            _take(source, file, place / name, size, digest)


def _take_packed(source: Path, place: Path) -> None:
    packed_bytes = source.stat().st_size if source.is_file() else 0
    try:
        with (
            _opened(source) as file,
            _zstandard().ZstdDecompressor(max_window_size=2**27).stream_reader(file) as unpacked,
        ):
            stream = _Expected(source, unpacked)
            with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
                _take_members(source, stream, tar, place, max(_ALWAYS_UNPACKED, _MOST_UNPACKED * packed_bytes))
    except (tarfile.TarError, _zstandard().ZstdError, EOFError) as error:
        raise ArchiveError(f"{source}: is not a .tar.zst that bench exported: {error}") from error


class _Expected:
    """A stream that gives no more than is expected of it: tarfile reads a header whole, however long it says it is."""

    def __init__(self, source: Path, stream: IO[bytes]) -> None:
        self._source, self._stream = source, stream
        self.expect(0)

    def expect(self, content_bytes: int) -> None:
        """What comes next: as many bytes, and a header."""
        self._left = content_bytes + _MOST_HEADER_BYTES

    def read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise ArchiveError(f"{self._source}: holds a header of more than {_MOST_HEADER_BYTES:,} bytes")
        return found


def _take_members(source: Path, stream: _Expected, tar: tarfile.TarFile, place: Path, most_bytes: int) -> None:
    listed: dict[str, tuple[int, str]] = {}
    taken: set[str] = set()
    while member := tar.next():
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            raise ArchiveError(f"{source}: holds {member.name!r}, which is no ordinary file; nothing was imported")
        if not listed:
            if member.name != MANIFEST:
                raise ArchiveError(f"{source}: begins with {member.name!r}; {MANIFEST} would be right")
            stream.expect(_MOST_MANIFEST_BYTES)
            listed = _manifest(source, content.read(_MOST_MANIFEST_BYTES + 1))
            if sum(size for size, _ in listed.values()) > most_bytes:
                raise ArchiveError(f"{source}: unpacks to more than {most_bytes:,} bytes; nothing was imported")
            stream.expect(0)
            continue
        if member.name not in listed or member.name in taken:
            raise ArchiveError(f"{source}: holds {member.name!r}, which its manifest does not list once")
        size, digest = listed[member.name]
        stream.expect(size)
        _take(source, content, place / member.name, size, digest)
        taken.add(member.name)
        stream.expect(0)
    if missing := listed.keys() - taken or ([] if listed else [MANIFEST]):
        raise ArchiveError(f"{source}: lacks {', '.join(sorted(missing))}")


def _manifest(source: Path, text: bytes) -> dict[str, tuple[int, str]]:
    """Size and hash of every file; raises ArchiveError where the manifest lists other files than an export has."""
    try:
        if len(text) > _MOST_MANIFEST_BYTES:
            raise ValueError(f"it has more than {_MOST_MANIFEST_BYTES:,} bytes")
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}")
        version = manifest["schema_version"]
        listed = {name: (int(about["bytes"]), str(about["sha256"])) for name, about in manifest["files"].items()}
        if any(size < 0 for size, _ in listed.values()):
            raise ValueError("it lists a size below 0")
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"{source}: {MANIFEST} is not one that bench writes: {error}") from error
    if version != SCHEMA_VERSION:
        raise ArchiveError(f"{source}: has schema version {version}; this bench imports version {SCHEMA_VERSION}")
    if listed.keys() != FILES.keys():
        odd = sorted(listed.keys() ^ FILES.keys())
        raise ArchiveError(f"{source}: {MANIFEST} lists other files than an export has: {', '.join(map(repr, odd))}")
    return listed


def _opened(path: Path) -> IO[bytes]:
    """An ordinary file, opened; a link is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read as an ordinary file: {error.strerror}") from error
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ArchiveError(f"{path}: is no ordinary file")
    return file


def _take(source: Path, content: IO[bytes], copy: Path, size: int, digest: str) -> None:
    """Copies as many bytes as were said, and sees that they are those."""
    taken, found_hash = 0, hashlib.sha256()
    with copy.open("wb") as file:
        while taken <= size and (chunk := content.read(min(_CHUNK, size + 1 - taken))):
            taken += len(chunk)
            found_hash.update(chunk)
            file.write(chunk)
    if taken != size or found_hash.hexdigest() != digest:
        raise ArchiveError(f"{source}: {copy.name} is not as the manifest says (size or SHA-256); nothing was imported")


def _rows(source: Path, file: Path, table: Table) -> Iterator[tuple[Any, ...]]:
    columns = Archive.layout(table)
    casts = ", ".join(f"CAST({name} AS {_TYPES[column.type]})" for name, column in columns.items())
    with _duckdb() as database:
        import duckdb

        try:
            parquet = f"read_parquet('{_quoted(file)}')"
            (count,) = database.execute(f"SELECT count(*) FROM {parquet}").fetchone() or (0,)
            if count > 100_000 + 10 * file.stat().st_size:
                raise ArchiveError(f"{source}: {file.name} holds {count:,} rows in {file.stat().st_size:,} bytes")
            needed = " OR ".join(f"{name} IS NULL" for name, column in columns.items() if column.needed)
            if database.execute(f"SELECT 1 FROM {parquet} WHERE {needed} LIMIT 1").fetchone():
                raise ArchiveError(f"{source}: {file.name} is not what bench writes: a value is missing")
            yield from database.execute(f"SELECT {casts} FROM {parquet}").fetchall()
        except duckdb.Error as error:
            reason = first_line(error).replace(str(file), file.name)
            raise ArchiveError(f"{source}: {file.name} is not what bench writes: {reason}") from error


# ---- packages that not everybody has --------------------------------------------------------------------------------


@contextmanager
def _duckdb() -> Iterator[Any]:
    """A database in memory that loads no extension."""
    try:
        import duckdb
    except ImportError as error:
        raise ArchiveError("Parquet takes DuckDB, which is not installed: pip install 'bench[archive]'") from error
    alone = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "1"}
    with closing(duckdb.connect(":memory:", config={**alone, "memory_limit": "2GB"})) as database:
        yield database


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ArchiveError(".tar.zst takes zstandard, which is not installed: pip install 'bench[archive]'") from error
    return zstandard


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
