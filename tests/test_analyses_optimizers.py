"""Optimizers side by side: profile and score by hand, and what counts for nobody."""

from __future__ import annotations

import json
import math
import statistics

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from summaries import summary

from bench.analyses.optimizers import best_of, optimizers, profile, score

MISS = math.inf
RATIOS = st.lists(st.floats(1, 10) | st.just(MISS), min_size=1, max_size=8)


def workload(optimizer, steps, **options):
    """A workload named after its optimizer, its steps by batch size; a miss met the target in the search alone."""
    rows = []
    for size, median in steps.items():
        seeds = [median] * 5 if median is not None else []
        found = 100 if median == MISS else median
        rows.append(summary(size, found, seeds=seeds, optimizer=optimizer, workload=f"w-{optimizer}", **options))
    return rows


def both(rows):
    """The records of both tables of the one group, the second by optimizer."""
    steps, scores = optimizers(rows)
    return steps.records, {record["optimizer"]: record for record in scores.records}


def notes(rows):
    return " ".join(note for table in optimizers(rows) for note in table.notes)


THREE = [
    *workload("sgd", {32: 100, 64: 300, 128: 160}),
    *workload("momentum", {32: 150, 64: 100, 128: MISS}),
    *workload("adam", {32: 400, 64: 200, 128: 80}),
]


def test_the_profile_and_the_score_of_three_optimizers_by_hand():
    # r of sgd: 1, 3, 2; of momentum: 1.5, 1, a miss; of adam: 4, 2, 1.
    _, found = both(THREE)
    assert found["sgd"]["ratios"] == [1, 3, 2]
    assert found["momentum"]["ratios"] == [1.5, 1, None]
    assert found["adam"]["ratios"] == [4, 2, 1]
    assert found["sgd"]["tau"] == [1, 1.5, 2, 4]
    assert found["sgd"]["within"] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])
    assert found["momentum"]["within"] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert found["adam"]["within"] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])
    assert found["sgd"]["score"] == pytest.approx((1 + 1 / 3 + 2 / 3) / 3)
    assert found["momentum"]["score"] == pytest.approx((5 / 6 + 1 + 0) / 3)
    assert found["adam"]["score"] == pytest.approx((0 + 2 / 3 + 1) / 3)


def test_steps_stand_side_by_side_and_a_miss_is_beyond_its_budget():
    table, _ = optimizers(THREE)
    assert table.columns == ["batch size", "sgd", "momentum", "adam"]
    assert table.rows == [["32", "100", "150", "400"], ["64", "300", "100", "200"], ["128", "160", ">300", "80"]]
    assert table.records[2]["steps_to_target"] == [160, None, 80]
    assert table.records[2]["status"] == ["met", "missed", "met"]
    assert table.records[2]["tried"] == [480, 300, 240]


def test_a_search_in_which_no_trial_met_the_target_is_a_miss_too():
    rows = [*workload("sgd", {32: 100}), *workload("adam", {32: None}, max_steps=7000)]
    (steps,), found = both(rows)
    assert (steps["status"], steps["tried"]) == (["met", "missed"], [300, 7000])
    assert optimizers(rows)[0].rows == [["32", "100", ">7,000"]]
    assert (found["adam"]["within"], found["adam"]["score"]) == ([0, 0, 0, 0], 0)
    assert (found["sgd"]["within"], found["sgd"]["score"]) == ([1, 1, 1, 1], 1)


def test_most_seeds_missing_is_a_miss_and_fewer_are_not():
    def row(seeds, optimizer):
        return summary(32, 100, seeds=seeds, optimizer=optimizer, workload=optimizer)

    (steps,), _ = both([row([90, 100, 110, MISS, MISS], "sgd"), row([90, 100, MISS, MISS, MISS], "adam")])
    assert steps["steps_to_target"] == [110, None]


def test_a_cell_that_every_optimizer_missed_counts_for_none():
    rows = [*workload("sgd", {32: 100, 64: MISS}), *workload("adam", {32: 200, 64: None})]
    _, found = both(rows)
    assert found["sgd"]["batch_sizes"] == [32]
    assert (found["sgd"]["score"], found["adam"]["score"]) == (1, pytest.approx(2 / 3))
    assert "counts for none, for every optimizer missed there: batch size 64." in notes(rows)


