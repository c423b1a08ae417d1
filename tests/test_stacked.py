"""Stacked training: the same numbers as one by one, whatever is stacked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import listen, look, study_of

from bench.ask import components
from bench.errors import ComponentError
from bench.events import Way
from bench.examples import Data, Split
from bench.measure import build, cohort, study
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked

CPU = torch.device("cpu")
WAY = Way("stacked", "asked")

SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: {optimizer}
    schedule: {schedule}
    precision: {precision}
    training: {training}
    batch_sizes: [{batch_size}]
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 300
    search: {{trials: {trials}, learning_rate: {{log_uniform: [0.001, {highest}]}}}}
    confirm: {{seeds: 3}}
"""


def make(model="softmax", optimizer="sgd", schedule="constant", **changes):
    values = {"precision": "fp64", "training": "auto", "batch_size": 16, "trials": 3, "highest": 0.05, **changes}
    of = study_of(SUITE.format(model=model, optimizer=optimizer, schedule=schedule, **values))
    data = build.data(of.workload, Path(), CPU)
    # Few examples to evaluate: these tests look at training.
    few = Split(data.validation.inputs[:20], data.validation.targets[:20])
    return of, Data(data.train, few, few, data.classes)


def apart(one, other, trials):
    """The largest difference between two cohorts' parameters and buffers."""
    return max(
        float((mine[name].double() - value.double()).abs().max())
        for trial in trials
        for mine in [one.weights(trial)]
        for name, value in other.weights(trial).items()
    )


def both(of, data, trials):
    return OneByOne(of, data, CPU, trials, WAY), Stacked(of, data, CPU, trials, WAY)


def losses_apart(one, other):
    return max(
        abs(one[trial].readings[name] - other[trial].readings[name]) for trial in one for name in one[trial].readings
    )


# Small classifiers of images; test_models.py has the others, a few steps each.
SMALL = {"vit_tiny": "{vit_tiny: {width: 12, heads: 2, depth: 1}}"}
OTHERS = (
    *("noisy_quadratic", "autoencoder", "vae", "lstm", "transformer", "resnet18", "resnet34", "resnet50"),
    "vgg11",
)
MODELS = [name for name in components.names("models") if name not in OTHERS]
# The others are held to the same in test_optimizers.py.
OPTIMIZERS = ["sgd", "momentum", "nesterov", "adam", "adamw", "RMSprop", "Adagrad", "NAdam"]


@pytest.mark.parametrize("schedule", components.names("schedules"))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_stacked_and_one_by_one_agree_after_fifty_steps(model, optimizer, schedule):
    # The larger models take fewer examples: it is the arithmetic that is compared. Rates are gentle, for at the edge of
    # stability training itself multiplies the last digit's rounding.
    size = 4 if model in ("simple_cnn", "resnet8") else 16
    of, data = make(SMALL.get(model, model), optimizer, schedule, batch_size=size, highest=0.0011)
    trials = of.draws()[:2]
    one, stacked = both(of, data, trials)
    assert losses_apart(one.advance(50), stacked.advance(50)) < 1e-9
    assert apart(one, stacked, trials) < 1e-9


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_trials_that_end_are_compacted_away_and_the_others_go_on(optimizer):
    of, data = make("mlp", optimizer)
    trials = of.draws()[:5]
    one, stacked = both(of, data, trials)
    for step, ended in ((5, [trials[1]]), (20, [trials[0], trials[4]]), (30, [])):
        assert losses_apart(one.advance(step), stacked.advance(step)) < 1e-9
        one.drop(ended)
        stacked.drop(ended)
    assert apart(one, stacked, [trials[2], trials[3]]) < 1e-9
    assert {len(value) for value in stacked._parameters.values()} == {2}
    assert len(stacked._optimizer.param_groups) == 2


def test_trials_with_orders_of_their_own_agree_too():
    of, data = make("resnet8", "nesterov", batch_size=4)
    trials = of.confirmations([of.draws()[0]], [10])
    one, stacked = both(of, data, trials)
    assert losses_apart(one.advance(20), stacked.advance(20)) < 1e-9
    assert apart(one, stacked, trials) < 1e-9


def test_batch_norm_keeps_the_running_statistics_of_each_trial():
    of, data = make("user_models:with_batch_norm")
    trials = of.draws()[:2]
    one, stacked = both(of, data, trials)
    one.advance(10)
    stacked.advance(10)
    for trial in trials:
        assert int(stacked.weights(trial)["2.num_batches_tracked"]) == 10
    means = [stacked.weights(trial)["2.running_mean"] for trial in trials]
    assert not torch.equal(*means)
    assert apart(one, stacked, trials) < 1e-9


def test_a_frozen_parameter_stays_as_it_was_drawn():
    of, data = make("user_models:partly_frozen", "adamw")
    trials = of.draws()[:2]
    one, stacked = both(of, data, trials)
    drawn = stacked.weights(trials[0])["1.weight"]
    one.advance(10)
    stacked.advance(10)
    assert torch.equal(stacked.weights(trials[0])["1.weight"], drawn)
    assert apart(one, stacked, trials) < 1e-9


def test_dropout_draws_apart_for_each_trial():
    of, data = make("user_models:with_dropout")
    trial = of.draws()[0]
    twins = [trial, replace(trial, id="twin", number=1)]
    stacked = Stacked(of, data, CPU, twins, WAY)
    stacked.advance(3)
    assert apart_within(stacked, twins) > 0


def test_without_dropout_twins_stay_twins():
    of, data = make("mlp")
    trial = of.draws()[0]
    twins = [trial, replace(trial, id="twin", number=1)]
    stacked = Stacked(of, data, CPU, twins, WAY)
    stacked.advance(3)
    assert apart_within(stacked, twins) < 1e-12


