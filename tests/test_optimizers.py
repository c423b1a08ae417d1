"""Optimizers written here, against their formulas in plain arithmetic; and what a step does around any of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import study_of
from test_stacked import CPU, WAY, apart, both, losses_apart, make

from bench.ask import check, components, document, plan
from bench.ask.libraries import torch_optimizers
from bench.conclude import measures
from bench.contracts import Task
from bench.errors import ComponentError
from bench.events import Ended, Evaluated, Finished
from bench.keep.archive import Archive
from bench.measure import build, cohort, limits, probing, roles, study
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked
from bench.measure.ema import Average
from bench.measure.step import Step
from bench.measure.task import carry_out
from bench.optimizers.muon import orthogonal

RATE, DECAY, STEPS = 0.05, 0.1, 8
SHAPES = {"matrix": (5, 3), "convolution": (4, 2, 3, 3), "bias": (4,)}
ROLES = {"matrix": "hidden", "convolution": "hidden", "bias": "vector"}


def drawn(shape):
    """A weight and the gradients it meets, whatever it is by then."""
    generator = np.random.default_rng(math.prod(shape))
    return generator.normal(size=shape), generator.normal(size=(STEPS, *shape))


def path(name, kind, **options):
    """The weight after each step of the optimizer, in numpy."""
    start, gradients = drawn(SHAPES[kind])
    weight = torch.nn.Parameter(torch.tensor(start))
    component = components.find("optimizers", name).load()
    given = ([ROLES[kind]],) if name in ("lars", "lamb", "muon") else ()
    optimizer = component([weight], *given, learning_rate=RATE, weight_decay=DECAY, **options)
    seen = []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        seen.append(weight.detach().numpy().copy())
    return seen


def adam_direction(g, state, t, beta1, beta2, eps):
    state["m"] = beta1 * state["m"] + (1 - beta1) * g
    state["v"] = beta2 * state["v"] + (1 - beta2) * g**2
    return (state["m"] / (1 - beta1**t)) / (np.sqrt(state["v"] / (1 - beta2**t)) + eps)


def lars(kind):
    w, gradients = drawn(SHAPES[kind])
    v = np.zeros_like(w)
    for g in gradients:
        if kind == "bias":
            v = 0.9 * v + RATE * g
        else:
            local = 0.02 * np.linalg.norm(w) / (np.linalg.norm(g) + DECAY * np.linalg.norm(w))
            v = 0.9 * v + RATE * local * (g + DECAY * w)
        w = w - v
        yield w


def lamb(kind):
    w, gradients = drawn(SHAPES[kind])
    state = {"m": np.zeros_like(w), "v": np.zeros_like(w)}
    for t, g in enumerate(gradients, start=1):
        u = adam_direction(g, state, t, 0.9, 0.999, 1e-6)
        if kind == "bias":
            w = w - RATE * u
        else:
            u = u + DECAY * w
            w = w - RATE * np.linalg.norm(w) / np.linalg.norm(u) * u
        yield w


def lion(kind):
    w, gradients = drawn(SHAPES[kind])
    m = np.zeros_like(w)
    for g in gradients:
        w = w - RATE * (np.sign(0.9 * m + 0.1 * g) + DECAY * w)
        m = 0.99 * m + 0.01 * g
        yield w


def muon(kind):
    w, gradients = drawn(SHAPES[kind])
    state = {"m": np.zeros_like(w), "v": np.zeros_like(w)}
    for t, g in enumerate(gradients, start=1):
        w = w * (1 - RATE * DECAY)
        if kind == "bias":
            w = w - RATE * adam_direction(g, state, t, 0.9, 0.999, 1e-8)
        else:
            state["m"] = 0.95 * state["m"] + 0.05 * g
            ahead = (0.95 * state["m"] + 0.05 * g).reshape(len(g), -1)
            # Through the singular values, one by one: a matrix product is what it is written with.
            left, values, right = np.linalg.svd(ahead, full_matrices=False)
            values = values / np.linalg.norm(values)
            for _ in range(5):
                values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
            w = w - RATE * 0.2 * math.sqrt(max(ahead.shape)) * ((left * values) @ right).reshape(w.shape)
        yield w


def shampoo(kind):
    def power(matrix, exponent):
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values**exponent) @ vectors.T

    w, gradients = drawn(SHAPES[kind])
    rows, columns = (len(w), w.size // len(w)) if kind != "bias" else (1, 1)
    left, right, squares = 1e-4 * np.eye(rows), 1e-4 * np.eye(columns), 1e-4
    for g in gradients:
        g = g + DECAY * w
        if kind == "bias":
            squares = squares + g**2
            w = w - RATE * g / np.sqrt(squares)
        else:
            flat = g.reshape(rows, columns)
            left, right = left + flat @ flat.T, right + flat.T @ flat
            w = w - RATE * (power(left, -0.25) @ flat @ power(right, -0.25)).reshape(w.shape)
        yield w


FORMULAS = {
    "lars": (lars, {"trust": 0.02}),
    "lamb": (lamb, {}),
    "lion": (lion, {}),
    "muon": (muon, {}),
    "shampoo": (shampoo, {"every": 1}),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_an_optimizer_follows_its_formula(name, kind):
    formula, options = FORMULAS[name]
    for found, expected in zip(path(name, kind, **options), formula(kind), strict=True):
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_schedule_free_trains_at_one_point_and_is_read_at_the_average(base):
    w, gradients = drawn((5, 3))
    weight = torch.nn.Parameter(torch.tensor(w))
    create = components.find("optimizers", "schedule_free").load()
    optimizer = create([weight], learning_rate=RATE, base=base, weight_decay=DECAY)
    z, x, y, v, squares = w, w, w, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        # A warm-up of four steps, so that the average is no plain mean.
        rate = optimizer.param_groups[0]["lr"] = RATE * min(1.0, t / 4)
        weight.grad = torch.tensor(g)
        optimizer.step()
        v = 0.999 * v + 0.001 * g**2
        u = g if base == "sgd" else g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        z = z - rate * (u + DECAY * y)
        squares += rate**2
        x = (1 - rate**2 / squares) * x + rate**2 / squares * z
        y = 0.1 * z + 0.9 * x
        trained = weight.detach().clone()
        assert np.abs(trained.numpy() - y).max() < 1e-6
        optimizer.eval()
        assert np.abs(weight.detach().numpy() - x).max() < 1e-6
        optimizer.train()
        assert torch.equal(weight, trained)


def test_schedule_free_of_one_rate_averages_every_step_alike():
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    create = components.find("optimizers", "schedule_free").load()
    optimizer = create([weight], learning_rate=1.0, base="sgd")
    for gradient in (1.0, 2.0, 3.0):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    optimizer.eval()
    assert weight.item() == pytest.approx((-1 - 3 - 6) / 3)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (6, 6), (64, 1)])
def test_five_steps_take_every_singular_value_near_one(shape):
    matrix = torch.tensor(drawn(shape)[0])
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.6 < values.min() <= values.max() < 1.25
    turned = orthogonal(matrix.T).T
    assert torch.allclose(turned, orthogonal(matrix), rtol=1e-12)


def test_muon_is_torchs_but_for_the_rounding_to_bfloat16_inside_it():
    start, gradients = drawn((24, 16))
    paths = []
    for create in (components.find("optimizers", "muon").load(), torch.optim.Muon):
        weight = torch.nn.Parameter(torch.tensor(start))
        optimizer = (
            create([weight], ["hidden"], learning_rate=RATE, weight_decay=DECAY)
            if create is not torch.optim.Muon
            else create([weight], lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
        )
        for gradient in gradients:
            weight.grad = torch.tensor(gradient)
            optimizer.step()
        paths.append(weight.detach() - torch.tensor(start))
    apart = float((paths[0] - paths[1]).norm() / paths[1].norm())
    assert 1e-6 < apart < 3e-2


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_a_layer_of_zeros_moves_as_if_its_ratio_were_one(name):
    weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    weight.grad = torch.ones_like(weight)
    components.find("optimizers", name).load()([weight], ["hidden"], learning_rate=RATE).step()
    assert weight.detach().numpy() == pytest.approx(-RATE, rel=1e-5)


@pytest.mark.parametrize("way", [OneByOne, Stacked])
def test_looking_at_an_average_changes_no_bit_of_what_is_trained(way):
    how = {"optimizer": "{schedule_free: {base: adamw}}", "more": "beta1: 0.87, ema: 0.9", "precision": "fp32"}
    of, data = with_search(**how)
    trials = of.draws()[:2]
    often, once = (way(of, data, CPU, trials, WAY) for _ in range(2))
    for step in range(1, 9):
        often.advance(step)
        often.test(trials[:1])
        often.weights(trials[1])
    once.advance(8)
    assert apart(often, once, trials) == 0


def test_what_is_looked_at_is_the_average_and_not_what_is_trained():
    of, data = with_search("beta1: 0.5", "{schedule_free: {base: sgd}}")
    trial = of.draws()[0]
    one, stacked = both(of, data, [trial])
    one.train(5)
    stacked.train(5)
    for made, optimizer in ((one, one._runs[trial].optimizer), (stacked, stacked._optimizer)):
        for value, (trained, state) in zip(made.weights(trial).values(), optimizer.state.items(), strict=True):
            assert torch.equal(value, state["x"])
            assert not torch.equal(value, trained)


# ---- roles ---------------------------------------------------------------------------------------------------------


class Reader(torch.nn.Module):
    """A language model's parts, the embedding tied to the head or not, the head not named last."""

    def __init__(self, *, tied):
        super().__init__()
        self.words = torch.nn.Embedding(7, 4)
        self.position_table = torch.nn.Parameter(torch.zeros(5, 4))
        self.class_token = torch.nn.Parameter(torch.zeros(1, 1, 4))
        self.mix = torch.nn.Linear(4, 4)
        self.patches = torch.nn.Conv1d(4, 4, 3)
        self.norm = torch.nn.LayerNorm([3, 4])
        self.head = torch.nn.Linear(4, 7)
        self.mixing = torch.nn.Parameter(torch.zeros(4, 4))
        self.compose = torch.nn.Parameter(torch.zeros(4, 4))
        if tied:
            self.head.weight = self.words.weight


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_has_its_role(tied):
    model = Reader(tied=tied)
    found = dict(zip(dict(model.named_parameters()), roles.roles(model, classes=7), strict=True))
    expected = {
        "position_table": "embedding",
        "class_token": "embedding",
        "mixing": "hidden",
        "compose": "hidden",
        "words.weight": "embedding",
        "mix.weight": "hidden",
        "mix.bias": "vector",
        "patches.weight": "hidden",
        "patches.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "head.bias": "vector",
        **({} if tied else {"head.weight": "head"}),
    }
    assert found == expected


