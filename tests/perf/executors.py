"""What it costs to have a study carried out elsewhere: each executor against the same study in this process, in turns.

    python tests/perf/executors.py [--turns 31]

Prints of each executor the seconds until its first study is done (a fresh executor: its rehearsal, its processes, torch
imported in them), and then, of tiny studies given to it one at a time, by how many seconds more than here one takes:
the median of the differences within a turn, with its interval, and as a share of a study that trains for a minute. Ray
is tried on a cluster of one node that is started for it, and Slurm with processes in place of jobs, and, where `sinfo`
answers, for real.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from bench.ask import check, document, plan
from bench.contracts import Executor, Task
from bench.events import Failed, Finished
from bench.executors.local import local
from bench.measure.task import carry_out
from bench.stats import median_interval

SUITE = """
suite: executors
workloads:
  - name: tiny
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: [64]
    target: {validation_error: {at_most: 0.0}}
    max_steps: 20
    search: {trials: 2, learning_rate: {log_uniform: [0.01, 1]}}
    confirm: {seeds: 0}
"""


def here(task: Task) -> Iterator[None]:
    """Carries out the task in this process, once each time it is asked."""
    while True:
        *_, last = carry_out(task, torch.device("cpu"))
        assert isinstance(last, Finished), last
        yield


def through(executor: Executor, task: Task) -> Generator[None]:
    """Has an executor carry out the task, once each time it is asked."""
    assert executor.rehearse([task.unit], Path()) == []
    tasks = deque([task])
    for _, _, event in executor.run(tasks):
        if isinstance(event, Finished):
            yield
            tasks.append(task)  # while the executor still asks: it keeps what it has
        assert not isinstance(event, Failed), event


def seconds(turns: Iterator[None]) -> float:
    start = time.perf_counter()
    next(turns)
    return time.perf_counter() - start


def executors(logs: str, stack: ExitStack) -> dict[str, Callable[[], Executor]]:
    """A maker of each executor that this machine can try; says why of those that it cannot."""
    made: dict[str, Callable[[], Executor]] = {"local": lambda: local(["cpu"], 600.0)}
    try:
        import ray as engine
        from ray.cluster_utils import Cluster

        from bench.executors.ray import ray

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        stack.callback(cluster.shutdown)
        stack.callback(engine.shutdown)  # first
        made["ray"] = lambda: ray([], 600.0, address=cluster.address)
    except ImportError as error:
        print(f"not ray: {error}", file=sys.stderr)
    try:
        from bench.executors.slurm import slurm
    except Exception as error:
        print(f"not slurm: {error}", file=sys.stderr)
        return made
    made["slurm, processes"] = lambda: slurm([], 600.0, jobs=1, logs=logs, cluster="local", host="localhost")
    if shutil.which("sinfo") and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        made["slurm, jobs"] = lambda: slurm([], 600.0, jobs=1, logs=logs)
    else:
        print("not slurm with jobs: sinfo does not answer", file=sys.stderr)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=31)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    task = Task(plan.make(check.check(document.parse(SUITE))).studies[0], {}, Path())
    with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
        begun: dict[str, float] = {}
        places: dict[str, Iterator[None]] = {"here": here(task)}
        next(places["here"])  # what is imported once
        for name, make in executors(logs, stack).items():
            start = time.perf_counter()
            places[name] = through(make(), task)
            stack.callback(places[name].close)
            next(places[name])
            begun[name] = time.perf_counter() - start
        took: dict[str, list[float]] = {name: [] for name in places}
        names = list(places)
        for turn in range(asked.turns):
            for name in names if turn % 2 else reversed(names):
                took[name].append(seconds(places[name]))
    print(f"torch {torch.__version__}, {asked.turns} turns; here a study takes {statistics.median(took['here']):.3f} s")
    print(f"{'executor':>17} {'first, s':>9} {'a study, s':>10} {'more than here, s':>23} {'of a minute':>11}")
    for name in begun:
        more = median_interval([one - other for one, other in zip(took[name], took["here"], strict=True)])
        interval = f"{more.median:.3f} [{more.low:.3f}, {more.high:.3f}]"
        share = f"{more.median / 60:.2%}"
        print(f"{name:>17} {begun[name]:>9.1f} {statistics.median(took[name]):>10.3f} {interval:>23} {share:>11}")


if __name__ == "__main__":
    main()
