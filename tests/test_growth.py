"""Batches that grow: when and how far, and that trials train on them as they should."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fakes import study_of
from torch import nn
from torch.nn import functional

from bench.ask.suite import Adaptive, Doubling
from bench.errors import ComponentError
from bench.events import Way
from bench.measure import build, cohort, probing, study
from bench.measure.cohorts.growing import Growing
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.growth import LOOKS, Batch
from bench.measure.order import Order
from bench.prove.exact import NoisyQuadratic

CPU = torch.device("cpu")
DOUBLING = Doubling(double_at=[1000, 5000])

SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: {dataset}
    optimizer: sgd
    schedule: linear
    batch_sizes: [{batch_size}]
    growth: {growth}
    target: {target}
    max_steps: 1000
    search: {{trials: 3, learning_rate: {rate}}}
    confirm: {{seeds: 2}}
    evaluate: {{resolution: 0.2}}
"""


def make(growth, model="softmax", batch_size=32, rate="{log_uniform: [0.01, 0.5]}"):
    quadratic = "noisy_quadratic" in model
    of = study_of(
        SUITE.format(
            growth=growth,
            model=model,
            batch_size=batch_size,
            rate=rate,
            dataset="noisy_quadratic" if quadratic else "digits",
            target="{validation_loss: {below: 1.0e-6}}" if quadratic else "{validation_error: {at_most: 0.1}}",
        )
    )
    return of, build.data(of.workload, Path(), CPU)


def growing(of, data, trials):
    return Growing(of, data, CPU, trials, Way("one by one", "asked"))


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# ---- when, and how far -----------------------------------------------------------------------------------------------


def test_a_batch_doubles_at_the_first_step_after_so_many_examples():
    # 16 steps of 64 see 1,024 examples, 32 more of 128 see 5,120, and the rest are of 256.
    assert list(Batch(DOUBLING, 64).stretches(0, 200)) == [(1, 16), (2, 32), (4, 30)]
    assert [Batch(DOUBLING, 64).units(seen) for seen in (0, 15, 16, 78, 80)] == [1, 1, 2, 2, 4]


def test_a_doubling_that_falls_between_two_batches_takes_effect_at_the_next():
    assert list(Batch(Doubling(double_at=[1, 3]), 2).stretches(0, 9)) == [(1, 1), (2, 1), (4, 1)]
    # Two at once, both passed by the same step.
    assert list(Batch(Doubling(double_at=[1, 2]), 2).stretches(0, 9)) == [(1, 1), (4, 2)]


def test_what_is_asked_for_in_pieces_is_what_is_asked_for_at_once():
    def steps(stops):
        batch, seen, taken = Batch(Doubling(double_at=[100, 333, 900]), 32), 0, []
        for stop in stops:
            for units, count in batch.stretches(seen, stop):
                taken += [units] * count
                seen += units * count
            assert seen <= stop < seen + batch.units(seen)
        return taken

    assert steps([300]) == steps(range(1, 301)) == steps([1, 2, 9, 10, 31, 32, 64, 299, 300])


@pytest.mark.parametrize(
    ("growth", "gradient_squared", "noise_trace", "units"),
    [
        # B_simple = tr(Sigma)/|G|^2, in whole batches of 8 that do not exceed it.
        (Adaptive(adaptive="noise_scale", most=4096), 2.0, 2.0 * 8 * 1.9, [1, 1, 1]),
        (Adaptive(adaptive="noise_scale", most=4096), 2.0, 2.0 * 8 * 5.5, [2, 4, 5, 5]),
        (Adaptive(adaptive="noise_scale", most=39), 2.0, 2.0 * 8 * 5.5, [2, 4, 4]),
        (Adaptive(adaptive="noise_scale", most=7), 2.0, 2.0 * 8 * 5.5, [1, 1]),
        # Where the noise hides the gradient nothing is known.
        (Adaptive(adaptive="noise_scale", most=4096), -1.0, 100.0, [1, 1, 1]),
        (Adaptive(adaptive="noise_scale", most=4096), 1e-300, 1e300, [2, 4, 8]),
        # tr(Sigma)/(eta^2 |g|^2) with |g|^2 = |G|^2 + tr(Sigma)/B: 72/(0.25 (3 + 72/8)) = 24 at B = 8, then at 16
        # 72/(0.25 (3 + 4.5)) = 38.4, which takes 5 batches of 8, and at 40 72/(0.25 (3 + 1.8)) = 60, which takes 8.
        (Adaptive(adaptive="norm_test", eta=0.5, most=4096), 3.0, 72.0, [2, 4, 7]),
        (Adaptive(adaptive="norm_test", eta=1.0, most=4096), 0.0, 80.0, [1, 1]),
    ],
)
def test_a_batch_grows_to_what_the_looks_say_at_most_twofold_at_once_and_never_shrinks(
    growth, gradient_squared, noise_trace, units
):
    batch, seen = Batch(growth, 8), []
    for _ in units:
        batch.look(gradient_squared, noise_trace)
        seen.append(batch.units(0))
    assert seen == units
    batch.look(1e308, 0.0)
    assert batch.units(0) == units[-1]


