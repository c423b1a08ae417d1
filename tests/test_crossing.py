"""Where readings cross a target: the isotonic rule, its laws, and first passage."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.optimize import isotonic_regression

from bench.crossing import SETTLE, Crossed, Crossing, crossing_of

TARGET = 0.5


def met(value):
    return value <= TARGET


def crossing(steps, values, rule="isotonic", settle=False):
    """A crossing that has read everything, whether it was settled on the way or not."""
    found = Crossing(met, rule)
    for step, value in zip(steps, values, strict=True):
        if not settle:
            found.settled = False
        found.read(step, value)
    return found


series = some.lists(some.tuples(some.integers(1, 20), some.floats(0, 1, width=16)), min_size=1, max_size=40).map(
    lambda rows: ([sum(gap for gap, _ in rows[: place + 1]) for place in range(len(rows))], [row[1] for row in rows])
)


@given(series)
def test_the_crossing_is_that_of_scipys_isotonic_regression(rows):
    steps, values = rows
    weights = [math.log(step / before) for before, step in zip([steps[0] / 2, *steps], steps, strict=False)]
    fitted = isotonic_regression(numpy.array(values), weights=numpy.array(weights), increasing=False).x
    # Where a fitted value is the target but for rounding, either answer is right.
    if numpy.abs(fitted - TARGET).min() > 1e-9:
        wanted = next((step for step, value in zip(steps, fitted, strict=True) if value <= TARGET), None)
        assert crossing(steps, values).at == wanted


@given(series)
def test_more_readings_never_move_a_crossing_earlier_and_one_appears_only_where_it_is_read(rows):
    steps, values = rows
    found, before = Crossing(met), None
    for step, value in zip(steps, values, strict=True):
        found.settled = False
        found.read(step, value)
        if before is None or found.at is None:
            assert found.at in (None, step)
        else:
            assert found.at == before
        before = found.at


@given(series)
def test_what_is_read_after_a_crossing_is_settled_changes_nothing(rows):
    steps, values = rows
    found = crossing(steps, values, settle=True)
    if found.settled:
        last = next(step for step in steps if step >= SETTLE["isotonic"] * found.at)
        until = steps.index(last) + 1
        assert crossing(steps[:until], values[:until], settle=True).crossed == found.crossed


@given(series)
def test_first_passage_is_the_first_reading_that_meets_the_target(rows):
    steps, values = rows
    wanted = next((step for step, value in zip(steps, values, strict=True) if met(value)), None)
    found = crossing(steps, values, "first", settle=True)
    assert (found.at, found.settled) == (wanted, wanted is not None)


def test_one_low_reading_among_high_ones_is_no_crossing():
    assert crossing([10, 20, 30, 40], [0.9, 0.4, 0.9, 0.8]).at is None
    assert crossing([10, 20, 30, 40], [0.9, 0.4, 0.9, 0.8], "first").at == 20


def test_a_crossing_lies_between_two_evaluations():
    found = crossing([10, 20, 30, 45], [0.9, 0.8, 0.4, 0.3])
    assert (found.crossed, found.settled) == (Crossed(20, 30), True)
    assert found.crossed.gap == pytest.approx(9 / 30)
    assert found.crossed.middle == pytest.approx(math.sqrt(21 * 30))


def test_a_crossing_where_every_step_was_evaluated_is_known_exactly():
    found = crossing([1, 2, 3], [0.9, 0.4, 0.3]).crossed
    assert (found.gap, found.middle) == (0.0, 2.0)


def test_a_miss_lies_beyond_what_was_tried():
    found = crossing([10, 20], [0.9, 0.8])
    assert found.crossed == Crossed(20, math.inf)
    assert found.crossed.middle == math.inf


def test_a_target_met_at_the_first_look_or_before_training_is_an_upper_bound():
    assert crossing([16, 24], [0.4, 0.3]).crossed.first
    assert not crossing([0, 8, 16], [0.9, 0.8, 0.4]).crossed.first
    assert crossing([0, 1, 2, 3], [0.4, 0.9, 0.4, 0.3]).crossed.first


def test_a_crossing_is_settled_at_one_and_a_half_times_its_step_or_at_the_budget():
    assert not crossing_of([(10, 0.9), (20, 0.4), (29, 0.3)], met, "isotonic", 100).settled
    assert crossing_of([(10, 0.9), (20, 0.4), (30, 0.3)], met, "isotonic", 100).settled
    assert crossing_of([(10, 0.9), (20, 0.4), (29, 0.3)], met, "isotonic", 29).settled


def test_nan_meets_no_target_and_is_above_every_number():
    assert crossing_of([(1, math.nan), (2, math.nan)], lambda value: value <= 1e300, "isotonic", 2).at is None
    assert crossing_of([(1, 0.9), (2, 0.4), (3, math.nan)], met, "isotonic", 3).at is None
