"""Statistics that know what a miss is."""

from __future__ import annotations

import math
import random

import pytest

from bench.stats import median_interval, ratio_of_means


def test_five_values_span_their_median_with_fifteen_sixteenths():
    interval = median_interval([5, 1, 4, 2, 3])
    assert (interval.median, interval.low, interval.high, interval.confidence) == (3, 1, 5, 0.9375)


def test_the_interval_narrows_when_there_is_evidence_for_it():
    # P(Binomial(10, 1/2) <= 1) = 11/1024: ranks 2 and 9 cover with 1 - 22/1024, ranks 3 and 8 with only 0.891.
    interval = median_interval(range(1, 11))
    assert (interval.low, interval.high) == (2, 9)
    assert interval.confidence == pytest.approx(1 - 22 / 1024)


def test_one_value_is_its_own_median_and_covers_nothing():
    assert median_interval([7]).confidence == 0
    assert (median_interval([7]).low, median_interval([7]).high) == (7, 7)


@pytest.mark.parametrize(
    ("values", "median", "high"),
    [
        ([1, 2, 3, 4, math.inf], 3, math.inf),
        ([1, 2, math.inf, math.inf, math.inf], math.inf, math.inf),
        ([1, 2, math.inf, math.inf], math.inf, math.inf),
        ([math.inf], math.inf, math.inf),
    ],
)
def test_a_miss_counts_by_its_order_and_is_given_no_number(values, median, high):
    assert median_interval(values).median == median
    assert median_interval(values).high == high


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_the_median_of_nothing_or_nan_is_refused(values):
    with pytest.raises(ValueError):
        median_interval(values)


@pytest.mark.parametrize("count", [5, 8, 15])
def test_the_interval_covers_the_true_median_as_often_as_it_says(count):
    draw = random.Random(0)
    repeats = 4000
    covered = 0
    for _ in range(repeats):
        interval = median_interval([draw.expovariate(1) for _ in range(count)])
        covered += interval.low <= math.log(2) <= interval.high
    deviation = math.sqrt(interval.confidence * (1 - interval.confidence) / repeats)
    assert covered / repeats == pytest.approx(interval.confidence, abs=4 * deviation)


def test_a_thousand_misses_and_numbers_are_no_trouble():
    interval = median_interval([*range(999), *[math.inf] * 201])
    assert interval.low < interval.median < interval.high < math.inf


def test_the_ratio_of_means_is_no_mean_of_ratios():
    found = ratio_of_means([1, 3], [1, 9])
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high


def test_a_ratio_whose_denominator_may_be_nothing_is_unresolved():
    assert not ratio_of_means([1, 1], [1, -2]).resolved
    assert not ratio_of_means([], []).resolved
    # Without the second pair the denominator would be negative: how large the ratio may be is not known.
    assert ratio_of_means([1, 1], [-1, 2]).high == math.inf
    assert (ratio_of_means([2], [4]).value, ratio_of_means([2], [4]).high) == (0.5, math.inf)


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says():
    draw = random.Random(0)
    covered = 0
    for _ in range(400):
        below = [draw.gauss(1, 0.2) for _ in range(10)]
        above = [58.8 * value + draw.gauss(0, 10) for value in below]
        found = ratio_of_means(above, below)
        covered += found.low <= 58.8 <= found.high
    assert 335 <= covered <= 385
