"""Spaces and their draws."""

import itertools
import math
from statistics import quantiles

import pytest

from bench.ask.search import Choice, HalfLife, Integer, LogUniform, ReverseLogUniform, Scaled, Uniform, draw, seed_of

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
