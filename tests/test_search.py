"""Spaces and their draws."""

import itertools
import math
from statistics import quantiles

import pytest

from bench.ask.search import (
    RANGES,
    Choice,
    HalfLife,
    Integer,
    LogUniform,
    ReverseLogUniform,
    Scaled,
    Uniform,
    draw,
    seed_of,
)
from bench.conclude.measures import EDGE, searches
from bench.prove.studies import measured, planned

UNIFORM = Uniform(uniform=[-1, 3])
LOG = LogUniform(log_uniform=[1e-4, 10])
REVERSE = ReverseLogUniform(reverse_log_uniform=[0.8, 0.999])
INTEGER = Integer(integer=[3, 7])
CHOICE = Choice(choice=["a", "b", "c"])
SPACE = {"u": UNIFORM, "l": LOG, "r": REVERSE, "i": INTEGER, "c": CHOICE, "k": 0.5}


def test_draws_lie_in_their_bounds_and_constants_stay():
    for point in draw(SPACE, seed=1, count=1000):
        assert point.keys() == SPACE.keys()
        assert -1 <= point["u"] <= 3
        assert 1e-4 <= point["l"] <= 10
        assert 0.8 <= point["r"] <= 0.999
        assert point["i"] in range(3, 8)
        assert type(point["i"]) is int
        assert point["c"] in ("a", "b", "c")
        assert point["k"] == 0.5


@pytest.mark.parametrize(
    ("dimension", "straight"),
    [
        (UNIFORM, lambda x: (x + 1) / 4),
        (LOG, lambda x: (math.log10(x) + 4) / 5),
        (REVERSE, lambda x: math.log((1 - x) / 0.2) / math.log(0.001 / 0.2)),
    ],
)
def test_each_scale_is_uniform_in_its_own_measure(dimension, straight):
    values = [straight(point["x"]) for point in draw({"x": dimension}, seed=3, count=1024)]
    assert quantiles(values, n=8) == pytest.approx([k / 8 for k in range(1, 8)], abs=0.002)


@pytest.mark.parametrize(("dimension", "values"), [(INTEGER, range(3, 8)), (CHOICE, "abc")])
def test_every_whole_number_and_every_choice_is_as_likely_both_ends_included(dimension, values):
    drawn = [point["x"] for point in draw({"x": dimension}, seed=3, count=1024)]
    assert set(drawn) == set(values)
    assert all(drawn.count(value) == pytest.approx(1024 / len(values), abs=2) for value in values)


@pytest.mark.parametrize("dimension", [UNIFORM, LOG, REVERSE])
@pytest.mark.parametrize("position", [0.0, 0.1, 0.5, 0.999999])
def test_a_position_is_found_again_from_its_value(dimension, position):
    assert dimension.position(dimension.value(position)) == pytest.approx(position, abs=1e-9)


def test_whole_numbers_stand_between_their_ends_and_choices_nowhere():
    assert [INTEGER.position(value) for value in (3, 5, 7)] == [0, 0.5, 1]
    assert CHOICE.position("b") is None


@pytest.mark.parametrize("count", [1, 2, 3, 16, 33, 100])
def test_the_first_points_are_the_same_whatever_the_count(count):
    assert draw(SPACE, seed=5, count=count) == draw(SPACE, seed=5, count=200)[:count]


def test_the_order_of_the_keys_does_not_matter():
    assert draw(dict(reversed(SPACE.items())), seed=5, count=4) == draw(SPACE, seed=5, count=4)


def test_another_seed_gives_other_points():
    a, b = (draw(SPACE, seed=seed, count=16) for seed in (1, 2))
    assert all(x["l"] != y["l"] for x, y in zip(a, b, strict=True))


def test_no_points_and_a_space_of_constants_are_drawn_too():
    assert draw(SPACE, seed=1, count=0) == []
    assert draw({"a": 1, "b": "x"}, seed=1, count=3) == [{"a": 1, "b": "x"}] * 3


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_sixteen_points_fall_one_into_each_sixteenth_of_every_dimension(seed):
    unit = Uniform(uniform=[0, 1])
    points = draw(dict.fromkeys("abcd", unit), seed=seed, count=16)
    for name in "abcd":
        assert sorted(math.floor(point[name] * 16) for point in points) == list(range(16))


