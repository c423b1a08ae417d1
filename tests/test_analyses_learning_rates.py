"""The best learning rate against batch size: exponents that are known, near-ties, bounds and too few points."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from summaries import summary

from bench.analyses.learning_rates import learning_rates

SIZES = [32, 64, 128, 256]
# What a person sees who draws each point a little off the line.
SCATTER = [1.05, 0.95, 1.04, 0.97]


def workload(rates, sizes=SIZES, **options):
    return [summary(size, 1000, learning_rate=rate, **options) for size, rate in zip(sizes, rates, strict=True)]


def rule(rows):
    """The record of the one workload's scaling rule."""
    (record,) = learning_rates(rows)[-1].records
    return record


def notes(rows):
    return " ".join(note for table in learning_rates(rows) for note in table.notes)


@pytest.mark.parametrize(("exponent", "name"), [(1, "linear"), (0.5, "square root"), (0, "neither"), (-1, "neither")])
def test_a_power_of_the_batch_size_gives_its_exponent_and_its_rule(exponent, name):
    found = rule(workload([0.01 * size**exponent for size in SIZES]))
    assert (found["exponent"], found["low"], found["high"]) == pytest.approx((exponent,) * 3, abs=1e-6)
    assert found["rule"] == name
    assert found["confidence"] == 0.9
    assert found["batch_sizes"] == SIZES


@given(exponent=st.floats(-2, 2), factor=st.floats(1e-3, 1e3))
def test_the_exponent_is_that_of_the_growth_whatever_the_unit(exponent, factor):
    assert rule(workload([factor * size**exponent for size in SIZES]))["exponent"] == pytest.approx(exponent, abs=1e-6)


def test_the_interval_is_students_by_hand():
    # log2 B = 0, 1, 2 and log2 lr = 0, 1, 1: slope 1/2, residuals -1/6, 1/3, -1/6, so that the slope's variance is
    # (1/6) / 1 / 2 = 1/12; Student's 95 % point with one degree of freedom is tan(0.45 pi) = 6.3138.
    found = rule(workload([1, 2, 2], sizes=[1, 2, 4]))
    assert found["exponent"] == pytest.approx(0.5)
    assert found["high"] - 0.5 == pytest.approx(math.tan(0.45 * math.pi) / math.sqrt(12))
    assert 0.5 - found["low"] == pytest.approx(math.tan(0.45 * math.pi) / math.sqrt(12))
    assert (found["allows"], found["rule"]) == (["linear", "square root"], "undecided")


@pytest.mark.parametrize(("exponent", "allowed"), [(1, "linear"), (0.5, "square root")])
def test_scatter_widens_the_interval_and_one_rule_may_stand(exponent, allowed):
    found = rule(workload([off * size**exponent for size, off in zip(SIZES, SCATTER, strict=True)]))
    assert found["low"] < exponent < found["high"]
    assert found["allows"] == [allowed]


def test_one_rule_is_not_decided_for_while_no_growth_is_as_likely():
    found = rule(workload([1, 1.4, 1.1, 1.6]))
    assert found["low"] < 0 < 0.5 < found["high"] < 1
    assert found["allows"] == ["square root"]
    assert found["rule"] == "undecided"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_batch_sizes_give_no_fit_and_that_is_said(count):
    rows = workload([0.1, 0.2][:count], sizes=SIZES[:count])
    found = rule(rows)
    assert (found["exponent"], found["allows"], found["rule"]) == (None, None, "undecided")
    assert f"w: no fit; it takes 3 batch sizes or more, and has {count}." in notes(rows)


def test_a_study_without_a_best_trial_gives_no_point():
    rows = [
        *workload([1, 2, 4], sizes=[1, 2, 4]),
        summary(8, None),
        summary(16, 100, status="not measured"),
        summary(32, 100, status="infeasible"),
    ]
    table, _ = learning_rates(rows)
    assert rule(rows)["batch_sizes"] == [1, 2, 4]
    assert [row[1] for row in table.rows] == ["1,000", "1,000", "1,000", "none", "", ""]
    assert [record["learning_rate"] for record in table.records] == [1, 2, 4, None, None, None]


def test_the_effective_learning_rate_is_fitted_where_there_is_momentum():
    # The learning rate stays, 1 - momentum halves with every doubling of the batch.
    rows = [summary(size, 100, learning_rate=0.1, momentum=1 - 8 / size) for size in SIZES]
    found = rule(rows)
    assert found["quantity"] == "effective_learning_rate"
    assert found["exponent"] == pytest.approx(1)
    table = learning_rates(rows)[0]
    assert [record["effective_learning_rate"] for record in table.records] == pytest.approx(
        [0.1 * size / 8 for size in SIZES]
    )
    assert "effective learning rate" in table.columns


