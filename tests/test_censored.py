"""The model of seeds that are known between two evaluations, against Student's t, a likelihood by hand, simulations."""

from __future__ import annotations

import math

import numpy
import pytest
from perf.gate_errors import Pipelines, World, at_one, pipelines_of
from scipy import optimize, stats

from bench.conclude import settle
from bench.conclude.censored import model_interval, model_p, stopped
from bench.conclude.compare import Values, contrast
from bench.conclude.evidence import Seeds
from bench.conclude.sides import Contender

ALPHA = 0.05
REPEATS = 1500


def between(steps, gap=0.05, until=math.inf):
    """Seeds that crossed at some steps, known between evaluations a share `gap` apart up to `until`."""
    grid = [0]
    while grid[-1] < 1e7:
        grid.append(grid[-1] + max(1, math.floor(gap * grid[-1])))
    grid = numpy.array(grid, float)
    place = numpy.searchsorted(grid, numpy.maximum(steps, 1))
    missed = steps > until
    after = numpy.where(missed, until, grid[place - 1])
    return Seeds(after, after + 1, numpy.where(missed, numpy.inf, grid[place]))


def drawn(rng, shape, spread, ratio=1.0, median=300.0):
    return median * ratio * numpy.exp(math.sqrt(math.log1p(spread**2)) * rng.standard_normal(shape))


def first_of(strata):
    return [tuple(Seeds(*(end[0] for end in seeds)) for seeds in both) for both in strata]


