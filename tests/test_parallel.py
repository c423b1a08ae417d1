"""Several devices a trial: what ranks train together is what one trains alone."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from bench.ask import check, document, plan
from bench.contracts import Task
from bench.events import Ended, Evaluated, Finished, Started, Way
from bench.executors import _ranks
from bench.executors.local import local
from bench.measure import build, checkpoint, parallel
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.rehearsal import rehearse
from bench.measure.task import carry_out

CPU = torch.device("cpu")

# The settings of a workload, and how far its readings may be from those of one device.
EXACT, HALF = 1e-9, 2e-2
WORKLOADS = {
    "momentum": ("optimizer: momentum", EXACT),
    "probed": (
        "target: {validation_error: {at_most: 0.88}}\n    probes: {noise_scale: {large: 16}, sharpness: {}}",
        EXACT,
    ),
    "adam": ("optimizer: adam", EXACT),
    "sam": ("optimizer: sam", EXACT),
    "noisy": ("optimizer: 'user_models:noisy'", EXACT),
    "parts": ("optimizer: sgd\n    micro_batch: 3", EXACT),
    "images": ("model: simple_cnn\n    augment: {crop: 1, flip: true}\n    channels_last: true", EXACT),
    "sync": ("model: {mlp: {hidden: [16], norm: sync}}", EXACT),
    "sync-images": ("model: {simple_cnn: {norm: sync}}", EXACT),
    "half": ("precision: fp16", HALF),
}
# What is not the same: running statistics are those of the first device's examples, whatever normalises its batch.
OTHERWISE = {
    "ghost": "model: {mlp: {hidden: [16], norm: ghost, ghost_batch: 8}}",
    "batch": "model: {mlp: {hidden: [16], norm: batch}}",
}
SUITE = """
suite: parallel
defaults:
  model: {{mlp: {{hidden: [16]}}}}
  dataset: {{digits: {{subset: 200}}}}
  optimizer: sgd
  precision: fp64
  batch_sizes: [32]
  target: {{validation_error: {{at_most: 0.6}}}}
  max_steps: 6
  race: false
  search: {{trials: 2, learning_rate: {{log_uniform: [0.01, 0.1]}}, clip: 0.5, ema: 0.9, label_smoothing: 0.1}}
  confirm: {{seeds: 1}}
  devices: {devices}
  training: one_by_one
workloads:
"""


def tasks(devices, workloads):
    entries = "".join(f"  - name: {name}\n    {lines}\n" for name, lines in workloads.items())
    made = plan.make(check.check(document.parse(SUITE.format(devices=devices) + entries)))
    return [Task(study, {}, Path()) for study in made.studies]


def carried_out(some):
    for task in some:
        yield from carry_out(task, CPU)


def as_rank(some):
    torch.set_num_threads(1)
    parallel.join(CPU)
    yield from carried_out(some)


def as_rank_until(after, some):
    """Falls after so many evaluations."""
    for event in as_rank(some):
        yield event
        after -= isinstance(event, Evaluated)
        if after == 0:
            os._exit(3)


def from_ranks(ranks, code=0):
    """What the first of several ranks says."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    agent = context.Process(target=_ranks.launch, args=(theirs, ranks))
    agent.start()
    theirs.close()
    try:
        while True:
            yield ours.recv()
    except EOFError:
        pass
    finally:
        agent.join()
        assert agent.exitcode == code


def heard(events, count):
    """(readings, outcomes) of each of so many studies, by the phases and numbers of trials."""
    studies = []
    readings, outcomes, names = {}, {}, {}
    for event in events:
        match event:
            case Started(trials):
                names.update({trial.id: (trial.phase, trial.number) for trial in trials})
            case Evaluated(step, seen):
                for trial, values in seen.items():
                    readings.setdefault((*names[trial], step), {}).update(values)
            case Ended(trial, outcome, step):
                outcomes[names[trial.id]] = outcome, step
            case Finished():
                studies.append((readings, outcomes))
                readings, outcomes, names = {}, {}, {}
    assert len(studies) == count
    return studies


@pytest.fixture(scope="module")
def trained():
    """The studies of every workload, by the number of devices."""
    found = {}
    lines = {name: lines for name, (lines, _) in WORKLOADS.items()} | OTHERWISE
    for devices in (1, 2, 4):
        some = tasks(devices, lines)
        events = carried_out(some) if devices == 1 else from_ranks([partial(as_rank, some)] * devices)
        found[devices] = dict(zip(lines, heard(events, len(some)), strict=True))
    return found


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_batch_split_over_devices_trains_as_on_one(trained, workload, devices):
    (one, ends), (several, their_ends) = trained[1][workload], trained[devices][workload]
    _, tolerance = WORKLOADS[workload]
    assert their_ends == ends
    assert several.keys() == one.keys()
    for place, seen in one.items():
        assert several[place] == pytest.approx(seen, rel=tolerance, abs=tolerance), place


