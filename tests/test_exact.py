"""Workloads with exact answers: the answers themselves, and that studies find them."""

from __future__ import annotations

import statistics
from itertools import islice
from pathlib import Path

import numpy
import pytest
import torch
from fakes import listen, study_of

from bench.crossing import crossing_of
from bench.datasets.teacher_student import teacher_student
from bench.measure import build, cohort, probing, study
from bench.models.noisy_quadratic import noisy_quadratic
from bench.prove.exact import LEARNING_RATES, LinearTeacher, NoisyQuadratic, best_learning_rate

CPU = torch.device("cpu")


def first_below(model, target, most_steps):
    """The first step below the target, by stepping through."""
    means = (mean for mean, _ in islice(model.path(), most_steps + 1))
    return next((step for step, mean in enumerate(means) if mean < target), None)


def simulated(model, runs, steps, seed=0):
    """The losses of simulated runs at steps 0, 1, 2, ...: [steps + 1, runs]."""
    draw = numpy.random.default_rng(seed).standard_normal
    h = model.curvatures
    x, v = draw((runs, len(h))), 0.0
    losses = [0.5 * (h * x**2).sum(1)]
    for _ in range(steps):
        gradient = h * x + numpy.sqrt(h / model.batch_size) * draw(x.shape)
        v = model.momentum * v - model.learning_rate * gradient
        x = x + v
        losses.append(0.5 * (h * x**2).sum(1))
    return numpy.array(losses)


# ---- the noisy quadratic model ---------------------------------------------------------------------------------------


def test_the_steps_to_target_are_the_known_ones():
    assert NoisyQuadratic(1, 16, 0.1).steps_to_target(0.01) == 20
    model = NoisyQuadratic(10_000, 256, 0.1)
    assert model.loss(0) == pytest.approx(4.893803, abs=5e-7)
    assert model.steps_to_target(0.01) == 137_300


@pytest.mark.parametrize(("batch_size", "rate", "steps"), [(256, 0.774264, 25_778), (65_536, None, 7_079)])
def test_the_best_learning_rates_are_the_known_ones(batch_size, rate, steps):
    best = best_learning_rate(10_000, batch_size, 0.01)
    assert best is not None
    assert best[1] == steps
    assert rate is None or best[0] == pytest.approx(rate, abs=5e-7)


def test_no_learning_rate_of_the_grid_is_faster_than_the_best():
    found = {rate: NoisyQuadratic(50, 16, rate).steps_to_target(0.5, 10_000) for rate in map(float, LEARNING_RATES)}
    reached = {rate: steps for rate, steps in found.items() if steps is not None}
    assert 0 < len(reached) < len(found)
    fastest = min(reached, key=reached.__getitem__)
    assert best_learning_rate(50, 16, 0.5, most_steps=10_000) == (fastest, reached[fastest])


def test_a_learning_rate_the_target_cannot_be_met_with_is_no_best():
    assert best_learning_rate(50, 1, 1e-9, most_steps=1_000) is None


@pytest.mark.parametrize("rate", [0.01, 0.7, 1.0, 1.3, 1.99])
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_the_closed_form_and_stepping_agree(batch_size, rate):
    model = NoisyQuadratic(200, batch_size, rate)
    for step, (mean, _) in enumerate(islice(model.path(), 400)):
        assert model.loss(step) == pytest.approx(mean, rel=1e-11)
    for target in (0.4, 1.0, 1.7, 2.5, 10.0):
        assert model.steps_to_target(target, 2_000) == first_below(model, target, 2_000)


def test_a_loss_that_dips_and_rises_again_has_met_the_target_in_the_dip():
    # Flat dimensions fall while the steepest, close to instability, slowly rises to its noise.
    model = NoisyQuadratic(200, 64, 1.9975)
    means = [mean for mean, _ in islice(model.path(), 3_000)]
    lowest = min(range(3_000), key=means.__getitem__)
    assert 0 < lowest < 2_999
    assert means[0] > means[lowest] < means[-1]
    for target in numpy.linspace(means[lowest] + 1e-9, means[0] + 0.1, 20):
        assert model.steps_to_target(float(target), 10**6) == first_below(model, target, 3_000)
    assert model.steps_to_target(means[lowest] - 1e-9, 10**6) is None