@pytest.mark.parametrize("name", ["softmax", "mlp", "resnet8", "simple_cnn", "vit_tiny"])
def test_the_head_of_a_classifier_is_what_gives_its_classes(name):
    model = components.find("models", name).load()((1, 28, 28), 10)
    found = zip(roles.roles(model, classes=10), model.parameters(), strict=True)
    assert [len(parameter) for role, parameter in found if role == "head"] == [10]


def test_the_head_is_the_last_layer_as_wide_as_there_are_classes_and_none_where_there_is_none():
    layers = torch.nn.Linear(4, 7), torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 7, bias=False)
    first, middle, last = (torch.nn.Sequential(*layers[:count]) for count in (2, 3, 3))
    del middle[0]
    assert roles.roles(first, classes=7) == ["head", "vector", "hidden"]
    assert roles.roles(middle, classes=7) == ["hidden", "head"]
    assert roles.roles(last, classes=7) == ["hidden", "vector", "hidden", "head"]
    # Such as a language model's whose output is the product with its embedding.
    assert roles.roles(last, classes=5) == ["hidden", "vector", "hidden", "hidden"]


def test_an_optimizer_of_ones_own_may_ask_for_roles_and_a_suite_may_not_set_them():
    assert [option.name for option in components.find("optimizers", "user_models:by_role").options] == ["learning_rate"]
    of, data = with_search("ema: 0.5", "user_models:by_role")
    trial = of.draws()[0]
    made = OneByOne(of, data, CPU, [trial], WAY)
    before = made.weights(trial)
    made.train(3)
    for name, value in made.weights(trial).items():
        assert torch.equal(value, before[name]) == name.endswith("bias")