def test_seeds_come_from_names_and_fit_63_bits():
    names = [("w", 8, "init", 0), ("w", 8, "init", 1), ("w", 16, "init", 0), ("w", 81, "nit", 0), ("w8", "init", 0)]
    seeds = [seed_of(*name) for name in names]
    assert all(a != b for a, b in itertools.combinations(seeds, 2))
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A seed that changed would make every archive's trials strangers to their suite.
    assert seed_of("digits", 8, "init", 0) == 5_439_653_239_728_722_983


@pytest.mark.parametrize(
    ("rule", "batch_size", "value"),
    [
        # SGD: the learning rate x k.
        ({"at": 256, "value": 0.1, "scale": "linear"}, 1024, 0.4),
        ({"at": 256, "value": 0.1, "scale": "linear"}, 64, 0.025),
        # Adam: learning rate x sqrt(k), 1 - beta1 and 1 - beta2 x k, eps / sqrt(k) (Malladi et al. 2022).
        ({"at": 256, "value": 0.1, "scale": "sqrt"}, 1024, 0.2),
        ({"at": 256, "value": 0.9, "scale": "complement"}, 1024, 0.6),
        ({"at": 256, "value": 0.999, "scale": "complement"}, 1024, 0.996),
        ({"at": 256, "value": 0.9, "scale": "complement"}, 64, 0.975),
        ({"at": 256, "value": 1e-8, "scale": "inverse_sqrt"}, 1024, 5e-9),
        # beta2^k (Marek et al. 2025), and the average's rho^k (Busbridge et al. 2023).
        ({"at": 256, "value": 0.999, "scale": "power"}, 1024, 0.996005996),
        ({"at": 256, "value": 0.9999, "scale": "power"}, 128, math.sqrt(0.9999)),
    ],
)
def test_a_scaling_rule_gives_its_formulas_value(rule, batch_size, value):
    assert Scaled(**rule).resolve(batch_size) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("scale", ["linear", "sqrt", "inverse_sqrt", "complement", "power"])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.9, 0.999])
def test_a_scaling_rule_gives_its_value_itself_where_it_is_right(scale, value):
    assert Scaled(at=96, value=value, scale=scale).resolve(96) == value


@pytest.mark.parametrize(("batch_size", "beta2"), [(512, 0.9643115), (1, 0.9999290)])
def test_a_half_life_in_tokens_gives_the_known_betas(batch_size, beta2):
    rule = HalfLife(half_life=10_000_000, tokens_per_example=1024)
    assert rule.resolve(batch_size) == pytest.approx(beta2, abs=5e-8)


def test_a_half_life_is_one_half_after_as_many_examples_and_says_what_a_power_says():
    assert HalfLife(half_life=4096).resolve(64) ** (4096 / 64) == pytest.approx(0.5)
    half_life = 256 * math.log(0.5) / math.log(0.99)
    for size in (8, 256, 2048):
        power = Scaled(at=256, value=0.99, scale="power").resolve(size)
        assert HalfLife(half_life=half_life).resolve(size) == pytest.approx(power, rel=1e-12)


@pytest.mark.parametrize("batch_size", [2560, 4096])
def test_a_complement_that_reaches_nothing_is_refused_with_its_batch_size(batch_size):
    with pytest.raises(ValueError, match=f"gives -?[0-9.e-]+ at batch size {batch_size:,}; should be a number above 0"):
        Scaled(at=256, value=0.9, scale="complement").resolve(batch_size)


@pytest.mark.parametrize(
    ("rule", "batch_size", "range_there"),
    [
        ({"log_uniform": [0.01, 1.0], "at": 256, "scale": "linear"}, 1024, LogUniform(log_uniform=[0.04, 4.0])),
        ({"log_uniform": [0.01, 1.0], "at": 256, "scale": "sqrt"}, 64, LogUniform(log_uniform=[0.005, 0.5])),
        ({"log_uniform": [1e-8, 1e-6], "at": 256, "scale": "inverse_sqrt"}, 64, LogUniform(log_uniform=[2e-8, 2e-6])),
        ({"log_uniform": [0.25, 0.5], "at": 8, "scale": "power"}, 16, LogUniform(log_uniform=[0.0625, 0.25])),
        ({"uniform": [-1.0, 3.0], "at": 8, "scale": "linear"}, 16, Uniform(uniform=[-2.0, 6.0])),
        ({"uniform": [0.5, 0.75], "at": 8, "scale": "complement"}, 4, Uniform(uniform=[0.75, 0.875])),
        (
            {"reverse_log_uniform": [0.75, 0.875], "at": 8, "scale": "complement"},
            16,
            ReverseLogUniform(reverse_log_uniform=[0.5, 0.75]),
        ),
        (
            {"reverse_log_uniform": [0.25, 0.5], "at": 8, "scale": "power"},
            16,
            ReverseLogUniform(reverse_log_uniform=[0.0625, 0.25]),
        ),
        ({"integer": [10, 31], "at": 64, "scale": "inverse_sqrt"}, 256, Integer(integer=[5, 16])),
    ],
)
def test_a_range_is_scaled_by_both_its_ends(rule, batch_size, range_there):
    assert Scaled(**rule).resolve(batch_size) == range_there


