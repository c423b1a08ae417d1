"""Probes: what they see is right, and training does not feel them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from fakes import Curve, FakeCohort, fake_study, fake_text, listen, look, study_of

from bench.ask import components
from bench.contracts import Moment
from bench.errors import ComponentError
from bench.events import Started, Way
from bench.examples import Data, Split
from bench.measure import build, cohort, probing, study
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.losses import LOSSES
from bench.stats import two_batch_estimate

CPU = torch.device("cpu")
SUITE = """
suite: probed
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: {optimizer}
    batch_sizes: [16]
    target: {{validation_error: {{at_most: 0.001}}}}
    max_steps: 20
    search: {{trials: 8, learning_rate: {{log_uniform: [0.001, 0.01]}}}}
    confirm: {{seeds: 2}}
    precision: {precision}
    training: {training}
    probes: {{{probe}: {{{options}}}}}
"""
# What a probe needs, and what makes it small enough for a test; others are tested as they come.
OPTIONS = {
    "noise_scale": "small: 4, large: 32",
    "curvature_noise": "small: 4, large: 16, examples: 32",
    "gradient_norm": "examples: 16",
    "sharpness": "examples: 32",
    "batch_sharpness": "batches: 2",
}


def make(model, probe, options="", training="auto", precision="fp64", optimizer="momentum"):
    text = SUITE.format(
        model=model, probe=probe, options=options, training=training, precision=precision, optimizer=optimizer
    )
    of = study_of(text)
    return of, build.data(of.workload, Path("unused"), CPU)


def small(data):
    def few(split):
        return Split(split.inputs[:64], split.targets[:64])

    return replace(data, train=few(data.train), validation=few(data.validation), test=few(data.test))


@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
@pytest.mark.parametrize(
    "model",
    ["{mlp: {hidden: [8]}}", "user_models:with_batch_norm", "user_models:with_dropout", "user_models:partly_frozen"],
)
@pytest.mark.parametrize("probe", components.names("probes"))
def test_trained_weights_are_bitwise_equal_with_and_without_a_probe(probe, model, training):
    of, data = make(model, probe, OPTIONS.get(probe, ""), training, precision="fp32")
    data = small(data)
    trials = of.confirmations([of.draws()[0]], [7])
    weights = []
    for probed in (False, True):
        torch.manual_seed(0)
        trained = cohort.maker(of, data, CPU)(trials)
        looking = probing.looker(of, data, CPU)
        for step in range(8):
            trained.train(step)
            if probed:
                looking(trained, trials, step, [probe])
        observed = trained.advance(8)
        weights.append([trained.weights(trial) for trial in trials])
        assert all(seen.diverged_at is None for seen in observed.values())
        # Nobody's random numbers were drawn from.
        assert torch.equal(torch.random.get_rng_state(), torch.Generator().manual_seed(0).get_state())
    for plain, watched in zip(*weights, strict=True):
        for name, value in plain.items():
            assert torch.equal(value, watched[name]), name


def test_a_trial_on_several_devices_is_looked_at_as_on_one():
    of, data = make("mlp", "noise_scale", OPTIONS["noise_scale"])
    on_two = replace(of, workload=replace(of.workload, devices=2))
    seen = []
    for each in (of, on_two):
        (trial, *_) = each.confirmations([each.draws()[0]], [7])
        trained = OneByOne(each, data, CPU, [trial], Way("one by one", ""))
        seen.append(probing.looker(each, data, CPU)(trained, [trial], 0, ["noise_scale"])[trial])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
def test_a_look_depends_on_probe_trial_and_step_alone(training):
    of, data = make("mlp", "noise_scale", OPTIONS["noise_scale"], training, precision="fp32")
    trials = of.confirmations([of.draws()[0]], [7])
    trained = cohort.maker(of, small(data), CPU)(trials)
    looking = probing.looker(of, small(data), CPU)
    first = looking(trained, trials, 0, ["noise_scale"])
    torch.rand(7)
    assert looking(trained, trials[::-1], 0, ["noise_scale"]) == first


def moment_of(model, probe="noise_scale", batch_size=16):
    """A moment of a digits model with its examples: drawn in order, so that a test can draw the same."""
    of, data = make(model, probe)
    torch.manual_seed(0)
    built = build.model(of.workload, data, CPU, seed=1)
    split = data.train

    def draw(number, place=[0]):  # noqa: B006 (it counts)
        rows = torch.arange(place[0], place[0] + number) % len(split)
        place[0] += number
        return Split(split.inputs[rows], split.targets[rows])

    start = {name: value.detach().clone() for name, value in built.named_parameters()}
    return Moment(built.train(), start, draw, LOSSES[data.loss].mean, batch_size), data


def probe(name, **options):
    return components.find("probes", name).load()(**options)


def gradients(moment, data, count):
    """[count, parameters]: each of the first examples' own gradient."""
    rows = []
    for place in range(count):
        loss = moment.loss(moment.model(data.train.inputs[place : place + 1]), data.train.targets[place : place + 1])
        parts = torch.autograd.grad(loss, list(moment.model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def hessian(moment, split):
    parameters = {name: value.detach() for name, value in moment.model.named_parameters()}

    def loss(vector):
        parts = torch.split(vector, [value.numel() for value in parameters.values()])
        own = {name: part.view_as(parameters[name]) for name, part in zip(parameters, parts, strict=True)}
        return moment.loss(torch.func.functional_call(moment.model, own, (split.inputs,)), split.targets)

    return torch.autograd.functional.hessian(loss, torch.cat([value.flatten() for value in parameters.values()]))


def test_the_noise_scale_is_that_of_the_gradients_one_by_one():
    moment, data = moment_of("{mlp: {hidden: [4]}}")
    seen = probe("noise_scale", small=4, large=32)(moment)
    rows = gradients(moment, data, 32)
    of_small = float(rows.view(8, 4, -1).mean(1).square().sum(1).mean())
    of_large = float(rows.mean(0).square().sum())
    expected = two_batch_estimate(of_small, of_large, 4, 32)
    assert (seen["gradient_squared"], seen["noise_trace"]) == pytest.approx(expected, rel=1e-9)


def test_the_two_batch_estimate_has_its_known_answer():
    assert two_batch_estimate(5, 2, 1, 4) == (1, 4)


def test_models_that_do_not_vmap_are_probed_one_gradient_after_another():
    of, data = make("user_models:with_control_flow", "noise_scale", OPTIONS["noise_scale"])
    trials = of.confirmations([of.draws()[0]], [7])
    seen = probing.looker(of, data, CPU)(cohort.maker(of, data, CPU)(trials), trials, 0, ["noise_scale"])
    assert all(reading["noise_scale.noise_trace"] > 0 for reading in seen.values())


def test_the_curvature_noise_is_the_two_batch_estimate_of_g_h_g():
    moment, data = moment_of("softmax")
    seen = probe("curvature_noise", small=4, large=16, examples=64)(moment)
    whole = hessian(moment, Split(data.train.inputs[:64], data.train.targets[:64]))
    moved = Split(data.train.inputs[64:], data.train.targets[64:])
    rows = gradients(moment, Data(moved, moved, moved, 10), 16)
    micro = rows.view(4, 4, -1).mean(1)
    of_small = float(torch.einsum("ni,ij,nj->n", micro, whole, micro).mean())
    mean = rows.mean(0)
    expected = two_batch_estimate(of_small, float(mean @ whole @ mean), 4, 16)
    assert (seen["gradient_curvature"], seen["noise_curvature"]) == pytest.approx(expected, rel=1e-9)


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian():
    moment, data = moment_of("softmax")
    seen = probe("sharpness", examples=64)(moment)
    whole = hessian(moment, Split(data.train.inputs[:64], data.train.targets[:64]))
    assert seen["largest_eigenvalue"] == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]), rel=1e-3)