def strata_of(rng, repeats, spread, ratio, gap=0.05, count=3, noise=None):
    """[repeats] of each of so many metaparameters, each a little slower than the one before."""
    spread = spread if noise is None else 0.0

    def side(factor):
        shape = (repeats, 5)
        steps = [drawn(rng, shape, spread, factor, 300 * slower) for slower in (1, 1.07, 1.15)[:count]]
        return [between(each * (1 if noise is None else numpy.exp(noise(shape))), gap) for each in steps]

    return list(zip(side(ratio), side(1.0), strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_where_every_step_is_known_the_model_is_students_t(count):
    rng = numpy.random.default_rng(1)
    strata = [(between(drawn(rng, 5, 0.15, 1.2, 1e5), 1e-4), between(drawn(rng, 5, 0.15, 1.0, 1e5), 1e-4))]
    strata += [(between(drawn(rng, 4, 0.15, 1.3, 2e5), 1e-4), between(drawn(rng, 5, 0.15, 1.0, 2e5), 1e-4))] * (
        count - 1
    )
    logs = [(numpy.log(candidate.most) - math.log(1.05), numpy.log(base.most)) for candidate, base in strata]
    squares = sum(((each - each.mean()) ** 2).sum() for both in logs for each in both)
    weights = [1 / (1 / len(one) + 1 / len(other)) for one, other in logs]
    off = numpy.average([one.mean() - other.mean() for one, other in logs], weights=weights)
    # The likelihood pools what strata differ by into the error.
    squares += sum(w * (one.mean() - other.mean() - off) ** 2 for w, (one, other) in zip(weights, logs, strict=True))
    freedom = sum(len(one) + len(other) for one, other in logs) - len(logs) - 1
    t = off / math.sqrt(squares / freedom / sum(weights))
    more, fewer = model_p(strata, 1.05)
    assert float(more) == pytest.approx(stats.t.sf(t, freedom), rel=1e-3)
    assert more + fewer == pytest.approx(1)


def test_the_likelihood_ratio_is_that_of_a_maximum_found_by_scipy():
    rng = numpy.random.default_rng(2)
    strata = [(between(drawn(rng, 5, 0.2, 1.2), 0.2, 320), between(drawn(rng, 4, 0.2), 0.1, 400)) for _ in range(2)]

    def least(ratio):
        def minus(found):
            deviation, log = math.exp(found[0]), found[3] if ratio is None else math.log(ratio)
            total = 0.0
            for place, both in enumerate(strata):
                for side, seeds in zip((1, 0), both, strict=True):
                    middle = found[1 + place] + side * log
                    ends = [(numpy.log(end) - middle) / deviation for end in (seeds.after, seeds.most)]
                    total -= numpy.log(stats.norm.cdf(ends[1]) - stats.norm.cdf(ends[0])).sum()
            return total + 0.5 * (0.005 / deviation) ** 2

        start = [math.log(0.2), math.log(300), math.log(300), 0.1][: 4 if ratio is None else 3]
        return optimize.minimize(minus, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).fun

    met = sum(int(numpy.isfinite(seeds.most).sum()) for both in strata for seeds in both)
    t = math.sqrt((met - 3) * math.expm1(2 * (least(1.5) - least(None)) / met))
    assert float(model_p(strata, 1.5)[1]) == pytest.approx(stats.t.sf(t, met - 3), rel=1e-3)


@pytest.mark.parametrize("gap", [0.001, 0.05, 0.25])
def test_the_interval_holds_the_ratios_that_the_test_does_not_refuse(gap):
    rng = numpy.random.default_rng(9)
    strata = first_of(strata_of(rng, 1, 0.15, 1.2, gap))
    low, high = model_interval(strata)
    for ratio, side, refused in ((low, 0, True), (low * 1.001, 0, False), (high / 1.001, 1, False), (high, 1, True)):
        assert (float(model_p(strata, ratio)[side]) <= ALPHA) == refused


def test_what_nobody_met_has_no_ends():
    late, met = between(numpy.full(5, 900.0), until=400), between(numpy.array([280.0, 300, 310, 305, 290]))
    assert model_p([(late, late)]) == pytest.approx((1, 1))
    assert model_interval([(late, late)]) == (0, math.inf)
    low, high = model_interval([(late, met)])
    assert 1.2 < low < 1.4
    assert high == math.inf


def test_seeds_that_are_all_alike_are_told_apart_only_beyond_two_evaluations():
    base, candidate = (
        Seeds(numpy.full(5, one), numpy.full(5, one + 1), numpy.full(5, end))
        for one, end in ((80.0, 100.0), (100.0, 125.0))
    )
    low, high = model_interval([(candidate, base)] * 3)
    assert 1 <= low < 1.05
    assert high == pytest.approx(125 / 80, rel=0.05)
    assert model_p([(base, base)]) == pytest.approx((0.5, 0.5))


def test_the_largest_numbers_of_a_file_are_still_numbers():
    most = 1e15
    far = Seeds(numpy.full(5, most - 1), numpy.full(5, most), numpy.full(5, most))
    near = Seeds(numpy.zeros(5), numpy.ones(5), numpy.ones(5))
    mixed = Seeds(
        numpy.array([0, most - 1, 3, 10, 10**9]), numpy.ones(5), numpy.array([1, most, 4, math.inf, math.inf])
    )
    for strata in ([(far, near)], [(near, far)], [(mixed, far)], [(mixed, mixed), (far, far)]):
        for p in (*model_p(strata), *model_p(strata, 1e6)):
            assert 0 <= p <= 1
        low, high = model_interval(strata)
        assert 0 <= low <= high


# ---- simulations -----------------------------------------------------------------------------------------------------

NOISES = {
    "normal": None,
    "skewed": lambda rng: lambda shape: 0.16 * (rng.exponential(size=shape) - 1),
    "skewed the other way": lambda rng: lambda shape: 0.16 * (1 - rng.exponential(size=shape)),
    "heavy tails": lambda rng: lambda shape: 0.09 * rng.standard_t(3, shape),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("gap", [0.05, 0.25])
@pytest.mark.parametrize("count", [1, 3])
def test_at_the_border_the_test_refuses_as_often_as_it_says_whatever_the_noise(noise, gap, count):
    rng = numpy.random.default_rng(5)
    made = NOISES[noise] and NOISES[noise](rng)
    strata = strata_of(rng, REPEATS, 0.16, 1.25, gap, count, made)
    for level in (ALPHA, ALPHA / 7):
        chance = 3 * math.sqrt(level * (1 - level) / REPEATS)
        for p in model_p(strata, 1.25):
            assert (p <= level).mean() <= level + chance


@pytest.mark.parametrize("gap", [0.05, 0.25])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(gap):
    rng = numpy.random.default_rng(6)
    strata = strata_of(rng, REPEATS, 0.2, 1.1, gap)
    more, fewer = model_p(strata, 1.1)
    covered = (more > ALPHA) & (fewer > ALPHA)
    assert covered.mean() == pytest.approx(0.9, abs=0.025)
    for place in range(20):
        low, high = model_interval([tuple(Seeds(*(end[place] for end in seeds)) for seeds in both) for both in strata])
        assert (low <= 1.1 <= high) == covered[place]


@pytest.mark.parametrize(("spread", "gap"), [(0.1, 0.05), (0.2, 0.05), (0.1, 0.25)])
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_row_says_it_would_have_seen_is_seen_four_times_of_five(spread, gap, count):
    rng = numpy.random.default_rng(3)
    equal = strata_of(rng, 60, spread, 1.0, gap, count)
    said = []
    for place in range(60):
        sides = [[], []]
        for both in equal:
            for side, seeds in zip(sides, both, strict=True):
                side.append(Seeds(*(end[place] for end in seeds)))
        by = contrast(values_of(sides[1]), values_of(sides[0]))
        said.append(settle.seeds(by.spread, ALPHA / 14))
    worse = strata_of(rng, 600, spread, math.exp(numpy.median(said)), gap, count)
    assert (model_p(worse)[0] <= ALPHA / 14).mean() == pytest.approx(settle.POWER, abs=0.1)


def values_of(each, budget=10**6):
    """What a side confirmed, by the seeds of every one of its metaparameters."""
    # That with the smallest median first, as of an archive.
    ranked = sorted(enumerate(each), key=lambda one: numpy.sort(one[1].most)[len(one[1].most) // 2])
    contenders = tuple(
        Contender(
            {"learning_rate": place}, place, 1, tuple(zip(seeds.after.tolist(), seeds.most.tolist(), strict=True))
        )
        for place, seeds in ranked
    )
    return Values(contenders[0].steps, budget, contenders)


@pytest.mark.parametrize(
    "world", [World(0.16, 0.05), World(0.16, 0.25, top=1), World(0.16, 0.05, missing=0.1)], ids=str
)
def test_simulated_pipelines_are_compared_as_measured_ones_are(world):
    made: Pipelines = pipelines_of(world, 7, at_one(7, 1.5), apart=False)
    simulated = made.p_values(1.25)
    for place in numpy.ndindex(simulated[0].shape):
        base, candidate = (
            values_of([Seeds(*(end[place] for end in seeds)) for seeds in side], made.budget[place])
            for side in (made.base, made.candidate)
        )
        assert contrast(base, candidate).p_values(1.25) == pytest.approx([p[place] for p in simulated], rel=1e-4)


def test_what_is_known_of_a_stopped_seed_does_not_depend_on_the_seed():
    seeds = Seeds(
        *map(numpy.array, ([90.0, 130, 160, 300], [91.0, 131, 161, 301], [100, math.inf, math.inf, math.inf]))
    )
    found = stopped(seeds, 120.0, 300)
    assert found.after.tolist() == [90, 120, 120, 300]
    assert found.least.tolist() == [91, 121, 121, 301]
    assert stopped(seeds, math.inf, 300).after.tolist() == seeds.after.tolist()