RANGE_AT = {
    "uniform": (Uniform, [0.2, 1 / 3]),
    "log_uniform": (LogUniform, [1 / 7, 0.9]),
    "reverse_log_uniform": (ReverseLogUniform, [0.1, 0.999]),
    "integer": (Integer, [3, 701]),
}


@pytest.mark.parametrize(("kind", "scale"), [(kind, scale) for kind, scales in RANGES.items() for scale in scales])
def test_a_scaled_range_is_itself_where_it_is_right_and_holds_what_is_scaled_from_inside_it(kind, scale):
    of, ends = RANGE_AT[kind]
    rule = Scaled(**{kind: ends, "at": 96, "scale": scale})
    assert rule.resolve(96) == of(**{kind: ends})
    inside = Scaled(at=96, scale=scale, value=(ends[0] + ends[1]) / 2)
    for size in (24, 48, 100):
        assert 0 < rule.resolve(size).position(inside.resolve(size)) < 1


@pytest.mark.parametrize("scale", ["linear", "sqrt", "inverse_sqrt"])
def test_the_values_of_a_logarithmic_range_follow_the_rule_one_by_one(scale):
    here, there = (Scaled(log_uniform=[0.01, 1.0], at=8, scale=scale).resolve(size) for size in (8, 200))
    for position in (0.0, 0.3, 0.999):
        scaled = Scaled(value=here.value(position), at=8, scale=scale).resolve(200)
        assert there.value(position) == pytest.approx(scaled, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "batch_size", "said"),
    [
        ({"integer": [1, 9], "scale": "inverse_sqrt"}, 2**30, r"gives \[0, 0\] at batch size 1,073,741,824; should be"),
        ({"reverse_log_uniform": [0.5, 0.9], "scale": "complement"}, 32, "gives -1 at batch size 32; .* above 0"),
        ({"log_uniform": [1.0, 1e300], "scale": "linear"}, 10**12, "gives inf at batch size 1,000,000,000,000"),
        ({"log_uniform": [1e-9, 0.1], "scale": "power"}, 10**4, r"gives \[0, 0\] at batch size 10,000; should be gr"),
    ],
)
def test_a_range_that_comes_to_nothing_is_refused_with_its_batch_size(rule, batch_size, said):
    with pytest.raises(ValueError, match=said):
        Scaled(at=8, **rule).resolve(batch_size)


SCALED = """
suite: scaled
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: momentum
    batch_sizes: [8, 64]
    target: {validation_error: {at_most: 0.3}}
    max_steps: 200
    search:
      trials: 4
      learning_rate: {log_uniform: [0.001, 0.008], at: 8, scale: linear}
      momentum: {at: 8, value: 0.9, scale: power}
    confirm: {seeds: 1, top: 1}
"""


def test_an_archive_knows_the_range_that_was_searched_at_each_batch_size_and_its_edges():
    rows = measured(planned(SCALED))
    assert [row.study.batch_size for row in rows] == [8, 64]
    for row, ends in zip(rows, [(0.001, 0.008), (0.008, 0.064)], strict=True):
        space = row.study.content["space"]
        assert space["learning_rate"].log_uniform == pytest.approx(ends)
        assert isinstance(space["momentum"], Scaled)
        assert searches(row.study, "learning_rate")
        assert not searches(row.study, "momentum")
        assert all(ends[0] <= trial.metaparameters["learning_rate"] <= ends[1] for trial in row.study.trials)
        position = space["learning_rate"].position(row.best["learning_rate"])
        assert row.at_edge == ({} if EDGE <= position <= 1 - EDGE else {"learning_rate": "high"})
