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


def study(seeds, size=32, seconds=(), tested=(), precision="fp32", **changes):
    made = summary(size, 90, seeds=seeds, **changes)
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
