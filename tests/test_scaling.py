"""Fits, slopes and regimes of steps to target against batch size."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from summaries import summary

from bench.conclude.curve_fit import fit_curve, no_fit
from bench.conclude.fit import Fit, fit
from bench.conclude.points import Curve, Point, curve_of
from bench.conclude.power_law import joint_power_law, power_law
from bench.conclude.slopes import maximal_from, perfect_scaling_until, perfect_until, slopes
from bench.prove.exact import best_learning_rate
from bench.stats import Interval

# Zhang et al. 2024, the 85M model.
BATCHES = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
STEPS = [46000, 23000, 13282, 7000, 3840, 2528, 1917, 1600, 1600]
# The same, the 151M model.
STEPS_151M = [96000, 49000, 24000, 12000, 7128, 4350, 2940, 2400, 2300]
SIZES = [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]


def curve(points, resolution=0.0, tried=0.0):
    return Curve(
        "c",
        tuple(
            Point(size, tuple(steps) if isinstance(steps, list) else (steps,), tried, resolution)
            for size, steps in points
        ),
    )


def exact(least_steps, least_examples, sizes):
    return [(size, least_steps + least_examples / size) for size in sizes]


def test_the_published_curve_is_fitted_to_its_published_digits():
    found = fit(BATCHES, STEPS)
    assert found.minimum_steps == pytest.approx(1293.827, abs=5e-4)
    assert found.minimum_examples == pytest.approx(2834258.1, abs=0.5)
    assert found.overhead_batch(0.2, 256) == pytest.approx(745.320, abs=5e-4)
    assert found.overhead_batch(0.2, 256) == pytest.approx(found.critical_batch / 5 + 1.2 * 256)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e5), st.floats(1, 1e5), st.integers(0, 8), st.integers(2, 6).map(lambda power: 2.0**power))
def test_an_exact_curve_is_found_again(least_steps, critical, first, ratio):
    sizes = [critical * ratio ** (place - 3) for place in range(first % 3 + 5)]
    found = fit(sizes, [least_steps * (1 + critical / size) for size in sizes])
    assert found.minimum_steps == pytest.approx(least_steps, rel=1e-4)
    assert found.critical_batch == pytest.approx(critical, rel=1e-4)


def test_at_the_critical_batch_size_steps_and_examples_are_twice_the_least():
    found = fit(BATCHES, STEPS)
    at = found.critical_batch
    assert found.steps(at) == pytest.approx(2 * found.minimum_steps)
    assert found.steps(at) * at == pytest.approx(2 * found.minimum_examples)


def test_the_hyperbola_of_mccandlish_holds_everywhere_on_a_fit():
    found = fit(BATCHES, STEPS)
    for size in BATCHES:
        steps = found.steps(size) / found.minimum_steps - 1
        examples = found.steps(size) * size / found.minimum_examples - 1
        assert steps * examples == pytest.approx(1)


@pytest.mark.parametrize(("overhead", "reference"), [(0.2, 64), (0.5, 256), (1.0, 1024)])
def test_the_overhead_batch_takes_one_plus_the_overhead_times_the_examples(overhead, reference):
    found = fit(BATCHES, STEPS)
    batch = found.overhead_batch(overhead, reference)
    assert found.steps(batch) * batch == pytest.approx((1 + overhead) * found.steps(reference) * reference)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("alpha", [0.9, 1.0, 1.1])
def test_an_exact_curve_of_another_exponent_is_found_again(alpha, free):
    sizes = [2.0**power for power in range(3, 12)]
    found = fit(sizes, [100 * (1 + (200 / size) ** alpha) for size in sizes], free=free)
    if free:
        assert found.exponent == pytest.approx(alpha, rel=1e-6)
    if free or alpha == 1:
        assert found.critical_batch == pytest.approx(200, rel=1e-4)
        assert found.steps(200) == pytest.approx(2 * found.minimum_steps, rel=1e-4)
    else:
        assert (found.critical_batch < 200) == (alpha < 1)  # what exponent 1 makes of it


def test_the_published_exponent_and_what_it_does_to_the_critical_batch_size():
    found = fit_curve(curve(list(zip(BATCHES, STEPS_151M, strict=True))), reference=256)
    assert found.exponent_one.overhead_batch(0.2, 256) == pytest.approx(955.158, abs=5e-4)
    assert found.free.exponent == pytest.approx(1.07, abs=5e-3)
    assert found.exponent_p == pytest.approx(0.0097, abs=5e-5)
    assert found.overhead_batch.value == pytest.approx(1175, abs=0.5)
    assert found.fit == found.free  # exponent 1 is ruled out
    assert math.isnan(found.minimum_examples.low)  # and no other has a least number of examples
    assert any("the points bend as with exponent 1.07" in doubt for doubt in found.doubts)


@pytest.mark.parametrize("alpha", [0.8, 0.95, 1.0, 1.05, 1.3])
@pytest.mark.parametrize("reference", [8, 200, 5000])
def test_the_overhead_batch_of_any_exponent_takes_one_plus_the_overhead_times_the_examples(alpha, reference):
    found = Fit(100, 200 * 100 ** (1 / alpha), alpha)
    assert found.critical_batch == pytest.approx(200)
    batch = found.overhead_batch(0.2, reference)
    assert batch > reference
    assert found.steps(batch) * batch == pytest.approx(1.2 * found.steps(reference) * reference)


@pytest.mark.parametrize("alpha", [0.9, 1.0, 1.1])
def test_slopes_of_a_law_are_its_derivatives_and_are_found_where_they_are(alpha):
    law = Fit(100, 20_000 ** (1 / alpha), alpha).law
    for size in (8.0, 100.0, 2000.0):
        step = 1e-5
        numeric = numpy.log(law.steps(size * math.exp(step)) / law.steps(size * math.exp(-step))) / (2 * step)
        assert law.slope(size) == pytest.approx(numeric, rel=1e-6)
        assert law.batch_of_slope(float(law.slope(size))) == pytest.approx(size)
    assert Fit(100, 100, 0.8).law.batch_of_slope(-0.85) == 0


def test_a_miss_bounds_the_fit_and_is_not_dropped():
    points = exact(100, 6400, [8, 16, 32, 64])
    dropped = fit_curve(curve(points))
    missed = fit_curve(curve([*points, (128, math.inf)], tried=190.0))
    lower = fit_curve(curve([*points, (128, math.inf)], tried=90.0))
    assert missed.fit.steps(128) > 1.1 * dropped.fit.steps(128)
    # What was tried lies under the curve anyway: the miss says nothing new.
    assert lower.fit.minimum_steps == pytest.approx(dropped.fit.minimum_steps)
    assert any("no steps to target at batch size 128" in doubt for doubt in missed.doubts)


def test_a_miss_above_the_steps_of_a_smaller_batch_size_is_rising_and_left_out():
    points = [(4, 375), (8, 304), (16, 95), (32, 70), (64, 40)]
    without = fit_curve(curve(points))
    rising = Point(512, (math.inf,) * 5, 2000.0)
    found = fit_curve(Curve("c", (*curve(points).points, rising)))
    assert found.critical_batch.value == pytest.approx(without.critical_batch.value) == pytest.approx(120, abs=1)
    assert found.explained == pytest.approx(without.explained)
    assert found.rising == (512,)
    assert any("at batch size 512" in doubt and "steps rise with the batch size" in doubt for doubt in found.doubts)
    assert slopes(found.curve)[-1].regime == "rising"


def test_a_miss_in_some_resamples_is_left_out_of_these_where_it_is_rising():
    seeds = [[steps, steps * 1.02, steps * 0.98, steps * 1.1, steps * 0.9] for _, steps in exact(100, 6400, SIZES)]
    seeds[-1] = [112.0, 113.0, 114.0, math.inf, math.inf]
    found = fit_curve(
        Curve("c", tuple(Point(size, tuple(each), 340.0) for size, each in zip(SIZES, seeds, strict=True)))
    )
    assert found.minimum_steps.high < 120
    assert found.critical_batch.low > 40


def test_steps_that_are_upper_bounds_are_left_out_and_a_curve_of_them_is_refused():
    points = [Point(float(size), (steps,) * 5) for size, steps in exact(100, 6400, [8, 16, 32, 64, 128])]
    first = Point(256.0, (110.0,) * 5, first=True)
    found = fit_curve(Curve("c", (*points, first)))
    assert found.fit.critical_batch == pytest.approx(64)
    assert any("met at the first evaluation at batch size 256" in doubt for doubt in found.doubts)
    refused = Curve("c", tuple(Point(point.batch_size, point.steps, first=True) for point in points))
    assert fit_curve(refused) is None
    assert "the target was met at the first evaluation at batch size 8, 16, 32, 64, 128" in no_fit(refused)


def test_a_fit_that_does_not_describe_the_points_is_none():
    turned = curve([(8, five(400)), (16, five(200)), (32, five(100)), (64, five(200)), (128, five(400))])
    risen = curve([(8, five(100)), (16, five(200)), (32, five(400))])
    for each in (turned, risen):
        assert fit_curve(each) is None
        assert "the model does not describe them" in no_fit(each)
    assert "steps rise with the batch size at 64, 128" in no_fit(turned)
    assert no_fit(curve(exact(100, 6400, SIZES))) is None
    assert no_fit(curve([(8, 100)])) is None


def test_what_lies_between_evaluations_far_apart_is_in_the_interval_and_doubted():
    points = [(size, five(steps)) for size, steps in exact(100, 6400, SIZES)]
    fine, coarse = fit_curve(curve(points)), fit_curve(curve(points, resolution=0.4))
    assert coarse.minimum_steps.value == pytest.approx(fine.minimum_steps.value * math.sqrt(0.6), rel=1e-3)
    assert coarse.minimum_steps.high / coarse.minimum_steps.low > 1.2 * (
        fine.minimum_steps.high / fine.minimum_steps.low
    )
    assert any("evaluations lie far apart at batch size 8, 16" in doubt for doubt in coarse.doubts)
    assert not fine.doubts


def test_the_interval_contains_the_choice_among_candidates():
    alone = [Point(size, tuple(five(steps))) for size, steps in exact(100, 6400, SIZES)]
    chosen = [
        Point(
            point.batch_size,
            point.steps,
            others=(tuple(steps * (0.7 if at % 2 else 1.02) for at, steps in enumerate(sorted(point.steps))),),
        )
        for point in alone
    ]
    first, second = (fit_curve(Curve("c", tuple(points))).critical_batch for points in (alone, chosen))
    assert second.high / second.low > first.high / first.low


def test_most_seeds_missing_is_a_miss():
    assert Point(8, (5.0, math.inf, math.inf)).median == math.inf
    assert Point(8, (5.0, 6.0, math.inf)).median == 6


def test_no_curve_of_one_batch_size_is_fitted():
    assert fit_curve(curve([(8, 100)])) is None
    assert fit_curve(curve([(8, 100), (16, math.inf)], tried=10.0)) is None
    with pytest.raises(ValueError):
        fit([8], [100])
    with pytest.raises(ValueError):
        fit([8, 16], [100, 0])


def doubts(points):
    return " | ".join(fit_curve(curve(points)).doubts)


def test_a_curve_that_the_model_explains_is_not_doubted():
    assert doubts(exact(100, 6400, [8, 16, 32, 64, 128, 256])) == ""
    assert fit_curve(curve(list(zip(BATCHES, STEPS, strict=True)))).doubts == ()


@pytest.mark.parametrize(
    ("points", "doubt"),
    [
        (exact(100, 6400, [8, 64, 512]), "3 batch sizes met the target"),
        (exact(1, 1e6, [8, 16, 32, 64]), "only the side of perfect scaling was seen"),
        (exact(1000, 10, [8, 16, 32, 64]), "only the side of maximal data parallelism was seen"),
        (
            [(8, [99, 100, 101]), (16, [49, 50, 51]), (32, [69, 70, 71]), (64, [20, 20, 21])],
            "steps rise with the batch size at 32",
        ),
        # One that lies far from where all others put the curve.
        (
            [
                (size, steps * (2 if size == 32 else 1.0))
                for size, steps in exact(100, 6400, [8 << n for n in range(8)])
            ],
            "what was measured at batch size 32",
        ),
        # A power law of another exponent bends away from exponent 1 at both ends.
        ([(2.0**place, 1e6 * 2 ** (-place / 2)) for place in range(10)], "the points bend as with exponent 0.50"),
        # As few and as noisy as these, it passes for chance where two degrees of freedom are made of its one.
        ([(8, 1084), (16, 654), (32, 425), (64, 317), (128, 179), (256, 123)], "the points bend"),
    ],
)
def test_a_curve_that_the_model_does_not_explain_is_doubted_aloud(points, doubt):
    assert doubt in doubts(points)


def five(steps):
    """Five seeds 1 % apart."""
    return [steps * (1 + 0.01 * place) for place in range(-2, 3)]


@pytest.mark.parametrize("seeds", [lambda steps: steps, five])
def test_what_a_flat_curve_hides_is_unresolved_and_bounded_from_one_side(seeds):
    found = fit_curve(curve([(size, seeds(100)) for size in (8, 16, 32, 64)]))
    for interval in (found.minimum_examples, found.critical_batch):
        assert math.isnan(interval.value)
        assert interval.low == 0
    assert found.critical_batch.high < 8
    # The 20 % more examples are had with 20 % larger a batch, whatever the least examples are.
    assert found.overhead_batch.value == pytest.approx(1.2 * 8, rel=0.01)


@pytest.mark.parametrize("seeds", [lambda steps: steps, five])
def test_what_perfect_scaling_hides_is_unresolved_and_bounded_from_one_side(seeds):
    found = fit_curve(curve([(size, seeds(6400 / size)) for size in (8, 16, 32, 64, 128)]))
    assert found.minimum_examples.value == pytest.approx(6400)
    assert math.isnan(found.minimum_steps.value)
    assert found.minimum_steps.low == 0
    for interval in (found.critical_batch, found.overhead_batch):
        assert math.isnan(interval.value)
        assert interval.high == math.inf
    assert 128 < found.critical_batch.low < math.inf


def test_an_interval_that_reaches_what_is_hidden_is_open_there():
    # Scattered so that the steps bend a little: S_min is seen, and might as well be nothing.
    found = fit_curve(curve([(8 * 2**place, 6400 / (8 * 2**place) * (1 + 0.03 * (-1) ** place)) for place in range(5)]))
    assert found.minimum_steps.value > 0
    assert found.minimum_steps.low == 0
    assert found.critical_batch.high == math.inf


@pytest.mark.parametrize(
    "points",
    [
        [(1, 100), (2, 90), (4, 110), (8, 100)],
        [(8, 1000), (16, 600), (32, 50), (64, 40)],
        [(8, 1000), (16, 600), (32, 50)],
        [(8, 1000), (16, 500)],
    ],
)
def test_no_bound_lies_beyond_what_steps_can_say(points):
    found = fit_curve(curve(points))
    for interval in (found.minimum_steps, found.minimum_examples, found.critical_batch, found.overhead_batch):
        assert interval.low >= 0
        assert not 1e15 < interval.high < math.inf


def test_seeds_are_resampled_only_where_every_point_has_several():
    points = [(8, 905), (16, 480), (32, 310), (64, 190), (128, 155), (256, 123)]
    alone = fit_curve(curve(points)).critical_batch
    repeated = fit_curve(curve([(8, [905, 905]), *points[1:]])).critical_batch
    assert (repeated.low, repeated.high) == (alone.low, alone.high)
    assert alone.low < alone.value < alone.high


def test_slopes_tell_the_regimes_of_a_curve():
    found = slopes(curve(exact(100, 100 * 1024, [2.0**power for power in range(4, 18)])))
    regimes = [slope.regime for slope in found]
    assert regimes == sorted(regimes, key=["perfect scaling", "diminishing returns", "maximal data parallelism"].index)
    assert found[0].slope.value == pytest.approx(-1, abs=0.03)
    assert found[-1].slope.value == pytest.approx(0, abs=0.03)
    assert {"perfect scaling", "diminishing returns", "maximal data parallelism"} == set(regimes)


def test_regimes_end_at_a_batch_size_with_an_interval():
    points = [(size, [steps * factor for factor in (0.8, 0.9, 1, 1.1, 1.3)]) for size, steps in exact(100, 6400, SIZES)]
    found = fit_curve(curve(points))
    for interval, slope in ((perfect_until(found), -0.85), (maximal_from(found), -0.15)):
        assert found.fit.law.slope(interval.value) == pytest.approx(slope)
        assert interval.low < interval.value < interval.high


def test_a_slope_that_may_be_of_two_regimes_is_undecided():
    (slope, _) = slopes(curve([(8, [90, 100, 160]), (16, [40, 55, 60])]))
    (coarse, _) = slopes(curve([(8, [100] * 3), (16, [50] * 3)], resolution=0.5))
    assert slope.regime == coarse.regime == "undecided"
    assert coarse.slope.low < -0.85 < coarse.slope.high
    assert [slope.regime for slope in slopes(curve([(8, 100), (16, 50)]))] == ["undecided"] * 2


def test_the_example_of_the_readme_is_mostly_decided():
    decided = 0
    chance = numpy.random.default_rng(0)
    for _ in range(10):
        seeds = [
            (size, (steps * numpy.exp(0.2 * chance.standard_normal(5))).round().tolist())
            for size, steps in zip(SIZES, [266, 132, 78, 48, 36, 31, 31], strict=True)
        ]
        decided += sum(slope.regime != "undecided" for slope in slopes(curve(seeds, resolution=0.04)))
    assert decided > 40  # of 70


def test_without_a_fit_every_regime_is_undecided():
    assert [slope.regime for slope in slopes(curve([(8, 100), (16, math.inf)], tried=10.0))] == ["undecided"] * 2


def test_the_curve_of_a_workload_keeps_misses_and_leaves_out_what_was_not_measured():
    rows = [
        summary(64, 20, seeds=[20, 22, math.inf]),
        summary(8, 100, seeds=[110, 100, 120]),
        summary(16, None),
        summary(32, 50, status="not measured"),
        summary(128, 15),
    ]
    found = curve_of(rows)
    assert [point.batch_size for point in found.points] == [8, 16, 64, 128]
    assert [point.median for point in found.points] == [110, math.inf, 22, 15]
    assert [point.tried for point in found.points] == [300, 10_000, 60, 15]


def test_perfect_scaling_ends_at_the_last_batch_size_that_halved_the_steps():
    def rows(*steps):
        return [summary(8 * 2**place, step, seeds=[step] * 5, resolution=0.01) for place, step in enumerate(steps)]

    steps = [round(50 * (1 + 1024 / (8 * 2**place))) for place in range(8)]
    assert perfect_scaling_until(rows(*steps)) == 128  # B_crit 1,024, of which 0.18 is 184
    assert perfect_scaling_until(rows(1600, 1500, 1400, 1390)) is None
    assert perfect_scaling_until(rows(1600)) is None


def test_a_power_law_is_found_again():
    sizes = [1e6, 1e7, 1e8, 1e9]
    factor, exponent = power_law(sizes, [3 * size**0.47 for size in sizes])
    assert factor == pytest.approx(3)
    assert exponent.value == pytest.approx(0.47)
    assert exponent.low == pytest.approx(exponent.high)
    assert power_law(sizes[:2], [1, 2])[1].high == math.inf


def test_the_published_power_law_of_five_models():
    factor, exponent = power_law([85, 151, 302, 604, 1200], [745.320, 955.158, 1393.727, 1888.522, 2533.411])
    assert factor == pytest.approx(93.1968, abs=1e-3)
    assert exponent.value == pytest.approx(0.468278, abs=1e-5)


def around(value, deviation):
    return Interval(value, value * math.exp(-1.645 * deviation), value * math.exp(1.645 * deviation))


GRID = [{"model_size": model, "tokens": tokens} for model in (1e7, 1e8, 1e9) for tokens in (1e9, 1e10, 1e11)]


def test_a_law_of_two_sizes_is_found_again_and_constant_ones_are_left_out():
    values = [3 * of["model_size"] ** 0.1 * of["tokens"] ** 0.4 for of in GRID]
    law = joint_power_law(GRID, [around(value, 0.1) for value in values])
    assert law.factor == pytest.approx(3)
    assert law.exponents["model_size"].value == pytest.approx(0.1)
    assert law.exponents["tokens"].value == pytest.approx(0.4)
    one = joint_power_law(GRID[:3], [around(value, 0.1) for value in values[:3]])
    assert list(one.exponents) == ["tokens"]
    assert joint_power_law(GRID[:1], [around(1, 0.1)]) is None
    assert joint_power_law([], []) is None


def test_sizes_that_rise_together_are_not_told_apart():
    law = joint_power_law(
        [{"model_size": size, "tokens": 20 * size} for size in (1e7, 1e8, 1e9)], [around(n, 0.1) for n in (1, 2, 4)]
    )
    assert law.together == ("tokens",)
    assert law.exponents["model_size"].value == pytest.approx(math.log10(2))


def test_a_point_counts_by_its_interval():
    sizes = [{"tokens": size} for size in (1e6, 1e7, 1e8, 1e9)]
    values = [around(1, 0.01), around(10**0.5, 0.01), around(10, 0.01), around(300, 3.0)]
    assert joint_power_law(sizes, values).exponents["tokens"].value == pytest.approx(0.5, abs=0.01)


def test_the_intervals_of_a_joint_law_cover_its_exponents():
    chance = numpy.random.default_rng(0)
    covered = {"model_size": 0, "tokens": 0}
    for _ in range(200):
        deviations = chance.uniform(0.05, 0.4, len(GRID))
        values = [
            around(of["model_size"] ** 0.1 * of["tokens"] ** 0.4 * math.exp(each * chance.normal()), each)
            for of, each in zip(GRID, deviations, strict=True)
        ]
        for name, interval in joint_power_law(GRID, values).exponents.items():
            covered[name] += interval.low <= {"model_size": 0.1, "tokens": 0.4}[name] <= interval.high
    assert min(covered.values()) >= 0.85 * 200


def test_no_fit_is_worse_than_that_of_scipys_least_squares():
    chance = numpy.random.default_rng(7)
    for _ in range(100):
        sizes = 2.0 ** numpy.arange(chance.integers(2, 12))
        minimum, examples = chance.uniform(0, 8), chance.uniform(4, 14)
        noise = chance.choice([0.02, 0.2, 1.0]) * chance.standard_normal(len(sizes))
        logs = numpy.logaddexp(minimum, examples - numpy.log(sizes)) + noise
        tried = logs + 0.0
        if len(sizes) > 3:
            missed = chance.integers(len(sizes))
            # No more than smaller batch sizes took: a miss that rises is left out.
            bound = min(tried[missed] + chance.uniform(-1, 1), *tried[:missed], math.inf)
            logs[missed], tried[missed] = math.inf, bound

        def residuals(point, sizes=sizes, logs=logs, tried=tried):
            over = numpy.where(logs < math.inf, logs, tried) - numpy.logaddexp(point[0], point[1] - numpy.log(sizes))
            return numpy.where(logs < math.inf, over, numpy.maximum(over, 0.0))

        scipys = optimize.least_squares(residuals, [minimum, examples], method="trf", xtol=1e-12, ftol=1e-12)
        found = fit(sizes, numpy.exp(logs), numpy.exp(tried))
        if found.unseen is None:
            ours = residuals(numpy.log([found.minimum_steps, found.minimum_examples]))
            assert (ours**2).sum() <= 2 * scipys.cost * (1 + 1e-6) + 1e-12


def test_a_flat_curve_explains_nothing_and_says_no_share():
    found = fit_curve(curve([(size, 100) for size in (8, 16, 32, 64)]))
    assert math.isnan(found.explained)
    assert found.minimum_steps.value == pytest.approx(100)
    assert "only the side of maximal data parallelism" in found.doubts[0]


def test_the_exact_curve_of_the_noisy_quadratic_scales_perfectly_up_to_128_and_not_at_all_above_16384():
    sizes = [32, 64, 128, 256, 1024, 16_384, 32_768, 65_536, 131_072]
    steps = [best_learning_rate(10_000, size, 0.01)[1] for size in sizes]
    found = {slope.batch_size: slope for slope in slopes(curve(list(zip(sizes, steps, strict=True))))}
    for size in (32, 64, 128):
        assert found[size].regime == "perfect scaling"
        assert found[size].slope.value == pytest.approx(-1, abs=0.1)
    assert found[256].slope.value == pytest.approx(-0.8, abs=0.1)
    assert found[1024].regime == "diminishing returns"
    for size in (32_768, 65_536, 131_072):
        assert found[size].regime == "maximal data parallelism"
        assert found[size].slope.value == pytest.approx(0, abs=0.02)