@pytest.mark.parametrize("optimizer", ["momentum(momentum=0.75)", "SGD(momentum=0.75, nesterov=True)"])
def test_a_momentum_that_the_suite_gives_the_optimizer_counts(optimizer):
    (record,) = learning_rates([summary(32, 100, learning_rate=0.1, optimizer=optimizer)])[0].records
    assert (record["momentum"], record["effective_learning_rate"]) == (0.75, pytest.approx(0.4))


def test_a_momentum_that_the_archive_does_not_hold_is_not_made_up():
    rows = workload([1, 2, 4, 8], optimizer="nesterov")
    assert learning_rates(rows)[0].records[0]["momentum"] is None
    assert "effective learning rate" not in learning_rates(rows)[0].columns
    assert rule(rows)["quantity"] == "learning_rate"
    assert "the momentum is the optimizer's own" in notes(rows)
    assert "the momentum is the optimizer's own" not in notes(workload([1, 2, 4, 8]))


@pytest.mark.parametrize(
    ("steps", "resolution", "last"),
    [
        (723, 34 / 723, 759),  # evaluated at 689, 723, 759: the next is seen
        (40, 1 / 40, 42),  # at 39, 40, 42: gaps are whole numbers
        (128, 1.0, 256),  # at 128, 256: the first evaluation
        (100, 0.9, 200),  # at 10, 100, as only an imported archive may have it: at most twice the best
    ],
)
def test_a_near_tie_met_the_target_at_the_best_evaluation_or_the_next(steps, resolution, last):
    tied = [(steps, {"learning_rate": 0.05}), (last, {"learning_rate": 0.4})]
    later = [(last + 1, {"learning_rate": 3.0})]
    row = summary(32, steps, learning_rate=0.1, resolution=resolution, attempts=[*tied, *later])
    (record,) = learning_rates([row])[0].records
    assert record["near_ties"] == 2
    assert (record["learning_rate_low"], record["learning_rate"], record["learning_rate_high"]) == (0.05, 0.1, 0.4)
    assert learning_rates([row])[0].rows[0][2:] == ["2", "0.1 [0.05, 0.4]"]


def test_the_interval_of_the_effective_learning_rate_is_over_trials_not_over_ends():
    # 0.1/(1 - 0.9) = 1; 0.4/(1 - 0.5) = 0.8: the smaller learning rate has the larger effect.
    tied = [(100, {"learning_rate": 0.4, "momentum": 0.5})]
    (record,) = learning_rates([summary(32, 100, learning_rate=0.1, momentum=0.9, attempts=tied)])[0].records
    assert record["effective_learning_rate"] == pytest.approx(1)
    assert record["effective_learning_rate_low"] == pytest.approx(0.8)
    assert record["effective_learning_rate_high"] == pytest.approx(1)


def test_a_best_trial_alone_has_no_interval():
    assert learning_rates([summary(32, 100, learning_rate=0.1)])[0].rows[0][2:] == ["0", "0.1"]


@pytest.mark.parametrize(("slack", "said"), [(1.0, True), (1.25, False), (None, False)])
def test_a_race_hides_near_ties_and_says_how_to_see_more(slack, said):
    assert ("'race: {slack: 1.25}' shows more" in notes([summary(32, 100, slack=slack)])) is said


@pytest.mark.parametrize(("edge", "side"), [("high", "at least"), ("low", "at most")])
def test_a_best_value_at_an_edge_is_a_bound_that_the_fit_leaves_out(edge, side):
    rows = [*workload([1, 2, 4], sizes=[1, 2, 4]), summary(8, 100, learning_rate=4, at_edge={"learning_rate": edge})]
    found = rule(rows)
    assert (found["batch_sizes"], found["left_out"]) == ([1, 2, 4], [8])
    assert found["exponent"] == pytest.approx(1)
    assert f"batch size 8: the best learning rate is at the {edge} edge of its range" in notes(rows)
    assert f"a bound: the best is {side} that; the fit leaves it out." in notes(rows)
    table = learning_rates(rows)[0]
    assert table.rows[3][3] == f"4 ({edge} edge)"
    assert [record["fitted"] for record in table.records] == [True, True, True, False]
    assert table.records[3]["learning_rate_edge"] == edge