def apart_within(stacked, twins):
    left, right = (stacked.weights(twin) for twin in twins)
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def test_evaluating_more_often_changes_no_weight():
    of, data = make("user_models:with_dropout")
    trials = of.draws()[:3]
    often, once = (Stacked(of, data, CPU, trials, WAY) for _ in range(2))
    for step in range(1, 9):
        often.advance(step)
        often.test(trials[:1])
    once.advance(8)
    assert apart(often, once, trials) == 0


def test_a_trial_that_diverges_harms_no_other():
    of, data = make("mlp", precision="fp32")
    trials = of.draws()[:3]
    wild = replace(trials[1], metaparameters={"learning_rate": 1e38})
    together = Stacked(of, data, CPU, [trials[0], wild, trials[2]], WAY)
    seen = together.advance(10)
    assert seen[wild].diverged_at is not None
    alone = OneByOne(of, data, CPU, [wild], WAY).advance(10)
    assert seen[wild].diverged_at == alone[wild].diverged_at
    assert seen[trials[0]].diverged_at is seen[trials[2]].diverged_at is None
    together.advance(20)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_whole_study_gives_the_same_steps_to_target_both_ways(optimizer):
    answers = []
    for training in ("one_by_one", "stacked"):
        of, data = make("softmax", optimizer, training=training, trials=6)
        told = listen(study.run(of, {}, 300, cohort.maker(of, data, CPU), look))
        answers.append((told.ended, told.steps_to_target))
    assert answers[0] == answers[1]
    assert answers[0][1] is not None


@pytest.mark.parametrize(("precision", "differs"), [("fp32", True), ("bf16", True), ("fp64", False)])
def test_a_precision_is_what_the_suite_says(precision, differs):
    of, data = make("mlp", precision=precision)
    trial = of.draws()[0]
    exact, same = make("mlp", precision="fp64")
    asked = OneByOne(of, data, CPU, [trial], WAY)
    reference = OneByOne(exact, same, CPU, [trial], WAY)
    asked.advance(10)
    reference.advance(10)
    assert (apart(asked, reference, [trial]) > 0) == differs
    stacked = Stacked(of, data, CPU, of.draws()[:2], WAY)
    stacked.advance(10)
    assert apart(asked, stacked, [trial]) < {"fp32": 1e-5, "bf16": 1e-2, "fp64": 1e-12}[precision]


# ---- the choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch_size", "trials", "way"),
    [
        ("softmax", 8, 16, "stacked"),
        ("softmax", 8, 2, "one by one"),
        ("mlp", 64, 16, "one by one"),
        ("simple_cnn", 8, 16, "one by one"),
        ("resnet8", 8, 16, "one by one"),
    ],
)
def test_on_a_cpu_tiny_steps_of_several_trials_are_stacked(model, batch_size, trials, way):
    of, data = make(model, batch_size=batch_size, trials=trials, precision="fp32")
    made = cohort.maker(of, data, CPU)(of.draws()[:trials])
    assert made.way.name == way
    assert "operations a step" in made.way.reason


@pytest.mark.parametrize(("training", "way"), [("stacked", "stacked"), ("one_by_one", "one by one")])
def test_a_suite_may_fix_the_way(training, way):
    of, data = make(training=training)
    made = cohort.maker(of, data, CPU)(of.draws()[:1])
    assert made.way == Way(way, "the suite says so")


def test_what_does_not_vmap_is_trained_one_by_one_and_says_why():
    of, data = make("user_models:with_control_flow")
    made = cohort.maker(of, data, CPU)(of.draws()[:16])
    assert made.way.name == "one by one"
    assert made.way.reason.startswith("user_models:with_control_flow does not vmap")
    of, data = make("user_models:with_control_flow", training="stacked")
    with pytest.raises(ComponentError, match="training: stacked cannot be"):
        cohort.maker(of, data, CPU)


def test_an_optimizer_of_ones_own_is_not_merged_with_others():
    of, data = make(optimizer="user_models:own_step")
    made = cohort.maker(of, data, CPU)(of.draws()[:16])
    assert made.way == Way("one by one", "user_models:own_step may tie its parameter groups together")


def test_a_model_with_state_of_its_own_is_not_stacked():
    of, data = make("user_models:own_state")
    made = cohort.maker(of, data, CPU)(of.draws()[:16])
    assert made.way == Way(
        "one by one", "user_models:own_state trains otherwise stacked: it keeps state, or draws at random"
    )


def test_weights_whose_gradient_is_nothing_but_rounding_are_no_obstacle():
    of, data = make("user_models:with_batch_norm", "adam", training="stacked")
    assert cohort.maker(of, data, CPU)(of.draws()[:2]).way.name == "stacked"


def test_a_model_with_dropout_can_be_stacked():
    of, data = make("user_models:with_dropout", training="stacked")
    assert cohort.maker(of, data, CPU)(of.draws()[:2]).way.name == "stacked"


def test_what_an_optimizer_is_made_with_is_each_trials_own():
    of, data = make(optimizer="Adagrad")
    values = [{"learning_rate": 0.01, "initial_accumulator_value": value} for value in (0.0, 9.0, 99.0)]
    trials = [replace(trial, metaparameters=value) for trial, value in zip(of.draws()[:3], values, strict=True)]
    one, stacked = both(of, data, trials)
    one.advance(10)
    stacked.advance(10)
    assert apart(one, stacked, trials) < 1e-9


def test_a_model_with_a_parameter_that_gets_no_gradient_is_not_stacked():
    of, data = make("user_models:with_unused_layer")
    made = cohort.maker(of, data, CPU)(of.draws()[:16])
    assert made.way == Way("one by one", "user_models:with_unused_layer has a parameter that gets no gradient")
