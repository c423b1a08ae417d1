"""The contract of executors, held by each: the same tasks, the same events, and nothing left behind."""

from __future__ import annotations

import warnings
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from fakes import study_of
from test_run import contents

from bench.ask import check, document, plan
from bench.contracts import Task
from bench.errors import DeviceError
from bench.events import TERMINAL, Evaluated, Failed, Finished, Lost, Retried
from bench.executors.local import local
from bench.keep.archive import Archive
from bench.run import runner

TESTS = Path(__file__).parent

SUITE = """
suite: executors
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: sgd
    batch_sizes: [{batch_size}]
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: {max_steps}
    search: {{trials: 2, learning_rate: {{log_uniform: [0.01, 1]}}}}
    confirm: {{seeds: 1}}
"""


def task(model="softmax", batch_size=64, max_steps=200):
    return Task(study_of(SUITE.format(model=model, batch_size=batch_size, max_steps=max_steps)), {}, Path())


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, as `ray start` makes them."""
    pytest.importorskip("ray")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # or everything else on the machine comes first
        warnings.simplefilter("ignore")  # Ray's own, of files it leaves to the garbage collector
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()


@pytest.fixture(params=["local", "ray", "slurm"])
def executor(request, monkeypatch):
    """Makes executors of a kind, given how long a worker may say nothing."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # where user_models.py lies
    if request.param == "local":
        yield lambda stall_seconds=600.0: local([], stall_seconds)
        return
    if request.param == "slurm":
        pytest.importorskip("submitit")
        from bench.executors.slurm import slurm

        logs = str(request.getfixturevalue("tmp_path"))
        yield lambda stall_seconds=600.0: slurm([], stall_seconds, jobs=2, logs=logs, cluster="local", host="localhost")
        return
    address = request.getfixturevalue("cluster").address
    import ray as engine

    from bench.executors.ray import ray

    yield lambda stall_seconds=600.0: ray([], stall_seconds, address=address)
    engine.shutdown()


def carried_out(made, *tasks):
    """What an executor says of each task."""
    studies = [each.unit for each in tasks]
    assert made.rehearse(studies, Path()) == []
    said = {study.id: [] for study in studies}
    with closing(made.run(deque(tasks))) as events:
        for each, environment, event in events:
            said[each.unit.id].append((environment, event))
    return [said[study.id] for study in studies]


def test_each_task_ends_in_one_terminal_event_and_says_where_it_ran(executor):
    for said in carried_out(executor(), task(batch_size=32), task(batch_size=64), task(batch_size=128)):
        assert [isinstance(event, TERMINAL) for _, event in said] == [False] * (len(said) - 1) + [True]
        assert isinstance(said[-1][1], Finished)
        assert all(environment["device"] for environment, _ in said)


def test_the_same_task_has_the_same_readings_everywhere(executor):
    (here,), (there,) = carried_out(local([], 600.0), task()), carried_out(executor(), task())
    readings = [[event for _, event in said if isinstance(event, Evaluated)] for said in (here, there)]
    assert readings[0] == readings[1] != []


def test_a_fault_of_one_task_is_its_own_and_the_others_go_on(executor):
    made = executor()
    sound, raising, killed = carried_out(
        made, task(), task("'user_models:raising'"), task("'user_models:killed'", batch_size=32)
    )
    assert isinstance(sound[-1][1], Finished)
    assert isinstance(raising[-1][1], Failed)
    assert "ZeroDivisionError" in raising[-1][1].message
    assert isinstance(killed[-1][1], Lost)
    assert killed[-1][1].signal == "SIGKILL"


def test_a_worker_that_hangs_is_ended(executor):
    (said,) = carried_out(executor(stall_seconds=8.0), task("'user_models:hanging'"))
    assert isinstance(said[-1][1], Lost)
    assert "no evaluation for 8 seconds" in said[-1][1].message


def test_a_worker_that_dies_while_it_tries_out_the_suite_is_told_in_a_sentence(executor):
    with pytest.raises(DeviceError, match=r"^the worker that tries out .* ended early: killed by SIGKILL"):
        executor().rehearse([task("'user_models:killed_when_built'").unit], Path())