def test_what_is_of_every_step_is_no_option_of_an_optimizer():
    with pytest.raises(ComponentError, match="found 'user_models:own_clip' with an option 'clip', which is of every"):
        components.find("optimizers", "user_models:own_clip")


# ---- both ways -----------------------------------------------------------------------------------------------------

OWN = ["lamb", "lars", "lion", "muon", "sam", "schedule_free", "shampoo"]
# Those that go by the sign of a gradient, or by its size relative to itself alone. A bias of a transformer's keys has
# none but rounding: it moves at random, and moves no output.
BY_SIGN = ("lion", "Adafactor")
SMALL_MLP = "{mlp: {hidden: [16]}}"
SMALL_VIT = "{vit_tiny: {width: 12, heads: 2, depth: 1}}"


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        *((model, name) for model in (SMALL_MLP, SMALL_VIT) for name in [*OWN, *torch_optimizers()]),
        *(("resnet8", name) for name in OWN),
    ],
)
def test_an_optimizer_agrees_stacked_and_one_by_one_after_fifty_steps(model, optimizer):
    size = 4 if model == "resnet8" else 16
    of, data = make(model, optimizer, "cosine", batch_size=size, highest=0.0011)
    trials = of.draws()[:2]
    one, stacked = both(of, data, trials)
    assert losses_apart(one.advance(50), stacked.advance(50)) < (1e-7 if optimizer in BY_SIGN else 1e-9)
    if (model, optimizer) not in [(SMALL_VIT, name) for name in BY_SIGN]:
        assert apart(one, stacked, trials) < 1e-9