@pytest.mark.parametrize("status", ["not measured", "infeasible"])
@pytest.mark.parametrize("found", [10, None])
def test_a_cell_that_not_every_optimizer_measured_is_left_out_and_is_no_miss(status, found):
    rows = [
        *workload("sgd", {16: 500, 32: 100, 64: 50}),
        *workload("adam", {32: 200}),
        *workload("adam", {64: found}, status=status),
    ]
    table, _ = optimizers(rows)
    assert table.rows == [["16", "500", ""], ["32", "100", "200"], ["64", "50", ""]]
    assert "Blank: not measured." in notes(rows)
    _, scores = both(rows)
    assert scores["adam"]["batch_sizes"] == [32]
    assert scores["adam"]["score"] == pytest.approx(2 / 3)
    assert "left out, for not every optimizer was measured there: 2 batch sizes, 16, 64." in notes(rows)


def test_without_a_shared_cell_there_is_no_score_and_that_is_said():
    rows = [*workload("sgd", {32: 100}), *workload("adam", {64: 100})]
    _, found = both(rows)
    assert (found["sgd"]["score"], found["sgd"]["within"]) == (None, None)
    assert "no batch size counts" in notes(rows)
    assert all(len(row) == len(table.columns) for table in optimizers(rows) for row in table.rows)


def test_perfect_scaling_ends_at_another_batch_size_for_another_optimizer():
    critical = {"sgd": 512, "momentum": 2048, "adam": 30}  # of which 0.18 is 92, 369 and 5
    rows = [
        row
        for name, batch in critical.items()
        for row in workload(name, {size: round(1000 * (1 + batch / size)) for size in SIZES}, resolution=0.001)
    ]
    _, found = both(rows)
    assert [found[name]["perfect_scaling_until"] for name in critical] == [64, 256, None]
    assert [row[1] for row in optimizers(rows)[1].rows] == ["64", "256", "not seen"]


SIZES = [16 * 2**place for place in range(9)]