def test_what_never_gets_there_has_no_steps():
    # One dimension settles at a/(2 B (2 - a)) = 1/2 for B = 1, a = 1: a target just above is met, the limit itself not.
    model = NoisyQuadratic(1, 1, 0.1)
    limit = 0.5 * 0.1 / 1.9
    assert model.steps_to_target(limit * (1 + 1e-6)) is not None
    assert model.steps_to_target(limit) is None
    assert model.steps_to_target(limit * (1 + 1e-6), most_steps=10) is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_that_is_one_too_far_is_not_reached(momentum):
    model = NoisyQuadratic(20, 64, 0.05, momentum)
    steps = model.steps_to_target(0.5)
    assert model.steps_to_target(0.5, steps) == steps
    assert model.steps_to_target(0.5, steps - 1) is None
    assert model.loss(steps) < 0.5 <= model.loss(steps - 1)


def test_a_target_above_the_start_is_met_at_the_start():
    assert NoisyQuadratic(10, 1, 0.1).steps_to_target(100) == 0
    assert NoisyQuadratic(10, 1, 0.1, momentum=0.5).steps_to_target(100) == 0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_learning_is_stable_up_to_twice_one_plus_the_momentum(momentum):
    bound = 2 * (1 + momentum)
    late = {}
    for share in (0.9, 1.1):
        model = NoisyQuadratic(5, 64, share * bound, momentum)
        assert model.stable == (share < 1)
        early, late[share] = (next(islice(model.path(), step, None))[0] for step in (100, 200))
        assert (late[share] / early == pytest.approx(1, abs=0.1)) == model.stable
    assert late[1.1] > 1e3 * late[0.9]
    assert NoisyQuadratic(5, 64, bound, momentum).steps_to_target(1e9) is None


def test_momentum_of_nothing_is_plain_descent():
    plain, heavy = NoisyQuadratic(300, 8, 0.5), NoisyQuadratic(300, 8, 0.5, momentum=1e-15)
    for (mean, deviation), (other, others) in islice(zip(plain.path(), heavy.path(), strict=True), 300):
        assert (mean, deviation) == pytest.approx((other, others), rel=1e-12)
    assert plain.steps_to_target(1.0) == heavy.steps_to_target(1.0)


@pytest.mark.parametrize(("rate", "momentum"), [(0.5, 0.0), (0.1, 0.9), (2.5, 0.5)])
def test_simulated_runs_have_the_mean_and_deviation_of_the_path(rate, momentum):
    model, runs = NoisyQuadratic(4, 2, rate, momentum), 100_000
    losses = simulated(model, runs, steps=25)
    for (mean, deviation), seen in zip(model.path(), losses, strict=False):
        assert seen.mean() == pytest.approx(mean, abs=4.5 * deviation / runs**0.5)
        assert seen.std() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(("rate", "momentum", "batch_size"), [(0.5, 0.0, 4), (0.5, 0.0, 64), (0.1, 0.8, 16)])
def test_the_median_of_simulated_runs_lies_where_it_is_said_to(rate, momentum, batch_size):
    model, target, seeds, medians = NoisyQuadratic(400, batch_size, rate, momentum), 1.2, 5, 100
    evaluated = sorted({round(1.1**power) for power in range(60)})
    losses = simulated(model, seeds * medians, steps=150)
    steps = [step for step in evaluated if step <= 150]
    below = losses[steps] < target
    assert below.any(0).all()
    reached = numpy.array(steps)[below.argmax(0)].reshape(medians, seeds)
    low, high = model.evaluated_between(target, evaluated, seeds)
    found = numpy.median(reached, axis=1)
    assert low <= found.min()
    assert found.max() <= high
    # Nor is it said to lie anywhere: most of what is said to be possible is seen.
    possible = [step for step in evaluated if low <= step <= high]
    assert len(set(found)) >= len(possible) / 2


@pytest.mark.parametrize("batch_size", [4, 64])
def test_the_noisy_quadratics_gradient_has_the_mean_and_the_variance_that_are_said(batch_size):
    torch.manual_seed(0)
    model, draws = noisy_quadratic((1,), 1, dimensions=5).double().train(), 20_000
    inputs, h, x = torch.zeros(batch_size, 1), model.curvatures, model.point.detach()
    rows = torch.stack([torch.autograd.grad(model(inputs).mean(), [model.point])[0] for _ in range(draws)])
    assert ((rows.mean(0) - h * x).abs() < 5 * (h / batch_size / draws).sqrt()).all()
    assert (rows.var(0) / (h / batch_size) - 1).abs().max() < 5 * (2 / draws) ** 0.5


# ---- studies of it ---------------------------------------------------------------------------------------------------

