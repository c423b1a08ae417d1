"""The noise-scale probe on the linear teacher, whose noise scale is known."""

from __future__ import annotations

import functools
import statistics

import pytest
import torch

from bench.contracts import Moment
from bench.examples import Split
from bench.measure.losses import LOSSES
from bench.models.linear_student import linear_student
from bench.probes.noise_scale import noise_scale
from bench.prove.exact import LinearTeacher
from bench.stats import Interval, ratio_of_means, two_batch_estimate

DIMENSIONS = 32
EXACT = LinearTeacher(DIMENSIONS).noise_scale
REPEATS, LOOKS, CONFIDENCE = 100, 110, 0.95


def moment(seed):
    """A student at zero, at a distance of 1 from a teacher along the first axis; examples are fresh ones every time."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        inputs = torch.randn(count, DIMENSIONS, generator=generator)
        return Split(inputs, inputs[:, :1] + torch.randn(count, 1, generator=generator))

    return Moment(linear_student((DIMENSIONS,), 1), {}, draw, LOSSES["half_squared_error"].mean, batch_size=32)


@functools.cache
def repeats():
    """(tr(Sigma), |G|^2) of every look of every repeat: [REPEATS][LOOKS]. A look is off by a fourth of the truth."""
    probe, at = noise_scale(small=8, large=256), moment(seed=0)
    looks = [probe(at) for _ in range(REPEATS * LOOKS)]
    pairs = [(look["noise_trace"], look["gradient_squared"]) for look in looks]
    return [pairs[start : start + LOOKS] for start in range(0, len(pairs), LOOKS)]


def mean_of_ratios(numerators, denominators, confidence):
    """What not to do, with the interval that would seem to go with it."""
    ratios = [one / other for one, other in zip(numerators, denominators, strict=True)]
    mean = statistics.fmean(ratios)
    reach = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * statistics.stdev(ratios) / len(ratios) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def good_repeats(estimate):
    """Of 100 repeats, how many are within 5 % of the exact value with an interval that holds it."""
    found = [estimate(*zip(*pairs, strict=True), CONFIDENCE) for pairs in repeats()]
    return sum(abs(each.value / EXACT - 1) <= 0.05 and each.low <= EXACT <= each.high for each in found)


def test_the_probe_finds_the_exact_noise_scale_and_knows_how_well():
    assert EXACT == 65
    assert good_repeats(ratio_of_means) >= 90


def test_averaging_ratios_instead_of_estimates_does_not():
    assert good_repeats(mean_of_ratios) < 90


def test_both_numbers_of_the_probe_are_unbiased():
    pairs = [pair for repeat in repeats() for pair in repeat]
    for values, exact in zip(zip(*pairs, strict=True), (65.0, 1.0), strict=True):
        deviation = statistics.stdev(values) / len(values) ** 0.5
        assert statistics.fmean(values) == pytest.approx(exact, abs=4 * deviation)
        assert deviation < 0.01 * exact


def test_two_batches_give_the_known_answer():
    gradient_squared, noise_trace = two_batch_estimate(5, 2, small_size=1, large_size=4)
    assert (gradient_squared, noise_trace, noise_trace / gradient_squared) == (1, 4, 4)


def test_over_four_thousand_looks_the_ratio_of_means_is_right_and_the_mean_of_ratios_is_not():
    # Gaussian gradients with |G|^2 = 1 and tr(Sigma) = 58.8 in 40 dimensions, at batch sizes 8 and 64.
    generator = torch.Generator().manual_seed(0)
    dimensions, trace, draws, small, large = 40, 58.8, 4_000, 8, 64
    mean = torch.zeros(dimensions)
    mean[0] = 1.0
    parts = torch.randn(draws, large // small, dimensions, generator=generator) * (trace / dimensions / small) ** 0.5
    gradients = mean + parts
    of_small = gradients.square().sum(2).mean(1).tolist()
    of_large = gradients.mean(1).square().sum(1).tolist()
    squares, traces = zip(
        *(two_batch_estimate(one, other, small, large) for one, other in zip(of_small, of_large, strict=True)),
        strict=True,
    )
    found = ratio_of_means(traces, squares)
    assert found.value == pytest.approx(trace, rel=0.02)
    assert found.low <= trace <= found.high
    assert abs(mean_of_ratios(traces, squares, 0.9).value / trace - 1) > 0.1