def test_batch_sharpness_is_the_curvature_along_each_batch_own_gradient():
    moment, data = moment_of("softmax", batch_size=16)
    seen = probe("batch_sharpness", batches=2)(moment)
    expected = []
    for start in (0, 16):
        split = Split(data.train.inputs[start : start + 16], data.train.targets[start : start + 16])
        loss = moment.loss(moment.model(split.inputs), split.targets)
        vector = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(moment.model.parameters()))])
        expected.append(float(vector @ hessian(moment, split) @ vector / vector.square().sum()))
    assert seen["mean"] == pytest.approx(numpy.mean(expected), rel=1e-9)


def test_gradient_norm_and_weight_distance_are_lengths():
    moment, data = moment_of("softmax")
    rows = gradients(moment, data, 32)
    assert probe("gradient_norm", examples=32)(moment)["norm"] == pytest.approx(float(rows.mean(0).norm()), rel=1e-9)
    assert probe("weight_distance")(moment)["distance"] == 0
    with torch.no_grad():
        next(moment.model.parameters()).add_(0.5)
    count = next(moment.model.parameters()).numel()
    assert probe("weight_distance")(moment)["distance"] == pytest.approx(0.5 * math.sqrt(count))


def test_the_sharpness_of_one_parameter_is_its_second_derivative():
    text = SUITE.format(
        model="{noisy_quadratic: {dimensions: 1}}", probe="sharpness", options="", training="auto", precision="fp64",
        optimizer="sgd",
    ).replace("digits", "noisy_quadratic").replace("validation_error", "validation_loss")  # fmt: skip
    of = study_of(text)
    data = build.data(of.workload, Path("unused"), CPU)
    trials = of.confirmations([of.draws()[0]], [7])
    seen = probing.looker(of, data, CPU)(cohort.maker(of, data, CPU)(trials), trials, 0, ["sharpness"])
    assert [reading["sharpness.largest_eigenvalue"] for reading in seen.values()] == pytest.approx([1, 1])


