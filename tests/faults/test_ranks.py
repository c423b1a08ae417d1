"""One of several ranks falls: all of them end, and what is said is what became of the one that fell."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_study
from test_executors import task, workers
from test_run import archive, bench, marked, start, write
from test_workers import rows

from bench.contracts import OUT_OF_MEMORY, Task
from bench.events import Ended, Failed, Finished, Lost, Started
from bench.executors._place import Place
from bench.executors.local import local
from bench.run.retries import Retries


def on_two(model, **options):
    """A task of two devices."""
    one = task(model, **options)
    return replace(one, unit=replace(one.unit, workload=replace(one.unit.workload, devices=2)))


def several(folder, model, **options):
    """A suite whose trials have two devices each."""
    path = write(folder, sizes=[64], target=0.0, max_steps=30, model=model, **options)
    path.write_text(path.read_text() + "    devices: 2\n")
    return path


@pytest.fixture
def two_places(monkeypatch):
    monkeypatch.setattr("bench.executors.local.cores", lambda: 2)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))


def said_of(model):
    """What an executor says of a task of two devices; it leaves no process."""
    made = local([], 60.0)
    one = on_two(model)
    assert made.rehearse([one.unit], Path()) == []
    with closing(made.run(deque([one]))) as events:
        said = [event for _, _, event in events]
    assert workers() == []
    return said


def test_a_rank_that_is_killed_is_lost_and_ends_the_others(two_places):
    said = said_of("'user_models:one_rank'")
    assert isinstance(said[-1], Lost)
    assert (said[-1].signal, said[-1].outcome) == ("SIGKILL", "crashed")
    assert "the worker on cpu, cpu ended early: killed by SIGKILL" in said[-1].message


@pytest.mark.parametrize("model", ["{'user_models:one_rank': {how: raise}}", "'user_models:raising'"])
def test_what_a_rank_raised_is_told(two_places, model):
    said = said_of(model)
    if "one_rank" in model:
        assert isinstance(said[-1], Lost)
        assert "ZeroDivisionError: a fault of one rank" in said[-1].trace
    else:
        assert isinstance(said[-1], Failed)
        assert "ZeroDivisionError: a fault in the model" in said[-1].message


def test_a_rank_that_runs_out_of_memory_is_an_outcome_and_fewer_trials_may_fit(two_places, tmp_path):
    for name, model in {
        "none": "{'user_models:one_rank': {how: out of memory}}",
        "one": "'user_models:crowded'",
    }.items():
        (tmp_path / name).mkdir()
        several(tmp_path / name, model, trials=3)
    out, _ = bench("run", "small.yaml", folder=tmp_path / "none")
    assert "out of memory" in out
    outcomes = rows(tmp_path / "none", "SELECT DISTINCT outcome FROM trials WHERE outcome IS NOT NULL")
    assert "infeasible" in {outcome for (outcome,) in outcomes}
    bench("run", "small.yaml", folder=tmp_path / "one")
    assert rows(tmp_path / "one", "SELECT outcome, step FROM trials") == [("exhausted", 30)] * 3


def test_trials_that_do_not_fit_together_are_halved_as_often_as_it_takes_and_none_is_blamed():
    one = fake_study(trials=64)
    trials, retries, sizes = list(one.draws()[:64]), Retries(one), []
    while len(trials) > 1:
        sizes.append(len(trials))
        retries.apply(Started(tuple(trials)))
        retried = retries.after(Lost("too many", "infeasible"))
        assert retried is not None
        assert retried.blamed is None
        again = retries.next_task(Task(one, {}, Path()), {})
        smallest = min(again.apart, key=len)
        trials = [trial for trial in trials if trial.id in smallest]
    assert sizes == [64, 32, 16, 8, 4, 2]


class Fallen:
    """A worker that ended by an exit code, and says nothing."""

    def has_news(self):
        return True

    def receive(self):
        return None

    def exit_code(self):
        return OUT_OF_MEMORY

    def how_it_ended(self):
        return None, f"exit code {OUT_OF_MEMORY}"

    def last_words(self):
        return ""


@pytest.mark.parametrize("devices", [1, 2])
def test_the_exit_code_of_a_rank_without_memory_means_nothing_of_a_worker_that_has_no_ranks(devices):
    one = fake_study()
    place = Place(Task(one, {}, Path()), ["cpu"] * devices, Fallen(), 10.0, training=set(one.draws()[:1]), step=5)
    said = place.news()
    if devices == 1:
        assert isinstance(said, Lost)
        assert said.outcome == "crashed"
    else:
        assert said == Ended(one.draws()[0], "infeasible", 5, 0.0)
        assert isinstance(place.news(), Finished)


def test_a_task_waits_until_as_many_places_are_free_as_it_has_devices(two_places):
    made = local([], 60.0)
    mixed = [task(batch_size=32), on_two("softmax"), task(batch_size=128)]
    assert made.rehearse([each.unit for each in mixed], Path()) == []
    going = {}
    for each, _, event in made.run(deque(mixed)):
        going[each.unit.id] = each.unit.workload.devices
        assert sum(going.values()) <= 2
        if isinstance(event, Finished):
            del going[each.unit.id]
    assert not going


def test_more_devices_than_there_are_is_a_sentence_before_anything_is_trained(two_places, tmp_path):
    path = several(tmp_path, "softmax")
    path.write_text(path.read_text().replace("devices: 2", "devices: 4"))
    _, err = bench("run", "small.yaml", folder=tmp_path, code=2)
    assert "digits-softmax: found devices: 4; this machine has 2, cpu" in err
    assert not archive(tmp_path).exists() or not rows(tmp_path, "SELECT id FROM trials")


def test_a_node_that_has_too_few_devices_fails_what_it_is_sent(two_places, monkeypatch):
    made = local([], 60.0)
    assert made.rehearse([], Path()) == []
    monkeypatch.setattr("bench.executors.local.cores", lambda: 1)
    ((_, _, event),) = made.run(deque([on_two("softmax")]))
    assert isinstance(event, Failed)
    assert event.message == "w: found devices: 2; this machine has 1, cpu"


def test_ctrl_c_leaves_no_rank_behind(tmp_path):
    path = several(tmp_path, "'user_models:slow'")
    path.write_text(path.read_text().replace("max_steps: 30", "max_steps: 100000"))
    process = start("run", "small.yaml", folder=tmp_path, BENCH_TEST_MARK=str(tmp_path))
    until = time.monotonic() + 60
    while not trains(tmp_path) and time.monotonic() < until:
        time.sleep(0.2)
    assert len(marked(str(tmp_path))) > 4, "the run, its server, the agent, and two ranks"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert marked(str(tmp_path)) == []


def trains(folder):
    try:
        return bool(rows(folder, "SELECT 1 FROM readings"))
    except sqlite3.OperationalError:  # there is no archive yet
        return False
