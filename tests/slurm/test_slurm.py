"""Slurm itself, on this machine: a suite as jobs, one of which is killed and requeued half-way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
SUITE = """
suite: small
workloads:
  - name: w
    model: {'user_models:slow': {seconds: 0.02}}
    dataset: digits
    optimizer: sgd
    batch_sizes: [16, 32, 64, 128]
    target: {validation_error: {at_most: 0.01}}
    max_steps: 200
    search: {trials: 2, learning_rate: {log_uniform: [0.01, 1]}}
    confirm: {seeds: 1}
"""
JOBS = ["--executor", "slurm", "--executor-options", "jobs=2"]
TASK = "SLURM_ARRAY_TASK_ID"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which Slurm's commands reach a cluster of two nodes on this machine."""
    pytest.importorskip("submitit")
    if os.geteuid() or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))):
        pytest.skip("needs root, and Debian's slurmctld, slurmd, slurm-client and munge")
    place = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", HERE / "cluster.sh", "up", place], check=True, stdout=subprocess.DEVNULL)
    yield {**os.environ, "SLURM_CONF": str(place / "slurm.conf"), "PYTHONPATH": str(HERE.parent)}
    subprocess.run(["bash", HERE / "cluster.sh", "down", place], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def here(slurm, tmp_path_factory):
    """The archive of a run on this machine, without Slurm."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "small.yaml").write_text(SUITE)
    out, complaints = bench("run", "small.yaml", folder=folder, environment=slurm).communicate()
    assert out, complaints
    return folder / "results" / "small" / "main.sqlite"


def bench(*arguments, folder, environment):
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path, query):
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []  # the tables are being made


CONTENT = (
    "SELECT id, outcome, step FROM trials ORDER BY id",
    "SELECT id, readings.step, name, value FROM readings JOIN trials ON trial = key ORDER BY 1, 2, 3",
)


def by(environment, *command):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def wait_until(happened, seconds=300):
    until = time.monotonic() + seconds
    while not (seen := happened()) and time.monotonic() < until:
        time.sleep(0.1)
    return seen


def the_same(archive, here):
    return all(rows(archive, query) == rows(here, query) != [] for query in CONTENT)


def test_a_job_that_is_killed_and_requeued_costs_nothing_but_time(slurm, here, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE)
    options = [*JOBS, "--executor-options", "host=localhost"]
    there = bench("run", "small.yaml", "--label", "there", *options, folder=tmp_path, environment=slurm)
    archive = tmp_path / "results" / "small" / "there.sqlite"
    wait_until(lambda: len(rows(archive, "SELECT * FROM readings")) >= 10 or there.poll() is not None)
    running = by(slurm, "squeue", "-h", "-t", "R", "-o", "%i").split()
    assert running, there.communicate()
    by(slurm, "scontrol", "requeue", running[0])
    said, complaints = there.communicate()
    assert there.returncode == 0, complaints
    assert "cancelled, preempted or lost" in complaints + said
    assert the_same(archive, here)
    assert by(slurm, "squeue", "-h", "-o", "%i") == ""
    logs = rows(archive, "SELECT content ->> 'log' FROM environments")
    assert any(Path(log).exists() for (log,) in logs)


def test_a_detached_run_whose_jobs_are_out_of_time_or_killed_ends_in_the_archive_of_one_that_was_waited_for(
    slurm, here, tmp_path
):
    (tmp_path / "small.yaml").write_text(SUITE)

    def said(*arguments, code=0):
        called = bench(*arguments, folder=tmp_path, environment=slurm)
        out, complaints = called.communicate()
        assert called.returncode == code, complaints
        return out + complaints

    archive = tmp_path / "results" / "small" / "main.sqlite"
    parts = [archive.with_suffix(".parts") / f"{number}.sqlite" for number in (0, 1)]
    assert "4 studies in 2 jobs" in said("run", "small.yaml", *JOBS, "--detach")
    assert wait_until(lambda: all(len(rows(part, "SELECT * FROM readings")) >= 10 for part in parts))
    first, second = sorted(by(slurm, "squeue", "-h", "-r", "-t", "R", "-o", "%i").split())
    assert said("status", str(archive)).count("running") == 2
    by(slurm, "scancel", "--batch", "--signal=USR2", first)  # its time is up, or it is preempted
    for process in psutil.process_iter(["cmdline"]):
        if "submitit.core._submit" in (process.info["cmdline"] or ()) and process.environ().get(TASK) == "1":
            process.kill()
    assert wait_until(lambda: by(slurm, "squeue", "-h", "-r", "-o", "%i %T").split() == [first, "PENDING"])
    seen = said("status", str(archive))
    assert "pending" in seen
    assert "gone" in seen
    assert "1 of 2 jobs left, collect again" in said("collect", str(archive), code=5)
    by(slurm, "scontrol", "requeue", second)
    for job in (first, second):  # which Slurm would let wait for two minutes
        by(slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")
    assert wait_until(lambda: not by(slurm, "squeue", "-h", "-o", "%i"))
    seen = said("status", str(archive))
    assert "4 of 4 studies measured" in seen
    assert "4 of 4 studies measured" in said("collect", str(archive))
    assert the_same(archive, here)
    for (log,) in rows(archive, "SELECT content ->> 'log' FROM environments"):
        assert Path(log).exists()
        assert log in seen
    assert not archive.with_suffix(".parts").exists()
