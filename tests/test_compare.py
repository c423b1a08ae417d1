"""What a comparison says of every measure that either side has."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sides_by_hand import side, timed
from summaries import summary

from bench.conclude.compare import compare
from bench.show.publish.tables import comparison_table

BASE = [100, 104, 98, 110, 102]
SECONDS = [0.0100, 0.0102, 0.0101, 0.0099, 0.0103]


def study(seeds, size=32, seconds=(), tested=(), precision="fp32", steps=90, **changes):
    made = summary(size, steps, seeds=seeds, **changes)
    confirmed = made.confirmed and replace(made.confirmed, tested=tuple(tested))
    return replace(made, confirmed=confirmed, timed=timed(seconds, precision=precision) if seconds else None)


def rows(base, candidate, **environment):
    found = compare(side(*base), side(*candidate, name="candidate", **environment)).rows
    return {(row.batch_size, row.measure): row for row in found}


def differences(base, candidate, **environment):
    return {key: row.difference for key, row in rows(base, candidate, **environment).items()}


def test_both_directions_are_told_and_what_chance_explains_is_not():
    sizes = (1, 2, 4)
    base = [study(BASE, size) for size in sizes]
    factors = (1.6, 0.6, 1.01)
    found = rows(base, [study([f * v for v in BASE], size) for f, size in zip(factors, sizes, strict=True)])
    assert [row.difference for row in found.values()] == ["worse", "better", "~"]
    for row, factor in zip(found.values(), factors, strict=True):
        assert row.ratio.value == pytest.approx(factor)
        assert row.ratio.low <= factor <= row.ratio.high


SIZES = (1, 2, 4, 8, 16, 32, 64)


def several(best, size=32, rates=(0.1, 0.2, 0.3), learning_rate=0.1, **changes):
    """A study that confirmed three learning rates, the others a little slower than the best."""
    others = [({"learning_rate": rate}, [1.1 * value for value in best]) for rate in rates[1:]]
    return study(best, size, learning_rate=rates[0], others=others, **changes)


@pytest.mark.parametrize("factor", [2, 20])
@pytest.mark.parametrize("made", [study, several])
def test_a_regression_at_one_of_seven_batch_sizes_is_seen_by_five_seeds_a_side(made, factor):
    base = [made(BASE, size) for size in SIZES]
    worse = [factor * value for value in BASE]
    for candidate in (made(worse, 64), made(worse, 64, steps=90 * factor, learning_rate=0.4, budget=9999)):
        found = rows(base, [*base[:6], candidate])
        assert [row.difference for row in found.values()] == ["~"] * 6 + ["worse"]
        assert found[64, "steps_to_target"].ratio.low > 1.5


def test_where_every_seed_of_one_batch_size_of_seven_misses_it_is_seen():
    base = [study(BASE, size) for size in SIZES]
    found = rows(base, [*base[:6], study([math.inf] * 5, 64)])
    assert found[64, "steps_to_target"].difference == "worse"


def test_a_row_of_which_nothing_can_be_said_tells_what_it_would_have_seen():
    base = [several(BASE, size) for size in SIZES]
    comparison = compare(side(*base), side(*[several([1.02 * value for value in BASE], size) for size in SIZES]))
    for row in comparison.rows:
        assert 1.02 < row.detectable < 1.3
    table = comparison_table(comparison)
    assert table.rows[0][-1].startswith("~ (sees 1.")
    assert table.records[0]["detectable"] == comparison.rows[0].detectable
    found = rows(base, [*base[:6], several([1.02 * comparison.rows[6].detectable * value for value in BASE], 64)])
    assert found[64, "steps_to_target"].difference == "worse"


@pytest.mark.parametrize("rates", [(0.1, 0.2, 0.3), (0.1, 0.2, 0.4)])
def test_what_no_row_shows_the_workload_as_a_whole_does(rates):
    noisy = [100, 118, 88, 131, 95]
    base = [several(noisy, size) for size in SIZES]
    candidate = [several([1.12 * value for value in noisy], size, rates) for size in SIZES]
    comparison = compare(side(*base), side(*candidate))
    assert {row.difference for row in comparison.rows} == {"~"}
    (whole,) = comparison.pooled
    assert (whole.workload, whole.sizes, whole.difference) == ("w", 7, "worse")
    assert whole.ratio.low <= 1.12 <= whole.ratio.high
    assert ["w", "7 together", "steps to target"] in [row[:3] for row in comparison_table(comparison).rows]


def test_tuning_apart_makes_evidence_weaker():
    base = several(BASE)
    alike, apart = (
        rows([base], [several([1.2 * v for v in BASE], 32, rates)]) for rates in ((0.1, 0.2, 0.3), (1, 2, 3))
    )
    assert alike[32, "steps_to_target"].p < apart[32, "steps_to_target"].p


def test_p_values_of_steps_are_not_taxed_for_times():
    base, candidate = several(BASE, seconds=SECONDS), several([1.5 * v for v in BASE], seconds=SECONDS[::-1])
    alone = rows([several(BASE)], [several([1.5 * v for v in BASE])])[32, "steps_to_target"].p
    assert rows([base], [candidate])[32, "steps_to_target"].p == alone


def test_other_rules_of_steps_to_target_are_unlike():
    first = replace(study(BASE), rule="first")
    row = rows([first], [study(BASE)])[32, "steps_to_target"]
    assert (row.difference, row.note) == ("unlike", "steps to target were read by the rule first and are by isotonic")


def test_every_measure_has_a_row_and_throughput_is_better_when_it_rises():
    base = study(BASE, seconds=SECONDS, tested=[0.05] * 5)
    candidate = study(BASE, seconds=[value / 2 for value in SECONDS[::-1]], tested=[0.06, 0.05, 0.05, 0.06, 0.05])
    assert differences([base], [candidate]) == {
        (32, "steps_to_target"): "~",
        (32, "throughput"): "better",
        (32, "step_seconds"): "better",
        (32, "peak_memory"): "identical",
        (32, "test_error"): "~",
    }


def test_what_only_one_side_has_is_told():
    found = differences([study(BASE, 1), study(BASE, 2)], [study(BASE, 2), study(BASE, 4)])
    assert found[1, "steps_to_target"] == "only in base"
    assert found[4, "steps_to_target"] == "only in candidate"


@pytest.mark.parametrize("changed", [{"device": "another"}, {"torch": "2.16.0"}, {"device_type": "cuda"}])
def test_times_of_unlike_environments_are_marked_and_steps_are_compared(changed):
    found = differences([study(BASE, seconds=SECONDS)], [study([2 * v for v in BASE], seconds=SECONDS)], **changed)
    assert found[32, "throughput"] == found[32, "peak_memory"] == "unlike"
    assert found[32, "steps_to_target"] == "worse"


def test_unlike_targets_and_precisions_are_marked():
    other = study(BASE, threshold={"at_most": 0.2})
    assert differences([study(BASE)], [other])[32, "steps_to_target"] == "unlike"
    found = differences([study(BASE, seconds=SECONDS)], [study(BASE, seconds=SECONDS, precision="bf16")])
    assert found[32, "throughput"] == "unlike"


def only_timed(seconds=SECONDS):
    """A workload that was timed and has no target, as `bench time` leaves it."""
    clock = timed(seconds)
    made = study(BASE, seconds=seconds)
    return replace(made, study=clock.study, found=None, confirmed=None, timed=clock)


@pytest.mark.parametrize("candidate", [study(BASE, seconds=SECONDS, threshold={"at_most": 0.2}), only_timed()])
def test_times_are_compared_whatever_the_target(candidate):
    found = differences([study(BASE, seconds=SECONDS)], [candidate])
    assert (found[32, "throughput"], found[32, "step_seconds"], found[32, "peak_memory"]) == ("~", "~", "identical")


@pytest.mark.parametrize(("base", "name"), [(study(BASE), "candidate"), (only_timed(), "base")])
def test_what_was_only_timed_has_no_steps_and_no_target_that_could_differ(base, name):
    row = rows([base], [only_timed()])[32, "steps_to_target"]
    assert (row.difference, row.note) == ("~", f"{name}: not measured")


@pytest.mark.parametrize(
    ("candidate", "note"),
    [
        (study(BASE, status="not measured"), "candidate: not measured"),
        (summary(32, None), "candidate: no trial met the target in 10,000 steps"),
        (summary(32, 90), "candidate: not confirmed with fresh seeds"),
        (study([100]), "one value says nothing of its spread"),
    ],
)
def test_where_nothing_can_be_said_the_reason_is(candidate, note):
    row = rows([study(BASE)], [candidate])[32, "steps_to_target"]
    assert (row.difference, row.note) == ("~", note)


def test_what_did_not_fit_in_memory_is_told():
    candidate = replace(study(BASE), timed=timed([0.01] * 5, infeasible=True))
    for row in (rows([study(BASE, seconds=SECONDS)], [candidate])[32, name] for name in ("throughput", "peak_memory")):
        assert (row.difference, row.note) == ("~", "candidate: did not fit in memory")


def test_what_was_not_timed_is_told_as_that_whatever_else_it_is():
    row = rows([study(BASE, seconds=SECONDS)], [study(BASE, status="not measured")])[32, "throughput"]
    assert row.note == "candidate: not timed"


def test_misses_leave_the_ratio_unresolved_and_the_verdict_to_their_order():
    row = rows([study(BASE)], [study([math.inf] * 4 + [250.0])])[32, "steps_to_target"]
    assert not row.ratio.resolved
    assert row.difference == "worse"
    text = comparison_table(compare(side(study(BASE)), side(study([math.inf] * 4 + [250.0])))).render("table")
    assert ">270 [250, >270]" in text
    assert "unresolved" in text


def test_the_geometric_mean_of_ratios_stands_last():
    base = [study(BASE, size) for size in (1, 2)]
    candidate = [study([f * v for v in BASE], size) for f, size in ((2, 1), (0.5, 2))]
    found = compare(side(*base), side(*candidate))
    assert found.means["steps_to_target"] == (pytest.approx(1.0), 2)
    assert comparison_table(found).rows[-1][0] == "geometric mean"


def test_the_table_says_where_devices_differ():
    notes = comparison_table(compare(side(study(BASE)), side(study(BASE), device="another"))).notes
    assert any("the base was measured on a processor, the candidate on another" in note for note in notes)