def test_looks_are_averaged_before_they_are_divided_and_old_ones_are_forgotten():
    batch = Batch(Adaptive(adaptive="noise_scale", most=4096), 1)
    batch.look(1000.0, 0.0)
    for signal in (1.0, 3.0, 1.0, 3.0):
        batch.look(signal, 100.0)
    assert LOOKS == 4
    assert batch.units(0) == 2  # it only now may grow: before, 1,000 hid all
    for signal in (1.0, 3.0) * 10:
        batch.look(signal, 100.0)
    # 100/2; the mean of the ratios 100 and 33 would be 66.
    assert batch.units(0) == 50


@pytest.mark.parametrize(("growth", "largest"), [(DOUBLING, 256), (Adaptive(adaptive="noise_scale", most=250), 192)])
def test_the_largest_batch_is_known_in_advance(growth, largest):
    assert growth.largest(64) == largest


# ---- how trials train --------------------------------------------------------------------------------------------


def test_training_on_a_batch_that_grows_is_the_loop_a_person_would_write():
    of, data = make("{double_at: [100, 300]}")
    trial = of.draws()[0]
    grown = growing(of, data, [trial])
    readings = {step: grown.advance(step)[trial].readings for step in (3, 5, 9, 30)}

    torch.manual_seed(trial.init_seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)
    stream = Order(len(data.train), 32, trial.order_seed).take(30).flatten()
    seen, steps = 0, []
    while seen + (size := 32 * 2 ** ((seen >= 100) + (seen >= 300))) <= 30 * 32:
        row = stream[seen : seen + size]
        # The schedule goes by the examples seen, in steps of the first batch.
        optimizer.param_groups[0]["lr"] = trial.metaparameters["learning_rate"] * (1 - seen / 32 / 1000)
        optimizer.zero_grad()
        functional.cross_entropy(model(data.train.inputs[row]), data.train.targets[row]).backward()
        optimizer.step()
        seen += size
        steps.append((seen, size))
    assert same(grown.weights(trial), model.state_dict())

    for step, read in readings.items():
        taken = [size for end, size in steps if end <= step * 32]
        assert (read["optimizer_steps"], read["batch_size"]) == (len(taken), taken[-1])


@pytest.mark.parametrize("model", ["softmax", "user_models:with_dropout", "user_models:with_batch_norm"])
@pytest.mark.parametrize("growth", ["{double_at: [1000000]}", "{adaptive: noise_scale, most: 32}"])
def test_growth_that_never_comes_is_ordinary_training_to_the_last_bit(model, growth):
    of, data = make(growth, model)
    trials = of.draws()[:2]
    grown, ordinary = growing(of, data, trials), OneByOne(of, data, CPU, trials, Way("one by one", "asked"))
    for step in (1, 2, 7, 30):
        seen, expected = grown.advance(step), ordinary.advance(step)
        for trial in trials:
            read = seen[trial].readings
            assert read["optimizer_steps"] == step
            assert read["batch_size"] == 32
            assert {name: read[name] for name in expected[trial].readings} == expected[trial].readings
            assert same(grown.weights(trial), ordinary.weights(trial))
    assert grown.test(trials) == ordinary.test(trials)


@pytest.mark.parametrize("more", ["augment: {crop: 1, flip: true}", "order: with_replacement", "order: single"])
def test_a_batch_that_grows_is_ordered_and_augmented_as_one_that_stays(more):
    one, other = (
        study_of(
            SUITE.replace("sgd\n", f"sgd\n    {more.replace('{', '{{').replace('}', '}}')}\n").format(
                model="softmax",
                dataset="digits",
                batch_size=32,
                growth=growth,
                rate="0.1",
                target="{validation_error: {at_most: 0.1}}",
            )
        )
        for growth in ("{double_at: [900000]}", "{double_at: [64]}")
    )
    data = build.data(one.workload, Path(), CPU)
    trials = one.draws()[:1]
    stays, grows = (kind(one, data, CPU, trials, Way("one by one", "asked")) for kind in (OneByOne, Growing))
    for cohort_of in (stays, grows):
        cohort_of.advance(40)
    assert same(stays.weights(trials[0]), grows.weights(trials[0]))
    doubled = growing(other, data, other.draws()[:1])
    seen = doubled.advance(41)
    assert all(found.readings["batch_size"] == 64 for found in seen.values())


@pytest.mark.parametrize("growth", ["{double_at: [200, 500]}", "{adaptive: norm_test, eta: 0.5, most: 512}"])
def test_being_looked_at_and_who_else_trains_change_nothing(growth):
    of, data = make(growth, "user_models:with_dropout")
    trials = of.draws()[:3]
    together, alone = growing(of, data, trials), growing(of, data, trials[1:2])
    state = torch.get_rng_state()
    for step in (4, 10, 20, 40):
        for before in range(step - 3, step):
            together.train(before)
        assert together.advance(step)[trials[1]] == alone.advance(step)[trials[1]]
    assert torch.equal(state, torch.get_rng_state())
    assert same(together.weights(trials[1]), alone.weights(trials[1]))


