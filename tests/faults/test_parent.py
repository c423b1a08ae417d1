"""The parent is killed, interrupted, or finds a disk that takes no more: nothing that was acknowledged is lost."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from multiprocessing import forkserver

import pytest
from test_run import TESTS, archive, bench, contents, marked, start, wait_for_readings, write

from bench.keep.storage import PROBE_BYTES

KILLS = 50
SEED = 6


def bench_in_a_fork(folder, *arguments):
    """`bench` in a fork of this process, beside the server of workers that is running already: its pid.

    It is a process like any other, but for what it need not import.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.dup2(os.open(folder / "err", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        for place in (forkserver, forkserver._forkserver):
            place.ensure_running = lambda: None  # it asks after a child of its own, and the server is its parent's
        bench(*arguments, folder=folder)
        os._exit(0)
    finally:
        os._exit(70)


def acknowledged(folder):
    """Every reading that is in the archive, read as anybody may while a run goes on or after it was killed."""
    if not archive(folder).exists():
        return set()
    try:
        return set(contents(archive(folder))[1])
    except sqlite3.OperationalError:  # the tables are not made yet
        return set()


def test_a_run_killed_at_fifty_random_moments_ends_in_the_archive_of_one_that_was_not(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        write(folder, sizes=(16, 32, 64, 128, 256), target=0.0, max_steps=60, race="false", trials=2)
    bench("run", "small.yaml", folder=whole)
    seen = killed_and_resumed(cut, KILLS, 1.2, acknowledged(whole))
    assert len(seen) > 5, "the kills came at different moments of the training"
    assert contents(archive(cut)) == contents(archive(whole))


def test_so_does_one_that_races_confirms_with_fresh_seeds_and_times_a_step(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        path = write(folder, sizes=(64, 256), model="{'user_models:slow': {seconds: 0.004}}")
        timed = "    measure: [steps_to_target, throughput]\n    timing: {processes: 2, seconds: 0.1}\n"
        path.write_text(path.read_text() + timed)
    started = time.monotonic()
    bench("run", "small.yaml", folder=whole)
    seen = killed_and_resumed(cut, 6, time.monotonic() - started, trained(whole))
    assert any(0 < count < len(trained(whole)) for count in seen), "some kill came while it trained"
    assert trained(cut) == trained(whole)
    assert timings(cut) == timings(whole) != set()


def killed_and_resumed(folder, kills, longest, everything):
    """Kills a run once while it trains, then at random moments of so many seconds at most, and lets it go on, and at
    last to its end; the numbers of readings of training that it had by then. `everything`: what a run that is not
    killed reads.
    """
    moments = random.Random(SEED)
    killed, finished, seen = 0, False, set()
    for _ in range(4 * kills):
        if killed == kills and finished:
            break
        if finished:  # there are kills left: from the beginning
            archive(folder).unlink()
        forkserver.ensure_running()  # a client that is killed while it asks for a worker can take the server along
        pid = bench_in_a_fork(folder, "run", "small.yaml")
        if killed == 0:  # while it trains, however slow the machine is
            end = time.monotonic() + 120
            while not trained(folder) and time.monotonic() < end:
                time.sleep(0.01)
        elif killed < kills:  # after the last kill it goes on to its end
            time.sleep(moments.uniform(0.0, longest))
        before = acknowledged(folder)
        if killed < kills:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        assert before <= acknowledged(folder)
        assert trained(folder) <= everything
        killed += os.WIFSIGNALED(status)
        seen.add(len(trained(folder)))
        finished = status == 0
    assert killed == kills
    return seen


def trained(folder):
    """What is acknowledged of training; times are never the same twice."""
    return acknowledged(folder) - timings(folder, whole=True)


def timings(folder, *, whole=False):
    """(trial, step, name) of what was timed, windows apart, of which there are as many as fit; or those rows whole."""
    if not archive(folder).exists():
        return set()
    with closing(sqlite3.connect(archive(folder))) as db:
        try:
            timed = {row[0] for row in db.execute("SELECT id FROM trials WHERE phase = 'throughput'")}
        except sqlite3.OperationalError:
            return set()
    rows = {row for row in acknowledged(folder) if row[0] in timed}
    return rows if whole else {(name, step, reading) for name, step, reading, _ in rows if reading != "step_seconds"}


@pytest.fixture
def running(tmp_path):
    """A run in a process of its own, half-way through what it will never finish by itself."""
    write(tmp_path, target=0.0, max_steps=100_000)
    process = start("run", "small.yaml", folder=tmp_path, BENCH_TEST_MARK=str(tmp_path))
    wait_for_readings(archive(tmp_path), 50, process)
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_marks_what_was_running_and_says_how_to_go_on(running, tmp_path):
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "go on with: bench run small.yaml" in err
    assert "Traceback" not in err
    with closing(sqlite3.connect(archive(tmp_path))) as db:
        outcomes = "SELECT group_concat(DISTINCT outcome), max(step) > 0 FROM trials"  # some may only have begun
        assert db.execute(outcomes).fetchone() == ("interrupted", 1)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def on_terminal():
    """What is started hears that its terminal was closed, whatever these tests were started with."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_is_as_one_ctrl_c_however_often_it_is_said(on_terminal, running, tmp_path):
    running.send_signal(signal.SIGHUP)  # by the system
    until = time.monotonic() + 30
    while running.poll() is None and time.monotonic() < until:
        running.send_signal(signal.SIGHUP)  # by the shell
        time.sleep(0.005)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
    with closing(sqlite3.connect(archive(tmp_path))) as db:
        assert db.execute("SELECT DISTINCT outcome FROM trials").fetchall() == [("interrupted",)]


def test_a_run_under_nohup_goes_on_when_its_terminal_is_closed(on_terminal, tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    write(tmp_path, target=0.0, max_steps=100_000)
    process = start("run", "small.yaml", folder=tmp_path)
    wait_for_readings(archive(tmp_path), 1, process)
    process.send_signal(signal.SIGHUP)
    wait_for_readings(archive(tmp_path), 1 + len(acknowledged(tmp_path)), process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_second_ctrl_c_kills_and_leaves_no_process_and_a_whole_archive(running, tmp_path):
    before = acknowledged(tmp_path)
    running.send_signal(signal.SIGSTOP)  # so that the second comes before the first is answered
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGCONT)
    until = time.monotonic() + 10
    while running.poll() is None and time.monotonic() < until:
        running.send_signal(signal.SIGINT)
        time.sleep(0.005)
    _, err = running.communicate(timeout=30)
    assert running.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in err
    assert before <= acknowledged(tmp_path)
    while marked(str(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert marked(str(tmp_path)) == []


def test_a_second_run_on_the_archive_is_told_who_holds_it_and_a_stale_lock_is_taken_over(running, tmp_path):
    _, err = bench("run", "small.yaml", folder=tmp_path, code=2)
    assert f"another bench run is writing to it (process {running.pid} on {socket.gethostname()})" in err
    running.kill()
    running.communicate()
    assert f"process {running.pid}" in archive(tmp_path).with_suffix(".lock").read_text()
    write(tmp_path, target=0.0, max_steps=20)
    bench("run", "small.yaml", folder=tmp_path)


def test_a_run_whose_lock_is_taken_away_stops_and_leaves_the_archive_to_the_next(running, tmp_path):
    archive(tmp_path).with_suffix(".lock").unlink()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 2, err
    assert "main.lock: was taken away while this run held it" in err
    assert "Traceback" not in err
    write(tmp_path, target=0.0, max_steps=20)
    bench("run", "small.yaml", folder=tmp_path)


def test_a_killed_run_can_be_shown_where_nothing_can_be_written(running, tmp_path):
    running.kill()
    running.communicate()
    assert archive(tmp_path).with_name("main.sqlite-wal").stat().st_size > 0
    for companion in ("main.sqlite-shm", "main.lock"):
        done = obeying(tmp_path, "show", archive(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "not measured yet" in done.stdout
        archive(tmp_path).with_name(companion).unlink()


def obeying(folder, *arguments):
    """`bench` in a folder that may be read and not written to; for this process even root obeys."""
    libc = ctypes.CDLL(None)

    def obey():
        for capability in (1, 2, 3):  # to override permissions, and to change them
            libc.prctl(24, capability, 0, 0, 0)  # of those a program is given when it starts, drops one

    places = [folder, *folder.rglob("*")]
    for place in places:
        place.chmod(place.stat().st_mode & ~0o222)
    try:
        return subprocess.run(
            [sys.executable, "-m", "bench", *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            preexec_fn=obey,
        )
    finally:
        for place in places:
            place.chmod(place.stat().st_mode | 0o200)


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_trained(tmp_path):
    write(tmp_path)
    done = obeying(tmp_path, "run", "small.yaml")
    assert done.returncode == 2
    assert "cannot be written: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("limit", "code"), [(PROBE_BYTES // 2, 2), (PROBE_BYTES + 2**16, 5)], ids=["probe", "later"])
def test_a_full_disk_is_a_sentence_with_the_path_and_the_bytes_and_the_run_goes_on_when_there_is_room(
    tmp_path, limit, code
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        write(folder, sizes=[16, 256], target=0.0, max_steps=200, race="false", trials=2)
        path = folder / "small.yaml"
        path.write_text(path.read_text() + "    evaluate: {resolution: 0.0005, cost: 1000}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "run", "small.yaml"],
        cwd=cut,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert str(archive(cut).relative_to(cut)) in err
    assert "bytes" in err
    assert "free space" in err
    if code == 5:
        kept = acknowledged(cut)
        assert kept
        bench("run", "small.yaml", folder=whole)
        bench("run", "small.yaml", folder=cut)
        assert kept <= acknowledged(whole)
        assert contents(archive(cut)) == contents(archive(whole))
