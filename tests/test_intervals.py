"""The intervals and doubts of a fit, on curves as noisy and as discrete as those of archives.

tests/perf/coverage.py looks at more kinds of curves, and at more of each.
"""

from __future__ import annotations

from functools import lru_cache

import numpy
import pytest
from simulated import SIZES, WIDE, simulated

from bench.conclude.curve_fit import fit_curve
from bench.conclude.slopes import slopes

KINDS = {
    "narrow": {"sizes": SIZES, "missed": 0.05},
    "wide": {"sizes": WIDE, "seed_noise": 0.25},
    "a miss at both ends": {"sizes": SIZES, "missed_at": {8: 0.7, 512: 3}},
}
TRUE = {"minimum_steps": 25, "minimum_examples": 2500, "critical_batch": 100}
# What a rate of 5 % stays below in 99 of 100 cases, and one of 85 % above, of the curves below.
MOST_ALARMS, FEWEST_COVERED = {120: 12, 40: 6}, {120: 93, 40: 28}


@lru_cache
def fits(kind, exponent, count):
    chance = numpy.random.default_rng(7)
    return [fit_curve(simulated(chance, exponent=exponent, **KINDS[kind])) for _ in range(count)]


@pytest.mark.parametrize("name", TRUE)
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_under_the_model_of_exponent_one(kind, name):
    count = 120 if kind == "narrow" else 40
    found = [getattr(each, name) for each in fits(kind, 1, count)]
    assert sum(each.low <= TRUE[name] <= each.high for each in found) >= FEWEST_COVERED[count]


@pytest.mark.parametrize("exponent", [0.9, 1.1])
@pytest.mark.parametrize("name", ["minimum_steps", "critical_batch"])
def test_intervals_cover_where_the_exponent_is_another(exponent, name):
    found = [getattr(each, name) for each in fits("narrow", exponent, 40)]
    assert sum(each.low <= TRUE[name] <= each.high for each in found) >= FEWEST_COVERED[40]


@pytest.mark.parametrize("doubt", ["steps rise", "the points bend", "the fit is", "only the side", "evaluations lie"])
@pytest.mark.parametrize("kind", ["narrow", "wide"])
def test_doubts_are_rarely_raised_where_the_model_is_true(kind, doubt):
    count = 120 if kind == "narrow" else 40
    alarms = sum(any(each.startswith(doubt) for each in found.doubts) for found in fits(kind, 1, count))
    assert alarms <= MOST_ALARMS[count]


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_of_the_model_always_has_a_fit(kind):
    assert None not in fits(kind, 1, 120 if kind == "narrow" else 40)


def test_regimes_are_rarely_named_wrongly():
    named = wrong = 0
    chance = numpy.random.default_rng(8)
    for _ in range(60):
        for slope in slopes(simulated(chance)):
            true = -1 / (1 + slope.batch_size / 100)
            regime = "perfect scaling" if true <= -0.85 else "diminishing returns"  # 512 has -0.16
            named += slope.regime != "undecided"
            wrong += slope.regime not in (regime, "undecided")
    assert named > 0.6 * 60 * 7
    assert wrong <= 0.05 * 60 * 7