NOISY_QUADRATIC = """
suite: s
workloads:
  - name: w
    model: {{noisy_quadratic: {{dimensions: 2000}}}}
    dataset: noisy_quadratic
    optimizer: {optimizer}
    batch_sizes: [{batch_size}]
    target: {{validation_loss: {{below: 0.4}}}}
    max_steps: 3000
    search: {search}
    confirm: {{seeds: {seeds}}}
    evaluate: {{resolution: 0.02}}
"""
SEEDS = 7


def crossed(of, told, trial):
    """Steps to target of a trial, from what was told of it."""
    losses = sorted(
        (step, seen["validation_loss"]) for step, seen in told.readings[trial.id].items() if "validation_loss" in seen
    )
    return crossing_of(losses, of.workload.threshold.met, "isotonic", trial.max_steps).at


@pytest.mark.parametrize("batch_size", [32, 64, 128, 256, 1024])
@pytest.mark.parametrize(
    ("optimizer", "metaparameters"),
    [("sgd", {"learning_rate": 1.4}), ("momentum", {"learning_rate": 0.2, "momentum": 0.9})],
)
def test_a_study_finds_the_exact_steps_to_target(optimizer, metaparameters, batch_size):
    search = {"trials": 1, **metaparameters}
    of = study_of(NOISY_QUADRATIC.format(optimizer=optimizer, batch_size=batch_size, search=search, seeds=SEEDS))
    data = build.data(of.workload, Path(), CPU)
    told = listen(study.run(of, {}, 1, cohort.maker(of, data, CPU), probing.looker(of, data, CPU)))
    again = [trial for trial in told.started if trial.phase == "confirm"]
    assert {told.ended["confirm", trial.number][0] for trial in again} == {"reached"}

    model = NoisyQuadratic(2000, batch_size, **metaparameters)
    evaluated = [step for step, _ in of.evaluations(1, 3000)]
    low, high = model.evaluated_between(0.4, evaluated, SEEDS)
    assert low <= statistics.median(crossed(of, told, trial) for trial in again) <= high
    # Between them lies the first evaluation at or after the exact answer.
    assert low <= min(step for step in evaluated if step >= model.steps_to_target(0.4)) <= high


def test_one_dimension_without_noise_is_found_to_the_step():
    # The noise of so large a batch is nothing, and a run is known from where it starts: x(t) = (1 - a)^t x(0).
    search = {"trials": 1, "learning_rate": 0.1}
    text = NOISY_QUADRATIC.format(optimizer="sgd", batch_size=2**20, search=search, seeds=3)
    of = study_of(text.replace("2000}", "1}").replace("below: 0.4", "below: 0.02"))
    data = build.data(of.workload, Path(), CPU)
    told = listen(study.run(of, {}, 1, cohort.maker(of, data, CPU), probing.looker(of, data, CPU)))
    evaluated = [step for step, _ in of.evaluations(1, 2000)]
    for trial in told.started:
        start = float(build.model(of.workload, data, CPU, trial.init_seed).point.detach())
        exact = next(step for step in range(2000) if 0.5 * (0.9**step * start) ** 2 < 0.02)
        assert crossed(of, told, trial) == min(step for step in evaluated if step >= max(1, exact))
    assert len(told.started) == 4


# ---- the linear teacher ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dimensions", "noise", "distance"), [(5, 2.0, 0.5), (8, 0.0, 3.0), (1, 1.0, 1.0)])
def test_the_linear_teachers_gradient_has_the_mean_and_the_covariance_that_are_said(dimensions, noise, distance):
    examples = 1_000_000
    random = numpy.random.default_rng(0)
    apart = random.standard_normal(dimensions)
    apart *= distance / numpy.linalg.norm(apart)
    inputs = random.standard_normal((examples, dimensions))
    gradients = inputs * (inputs @ apart - noise * random.standard_normal(examples))[:, None]
    mean, teacher = gradients.mean(0), LinearTeacher(dimensions, noise, distance)
    assert mean @ mean == pytest.approx(teacher.gradient_squared, rel=0.02)
    assert ((gradients - mean) ** 2).sum(1).mean() == pytest.approx(teacher.noise_trace, rel=0.02)
    assert teacher.noise_scale == teacher.noise_trace / teacher.gradient_squared


def test_the_teachers_examples_are_such():
    train = teacher_student(Path()).train
    # At zero weights the gradient of half the squared error is -x y.
    gradients = -(train.inputs * train.targets).double()
    mean, teacher = gradients.mean(0), LinearTeacher(32)
    assert teacher.noise_scale == 65
    assert float(mean.square().sum()) == pytest.approx(teacher.gradient_squared, rel=0.04)
    assert float((gradients - mean).square().sum(1).mean()) == pytest.approx(teacher.noise_trace, rel=0.02)