def test_what_is_added_meanwhile_is_carried_out_too(executor):
    made = executor()
    tasks = deque([task()])
    assert made.rehearse([tasks[0].unit], Path()) == []
    ended = []
    for each, _, event in made.run(tasks):
        if isinstance(event, Finished):
            ended.append(each.unit.batch_size)
            if len(ended) == 1:
                tasks.append(task(batch_size=32))
    assert ended == [64, 32]


def test_closing_it_ends_what_is_running_and_leaves_no_process(executor):
    made = executor()
    endless = task("'user_models:slow'", max_steps=100_000)
    assert made.rehearse([endless.unit], Path()) == []
    with closing(made.run(deque([endless]))) as events:
        next(events)
        training = workers()
        assert training
    _, alive = psutil.wait_procs(training, timeout=20)
    assert alive == []


def workers():
    """The processes under this one that train: those that were forked from a server of workers."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if (parent := process.parent()) and "bench.measure.task" in " ".join(parent.cmdline())
    ]


def test_a_run_whose_node_is_killed_half_way_ends_in_the_archive_of_one_machine(cluster, tmp_path, monkeypatch):
    """With no study left to begin: the one that was lost waits for a device that another is still on."""
    import ray as engine

    from bench.executors.ray import ray

    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    text = SUITE.format(model="{'user_models:slow': {seconds: 0.02}}", batch_size="16, 64, 256", max_steps=100)
    made = plan.make(check.check(document.parse(text)))
    node = cluster.add_node(num_cpus=1)
    ends = []
    for executor in (local([], 600.0), ray([], 600.0, address=cluster.address)):
        lost = 0
        with Archive.writing(tmp_path / f"{len(ends)}.sqlite") as archive:
            for _, event in runner.run(made, runner.missing(made, archive), archive, executor, Path()):
                if ends and node and isinstance(event, Evaluated):  # each node has a study by now
                    cluster.remove_node(node, allow_graceful=False)
                    node = None
                lost += isinstance(event, Retried)
            assert runner.missing(made, archive) == []
        ends.append(contents(tmp_path / f"{len(ends)}.sqlite"))
    engine.shutdown()
    assert lost > 0
    assert ends[0] == ends[1]


@pytest.fixture
def on_ray(cluster):
    """An executor on the cluster."""
    import ray as engine

    from bench.executors.ray import ray

    yield ray([], 600.0, address=cluster.address)
    engine.shutdown()


def on_devices(count):
    """A task whose trials have so many devices each."""
    plain = task("{'user_models:slow': {seconds: 0.01}}").unit
    return Task(replace(plain, workload=replace(plain.workload, devices=count)), {}, Path())


def test_a_study_that_asks_for_more_devices_than_a_node_has_is_told_so(on_ray):
    sentence = "w: found devices: 4; the Ray cluster has no node with more than 1 CPU"
    assert on_ray.rehearse([on_devices(4).unit, on_devices(1).unit], Path()) == [sentence]
    (said,) = [event for _, _, event in on_ray.run(deque([on_devices(4)]))]
    assert said == Failed(sentence)


def test_a_study_on_several_gpus_has_as_many_of_one_node(cluster, on_ray):
    """GPUs in name only: Ray takes a node's word for them."""
    import ray as engine

    node = cluster.add_node(num_cpus=1, num_gpus=2)
    try:
        wide, narrow = on_devices(2), on_devices(1)
        assert on_ray.rehearse([wide.unit], Path()) == []
        ended = []
        with closing(on_ray.run(deque([narrow, wide]))) as events:
            for each, _, event in events:
                if isinstance(event, Evaluated):
                    free = 2 - each.unit.workload.devices
                    assert engine.available_resources().get("GPU", 0) == free
                ended += [(each, type(event))] if isinstance(event, TERMINAL) else []
        assert ended == [(narrow, Finished), (wide, Finished)]
    finally:
        cluster.remove_node(node)
