"""What is written elsewhere than by a run: where it cannot be, a sentence says so, and nothing is left behind."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
from test_archive import measure, plan_of
from test_run import bench

from bench.events import Ended, Evaluated, Started
from bench.keep.archive import Archive
from bench.keep.storage import PROBE_BYTES

WRITERS = {
    "merge": ("merge", "a.sqlite", "--into", "new/b.sqlite"),
    "repair": ("verify", "a.sqlite", "--repair", "new/b.sqlite"),
    "folder": ("export", "a.sqlite", "new/b"),
    "tar.zst": ("export", "a.sqlite", "new/b.tar.zst"),
    "csv": ("export", "a.sqlite", "new/b.csv"),
    "json": ("export", "a.sqlite", "new/b.json"),
    "import": ("import", "packed.tar.zst"),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with an archive a.sqlite of more than two megabytes, and its export packed.tar.zst."""
    folder = tmp_path_factory.mktemp("large")
    of = measure(folder / "a.sqlite")
    trial = plan_of().studies[0].draws()[5]
    with Archive.writing(folder / "a.sqlite") as archive:
        environment = archive.environment({"device": "fake"})
        archive.record(of, environment, Started((trial,)))
        # No two alike, so that they take their room in Parquet and packed too.
        seen = {trial.id: {f"reading {number:06} {hash((number, 1)):x}": 1 / (number + 3) for number in range(60_000)}}
        archive.record(of, environment, Evaluated(1, seen))
        archive.record(of, environment, Ended(trial, "exhausted", 1, 0.1))
    bench("export", "a.sqlite", "packed.tar.zst", folder=folder)
    assert (folder / "a.sqlite").stat().st_size > 2 * PROBE_BYTES
    return folder


def things(folder):
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.suffix != ".lock")


@contextmanager
def full_disk(limit):
    """A disk on which no file gets larger, for this process; the system says so, whatever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def room(way, folder):
    """A limit that is reached after the first of the file was written, where that is more than a probe takes."""
    match way:
        case "folder" | "tar.zst":
            return PROBE_BYTES // 4
        case "import":
            return (folder / "a.sqlite").stat().st_size - 2**12
        case _:
            return PROBE_BYTES + 2**12


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("way", WRITERS)
def test_a_disk_that_fills_up_is_a_sentence_and_leaves_nothing_of_what_was_being_written(large, tmp_path, way, later):
    for name in ("a.sqlite", "packed.tar.zst"):
        (tmp_path / name).hardlink_to(large / name)
    before = things(tmp_path)
    # What SQLite was writing when the disk filled up has its own exit code, that of a run.
    code = 5 if later and way in ("merge", "repair", "import") else 2
    with full_disk(room(way, large) if later else PROBE_BYTES // 8):
        _, err = bench(*WRITERS[way], folder=tmp_path, code=code)
    place = WRITERS[way][-1]
    if way == "import" and later:
        place = "results/fake/main.sqlite"
    assert err.startswith(f"{place}: cannot be {'unpacked in' if place.startswith('packed') else 'written'}"), err
    folders = ("new", "results", "results/fake")
    assert [each for each in things(tmp_path) if each not in folders] == before


@pytest.mark.parametrize("way", [way for way in WRITERS if way != "import"])
def test_a_folder_that_is_missing_is_made_and_one_that_is_a_file_is_a_sentence(tmp_path, way):
    measure(tmp_path / "a.sqlite")
    bench(*WRITERS[way], folder=tmp_path)
    assert [each for each in things(tmp_path / "new") if "/" not in each] == [WRITERS[way][-1].removeprefix("new/")]
    (tmp_path / "file").touch()
    instead = [part.replace("new/", "file/") for part in WRITERS[way]]
    _, err = bench(*instead, folder=tmp_path, code=2)
    assert "cannot be written" in err


@pytest.mark.parametrize("place", ["b.lock", ".", "/"])
def test_a_place_that_can_hold_no_archive_is_a_sentence(tmp_path, place):
    measure(tmp_path / "a.sqlite")
    for command in (("merge", "a.sqlite", "--into"), ("verify", "a.sqlite", "--repair")):
        assert "an archive is a file, such as" in bench(*command, place, folder=tmp_path, code=2)[1]
    assert things(tmp_path) == ["a.sqlite"]


# A filter that has the kernel refuse one system call, as (code, true, false, operand) of each instruction.
FLOCK = {"x86_64": 73, "aarch64": 32}
ENOLCK = 37


def without_locks():
    """From here on the kernel has no lock to give to this process."""
    program = [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, FLOCK[platform.machine()]),
        (6, 0, 0, 0x50000 | ENOLCK),
        (6, 0, 0, 2**31 - 2**16),
    ]
    program[-1] = (6, 0, 0, 0x7FFF0000)

    class Instruction(ctypes.Structure):
        _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    instructions = (Instruction * len(program))(*(Instruction(*each) for each in program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert libc.prctl(22, 2, ctypes.byref(Program(len(program), ctypes.addressof(instructions))), 0, 0) == 0


@pytest.mark.skipif(platform.machine() not in FLOCK, reason="the number of flock is not known here")
def test_a_file_system_without_locks_is_a_sentence(tmp_path):
    measure(tmp_path / "a.sqlite")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "merge", "a.sqlite", "--into", "b.sqlite"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=without_locks,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("b.lock: cannot be locked: No locks available; choose a folder")
    assert not (tmp_path / "b.sqlite").exists()
