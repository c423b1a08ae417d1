"""Training on a CUDA device; skipped where there is none."""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_augment import make as augmenting
from test_optimizers import with_search
from test_stacked import SMALL, WAY, apart, losses_apart, make

from bench.ask import components
from bench.measure import build, cohort, timing
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda:0")


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        (model, optimizer)
        for model in components.names("models")
        for optimizer in [*components.names("optimizers"), "RMSprop"]
        # Its keys' biases have no gradient but rounding, whose sign is not the same elsewhere.
        if (model, optimizer) != ("vit_tiny", "lion")
    ],
)
def test_stacked_on_the_device_agrees_with_one_by_one_on_the_cpu(model, optimizer):
    of, data = make(SMALL.get(model, model), optimizer, "linear", highest=0.0011)
    trials = of.draws()[:4]
    on_cpu = OneByOne(of, data, torch.device("cpu"), trials, WAY)
    on_device = Stacked(of, build.data(of.workload, Path(), CUDA), CUDA, trials, WAY)
    on_cpu.advance(30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a step that could not be captured warns
        on_device.advance(30)
    moved = {trial: {name: value.cpu() for name, value in on_device.weights(trial).items()} for trial in trials}
    for trial in trials:
        for name, value in on_cpu.weights(trial).items():
            assert float((moved[trial][name].double() - value.double()).abs().max()) < 1e-8


def test_the_step_is_captured_in_a_graph_and_captured_anew_when_trials_end():
    of, _ = make("mlp", "adam")
    trials = of.draws()[:4]
    data = build.data(of.workload, Path(), CUDA)
    one, stacked = (kind(of, data, CUDA, trials, WAY) for kind in (OneByOne, Stacked))
    for step in (10, 20):
        assert losses_apart(one.advance(step), stacked.advance(step)) < 1e-9
        assert stacked._graphed._graph is not None
        one.drop(trials[:1])
        stacked.drop(trials[:1])
        trials = trials[1:]
        assert stacked._graphed is None
    assert apart(one, stacked, trials) < 1e-9


def test_a_captured_step_augments_each_batch_by_its_own_numbers():
    of, data = augmenting(model="mlp")
    trials = of.draws()[:3]
    on_cpu = OneByOne(of, data, torch.device("cpu"), trials, WAY)
    on_device = Stacked(of, build.data(of.workload, Path(), CUDA), CUDA, trials, WAY)
    assert losses_apart(on_cpu.advance(20), on_device.advance(20)) < 1e-9
    assert on_device._graphed._graph is not None


@pytest.mark.parametrize(("optimizer", "graphed"), [("momentum", True), ("sam", True), ("muon", False)])
def test_what_a_step_does_around_an_optimizer_is_captured_with_it(optimizer, graphed):
    of, data = with_search("clip: {log_uniform: [0.1, 1]}, ema: 0.9, label_smoothing: {uniform: [0, 0.3]}", optimizer)
    trials = of.draws()[:4]
    on_cpu = OneByOne(of, data, torch.device("cpu"), trials, WAY)
    there = build.data(of.workload, Path(), CUDA)
    stacked = Stacked(of, replace(there, validation=there.validation.first(20)), CUDA, trials, WAY)
    for step in (10, 20):
        assert losses_apart(on_cpu.advance(step), stacked.advance(step)) < 1e-8
        assert (stacked._graphed is not None and stacked._graphed._graph is not None) == graphed


def test_what_vmaps_is_stacked_on_a_device():
    of, _ = make("resnet8")
    made = cohort.maker(of, build.data(of.workload, Path(), CUDA), CUDA)(of.draws()[:2])
    assert made.way.name == "stacked"


class Spinning:
    """Work that keeps the device busy while the host goes on at once."""

    def prepare(self, steps):
        """Nothing."""

    def run(self, steps):
        for _ in range(steps):
            torch.cuda._sleep(20_000_000)

    def timed_by_waiting(self, steps):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        self.run(steps)
        torch.cuda.synchronize()
        return (time.perf_counter() - begun) / steps


def ratio():
    """What is timed to what a host that waits sees, in alternation."""
    work = Spinning()
    timing.warm_up(work, CUDA, most_seconds=1)
    pairs = [(timing._window(work, 5, CUDA).step_seconds, work.timed_by_waiting(5)) for _ in range(11)]
    return statistics.median(one / other for one, other in pairs)


def test_known_work_of_the_device_is_timed_within_two_percent():
    assert ratio() == pytest.approx(1, abs=0.02)


def test_a_clock_that_does_not_wait_for_the_device_is_found_out(monkeypatch):
    def without_waiting(run, steps, device):
        begun = time.perf_counter()
        run(steps)
        return time.perf_counter() - begun

    monkeypatch.setattr(timing, "seconds_of", without_waiting)
    monkeypatch.setattr(timing, "WINDOW_SECONDS", 0.0)
    assert ratio() != pytest.approx(1, abs=0.02)
