"""Every p-value and interval of a gate against SciPy's, an exact count, or a simulation."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import tracemalloc
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
from scipy import stats

from bench.conclude import evidence, settle

BUDGETS = (1e9, 1e9)


def drawn(rng, shape, spread, ratio=1.0):
    """Log-normal steps to target with a median of 300 and a coefficient of variation of `spread`."""
    return 300 * ratio * numpy.exp(math.sqrt(math.log1p(spread**2)) * rng.standard_normal(shape))


@pytest.mark.parametrize("ratio", [0.97, 1.0, 1.03])
def test_of_many_seeds_the_exact_test_says_what_scipys_approximate_one_does(ratio):
    rng = numpy.random.default_rng(3)
    candidate, base = drawn(rng, 60, 0.08, ratio), drawn(rng, 70, 0.08)
    more, fewer = evidence.steps_p(candidate, base, 1.0, (330.0, 330.0))
    # Everything beyond the common budget is one tie, the last.
    cut = [numpy.minimum(sample, 330.0) for sample in (candidate, base)]
    assert more == pytest.approx(stats.mannwhitneyu(*cut, alternative="greater").pvalue, abs=0.01)
    assert fewer == pytest.approx(stats.mannwhitneyu(*cut, alternative="less").pvalue, abs=0.01)


def test_of_few_seeds_it_is_exact_with_ties_and_misses():
    candidate, base = [110.0, 120, 120, 140, math.inf], [90.0, 101, 120, 115, math.inf]
    cut = [numpy.minimum(sample, 1e6) for sample in (candidate, base)]
    method = stats.PermutationMethod(n_resamples=math.inf)
    exact = [stats.mannwhitneyu(*cut, alternative=way, method=method).pvalue for way in ("greater", "less")]
    assert evidence.steps_p(candidate, base, 1.0, (1e6, 1e6)) == pytest.approx(tuple(exact))


def test_where_seeds_miss_it_sees_more_than_the_log_rank_test():
    rng = numpy.random.default_rng(29)
    shape = (200, 10)
    candidate, base = drawn(rng, shape, 0.08, 1.5), drawn(rng, shape, 0.08)
    for sample in (candidate, base):
        sample[rng.random(shape) < 0.15] = math.inf
    seen = (evidence.steps_p(candidate, base, 1.1, (900.0, 900.0))[0] <= ALPHA).mean()

    def censored(sample):
        return stats.CensoredData(uncensored=sample[sample < 1e9], right=numpy.full((sample > 1e9).sum(), 900.0))

    pairs = [(censored(one), censored(1.1 * other)) for one, other in zip(candidate, base, strict=True)]
    logrank = numpy.mean([stats.logrank(*pair, alternative="less").pvalue <= ALPHA for pair in pairs])
    assert logrank < 0.7 < 0.8 < seen


def test_the_smallest_p_value_is_one_dealing_out_of_all():
    for count in (3, 5, 6):
        more, fewer = evidence.steps_p([2.0] * count, [1.0] * count)
        assert more == pytest.approx(evidence.least_p(count, count)) == 1 / math.comb(2 * count, count)
        assert fewer == 1


def test_misses_on_both_sides_and_nothing_else_say_nothing():
    more, fewer = evidence.steps_p([math.inf] * 5, [math.inf] * 5, 1.25, (100, 100))
    assert (more, fewer) == (1, 1)


def test_what_lies_beyond_the_common_budget_is_as_good_as_missed():
    seen = evidence.steps_p([90.0, 95, 150, 160, 170], [80.0, 85, 90, 100, 105], 1.0, (200, 120))
    cut = evidence.steps_p([90.0, 95, math.inf, math.inf, math.inf], [80.0, 85, 90, 100, 105], 1.0, (120, 120))
    assert seen == cut


def test_the_null_is_shifted_by_the_ratio():
    base = [100.0, 101, 102, 103, 104]
    candidate = [1.2 * value for value in base]
    assert evidence.steps_p(candidate, base, 1.1)[0] == pytest.approx(1 / 252)
    assert evidence.steps_p(candidate, base, 1.3)[1] == pytest.approx(1 / 252)


def test_the_interval_holds_the_ratios_that_the_test_does_not_refuse():
    candidate, base = [100.0, 110, 120, 130, 140], [90.0, 95, 100, 105, 110]
    low, high = evidence.steps_interval(candidate, base, BUDGETS)
    for ratio, refused in ((low * 0.99, True), (low * 1.01, False), (high * 0.99, False), (high * 1.01, True)):
        assert (min(map(float, evidence.steps_p(candidate, base, ratio, BUDGETS))) <= 0.05) == refused
    # Nothing is known of a candidate that always missed, but that it takes longer than its budget.
    assert evidence.steps_interval([math.inf] * 5, base, (200.0, 200.0)) == (200 / 105, math.inf)
    assert evidence.steps_interval([math.inf] * 5, base, (math.inf, math.inf)) == (0.0, math.inf)


def test_the_interval_is_what_trying_every_ratio_there_is_gives():
    chance = random.Random(3)
    for count, others, apart in itertools.product((2, 5, 7), (3, 5), (1, 20)):
        candidate, base = (
            [apart * round(middle * math.exp(chance.gauss(0, 0.2)) / apart) for _ in range(seeds)]
            for middle, seeds in ((100, count), (90, others))
        )
        borders = sorted({one / other for one in candidate for other in base})
        tried = [borders[0] / 2, *map(math.sqrt, map(math.prod, itertools.pairwise(borders))), borders[-1] * 2]
        refused = [min(map(float, evidence.steps_p(candidate, base, ratio, BUDGETS))) <= 0.05 for ratio in tried]
        kept = [place for place, out in enumerate(refused) if not out]
        found = evidence.steps_interval(candidate, base, BUDGETS)
        if kept:
            assert found == ([0.0, *borders][kept[0]], [*borders, math.inf][kept[-1]])
        else:
            assert all(map(math.isnan, found))


def test_the_interval_knows_that_a_miss_is_passed_at_its_budget():
    candidate, base, budgets = [105.0, 125, 135, 125, 105], [75.0, math.inf, 115, 85, 75], (405.0, 172.5)
    low, high = evidence.steps_interval(candidate, base, budgets)
    tried = numpy.exp(numpy.linspace(math.log(0.1), math.log(10), 4001))
    more, fewer = evidence.steps_p(candidate, base, tried, budgets)
    kept = tried[(more > 0.05) & (fewer > 0.05)]
    assert (low, high) == pytest.approx((kept.min(), kept.max()), rel=2e-3)


def test_the_interval_of_two_hundred_seeds_a_side_takes_little_memory():
    rng = numpy.random.default_rng(31)
    candidate, base = list(drawn(rng, 200, 0.08, 1.1)), list(drawn(rng, 200, 0.08))
    tracemalloc.start()
    low, high = evidence.steps_interval(candidate, base, BUDGETS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200e6
    assert 1.07 < low < high < 1.13


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    rng = numpy.random.default_rng(5)
    inside = 0
    for candidate, base in zip(drawn(rng, (200, 5), 0.08, 1.1), drawn(rng, (200, 5), 0.08), strict=True):
        low, high = evidence.steps_interval(list(candidate), list(base), BUDGETS)
        inside += low <= 1.1 <= high
    assert inside >= 0.88 * 200


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


# ---- false alarms and power --------------------------------------------------------------------------------------

COMPARISONS = 500
ALPHA = 0.05
# 500 comparisons of a rate of 5 % may show this much more by chance.
CHANCE = 2 * math.sqrt(ALPHA * (1 - ALPHA) / COMPARISONS)


@dataclass(frozen=True)
class Cell:
    """Seeds a side, their coefficient of variation, and the share that misses: each by chance, or the slowest, where a
    budget is `short`.
    """

    seeds: int
    spread: float
    missing: float = 0.0
    short: bool = False


def verdicts(cell, ratio, tolerance):
    """The shares of comparisons that one rule fails, and that it passes, where the candidate takes `ratio` times as
    long.
    """
    rng = numpy.random.default_rng(zlib.crc32(repr((cell, ratio, tolerance)).encode()))
    shape = (COMPARISONS, cell.seeds)
    candidate, base = drawn(rng, shape, cell.spread, ratio), drawn(rng, shape, cell.spread)
    budget = 900.0
    if cell.short:
        budget = 300 * math.exp(math.sqrt(math.log1p(cell.spread**2)) * stats.norm.ppf(1 - cell.missing))
    for sample in (candidate, base):
        missed = sample > budget if cell.short else rng.random(shape) < cell.missing
        sample[missed] = math.inf
    worse, within = evidence.steps_p(candidate, base, 1 + tolerance, (budget, budget))
    return float((worse <= ALPHA).mean()), float(((within <= ALPHA) & (worse > ALPHA)).mean())


GRID = list(itertools.product((5, 10), (0.04, 0.08)))
CELLS = [
    *(Cell(*each, missing) for each in GRID for missing in (0.0, 0.15, 0.3)),
    *(Cell(*each, missing, short=True) for each in GRID for missing in (0.15, 0.3)),
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("tolerance", [0.0, 0.1, 0.25])
def test_a_rule_fails_at_most_one_in_twenty_comparisons_of_equals(cell, tolerance):
    failed, _ = verdicts(cell, 1.0, tolerance)
    # With no tolerance at all equals lie on the border, where the rate is alpha itself.
    assert failed <= ALPHA + (CHANCE if tolerance == 0 else 0)


def test_over_all_cells_equals_on_the_border_fail_less_often_than_alpha():
    assert statistics.fmean(verdicts(cell, 1.0, 0.0)[0] for cell in CELLS) <= ALPHA


def test_a_gate_of_seven_rules_fails_at_most_one_in_twenty_comparisons_of_equals():
    rng = numpy.random.default_rng(13)
    shape = (COMPARISONS, 7, 5)
    worse, _ = evidence.steps_p(drawn(rng, shape, 0.08), drawn(rng, shape, 0.08))
    assert numpy.mean([min(evidence.adjusted(list(row))) <= ALPHA for row in worse]) <= ALPHA


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_what_is_worse_by_all_that_is_tolerated_passes_at_most_one_in_twenty_times(cell):
    assert verdicts(cell, 1.1, 0.1)[1] <= ALPHA + CHANCE


def test_where_nothing_met_the_target_nothing_passes_and_nothing_fails():
    assert verdicts(Cell(5, 0.08, 1.0), 1.0, 0.25) == (0, 0)


@pytest.mark.parametrize(("seeds", "spread"), GRID)
def test_what_is_said_to_be_detectable_is_detected_four_times_of_five(seeds, spread):
    deviation = math.sqrt(math.log1p(spread**2))
    seen = 1.1 * math.exp(settle.reach(deviation, 2 / seeds, 2 * seeds - 2, ALPHA))
    assert verdicts(Cell(seeds, spread), seen, 0.1)[0] == pytest.approx(settle.POWER, abs=0.1)


def power_table():
    """The README's, line for line: how often one rule with a tolerance of 10 % fails, and how often it passes."""
    changes = (0.0, 0.1, 0.2, 0.3, 0.5)
    titles = ["seeds", "CV", "misses", *(f"fails at +{change:.0%}" for change in changes), "passes at +0%"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---:|' * len(titles)}"]
    for cell in CELLS[:12]:
        rates = [verdicts(cell, 1 + change, 0.1) for change in changes]
        cells = [f"{failed:.0%}" for failed, _ in rates] + [f"{rates[0][1]:.0%}"]
        lines.append(f"| {cell.seeds} | {cell.spread:.0%} | {cell.missing:.0%} | {' | '.join(cells)} |")
    return lines


def test_the_power_table_of_the_readme_is_what_the_simulation_gives():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert "\n".join(power_table()) in readme
