"""Analyses of batch sizes: what they conclude, and what they refuse to."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from summaries import summary

from bench.analyses.advice import advice
from bench.analyses.batch_scaling import batch_scaling
from bench.analyses.critical_batch import critical_batch
from bench.analyses.learning_rates import learning_rates
from bench.analyses.noise_scale import adaptive_gain, average, noise_scale
from bench.analyses.probes import probes
from bench.analyses.steps_to_target import steps_to_target
from bench.ask import components
from bench.numbers import interval
from bench.show import report
from bench.stats import Interval

SIZES = [8, 16, 32, 64, 128, 256, 512]


def rows(least_steps=100, critical=64, sizes=SIZES, seeds=5, **changes):
    """A workload whose steps follow S_min (1 + B_crit/B), the seeds 2 % apart."""
    found = []
    for size in sizes:
        steps = least_steps * (1 + critical / size)
        spread = [steps * (1 + 0.02 * (place - seeds // 2)) for place in range(seeds)]
        found.append(summary(size, round(steps), seeds=spread, resolution=0.01, **changes))
    return found


@pytest.mark.parametrize("name", components.names("analyses"))
def test_an_analysis_says_nothing_where_it_does_not_apply_and_never_writes_a_nan(name):
    analyse = components.find("analyses", name).load()
    assert analyse([]) == []
    cases = [
        rows(),
        [summary(8, None)],
        [summary(8, None, status="infeasible"), summary(16, None, status="not measured")],
        [summary(8, 100, seeds=[math.inf] * 5), summary(16, 50, seeds=[50, math.inf, math.inf])],
        [summary(8, 100, seeds=[100]), summary(16, 100)],
        rows(sizes=[8, 16]),
        rows(growth={"double_at": [100]}),
        [summary(8, None, growth={"adaptive": "norm_test", "eta": 0.5, "most": 64})],
    ]
    for case in cases:
        for table in analyse(case):
            json.dumps(table.records, allow_nan=False)
            assert all(len(row) == len(table.columns) for row in table.rows)
            assert "nan" not in table.render("table").lower().replace("nanometre", "")


def test_every_analysis_has_its_place_in_the_order_they_are_shown_in():
    assert sorted(report.analyses()) == components.names("analyses")
    assert report.analyses()[0] == "steps_to_target"
    assert report.analyses()[-1] == "advice"


# ---- batch_scaling and critical_batch ---------------------------------------------------------------------------


def test_scaling_goes_from_perfect_to_none():
    (table,) = batch_scaling(rows(critical=400, sizes=[2**power for power in range(2, 15)]))
    regimes = [row["regime"] for row in table.records]
    assert regimes[0] == "perfect scaling"
    assert "diminishing returns" in regimes
    assert regimes[-1] == "maximal data parallelism"
    assert any("perfect scaling up to batch size 7" in note for note in table.notes)  # 0.18 of 400


def test_a_miss_stands_in_the_scaling_table_as_beyond_what_was_tried():
    (table,) = batch_scaling([summary(8, 100, seeds=[100] * 5), summary(16, 70, seeds=[math.inf] * 5, budget=210)])
    assert table.rows[1][1] == ">210"
    assert table.records[1]["steps_to_target"] is None
    assert table.records[1]["regime"] == "undecided"


def test_the_critical_batch_size_is_found_with_its_interval():
    (table,) = critical_batch(rows(least_steps=100, critical=64))
    (record,) = table.records
    assert record["critical_batch"]["value"] == pytest.approx(64, rel=0.02)
    assert record["critical_batch"]["low"] < 64 < record["critical_batch"]["high"]
    assert record["overhead_batch"]["value"] == pytest.approx(64 / 5 + 1.2 * 8, rel=0.02)
    assert record["doubts"] == []


def test_a_workload_with_one_batch_size_has_no_critical_one():
    assert critical_batch(rows(sizes=[8])) == []
    assert advice(rows(sizes=[8])) == []


def test_the_fits_of_exponent_one_and_of_a_free_one_stand_side_by_side():
    (table,) = critical_batch(rows(least_steps=100, critical=64))
    assert table.columns[2:4] == ["exponent 1", "free exponent"]
    (record,) = table.records
    assert record["exponent"] == record["exponent_one"]["exponent"] == 1
    assert record["free_exponent"]["exponent"] == pytest.approx(1, abs=0.01)
    assert record["free_exponent"]["critical_batch"] == pytest.approx(64, rel=0.02)
    (few,) = critical_batch(rows(sizes=[8, 64, 512]))
    assert few.columns[2:] == ["exponent 1", "measured / fitted"]


def test_a_miss_beyond_the_turn_spoils_neither_fit_nor_advice():
    found = [summary(size, steps, seeds=[steps] * 5) for size, steps in zip([4, 8, 16, 32, 64], LINEAR, strict=True)]
    missed = summary(512, 40, seeds=[math.inf] * 5, budget=2000)
    (without,), (table,) = critical_batch(found), critical_batch([*found, missed])
    assert table.records[0]["critical_batch"]["value"] == pytest.approx(without.records[0]["critical_batch"]["value"])
    assert any("steps rise with the batch size there, and the fit leaves these out" in note for note in table.notes)
    (advised,) = advice([*found, missed])
    assert advised.notes[0].startswith("advice: use batch size 64")


LINEAR = [375, 304, 95, 70, 40]


@pytest.mark.parametrize("resolution", [0.05, 1.0])
def test_points_that_have_no_fit_give_the_reason_and_no_advice(resolution):
    """Steps that rise, and steps that were all met at the first evaluation."""
    found = [summary(size, 10 * size, seeds=[10 * size] * 5, resolution=resolution) for size in (8, 16, 32, 64)]
    if resolution == 1:
        found = [with_first(row) for row in found]
    (fitted,), (advised,) = critical_batch(found), advice(found)
    reason = "met at the first evaluation" if resolution == 1 else "does not describe them"
    assert fitted.notes[0].startswith("no fit: ")
    assert advised.notes[0].startswith("no advice by steps")
    for table in (fitted, advised):
        assert reason in table.notes[0]
        assert "B_crit 0" not in table.notes[0]
        assert len(table.rows) == 4
    assert fitted.rows[0][1] == ("at most 80" if resolution == 1 else "80")
    assert {record["regime"] for record in batch_scaling(found)[0].records} == {"undecided"}


def with_first(row):
    """The study, with every target met at the first evaluation."""
    candidates = tuple(
        replace(each, each=tuple(crossed._replace(after=0, first=True) for crossed in each.each))
        for each in row.confirmed.candidates
    )
    return replace(row, confirmed=replace(row.confirmed, candidates=candidates))


def test_workloads_are_fitted_apart():
    tables = critical_batch([*rows(workload="a"), *rows(critical=512, workload="b")])
    assert [table.records[0]["label"] for table in tables] == ["a", "b"]
    assert tables[1].records[0]["critical_batch"]["value"] == pytest.approx(512, rel=0.05)


def test_a_regime_of_one_seed_is_said_to_leave_the_seeds_out():
    (table,) = batch_scaling([summary(8, 100), summary(16, 50, seeds=[50] * 5)])
    assert any("doubt: one seed at batch size 8:" in note for note in table.notes)
    (table,) = batch_scaling(rows())
    assert not any("one seed" in note for note in table.notes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(2.0, 1.0, 3.0), "2 [1, 3]"),
        (Interval(2.0, 0.0, math.inf), "2"),
        (Interval(math.nan, 0.0, 3.0), "unresolved, below 3"),
        (Interval(math.nan, 6995.0, math.inf), "unresolved, above 6,995"),
        (Interval(math.nan, 0.0, math.inf), "unresolved"),
        (Interval(math.nan, math.nan, math.nan), "unresolved"),
        (Interval(1e130, 1e14, 2e15), "1e+130 [100,000,000,000,000, 2e+15]"),
    ],
)
def test_an_interval_is_written_with_what_it_says_and_no_more(value, text):
    assert interval(value) == text


# ---- noise_scale ------------------------------------------------------------------------------------------------


def probed(*paths):
    """What `noise_scale` saw of each seed, from {step: (tr(Sigma), |G|^2)}."""
    return [
        {
            "noise_scale.noise_trace": {step: trace for step, (trace, _) in path.items()},
            "noise_scale.gradient_squared": {step: squared for step, (_, squared) in path.items()},
        }
        for path in paths
    ]


def test_the_average_noise_scale_weighs_steps_as_mccandlish_et_al_do():
    # B is 4 for 10 steps and 100 for 30, linear in neither: constant over each stretch but for one step between.
    path = {0: (4.0, 1.0), 10: (4.0, 1.0), 11: (100.0, 1.0), 41: (100.0, 1.0)}
    batch_size = 20
    worth = [1 / (1 + scale / batch_size) for scale in (4, 100)]
    between = [(4 * worth[0] + 100 * worth[1]) / 2, (worth[0] + worth[1]) / 2]
    examples = 10 * 4 * worth[0] + 30 * 100 * worth[1] + between[0]
    steps = 10 * worth[0] + 30 * worth[1] + between[1]
    assert average([path] * 3, batch_size).value == pytest.approx(examples / steps)


def test_a_constant_noise_scale_is_its_own_average_at_every_batch_size():
    path = {step: (50.0 / (1 + step), 0.5 / (1 + step)) for step in (0, 1, 2, 4, 8, 16, 30)}
    for batch_size in (1, 100, 10_000):
        assert average([path, path], batch_size).value == pytest.approx(100)


def test_a_gradient_that_noise_hides_at_some_steps_is_averaged_before_it_is_divided():
    # |G|^2 is 1, seen as 3 and -1 by turns: ratios would be meaningless, their estimates average to the truth.
    seeds = [{step: (100.0, 3.0 if (step + seed) % 2 else -1.0) for step in range(40)} for seed in range(4)]
    assert average(seeds, 64).value == pytest.approx(100, rel=0.02)


def test_a_noise_scale_that_is_not_resolved_is_said_to_be_so():
    (table,) = noise_scale([summary(8, 100, seeds=[100, 100], probed=probed({0: (5.0, -1.0)}, {0: (5.0, -2.0)}))])
    assert table.rows[0][1] == "unresolved"
    assert table.records[0]["start"]["value"] is None


def test_the_noise_scale_predicts_the_curve_it_is_the_critical_batch_size_of():
    paths = [{0: (64.0, 1.0), 50: (64.0, 1.0), 100: (64.0, 1.0)}] * 5
    (table,) = noise_scale(rows(critical=64, probed=probed(*paths)))
    for record in table.records:
        assert record["start"]["value"] == record["end"]["value"] == pytest.approx(64)
        assert record["predicted_steps"] == pytest.approx(record["steps_to_target"], rel=0.001)


def test_curvature_takes_the_place_of_the_simple_noise_scale_where_it_was_measured():
    seen = [
        {**paths, "curvature_noise.noise_curvature": {0: 30.0}, "curvature_noise.gradient_curvature": {0: 2.0}}
        for paths in probed({0: (5.0, 1.0)}, {0: (5.0, 1.0)})
    ]
    (table,) = noise_scale([summary(8, 100, seeds=[100, 100], probed=seen)])
    assert table.records[0]["curved_average"]["value"] == pytest.approx(15)
    assert "B_noise average" in table.columns


def test_a_noise_scale_that_grows_as_the_root_of_the_step_gives_the_known_gain():
    # With batches far above the noise scale a step is worth a step: McCandlish et al.'s example, 24/25.
    path = {step: (10 * math.sqrt(step), 1.0) for step in range(1, 20_000, 7)}
    assert adaptive_gain([path], 10**9) == pytest.approx(24 / 25, rel=1e-3)
    assert adaptive_gain([dict.fromkeys(range(9), (50.0, 1.0))], 64) == pytest.approx(1)


# ---- probes -----------------------------------------------------------------------------------------------------


def test_probes_are_shown_at_the_start_and_at_the_end_of_each_path():
    seen = [{"sharpness.largest_eigenvalue": {0: 1.0 + seed, 5: 2.0, 10 + seed: 30.0 + seed}} for seed in range(3)]
    both = [{**one, **other} for one, other in zip(seen, probed(*[{0: (5.0, 1.0)}] * 3), strict=True)]
    (table,) = probes([summary(8, 100, seeds=[100] * 3, probed=both), summary(16, 50, seeds=[50] * 3)])
    assert table.rows == [["8", "sharpness.largest_eigenvalue", "2", "31"]]
    assert table.records[0]["seeds"] == 3
    assert probes([summary(8, 100, seeds=[100] * 3, probed=probed(*[{0: (5.0, 1.0)}] * 3))]) == []


def test_the_document_has_the_whole_path_that_a_probe_saw():
    seen = [{"gradient_norm.norm": {0: 3.0, 1: 2.5, 4: 1.0}}, {"gradient_norm.norm": {0: 3.5}}]
    assert report._study(summary(8, 100, seeds=[100] * 2, probed=seen), [])["probes"] == [
        {"gradient_norm.norm": {"steps": [0, 1, 4], "values": [3.0, 2.5, 1.0]}},
        {"gradient_norm.norm": {"steps": [0], "values": [3.5]}},
    ]
    assert report._study(summary(8, None), [])["probes"] == []


# ---- advice -----------------------------------------------------------------------------------------------------


def test_advice_names_the_soonest_the_cheapest_and_the_knee():
    (table,) = advice(rows(least_steps=100, critical=64))
    assert {record["choice"]: record["batch_size"] for record in table.records} == {
        "soonest": 512,
        "cheapest": 8,
        "knee": 64,
    }
    sentence = table.notes[0]
    assert sentence.startswith("advice: use batch size 64")
    assert "4.5x fewer steps than batch size 8 for 1.8x its examples" in sentence
    assert "batch size 512 would be 1.8x sooner still for 4.5x the examples" in sentence


def test_of_two_batch_sizes_that_take_as_many_steps_the_smaller_is_the_soonest():
    (table,) = advice([summary(size, 50, seeds=[50] * 5) for size in (8, 16, 32, 64)])
    assert {record["batch_size"] for record in table.records if record["choice"] != "knee"} == {8}
    assert "both the soonest and the cheapest" in table.notes[0]


def test_the_knee_is_beaten_in_both_steps_and_examples_by_none():
    steps = {8: 98, 16: 56, 32: 42, 64: 20, 128: 25}
    (table,) = advice([summary(size, median, seeds=[median] * 5) for size, median in steps.items()])
    assert {record["choice"]: record["batch_size"] for record in table.records} == {
        "soonest": 64,
        "cheapest": 8,
        "knee": 64,
    }


def test_of_two_batch_sizes_that_take_as_many_examples_the_larger_is_the_cheapest():
    (table,) = advice([summary(size, 6400 // size, seeds=[6400 // size] * 5) for size in (8, 16, 32, 64)])
    assert {record["batch_size"] for record in table.records} == {64}
    assert "both the soonest and the cheapest" in table.notes[0]


def test_advice_carries_the_doubts_of_its_fit_and_of_its_intervals():
    (table,) = advice([summary(8, 100, seeds=[90, 95, 100, 105, 110]), summary(16, 60, seeds=[40, 60, 65, 70, 99])])
    doubts = [note for note in table.notes if note.startswith("doubt")]
    assert any("2 batch sizes met the target" in doubt for doubt in doubts)
    assert any("overlaps that of batch size 8" in doubt for doubt in doubts)


# ---- steps_to_target, of batches that grow, and of values close to one -----------------------------------------------


def test_a_batch_that_grows_is_counted_in_examples_and_is_on_no_curve_of_batch_sizes():
    growing = [summary(size, 100, seeds=[90, 100, 110], growth={"double_at": [500, 900]}) for size in (8, 16, 32)]
    (table,) = steps_to_target(growing)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["starts at"] == "8"
    assert row["examples to target"] == "800 [720, 880]"
    assert row["search"] == "800 (-4%)"
    assert "doubles after 500, 900 examples" in table.notes[0]
    assert "steps to target" not in table.columns
    assert batch_scaling(growing) == critical_batch(growing) == advice(growing) == []
    missed = summary(8, 100, seeds=[math.inf] * 3, growth={"adaptive": "noise_scale", "most": 64})
    (table,) = steps_to_target([missed])
    assert dict(zip(table.columns, table.rows[0], strict=True))["examples to target"] == ">2,400 [>2,400, >2,400]"
    assert "grows by noise scale, to at most 64" in table.notes[0]


def test_what_a_scaling_rule_gave_is_shown_and_a_decay_close_to_one_is_told_from_one():
    space = {"learning_rate": {"at": 8, "value": 0.1, "scale": "linear"}, "beta2": {"half_life": 1e4}}
    (table,) = steps_to_target([summary(8, 100, metaparameters={"beta2": 0.99975}, space=space)])
    best = dict(zip(table.columns, table.rows[0], strict=True))["best"]
    assert best == "learning_rate 0.1, beta2 0.99975"
    assert learning_rates([summary(8, 100, metaparameters={"beta2": 0.99975}, space=space)]) == []