def test_where_no_seed_was_asked_for_the_search_answers():
    rows = [summary(32, steps, optimizer=name, workload=name) for name, steps in (("sgd", 100), ("adam", 50))]
    assert optimizers(rows)[0].rows == [["32", "100", "50"]]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "mlp"},
        {"dataset": "fashion_mnist"},
        {"schedule": "linear"},
        {"precision": "bf16"},
        {"reading": "validation_loss"},
        {"threshold": {"below": 0.1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_workloads_that_differ_in_more_than_the_optimizer_are_not_compared(change):
    assert optimizers([*workload("sgd", {32: 100}), *workload("adam", {32: 100}, **change)]) == []


def test_one_optimizer_has_nothing_beside_it():
    assert optimizers(workload("sgd", {32: 100})) == []
    assert optimizers([summary(32, 100, workload=name) for name in ("a", "b")]) == []
    assert optimizers([]) == []


def test_the_same_optimizer_twice_is_told_apart_by_its_workload():
    rows = [
        summary(32, steps, workload=name, optimizer=optimizer)
        for name, optimizer, steps in (("a", "sgd", 100), ("b", "sgd", 200), ("c", "adam", 300))
    ]
    assert optimizers(rows)[0].columns == ["batch size", "sgd, a", "sgd, b", "adam"]


def test_one_optimizer_tuned_afresh_and_by_a_scaling_rule_are_compared():
    tuned = [summary(size, steps, workload="tuned") for size, steps in ((8, 100), (16, 60))]
    space = {"learning_rate": {"at": 8, "value": 0.1, "scale": "linear"}}
    ruled = [summary(size, steps, workload="ruled", space=space) for size, steps in ((8, 100), (16, 90))]
    steps, _ = optimizers(tuned + ruled)
    assert steps.columns == ["batch size", "sgd, tuned", "sgd, ruled"]
    assert steps.rows == [["8", "100", "100"], ["16", "60", "90"]]
    # Of a batch that grows, steps are no steps of the optimizer.
    growing = [summary(size, 50, workload="growing", growth={"double_at": [9]}) for size in (8, 16)]
    assert [table.columns for table in optimizers(tuned + ruled + growing)] == [
        table.columns for table in optimizers(tuned + ruled)
    ]


def test_each_set_of_alike_workloads_has_its_own_tables():
    other = [
        *workload("sgd", {32: 100}, model="mlp"),
        *workload("adam", {32: 100}, model="mlp"),
    ]
    renamed = [summary(32, 70, workload=name, optimizer=name) for name in ("sgd", "adam")]
    titles = [table.title for table in optimizers([*renamed, *other])]
    assert [("softmax" in title, "mlp" in title) for title in titles] == [(True, False)] * 2 + [(False, True)] * 2


def test_optimizers_tuned_with_unlike_effort_are_said_to_be():
    rows = [*workload("sgd", {32: 100}, trials=16), *workload("adam", {32: 100}, trials=100)]
    assert "tuned with unlike effort, trials of the search: sgd 16; adam 100." in notes(rows)
    assert "unlike effort" not in notes(THREE)


@given(RATIOS)
def test_the_score_is_the_area_under_the_profile_from_one_to_four(ratios):
    width = 1e-3
    middles = [1 + width * (place + 0.5) for place in range(3000)]
    area = sum(profile(ratios, tau) for tau in middles) * width / 3
    assert score(ratios) == pytest.approx(area, abs=1e-3)


@given(RATIOS)
def test_the_profile_never_falls_and_ends_at_the_share_that_met(ratios):
    shares = [profile(ratios, tau) for tau in (1, 1.5, 2, 4, 10)]
    assert shares == sorted(shares)
    assert shares[-1] == sum(map(math.isfinite, ratios)) / len(ratios)


@given(st.permutations(range(3)), st.sampled_from([2, 3, 10]))
def test_the_score_asks_neither_for_the_order_of_optimizers_nor_for_the_unit_of_steps(order, times):
    names = ["sgd", "momentum", "adam"]
    steps = {"sgd": {32: 100, 64: 300}, "momentum": {32: 150, 64: 100}, "adam": {32: 400, 64: MISS}}
    rows = [
        row
        for place in order
        for row in workload(
            names[place],
            {size: value if value == MISS else value * times for size, value in steps[names[place]].items()},
        )
    ]
    scores = {name: record["score"] for name, record in both(rows)[1].items()}
    assert scores == pytest.approx({"sgd": 2 / 3, "momentum": (5 / 6 + 1) / 2, "adam": 0})


def test_records_are_plain_values_and_json():
    for table in optimizers([*THREE, *workload("muon", {32: None, 512: 7})]):
        assert len(table.records) == len(table.rows)
        json.dumps(table.records, allow_nan=False)
        for style in ("table", "markdown", "latex"):
            assert table.title in table.render(style)


# ---- how sure a score is -------------------------------------------------------------------------------------------


def noisy(label, factor, random, sizes=(8, 16, 32, 64, 128), **content):
    """A workload of three candidates with five seeds each, whose steps vary by 15 %."""
    rows = []
    for size in sizes:
        seeds = factor * 1000 / size * numpy.exp(random.normal(0, 0.15, (3, 5)))
        ordered = sorted(([*map(float, each)] for each in seeds), key=statistics.median)
        rest = [({"learning_rate": 0.1 * (place + 2)}, each) for place, each in enumerate(ordered[1:])]
        rows.append(
            summary(
                size,
                round(min(ordered[0])),
                seeds=ordered[0],
                others=rest,
                workload=label,
                optimizer=label,
                budget=10**6,
                **content,
            )
        )
    return rows


def scored(rows):
    return optimizers(rows)[-1]


def test_six_alike_are_seldom_told_apart_and_one_that_is_slower_is():
    random = numpy.random.default_rng(0)
    apart = 0
    for _ in range(20):
        alike = scored([row for label in "abcdef" for row in noisy(label, 1, random)])
        apart += "not told from one another as the best: a, b, c, d, e, f." not in alike.notes
    assert apart <= 2
    slower = scored([row for label, factor in (("a", 1), ("b", 1.6)) for row in noisy(label, factor, random)])
    assert not any("not told from one another" in note for note in slower.notes)
    low, high = (record for record in slower.records)
    assert low["score_low"] > high["score_high"]


def test_one_that_shares_no_batch_size_is_left_out_and_the_others_are_scored():
    random = numpy.random.default_rng(0)
    rows = [*noisy("a", 1, random), *noisy("b", 2, random), *noisy("c", 1, random, sizes=(3, 5))]
    table = scored(rows)
    assert [record["score"] is None for record in table.records] == [False, False, True]
    assert any("left out of the scores" in note and "others: c." in note for note in table.notes)


def test_spaces_of_unlike_dimensions_are_doubted_with_what_they_cost():
    random = numpy.random.default_rng(0)
    wide = {name: {"log_uniform": [0.1, 1.0]} for name in ("learning_rate", "weight_decay", "clip", "ema")}
    rows = [*noisy("a", 1, random), *noisy("b", 1, random, space=wide)]
    (doubt,) = [note for note in scored(rows).notes if note.startswith("doubt")]
    assert "a 1, 1x; b 4, 3x" in doubt
    assert not any(note.startswith("doubt") for note in scored([*noisy("a", 1, random), *noisy("b", 1, random)]).notes)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_cost_of_dimensions_is_that_of_the_nearest_draw(dimensions):
    random = numpy.random.default_rng(0)
    draws = random.uniform(-1, 1, (4000, 64 * 2**dimensions, dimensions))  # 64 in a volume of one, borders far away
    nearest = (draws**2).sum(2).min(1).mean()
    assert best_of(64, dimensions) == pytest.approx(2 ** (16 * nearest), rel=0.02)
