"""Every p-value and interval of a gate against SciPy's, an exact count, or a simulation."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from pathlib import Path

import numpy
import pytest
from perf.gate_errors import ROWS, SIZES, World, adjusted, at_one, everywhere, one_of, pipelines_of, row
from scipy import stats

from bench.conclude import evidence, settle
from bench.conclude.censored import model_p
from bench.conclude.evidence import Medians, Seeds

BUDGET = 1e9


def drawn(rng, shape, spread, ratio=1.0):
    """Log-normal steps to target with a median of 300 and a coefficient of variation of `spread`."""
    return 300 * ratio * numpy.exp(math.sqrt(math.log1p(spread**2)) * rng.standard_normal(shape))


def known(values, budget=BUDGET):
    """Seeds whose steps are known, a miss (math.inf) to be beyond a budget."""
    values = numpy.asarray(values, float)
    least = numpy.where(numpy.isfinite(values), values, budget)
    return Seeds(least, least, values)


def rounded(values, gap):
    """Seeds whose steps are known to lie between evaluations a share `gap` apart."""
    grid = numpy.exp(numpy.arange(0, 12, math.log1p(gap)))
    place = numpy.searchsorted(grid, values)
    return Seeds(grid[place - 1], grid[place - 1], grid[place])


def ranks_p(candidate, base, ratio=1.0, budgets=(BUDGET, BUDGET)):
    return evidence.ranks_p([(known(candidate, budgets[0]), known(base, budgets[1]))], ratio)


# ---- ranks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(5, 5), (3, 7), (1, 4), (30, 30), (40, 50)])
def test_ranks_of_one_stratum_have_the_p_values_of_scipys_exact_test(first, second):
    rng = numpy.random.default_rng(first)
    candidate, base = drawn(rng, first, 0.1, 1.05), drawn(rng, second, 0.1)
    found = ranks_p(candidate, base)
    for p, alternative in zip(found, ("greater", "less"), strict=True):
        exact = stats.mannwhitneyu(candidate, base, alternative=alternative, method="exact").pvalue
        assert p == pytest.approx(exact, rel=1e-9 if first * second <= 900 else 0.02)


def test_ranks_of_several_strata_count_every_dealing_of_each():
    rng = numpy.random.default_rng(3)
    strata = [(known(drawn(rng, n, 0.3, 1.2)), known(drawn(rng, m, 0.3))) for n, m in ((2, 3), (3, 2), (2, 2))]
    ways = []
    for candidate, base in strata:
        both = numpy.concatenate([candidate.most, base.most])
        n = len(candidate.most)
        dealt = [
            sum(one > other for one in both[list(chosen)] for other in numpy.delete(both, chosen))
            for chosen in itertools.combinations(range(len(both)), n)
        ]
        ways.append(dealt)
    seen = sum(int((c.most[:, None] > b.most[None, :]).sum()) for c, b in strata)
    exact = numpy.mean([sum(way) >= seen for way in itertools.product(*ways)])
    assert float(evidence.ranks_p(strata)[0]) == pytest.approx(exact)


def test_the_smallest_p_value_is_one_dealing_out_of_all():
    for count, strata in ((3, 1), (5, 1), (5, 3)):
        stratum = (known([2.0] * count), known([1.0] * count))
        more, fewer = evidence.ranks_p([stratum] * strata)
        assert more == pytest.approx(evidence.least_p([(count, count)] * strata))
        assert more == pytest.approx(math.comb(2 * count, count) ** -strata)
        assert fewer == pytest.approx(1)


def test_values_that_may_be_equal_say_nothing():
    overlapping = [(Seeds(*map(numpy.array, ([9.0] * 5, [10.0] * 5, [12.0] * 5))),) * 2]
    assert evidence.ranks_p(overlapping) == pytest.approx((1, 1))
    assert ranks_p([math.inf] * 5, [math.inf] * 5, 1.25, (100, 100)) == pytest.approx((1, 1))


def test_the_null_is_shifted_by_the_ratio():
    base = [100.0, 101, 102, 103, 104]
    candidate = [1.2 * value for value in base]
    assert ranks_p(candidate, base, 1.1)[0] == pytest.approx(1 / 252)
    assert ranks_p(candidate, base, 1.3)[1] == pytest.approx(1 / 252)


def test_a_side_that_misses_whole_is_judged_by_how_many_seeds_go_beyond_the_budget():
    more, fewer = ranks_p([math.inf] * 5, [100.0, 101, 102, 103, 104], 1.1, (300, 300))
    assert (more, fewer) == pytest.approx((2**-10, 1))
    # The worst share of misses there is gives the event at most this probability.
    shares = numpy.linspace(0, 1, 1001)
    assert (shares**5 * (1 - shares) ** 5).max() == pytest.approx(2**-10)
    # A budget that the stretched base may go beyond says nothing.
    assert ranks_p([math.inf] * 5, [100.0, 101, 102, 103, 104], 3.1, (300, 300))[0] == pytest.approx(1)


def test_coarser_evaluations_never_make_a_p_value_smaller():
    rng = numpy.random.default_rng(7)
    candidate, base = drawn(rng, (300, 5), 0.15, 1.3), drawn(rng, (300, 5), 0.15)
    for gap in (0.05, 0.25):
        for ratio in (1.0, 1.1, 1.3):
            exact = evidence.ranks_p([(known(candidate), known(base))], ratio)
            coarse = evidence.ranks_p([(rounded(candidate, gap), rounded(base, gap))], ratio)
            assert all((seen >= true - 1e-12).all() for seen, true in zip(coarse, exact, strict=True))


def test_the_interval_of_ranks_holds_the_ratios_that_the_test_does_not_refuse():
    rng = numpy.random.default_rng(9)
    strata = [(rounded(drawn(rng, 5, 0.15, 1.2), 0.05), rounded(drawn(rng, 5, 0.15), 0.05)) for _ in range(3)]
    for of in (strata[:1], strata):
        low, high = evidence.ranks_interval(of)
        for ratio, refused in ((low * 0.999, True), (low * 1.001, False), (high * 0.999, False), (high * 1.001, True)):
            assert (min(map(float, evidence.ranks_p(of, ratio))) <= 0.05) == refused
    # Nothing is known of a candidate that always missed, but that it takes longer than its budget.
    base = known([90.0, 95, 100, 105, 110])
    low, high = evidence.ranks_interval([(known([math.inf] * 5, 200), base)])
    assert (low, high) == (200 / 110, math.inf)
    assert evidence.ranks_interval([(known([100.0, 110]), known([90.0, 95]))]) == (0, math.inf)


def test_the_interval_of_two_hundred_seeds_a_side_takes_little_memory():
    rng = numpy.random.default_rng(31)
    stratum = known(drawn(rng, 200, 0.08, 1.1)), known(drawn(rng, 200, 0.08))
    tracemalloc.start()
    low, high = evidence.ranks_interval([stratum])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200e6
    assert 1.07 < low < high < 1.13


# ---- smallest medians ----------------------------------------------------------------------------------------------


def test_of_many_exact_seeds_the_medians_are_compared_as_their_normal_theory_says():
    rng = numpy.random.default_rng(11)
    candidate, base = drawn(rng, 400, 0.1, 1.1), drawn(rng, 400, 0.1)
    found = evidence.medians([known(candidate)], [known(base)])
    assert found.low == found.high == pytest.approx(math.log(numpy.median(candidate) / numpy.median(base)))
    spread = numpy.std(numpy.log(candidate)), numpy.std(numpy.log(base))
    assert found.error == pytest.approx(math.hypot(*spread) * math.sqrt(evidence.tuning(1) * math.pi / 800), rel=0.01)
    assert found.freedom == 798
    more, less = evidence.medians_p(found, 1.05)
    assert more == pytest.approx(stats.t.sf((found.low - math.log(1.05)) / found.error, 798))
    assert more + less == pytest.approx(1)


def test_the_variance_of_a_median_of_few_normal_values_is_what_is_said():
    draws = numpy.random.default_rng(0).standard_normal((100_000, 10))
    for seeds in (3, 5, 10):
        said = math.pi / (2 * seeds + math.pi - 2)
        assert numpy.median(draws[:, :seeds], axis=1).var() == pytest.approx(said, rel=0.09)


def test_the_intervals_cover_the_true_ratio_as_often_as_they_say():
    rng = numpy.random.default_rng(5)
    for gap in (0.05, 0.25):
        ranks = medians = 0
        for _ in range(200):
            sides = [[rounded(drawn(rng, 5, 0.16, ratio), gap) for _ in range(3)] for ratio in (1.1, 1.0)]
            low, high = evidence.ranks_interval(list(zip(*sides, strict=True)))
            ranks += low <= 1.1 <= high
            low, high = evidence.medians_interval(evidence.medians(*sides))
            medians += low <= 1.1 <= high
        assert min(ranks, medians) >= 0.88 * 200


def test_seeds_that_tell_no_spread_are_no_evidence():
    one = [known([100.0])]
    found = evidence.medians(one, [known([200.0])])
    assert evidence.medians_p(found) == (1, 1)
    assert evidence.medians_interval(found) == (0, math.inf)


def test_misses_of_most_seeds_leave_the_other_end_open():
    found = evidence.medians([known([math.inf] * 3 + [100.0, 110], 300)], [known([90.0, 95, 100, 105, 110])])
    assert (found.low, found.high) == (pytest.approx(math.log(300 / 100)), math.inf)
    more, less = evidence.medians_p(found)
    assert more < 0.001
    assert less == 1


# ---- pairs, adjustment ---------------------------------------------------------------------------------------------


def test_pairs_are_held_against_the_shifted_null_by_students_t():
    logs = numpy.log([1.05, 1.12, 1.08, 1.2, 1.1])
    more, less = evidence.pairs_p(logs, 1.05)
    for found, alternative in ((more, "greater"), (less, "less")):
        assert found == pytest.approx(stats.ttest_1samp(logs, math.log(1.05), alternative=alternative).pvalue)
    interval = evidence.pairs_ratio(list(logs))
    expected = stats.ttest_1samp(logs, 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(numpy.exp(expected)))


def test_pairs_that_never_vary_decide_for_sure_and_at_the_null_not_at_all():
    assert tuple(evidence.pairs_p([math.log(1.2)] * 4, 1.1)) == (0, 1)
    assert tuple(evidence.pairs_p([0.0] * 4, 1.0)) == (0.5, 0.5)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.5], [0.2], [0.05, 0.05, 0.05], [1.0, 0.0]])
def test_p_values_are_adjusted_as_scipy_does(p_values):
    assert evidence.adjusted(p_values) == pytest.approx(stats.false_discovery_control(p_values))


def test_nothing_to_adjust_is_nothing():
    assert evidence.adjusted([]) == []


# ---- MLPerf's reference convergence points -----------------------------------------------------------------------

REFERENCE = [16, 14, 16, 17, 16, 16, 15, 16, 15, 16]


def test_the_worked_case_of_mlperf_is_allowed():
    bound = evidence.rcp_bound(REFERENCE, 5, 0.05)
    # Without 14 and 17: mean 15.75, deviation 0.4330; t(0.95, 9) = 1.8331; sqrt(1/8 + 1/3) = 0.6770.
    assert bound == pytest.approx(15.75 - 1.8331 * 0.4330 * 0.6770, abs=1e-3)
    assert (15 + 15 + 16) / 3 > bound > (14 + 15 + 15) / 3


# ---- whole pipelines -------------------------------------------------------------------------------------------------

PIPELINES = 150
ALPHA = 0.05
# So many pipelines of a rate of 5 % may show this much more by chance.
CHANCE = 2.5 * math.sqrt(ALPHA * (1 - ALPHA) / PIPELINES)
WORLDS = [World(0.1, 0.25), World(0.16, 0.05, missing=0.15), World(0.16, 0.25, top=1), World(0.25, 0.05)]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_of_whole_pipelines_a_gate_is_wrong_at_most_one_time_in_twenty(world, apart):
    equal = pipelines_of(world, PIPELINES, everywhere(PIPELINES, 1), apart=apart)
    for tolerance in (0.0, 0.1, 0.25, 0.5, 1.0):
        border = pipelines_of(world, PIPELINES, everywhere(PIPELINES, 1 + tolerance), apart=apart)
        assert border.verdicts(tolerance)[0].any(axis=1).mean() <= ALPHA + CHANCE
        assert equal.verdicts(tolerance)[0].any(axis=1).mean() <= ALPHA + (0 if tolerance else CHANCE)
    worse = pipelines_of(world, PIPELINES, at_one(PIPELINES, 1.25), apart=apart)
    assert worse.verdicts(0.25)[1][one_of(PIPELINES)].mean() <= ALPHA + CHANCE


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("grid", [0.05, 0.25])
def test_twice_the_steps_at_one_of_seven_batch_sizes_are_failed_and_seen(grid, apart):
    worse = pipelines_of(World(0.1, grid), PIPELINES, at_one(PIPELINES, 2), apart=apart)
    at = one_of(PIPELINES)
    assert worse.verdicts(0.25)[0][at].mean() >= 0.8
    more, less = worse.p_values()
    assert (adjusted(numpy.minimum(1, 2 * numpy.minimum(more, less)))[at] <= ALPHA).mean() >= 0.8


@pytest.mark.parametrize("place", [3, 9])
def test_the_table_of_the_readme_is_what_the_simulation_gives(place):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert row(*ROWS[place], 500) in readme


@pytest.mark.parametrize("strata", [1, 3])
@pytest.mark.parametrize("spread", [0.05, 0.1, 0.2])
def test_what_is_said_to_be_detectable_is_detected_four_times_of_five(strata, spread):
    rng, deviation = numpy.random.default_rng(3), math.sqrt(math.log1p(spread**2))
    share = 2 / (5 * strata)
    seen = 1.1 * math.exp(settle.reach(deviation * math.sqrt(share), 1.0, 8 * strata, ALPHA))
    both = [(known(drawn(rng, (500, 5), spread, seen)), known(drawn(rng, (500, 5), spread))) for _ in range(strata)]
    assert (evidence.ranks_p(both, 1.1)[0] <= ALPHA).mean() == pytest.approx(settle.POWER, abs=0.1)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("world", [World(0.1, 0.05), World(0.25, 0.25)], ids=str)
def test_one_test_over_all_batch_sizes_calls_equals_different_at_most_one_time_in_twenty(world, apart):
    def p_values(factor):
        sides = pipelines_of(world, 300, everywhere(300, factor), apart=apart)
        if not apart:
            return 2 * numpy.minimum(*model_p(sides.of_all_sizes()))
        found = evidence.medians(sides.candidate, sides.base)
        mean = evidence.mean_of([Medians(*(end[:, size] for end in found)) for size in range(SIZES)])
        return 2 * numpy.minimum(*evidence.medians_p(mean))

    assert (p_values(1.0) <= ALPHA).mean() <= ALPHA + CHANCE
    assert (p_values(1.4) <= ALPHA).mean() >= 0.8