def text_of(more, optimizer="momentum", model=SMALL_MLP, extra="", precision="fp64", target="validation_error"):
    """A suite with more to search and more keys."""
    return f"""
suite: s
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: {optimizer}
    precision: {precision}
    batch_sizes: [16]
    target: {{{target}: {{at_most: 0.1}}}}
    max_steps: 300
    {extra}
    search: {{trials: 4, learning_rate: {{log_uniform: [0.01, 0.1]}}, {more}}}
"""


def with_search(more, optimizer="momentum", model=SMALL_MLP, extra="", precision="fp64"):
    """The study of such a suite, and data as test_stacked's `make` gives it."""
    _, data = make(precision=precision)
    return study_of(text_of(more, optimizer, model, extra, precision)), data


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [
        ("sam", "rho: {log_uniform: [0.01, 1]}, momentum: {uniform: [0.5, 0.9]}"),
        ("{sam: {base: nesterov}}", "clip: {log_uniform: [0.1, 1]}"),
        ("momentum", "clip: {log_uniform: [0.1, 1]}, ema: {uniform: [0.5, 0.99]}"),
        ("{schedule_free: {base: sgd}}", "ema: 0.9, clip: 0.5"),
        ("muon", "ema: 0.9"),
    ],
)
@pytest.mark.parametrize("model", [SMALL_MLP, "user_models:with_batch_norm"])
def test_what_a_step_does_around_an_optimizer_agrees_both_ways_and_trials_that_end_leave_the_others_be(
    model, optimizer, more
):
    of, data = with_search(more, optimizer, model)
    trials = of.draws()[:4]
    one, stacked = both(of, data, trials)
    for step, ended in ((5, [trials[1]]), (20, [trials[0]]), (30, [])):
        assert losses_apart(one.advance(step), stacked.advance(step)) < 1e-9
        one.drop(ended)
        stacked.drop(ended)
    assert apart(one, stacked, trials[2:]) < 1e-9
    assert cohort.maker(of, data, CPU)(trials).way.reason.endswith("on a CPU")


# ---- sharpness-aware -----------------------------------------------------------------------------------------------


def weights_after(steps, way=OneByOne, **how):
    of, data = with_search(**how)
    # Seeds come from names, the optimizer's among them: here they are the same for all.
    trials = [replace(trial, init_seed=trial.number, order_seed=7) for trial in of.draws()[:2]]
    for trial in trials:
        trial.metaparameters["learning_rate"] = 0.01 * (1 + trial.number)
    made = way(of, data, CPU, trials, WAY)
    made.advance(steps)
    return [made.weights(trial) for trial in trials]


