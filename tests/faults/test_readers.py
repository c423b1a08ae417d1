"""Images that cannot be read, and processes that read and are ended: said in a sentence, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from test_feeds import SUITE, study, told, write_pets
from test_run import marked, start

from bench.ask.plan import Timing
from bench.contracts import Task
from bench.datasets._folders import _Images
from bench.events import Evaluated, Failed, Lost, Started
from bench.measure import feeds
from bench.measure.task import carry_out
from bench.run.retries import Retries

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CPU = torch.device("cpu")


@pytest.mark.parametrize(("how", "part"), [("loader", "train"), ("device", "train"), ("loader", "test")])
def test_an_image_that_cannot_be_read_fails_the_study_with_its_name_and_blames_no_trial(tmp_path, how, part):
    write_pets(tmp_path)
    broken = tmp_path / "pets" / part / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    of = study(more=f"input: {how}")
    *_, last = carry_out(Task(of, {}, tmp_path), CPU)
    assert isinstance(last, Failed)
    assert last.of_data
    assert last.message.startswith(f"w at batch size 6: {broken}: cannot be read as an image: ")
    assert "\n" not in last.message
    assert multiprocessing.active_children() == []


def test_memory_that_runs_out_is_not_told_as_a_broken_image():
    def full(path):
        raise MemoryError

    images = _Images(SimpleNamespace(samples=[("1.png", 0)], loader=full), 8)
    with pytest.raises(MemoryError):
        images[torch.tensor([0])]


def test_an_image_that_cannot_be_read_is_not_tried_again_with_fewer_trials():
    retries = Retries(study())
    for fault, again in ((Failed("1.png: cannot be read", of_data=True), False), (Failed("of a model"), True)):
        retries.apply(Started(tuple(study().draws()[:2])))
        assert bool(retries.after(fault)) == again


# torch tells of a killed reader by raising wherever the program stands, in a destructor too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_that_is_killed_ends_its_study_and_the_study_begun_again_reads_the_same(tmp_path):
    write_pets(tmp_path)
    of, seen, killed = study(more="input: loader"), [], None
    for event in carry_out(Task(of, {}, tmp_path), CPU):
        if isinstance(event, Evaluated) and event.step > 0 and killed is None:
            # One, once: torch raises for each, and for a second while the first is told of.
            (killed, *_) = (reader.pid for reader in multiprocessing.active_children())
            os.kill(killed, signal.SIGKILL)
        seen.append(event)
    lost = seen[-1]
    assert isinstance(lost, Lost)
    assert lost.outcome == "interrupted"
    assert lost.message.startswith(
        "w at batch size 6: a process that reads examples ended early: DataLoader worker (pid"
    )
    assert multiprocessing.active_children() == []
    assert told(of, tmp_path) == told(study(), tmp_path)


@pytest.mark.parametrize("what", ["a study that is held in memory", "a timing"])
def test_a_reader_that_is_killed_before_the_first_step_is_no_fault_of_the_study(tmp_path, monkeypatch, what):
    monkeypatch.setattr(feeds._Reads, "__getitems__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    write_pets(tmp_path)
    task = Task(study(), {}, tmp_path)
    if what == "a timing":
        timing = Timing(study(more="input: loader").workload, 6, "throughput")
        task = Task(timing, {}, tmp_path, process=timing.processes()[0])
    *_, last = carry_out(task, CPU)
    assert isinstance(last, Lost), last
    assert last.outcome == "interrupted"
    assert "a process that reads examples ended early: DataLoader worker (pid" in last.message
    assert multiprocessing.active_children() == []


def readers(mark):
    """By the workers that started them: a worker leads a group of its own, in which it starts those that read."""
    found = {}
    for process in map(int, marked(mark)):
        with suppress(ProcessLookupError):
            found.setdefault(os.getpgid(process), set()).add(process)
    return {worker: group - {worker} for worker, group in found.items() if worker in group and len(group) > 1}


def until(found, seconds=240):
    end = time.monotonic() + seconds
    while not (answer := found()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


def test_a_run_goes_on_without_a_reader_that_was_killed_and_ctrl_c_leaves_none_behind(tmp_path):
    suite = SUITE.format(dataset="digits", model="{'user_models:slow': {seconds: 0.02}}", more="input: loader")
    (tmp_path / "small.yaml").write_text(suite.replace("max_steps: 12", "max_steps: 100000"))
    mark = str(tmp_path)
    process = start("run", "small.yaml", "--data", mark, folder=tmp_path, BENCH_TEST_MARK=mark)
    try:
        first = until(lambda: readers(mark))
        assert first, process.poll()
        for reader in set().union(*first.values()):
            os.kill(reader, signal.SIGKILL)
        assert until(lambda: readers(mark).keys() - first.keys())
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "a process that reads examples ended early" in err
    assert "Traceback" not in err
    assert until(lambda: not marked(mark))
