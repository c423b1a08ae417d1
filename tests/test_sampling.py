"""How far another validation set would move steps to target."""

from __future__ import annotations

import math
import statistics

import numpy
import pytest

from bench.conclude.sampling import target_uncertainty
from bench.crossing import crossing_of

STEPS = [round(1.05**power) for power in range(40, 160)]


def curve(step, slope):
    return min(0.9, 0.1 * (step / 200) ** slope)


@pytest.mark.parametrize("slope", [-0.5, -1.0])
@pytest.mark.parametrize("examples", [300, 3000])
def test_it_is_how_far_the_crossing_moves_from_one_validation_set_to_another(slope, examples):
    draw = numpy.random.default_rng(0)
    whole = numpy.array([curve(step, slope) for step in STEPS])
    crossings, stated = [], []
    for _ in range(200):
        # An example is wrong as long as the error of all is above a number of its own: a set drawn afresh each time.
        wrong = numpy.searchsorted(numpy.sort(draw.random(examples)), whole)
        path = dict(zip(STEPS, (wrong / examples).tolist(), strict=True))
        at = crossing_of(path.items(), lambda error: error <= 0.1, "isotonic", STEPS[-1]).at
        if at is not None:
            crossings.append(math.log(at))
            stated.append(target_uncertainty([path], [at], 0.1, examples))
    assert len(crossings) > 190
    seen = statistics.stdev(crossings)
    assert statistics.median(stated) == pytest.approx(seen, rel=0.3)


def test_a_curve_that_does_not_fall_says_nothing():
    assert target_uncertainty([dict.fromkeys(STEPS, 0.1)], [200], 0.1, 300) is None
    assert target_uncertainty([{200: 0.1}], [200], 0.1, 300) is None
    assert target_uncertainty([{}], [math.inf], 0.1, 300) is None