@pytest.mark.parametrize(("workload", "alike"), [("ghost", True), ("batch", False)])
def test_ghost_batches_within_a_device_are_those_of_one_and_batch_norm_is_over_a_devices_examples(
    trained, workload, alike
):
    (one, _), (several, _) = trained[1][workload], trained[4][workload]
    place = ("search", 0, 6)
    assert (several[place]["train_loss"] == pytest.approx(one[place]["train_loss"], rel=EXACT)) == alike
    assert several[place]["validation_loss"] != pytest.approx(one[place]["validation_loss"], rel=EXACT)


def test_ranks_that_are_cut_off_go_on_from_a_checkpoint_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "TIMES_WRITING", 0.0)
    # Each rank draws dropout of its own, and has running statistics of its own.
    some = tasks(2, {"w": "model: 'user_models:with_dropout'\n    evaluate: {resolution: 0.1, cost: 100}"})
    whole = list(from_ranks([partial(as_rank, some)] * 2))
    assert isinstance(whole[-1], Finished)
    kept = [replace(each, checkpoint=tmp_path / "kept") for each in some]
    cut = list(from_ranks([partial(as_rank_until, 4, kept)] * 2, code=3))
    assert (tmp_path / "kept").exists()
    rest = list(from_ranks([partial(as_rank, kept)] * 2))
    assert heard(rest, 1) == heard(whole, 1)
    assert [event for event in cut if isinstance(event, Evaluated)] == [
        event for event in whole if isinstance(event, Evaluated)
    ][:4]


@pytest.mark.parametrize("every", ["true", "false"])  # calls, in all ranks, or those that the first evaluates with
def test_ranks_whose_model_cannot_be_kept_train_on(every, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "TIMES_WRITING", 0.0)
    (task,) = tasks(2, {"w": f"model: {{'user_models:counting': {{every: {every}}}}}"})
    said = list(from_ranks([partial(as_rank, [replace(task, checkpoint=tmp_path / "kept")])] * 2))
    assert isinstance(said[-1], Finished), said[-1]
    assert not (tmp_path / "kept").exists()


def test_ranks_draw_dropout_apart_and_the_noise_of_their_optimizer_together():
    workload = "model: 'user_models:with_dropout'\n    optimizer: 'user_models:noisy'"
    (task,) = tasks(2, {"w": workload})
    ((seeds, weights),) = from_ranks([partial(trained_in_each_rank, task.unit)] * 2)
    assert len({7, *seeds}) == 3
    assert weights[0] == weights[1]


def trained_in_each_rank(study):
    parallel.join(CPU)
    (trial, *_) = study.draws()
    cohort = OneByOne(study, build.data(study.workload, Path(), CPU), CPU, [trial], Way("one by one", ""))
    cohort.train(5)
    own = {name: value.tolist() for name, value in cohort.weights(trial).items()}
    yield parallel.of_all(parallel.seed(7)), parallel.of_all(own)


def test_ranks_take_the_same_steps_when_they_time_and_each_does_its_part_of_the_operations():
    lines = {"w": "measure: [throughput]\n    timing: {processes: 1, seconds: 0.1}"}
    once = []
    for devices in (1, 2):
        text = SUITE.format(devices=devices) + f"  - name: w\n    {lines['w']}\n"
        (timing,) = plan.make(check.check(document.parse(text))).timings
        some = [Task(timing, {}, Path(), process=timing.processes()[0])]
        said = list(carried_out(some) if devices == 1 else from_ranks([partial(as_rank, some)] * 2))
        assert isinstance(said[-1], Finished), said[-1]
        assert said[-2].step == sum(isinstance(event, Evaluated) for event in said) - 1 >= 3
        (seen,) = said[1].readings.values()
        once.append(seen)
    assert once[1]["operations"] == once[0]["operations"] / 2
    assert once[1]["gradient_bytes"] == once[0]["gradient_bytes"]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("with_unused_layer", "has a parameter that gets no gradient; train it on one device"),
        ("with_sync_batch_norm", "make it bench.measure.parallel.SyncNorm"),
    ],
)
def test_a_model_that_devices_cannot_train_together_is_refused_for_several_alone(model, sentence):
    one, two = ([task.unit for task in tasks(n, {"w": f"model: 'user_models:{model}'"})] for n in (1, 2))
    assert rehearse(one, Path()) == []
    (problem,) = rehearse(two, Path())
    assert problem.startswith(f"w: user_models:{model} has")
    assert problem.endswith(sentence)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="it needs two CUDA devices")
@pytest.mark.parametrize("workload", ["momentum", "sync", "parts"])
def test_two_gpus_train_as_one(workload):
    ends = []
    for devices in (1, 2):
        made = local([f"cuda:{place}" for place in range(devices)], 600.0)
        some = tasks(devices, {workload: WORKLOADS[workload][0]})
        assert made.rehearse([task.unit for task in some], Path()) == []
        ends += heard([event for _, _, event in made.run(deque(some))], 1)
    (one, outcomes), (two, their_outcomes) = ends
    assert their_outcomes == outcomes
    for place, seen in one.items():
        assert two[place] == pytest.approx(seen, rel=EXACT, abs=EXACT), place