def equal(left, right):
    return all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("base", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("way", [OneByOne, Stacked])
def test_sharpness_aware_with_no_radius_is_its_base_to_the_last_bit(base, way):
    how = {"more": "weight_decay: 0.01", "model": "user_models:with_batch_norm", "precision": "fp32"}
    sharp = weights_after(20, way, optimizer=f"{{sam: {{base: {base}, rho: 0}}}}", **how)
    assert equal(sharp, weights_after(20, way, optimizer=base, **how))
    assert not equal(sharp, weights_after(20, way, optimizer=f"{{sam: {{base: {base}}}}}", **how))


def test_trials_of_different_bases_train_together_as_each_does_alone():
    of, data = with_search("base: {choice: [sgd, momentum, nesterov, adam, adamw]}", "sam")
    trials = of.draws()[:4]
    assert len({trial.metaparameters["base"] for trial in trials}) > 2
    one, stacked = both(of, data, trials)
    # The first to end is the one whose optimizer the others joined.
    for step, ended in ((5, trials[:1]), (20, [])):
        assert losses_apart(one.advance(step), stacked.advance(step)) < 1e-9
        stacked.state()  # raises where it could not be kept
        one.drop(ended)
        stacked.drop(ended)
    assert apart(one, stacked, trials[1:]) < 1e-9


def test_sharpness_aware_takes_the_gradient_where_the_loss_is_worst():
    torch.manual_seed(0)
    start, curvature = torch.randn(4, dtype=torch.float64), torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64)
    # Two weights, of which the norm is taken together.
    weights = [torch.nn.Parameter(part.clone()) for part in start.split([1, 3])]
    optimizer = components.find("optimizers", "sam").load()(weights, learning_rate=0.01, rho=0.3, momentum=0.5)

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * (curvature * torch.cat(list(weights)).square()).sum()
        loss.backward()
        return loss

    w, velocity = start, torch.zeros_like(start)
    for _ in range(5):
        loss = optimizer.step(closure)
        gradient = curvature * w
        assert float(loss.detach()) == pytest.approx(float(0.5 * (gradient * w).sum()))
        velocity = 0.5 * velocity + curvature * (w + 0.3 * gradient / gradient.norm())
        w = w - 0.01 * velocity
        assert torch.allclose(torch.cat([weight.detach() for weight in weights]), w, rtol=1e-6)


def test_running_statistics_see_a_batch_once_however_many_gradients_it_gives():
    of, data = with_search("rho: 0.5", "sam", "user_models:with_batch_norm")
    trials = of.draws()[:2]
    for made in both(of, data, trials):
        made.advance(10)
        assert int(made.weights(trials[0])["2.num_batches_tracked"]) == 10


def test_a_base_is_given_only_what_it_takes():
    with pytest.raises(ComponentError, match="sam around sgd was given momentum, which sgd does not take"):
        weights_after(1, optimizer="{sam: {base: sgd}}", more="momentum: 0.9")


def test_several_gradients_a_step_are_so_many_times_the_operations():
    counted = []
    for optimizer in ("momentum", "sam"):
        of, data = with_search("momentum: 0.9", optimizer)
        step = Step(of.workload, data, CPU, 0, {"learning_rate": 0.1}, 16)
        some = data.train.first(2)
        counted.append(limits.operations(step, some.inputs, some.targets, training=True))
    assert counted[1] == 2 * counted[0] > 0


def test_several_gradients_a_step_are_refused_under_fp16():
    with pytest.raises(ComponentError, match="sam takes several gradients a step; fp16 scales that of one"):
        weights_after(1, optimizer="sam", more="rho: 0.1", precision="fp16")


# ---- clipping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [OneByOne, Stacked])
def test_a_bound_that_no_gradient_meets_changes_no_bit(way):
    free = weights_after(20, way, more="momentum: 0.9")
    assert equal(free, weights_after(20, way, more="momentum: 0.9, clip: 1e30"))
    assert not equal(free, weights_after(20, way, more="momentum: 0.9, clip: 0.1"))