def test_with_too_many_bounds_no_fit_is_made_and_the_bounds_are_counted():
    rows = [*workload([1, 2], sizes=[1, 2]), summary(4, 100, learning_rate=4, at_edge={"learning_rate": "high"})]
    assert rule(rows)["exponent"] is None
    assert "has 2, with 1 at an edge of a range left out." in notes(rows)
    assert "is at least that; no fit is made." in notes(rows)


def test_a_momentum_at_its_edge_bounds_the_effective_learning_rate_too():
    rows = [
        *[summary(size, 100, learning_rate=size, momentum=0.9) for size in (1, 2, 4)],
        summary(8, 100, learning_rate=8, momentum=0.99, at_edge={"momentum": "high", "weight_decay": "low"}),
    ]
    assert rule(rows)["left_out"] == [8]
    assert "the best momentum is at the high edge" in notes(rows)
    assert "weight" not in notes(rows)


def test_each_workload_has_a_table_and_all_share_the_last():
    rows = [*workload([1, 2, 4, 8], workload="a"), *workload([1, 1, 1, 1], workload="b")]
    tables = learning_rates(rows)
    assert [table.title.partition(":")[0] for table in tables] == ["a", "b", "scaling rules"]
    assert [record["workload"] for record in tables[-1].records] == ["a", "b"]


@pytest.mark.parametrize("space", [{"learning_rate": 0.1}, {}])
def test_a_learning_rate_that_was_not_searched_is_no_best_one(space):
    assert learning_rates([summary(32, 100, space=space)]) == []
    assert learning_rates([]) == []


@pytest.mark.parametrize("values", [{"learning_rate": 0.0}, {"learning_rate": "fast"}])
def test_a_rate_without_a_logarithm_gives_no_point(values):
    assert rule([summary(32, 100, metaparameters=values)])["batch_sizes"] == []


def test_records_are_plain_values_and_json():
    rows = [*workload([1, 2, 4, 8], momentum=0.5), summary(512, None), summary(1024, 9, status="not measured")]
    for table in learning_rates(rows):
        assert len(table.records) == len(table.rows)
        json.dumps(table.records, allow_nan=False)
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert set(table.spare) | table.numeric <= set(table.columns)
        for style in ("table", "markdown", "latex"):
            assert table.title in table.render(style)


# ---- rules and curves that saturate --------------------------------------------------------------------------------

LADDER = [2**power for power in range(1, 14)]
CURVES = {
    "saturating": lambda size: 1 / (1 + 64 / size),
    "linear": lambda size: size / 1000,
    "square root": lambda size: size**0.5 / 30,
    "neither": lambda size: 0.1,
}


def best_of_sixteen(best, random):
    """The winner of 16 log-uniform draws about the best rate, whose steps rise with the squared distance from it."""
    low = math.log(best) - random.uniform(2.5, 4.4)
    draws = low + (numpy.arange(16) + random.uniform(0, 1, 16)) * 6.9 / 16
    steps = (draws - math.log(best)) ** 2 + random.normal(0, 0.15, 16)
    return float(numpy.exp(draws[steps.argmin()]))


def verdicts(curve, sizes, repeats=100):
    random = numpy.random.default_rng(0)
    return Counter(
        rule(workload([best_of_sixteen(curve(size), random) for size in sizes], sizes=sizes))["rule"]
        for _ in range(repeats)
    )


@pytest.mark.parametrize("sizes", [[8, 16, 32, 64, 128, 256, 512], LADDER], ids=["seven sizes", "thirteen"])
@pytest.mark.parametrize("name", CURVES)
def test_a_rule_is_named_where_the_rates_follow_it_and_seldom_elsewhere(name, sizes):
    found = verdicts(CURVES[name], sizes)
    if name != "square root":
        assert found["square root"] <= 5
    if name != "saturating":
        assert found["saturating"] <= 5
    if name != "linear":
        assert found["linear"] <= 5
    # A line through noise is told to have neither exponent as often as its 90 % interval says, one case of ten.
    assert found["neither"] <= 15 or name == "neither"
    if len(sizes) > 10:
        assert found[name] >= 80


def test_a_rate_that_saturates_is_told_where():
    found = rule(workload([CURVES["saturating"](size) for size in LADDER], sizes=LADDER))
    assert found["rule"] == "saturating"
    assert (found["saturates_at"], found["half_at_batch_size"]) == pytest.approx((1, 64), rel=0.05)
