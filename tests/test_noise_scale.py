"""The noise scale of a run: how often its interval covers, how far it is off, and what it predicts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy
import pytest
from summaries import summary

from bench.analyses.noise_scale import average, noise_scale
from bench.stats import two_batch_estimate

STEPS = [0, 1, 2, 3, 4, 6, 8, 12, 18, 26, 39, 58, 87]
SMALL, DIMENSIONS, SEEDS = 8, 20, 5


def scale_at(step, start):
    """The noise scale along a run, which rises to five times what it is at the start; tr(Sigma) is 1."""
    return start * (1 + 4 * step / STEPS[-1])


def exact(start, batch_size):
    """E_min/S_min of that run."""
    squares = [1 / scale_at(step, start) for step in STEPS]
    integrals = [0.0, 0.0]
    for (before, first), (after, second) in pairwise(zip(STEPS, squares, strict=True)):
        for place, of in ((0, lambda square: 1.0), (1, lambda square: square)):
            sides = [of(square) / (square + 1 / batch_size) for square in (first, second)]
            integrals[place] += (after - before) * sum(sides) / 2
    return integrals[0] / integrals[1]


def look(square, large, draw):
    """What a probe sees of a gradient: (noise_trace, gradient_squared)."""
    rows = draw.normal(0, math.sqrt(1 / DIMENSIONS / SMALL), (large // SMALL, DIMENSIONS))
    rows[:, 0] += math.sqrt(square)
    small, whole = (rows**2).sum(1).mean(), (rows.mean(0) ** 2).sum()
    square, trace = two_batch_estimate(small, whole, SMALL, large)
    return trace, square


def simulated(start, large, batch_size, repeats=150):
    draw, found = numpy.random.default_rng(0), []
    for _ in range(repeats):
        paths = []
        for _ in range(SEEDS):
            own = math.exp(draw.normal(0, 0.1))
            paths.append({step: look(own / scale_at(step, start), large, draw) for step in STEPS})
        found.append(average(paths, batch_size))
    return [each for each in found if each.resolved]


@pytest.mark.parametrize("batch_size", [32, 512])
@pytest.mark.parametrize(("start", "large"), [(50, 64), (50, 512), (200, 512)])
def test_the_interval_of_the_average_covers_and_its_bias_is_small(batch_size, start, large):
    truth, found = exact(start, batch_size), simulated(start, large, batch_size)
    covers = sum(each.low <= truth <= each.high for each in found) / len(found)
    assert covers >= 0.85
    near = 0.08 if truth < 2 * large else 0.2
    assert numpy.median([each.value for each in found]) == pytest.approx(truth, rel=near)


def test_a_large_batch_that_is_small_against_the_scale_overstates_it_and_is_doubted():
    truth, found = exact(200, 512), simulated(200, 64, 512)
    assert 1.1 < numpy.median([each.value for each in found]) / truth < 1.6
    probed = [{f"noise_scale.{name}": dict.fromkeys((0, 10), value) for name, value in
               (("noise_trace", 600.0), ("gradient_squared", 1.0))}] * 3  # fmt: skip
    rows = [summary(size, 100, seeds=[100], probed=probed, probes={"noise_scale": {"large": 64}}) for size in (8, 16)]
    assert "more than 2 times 'large: 64'" in " ".join(noise_scale(rows)[0].notes)
    rows = [summary(size, 100, seeds=[100], probed=probed, probes={"noise_scale": {"large": 512}}) for size in (8, 16)]
    assert "doubt" not in " ".join(noise_scale(rows)[0].notes)


def test_steps_are_predicted_from_the_other_batch_sizes_alone():
    probed = [{f"noise_scale.{name}": dict.fromkeys((0, 10), value) for name, value in
               (("noise_trace", 64.0), ("gradient_squared", 1.0))}] * 3  # fmt: skip
    steps = {8: 900, 16: 500, 32: 300, 64: 777}  # 100 (1 + 64/B), but for the last, of which no other knows
    table = noise_scale([summary(size, each, seeds=[each], probed=probed) for size, each in steps.items()])[0]
    predicted = dict(zip(steps, (record["predicted_steps"] for record in table.records), strict=True))
    assert predicted[64] == pytest.approx(200)
    assert predicted[8] != pytest.approx(900)