@pytest.mark.parametrize("extra", ["", "micro_batch: 5"])
@pytest.mark.parametrize("precision", ["fp64", "fp16"])
def test_a_clipped_step_of_gradient_descent_is_as_long_as_the_bound(extra, precision):
    of, data = with_search("clip: 0.01", "sgd", extra=extra, precision=precision)
    step = Step(of.workload, data, CPU, 0, {"learning_rate": 1.0, "clip": 0.01}, 16)
    data = build.data(of.workload, Path(), CPU)
    before = [weight.detach().clone() for weight in step.model.parameters()]
    step.take(data.train.inputs[:16], data.train.targets[:16])
    moved = [now.detach() - then for now, then in zip(step.model.parameters(), before, strict=True)]
    assert float(torch.cat([each.flatten() for each in moved]).norm()) == pytest.approx(0.01, rel=1e-3)


# ---- label smoothing -----------------------------------------------------------------------------------------------


def test_trials_with_labels_smoothed_otherwise_train_stacked_as_each_does_alone_and_are_read_plain():
    of, data = with_search("label_smoothing: {uniform: [0, 0.5]}")
    trials = of.draws()[:3]
    assert len({trial.metaparameters["label_smoothing"] for trial in trials}) == 3
    one, stacked = both(of, data, trials)
    for step, ended in ((0, []), (5, trials[:1]), (20, [])):
        assert losses_apart(one.advance(step), stacked.advance(step)) < 1e-9
        one.drop(ended)
        stacked.drop(ended)
    assert apart(one, stacked, trials[1:]) < 1e-9


def test_a_probe_sees_the_loss_that_is_trained():
    of, data = with_search("label_smoothing: {uniform: [0.1, 0.5]}")
    outputs, targets = torch.randn(4, data.classes, dtype=torch.float64), torch.arange(4) % data.classes
    for trial in of.draws()[:2]:
        seen = probing.Copies(of, data, CPU).show(
            lambda moment: {"loss": float(moment.loss(outputs, targets))}, trial, {}, seed=0
        )
        share = trial.metaparameters["label_smoothing"]
        expected = torch.nn.functional.cross_entropy(outputs, targets, label_smoothing=share)
        assert seen["loss"] == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("way", [OneByOne, Stacked])
def test_smoothing_changes_what_is_trained_and_not_how_it_is_read(way):
    (plain, data), (smooth, _) = with_search(""), with_search("label_smoothing: 0.4")
    start, later = [], []
    for of in (plain, smooth):
        (trial,) = [replace(trial, init_seed=1, order_seed=7) for trial in of.draws()[:1]]
        trial.metaparameters["learning_rate"] = 0.05
        made = way(of, data, CPU, [trial], WAY)
        start.append(made.advance(0)[trial].readings)
        later.append(made.advance(30)[trial].readings)
    assert start[0] == start[1]
    assert later[0] != later[1]


# ---- the average ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [OneByOne, Stacked])
def test_the_average_changes_no_bit_of_what_is_trained(way):
    plain = weights_after(20, way, more="momentum: 0.9", model="user_models:with_batch_norm")
    assert equal(plain, weights_after(20, way, more="momentum: 0.9, ema: 0.9", model="user_models:with_batch_norm"))


@pytest.mark.parametrize("way", [OneByOne, Stacked])
def test_an_average_that_keeps_nothing_reads_as_the_weights(way):
    of, data = with_search("ema: 0")
    trials = of.draws()[:2]
    made = way(of, data, CPU, trials, WAY)
    for seen in made.advance(7).values():
        assert seen.readings["ema_validation_loss"] == seen.readings["validation_loss"]
    for seen in made.test(trials).values():
        assert seen["ema_test_error"] == seen["test_error"]


def test_an_average_is_the_weighted_sum_of_the_weights_it_saw():
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    average = Average([weight], 0.75)
    for value in (2.0, 6.0):
        with torch.no_grad():
            weight.fill_(value)
        average.update()
    expected = 0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 6
    with average.in_place():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 6.0


