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

import pytest

HERE = Path(__file__).parent
SUITE = """
suite: small
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: sgd
    batch_sizes: [16, 32, 64, 128]
    target: {{validation_error: {{at_most: 0.01}}}}
    max_steps: {max_steps}
    search: {{trials: 2, learning_rate: {{log_uniform: [0.01, 1]}}}}
    confirm: {{seeds: 1}}
"""


@pytest.fixture
def slurm(tmp_path):
    """The environment in which Slurm's commands reach a cluster of two nodes on this machine."""
    pytest.importorskip("submitit")
    if os.geteuid() or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))):
        pytest.skip("needs root, and Debian's slurmctld, slurmd, slurm-client and munge")
    subprocess.run(["bash", HERE / "cluster.sh", "up", tmp_path / "slurm"], check=True, stdout=subprocess.DEVNULL)
    yield {**os.environ, "SLURM_CONF": str(tmp_path / "slurm" / "slurm.conf"), "PYTHONPATH": str(HERE.parent)}
    subprocess.run(["bash", HERE / "cluster.sh", "down", tmp_path / "slurm"], check=True, stdout=subprocess.DEVNULL)


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


def test_a_job_that_is_killed_and_requeued_costs_nothing_but_time(slurm, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE.format(model="{'user_models:slow': {seconds: 0.02}}", max_steps=200))
    here = bench("run", "small.yaml", "--label", "here", folder=tmp_path, environment=slurm)
    here.communicate()
    options = ["--executor", "slurm", "--executor-options", "jobs=2", "--executor-options", "host=localhost"]
    there = bench("run", "small.yaml", "--label", "there", *options, folder=tmp_path, environment=slurm)
    archive = tmp_path / "results" / "small" / "there.sqlite"
    until = time.monotonic() + 120
    while len(rows(archive, "SELECT * FROM readings")) < 10 and time.monotonic() < until and there.poll() is None:
        time.sleep(0.1)
    queued = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i"], env=slurm, capture_output=True, text=True)
    assert queued.stdout, there.communicate()
    job = queued.stdout.split()[0]
    subprocess.run(["scontrol", "requeue", job], env=slurm, check=True)
    said, complaints = there.communicate()
    assert there.returncode == 0, complaints
    assert "cancelled, preempted or lost" in complaints + said
    for query in CONTENT:
        assert rows(archive, query) == rows(tmp_path / "results" / "small" / "here.sqlite", query) != []
    left = subprocess.run(["squeue", "-h", "-o", "%i"], env=slurm, capture_output=True, text=True)
    assert left.stdout == ""
    logs = rows(archive, "SELECT content ->> 'log' FROM environments")
    assert any(Path(log).exists() for (log,) in logs)