def test_a_reading_that_is_no_number_is_left_out():
    of, data = make("softmax", "sharpness", OPTIONS["sharpness"])
    trials = of.confirmations([of.draws()[0]], [7])
    trained = cohort.maker(of, data, CPU)(trials)
    trained.weights = lambda trial: {"1.weight": torch.full((10, 64), math.nan), "1.bias": torch.zeros(10)}
    seen = probing.looker(of, data, CPU)(trained, trials, 0, ["sharpness"])
    assert list(seen.values()) == [{}, {}]


@pytest.mark.parametrize("name", ["noise_scale", "curvature_noise"])
def test_options_that_do_not_go_together_are_refused(name):
    with pytest.raises(ComponentError, match="small 8 and large 15; large should be twice small or more"):
        probe(name, small=8, large=15)


# ---- when a study looks -----------------------------------------------------------------------------------------


def probed_study(every="2x", seeds=2):
    text = fake_text(seeds=seeds, top=1)
    return study_of(f"{text}    probes: {{gradient_norm: {{every: {every}}}}}\n")


def readings_of(of, reaches):
    def curve(trial):
        return Curve(17) if trial.phase == "search" else Curve(reaches[trial.number])

    told = listen(study.run(of, {}, 1, lambda trials: FakeCohort(trials, curve), look))
    confirmed = [trial for trial in told.started if trial.phase == "confirm"]
    return told, [
        [step for step, seen in told.readings[trial.id].items() if "gradient_norm.seen_at" in seen]
        for trial in confirmed
    ]


def test_probes_look_at_the_start_at_growing_steps_and_where_each_confirmation_meets_its_target():
    told, steps = readings_of(probed_study(), [17, 28])
    # What is read past the crossing only settles it: probes look at it and not beyond.
    assert steps[0] == [0, 1, 2, 4, 8, 16, 17]
    assert steps[1] == [0, 1, 2, 4, 8, 16, 28]
    assert not any(
        "gradient_norm.seen_at" in seen
        for trial in told.started
        if trial.phase == "search"
        for seen in told.readings.get(trial.id, {}).values()
    )


def test_a_probe_changes_no_evaluation_and_no_answer():
    plain, _ = readings_of(fake_study(seeds=2, top=1), [17, 28])
    probed, _ = readings_of(probed_study(), [17, 28])

    def seen(told):
        return {
            (trial.phase, trial.number): [
                step for step, values in told.readings[trial.id].items() if "validation_error" in values
            ]
            for trial in told.started
        }

    assert seen(plain) == seen(probed)
    assert plain.ended == probed.ended


def test_another_probe_asks_for_new_confirmations_and_leaves_the_search_alone():
    plain, probed = fake_study(seeds=2, top=1), probed_study()
    assert plain.id != probed.id
    assert [trial.id for trial in plain.draws()] == [trial.id for trial in probed.draws()]
    ids = [[trial.id for trial in of.confirmations([of.draws()[0]], [5])] for of in (plain, probed)]
    assert not set(ids[0]) & set(ids[1])


def test_steps_looked_at_are_powers_of_the_factor_rounded_up():
    assert list(probed_study("1.3x").probe_steps(12)) == [0, 1, 2, 3, 4, 5, 7, 9, 11]
    assert list(probed_study("10x").probe_steps(1000)) == [0, 1, 10, 100]


def test_a_whole_study_with_a_probe_reads_as_one_without():
    text = SUITE.format(
        model="{mlp: {hidden: [8]}}", probe="noise_scale", options=OPTIONS["noise_scale"], training="auto",
        precision="fp32", optimizer="sgd",
    ).replace("0.001}}", "0.5}}").replace("[0.001, 0.01]", "[0.1, 1]")  # fmt: skip
    told = []
    for source in (text, text[: text.index("    probes")]):
        of = study_of(source)
        data = build.data(of.workload, Path("unused"), CPU)
        events = study.run(of, {}, len(data.validation), cohort.maker(of, data, CPU), probing.looker(of, data, CPU))
        heard = list(events)
        assert any(isinstance(event, Started) and event.trials[0].phase == "confirm" for event in heard)
        seen = listen(heard)
        told.append(
            [
                {name: value for name, value in values.items() if "." not in name}
                for trial in seen.started
                for values in seen.readings[trial.id].values()
                if any("." not in name for name in values)
            ]
        )
    assert told[0] == told[1]