def test_a_target_may_be_one_of_the_average_and_what_met_it_is_tested(tmp_path):
    made = plan.make(check.check(document.parse(text_of("ema: 0.5", target="ema_validation_error"))))
    (of,) = made.studies
    data = build.data(of.workload, Path(), CPU)
    look = probing.looker(of, data, CPU)
    with Archive.writing(tmp_path / "a.sqlite") as archive:
        archive.plan(made)
        environment = archive.environment({"device": "cpu"})
        told = [*study.run(of, {}, len(data.validation), cohort.maker(of, data, CPU), look), Finished()]
        for event in told:
            archive.record(of, environment, event)
        (concluded,) = measures.summaries(archive)
    confirmed = {event.trial.id for event in told if isinstance(event, Ended) and event.trial.phase == "confirm"}
    readings = [event.readings for event in told if isinstance(event, Evaluated)]
    ends = [seen[key] for seen in readings for key in confirmed & seen.keys() if "test_error" in seen[key]]
    assert any(seen["ema_test_error"] != seen["test_error"] for seen in ends)
    assert concluded.confirmed.reached == 5
    # The best candidate's seeds, where they met the target; the other candidates' are among the ends too.
    assert len(concluded.confirmed.tested) == 5
    assert set(concluded.confirmed.tested) <= {seen["ema_test_error"] for seen in ends}


# ---- decay ---------------------------------------------------------------------------------------------------------


DECAYING = ["sgd", "momentum", "adam", "adamw", "lion", "muon", "sam", "schedule_free", "shampoo", "NAdam"]


@pytest.mark.parametrize("optimizer", DECAYING)
def test_decay_of_matrices_alone_leaves_biases_and_norms_as_they_are(optimizer):
    of, data = with_search("weight_decay: 0.5", optimizer, "resnet8", "decay: matrices")
    model = build.model(of.workload, data, CPU, 0)
    made = build.optimizer(of.workload, model, data.classes, {"learning_rate": 0.1, "weight_decay": 0.5})
    before = [weight.detach().clone() for weight in model.parameters()]
    for weight in model.parameters():  # without a gradient, decay is all there is
        weight.grad = torch.zeros_like(weight)
    made.step(lambda: None)
    for weight, then, role in zip(model.parameters(), before, roles.roles(model, data.classes), strict=True):
        assert torch.equal(weight, then) == (role == "vector")


@pytest.mark.parametrize("optimizer", DECAYING)
def test_decay_of_matrices_alone_agrees_both_ways(optimizer):
    of, data = with_search("weight_decay: 0.5", optimizer, extra="decay: matrices")
    trials = of.draws()[:3]
    one, stacked = both(of, data, trials)
    for step, ended in ((5, trials[:1]), (10, [])):
        assert losses_apart(one.advance(step), stacked.advance(step)) < 1e-9
        one.drop(ended)
        stacked.drop(ended)
    assert apart(one, stacked, trials[1:]) < 1e-9


def test_what_decays_is_part_of_what_a_trial_is_only_where_the_suite_says_so():
    plain, _ = with_search("weight_decay: 0.5")
    written, _ = with_search("weight_decay: 0.5", extra="decay: all")
    matrices, _ = with_search("weight_decay: 0.5", extra="decay: matrices")
    assert plain.id == written.id != matrices.id
    assert plain.draws()[0].id == written.draws()[0].id != matrices.draws()[0].id


@pytest.mark.parametrize("optimizer", components.names("optimizers"))
def test_a_rate_that_is_far_too_high_is_an_outcome_and_no_fault(optimizer):
    of = study_of(TOO_HIGH.format(optimizer=optimizer))
    *_, last = carry_out(Task(of, {}, Path()), torch.device("cpu"))
    assert isinstance(last, Finished), last


TOO_HIGH = """
suite: s
workloads:
  - name: w
    model: {{mlp: {{hidden: [16]}}}}
    dataset: digits
    optimizer: {optimizer}
    batch_sizes: [16]
    target: {{validation_error: {{at_most: 0.0}}}}
    max_steps: 30
    search: {{trials: 2, learning_rate: 1.0e+6}}
    confirm: {{seeds: 0}}
"""