def test_an_evaluation_that_comes_before_the_next_step_reads_the_same_weights_again():
    of, data = make("{double_at: [32, 64, 128]}")
    trial = of.draws()[0]
    grown = growing(of, data, [trial])
    # Steps end at 1, 3, 7, 15 units: at 8 the batch of 256 still waits.
    before, after = grown.advance(7)[trial].readings, grown.advance(8)[trial].readings
    assert after == {name: value for name, value in before.items() if name != "train_loss"}
    assert grown.advance(15)[trial].readings["optimizer_steps"] == 4


def test_a_trial_that_diverges_did_so_where_its_step_ended():
    of, data = make("{double_at: [32]}", rate="1.0e+38")
    trial = of.draws()[0]
    grown = growing(of, data, [trial])
    order = Order(len(data.train), 32, trial.order_seed)
    run = grown._runs[trial]
    losses = run.train(data.train, order.take(1), 1) + run.train(data.train, order.take(38).view(19, 64), 2)
    first = [bool(loss.isfinite()) for loss in losses].index(False)
    assert first > 0
    # The first step is of one unit, those after it are of two.
    assert growing(of, data, [trial]).advance(40)[trial].diverged_at == 1 + 2 * first


def test_a_grown_batch_is_taken_whole_and_in_micro_batches_only_where_asked():
    for asked, expected in (("", 128), ("\n    micro_batch: 48", 48)):
        of, data = make(f"{{double_at: [64, 128]}}{asked}")
        grown = growing(of, data, of.draws()[:1])
        assert grown._runs[of.draws()[0]]._ordinary.micro_batch == expected


def test_trials_whose_batch_grows_train_one_by_one_and_stacked_is_refused():
    of, data = make("{double_at: [100]}")
    made = cohort.maker(of, data, CPU)(of.draws())
    assert isinstance(made, Growing)
    assert (made.way.name, made.way.reason) == ("one by one", "each trial's batch grows by itself")
    of, data = make("{double_at: [100]}\n    training: stacked")
    with pytest.raises(ComponentError, match="training: stacked cannot be: each trial's batch grows by itself"):
        cohort.maker(of, data, CPU)


def test_a_batch_follows_the_noise_scale_of_the_noisy_quadratic():
    of, data = make(
        "{adaptive: noise_scale, most: 65536}", "{noisy_quadratic: {dimensions: 1000}}", batch_size=4, rate=0.5
    )
    trial = of.draws()[0]
    grown = growing(of, data, [trial])
    noise_trace = NoisyQuadratic(1000, 4, 0.5).noise_trace
    steps = [step for step, _ in of.evaluations(1, 1000)]
    scales, batches = [], []
    for step in steps:
        read = grown.advance(step)[trial].readings
        weights = grown.weights(trial)
        gradient = weights["curvatures"].double() * weights["point"].double()
        scales.append(noise_trace / float(gradient.square().sum()))
        batches.append(read["batch_size"])
        assert read["noise_trace"] == pytest.approx(noise_trace, rel=0.5)
    assert all(before <= after for before, after in pairwise(batches))
    # It has grown many times over, and stands by the scale of the last looks: the true one, but for their noise.
    assert batches[-1] > 16 * batches[0]
    assert 0.5 * min(scales[-LOOKS:]) < batches[-1] < 2 * max(scales)


# ---- studies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", ["{double_at: [200, 500]}", "{adaptive: noise_scale, most: 512}"])
def test_a_study_of_a_growing_batch_is_the_same_every_time(growth):
    of, data = make(growth)

    def events():
        told = study.run(of, {}, len(data.validation), cohort.maker(of, data, CPU), probing.looker(of, data, CPU))
        return [event for event in told if type(event).__name__ == "Evaluated"]

    first = events()
    assert first
    assert events() == first


def test_a_suite_of_growing_batches_runs_shows_examples_and_repeats_itself(tmp_path):
    from test_run import bench

    text = SUITE.format(
        growth="{double_at: [200, 500]}",
        model="softmax",
        batch_size=32,
        rate="{log_uniform: [0.1, 2]}",
        dataset="digits",
        target="{validation_error: {at_most: 0.1}}",
    )
    (tmp_path / "s.yaml").write_text(text)
    readings = []
    for label in ("one", "two"):
        bench("run", "s.yaml", "--device", "cpu", "--label", label, folder=tmp_path)
        with closing(sqlite3.connect(tmp_path / "results" / "s" / f"{label}.sqlite")) as db:
            readings.append(
                sorted(db.execute("SELECT id, readings.step, name, value FROM readings JOIN trials ON trial = key"))
            )
    assert readings[0] == readings[1]
    assert {"batch_size", "optimizer_steps"} < {name for _, _, name, _ in readings[0]}
    shown, _ = bench("show", "s.yaml", "--label", "one", folder=tmp_path)
    assert "starts at" in shown
    assert "examples to target" in shown
    assert "doubles after 200, 500 examples" in shown
    assert "critical batch size" not in shown
