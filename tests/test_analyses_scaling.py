"""Scaling over devices: the numbers of a machine whose laws are known, and where it says that more do not pay."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sides_by_hand import HERE
from summaries import summary

from bench.analyses.scaling import scaling
from bench.ask.suite import TimingOptions
from bench.conclude.measures import Process, Timed
from bench.keep.archive import StudyRecord

SECONDS_AN_EXAMPLE = 1e-5
SIZES = (64, 128, 256, 512, 1024)
COUNTS = (1, 2, 4, 8)


def study(batch_size, devices, step_seconds, steps=None, workload="w", environment=HERE, **changes):
    """A study on some devices, its step timed in three processes; trained where it has steps."""
    content = {"devices": devices} if devices > 1 else {}
    name = f"{workload}-devices={devices}"
    measure = {} if steps is not None else {"measure": "throughput"}
    made = summary(
        batch_size, steps, workload=name, seeds=[steps] * 5 if steps else (), **content, **measure, **changes
    )
    settings = {"measure": "throughput", "timing": TimingOptions(processes=3), **content}
    clocked = StudyRecord("t", name, batch_size, settings, True, ())
    processes = tuple(Process((step_seconds,), {}, True, environment) for _ in range(3))
    return replace(made, timed=Timed(clocked, processes, infeasible=False))


def machine(overhead=0.0, communication=0.0, steps=lambda size: None, counts=COUNTS, sizes=SIZES, **changes):
    """A step of b examples on each device takes c b + overhead, and on more devices than one a fixed time more."""
    return [
        study(
            size,
            count,
            SECONDS_AN_EXAMPLE * size / count + overhead + (communication if count > 1 else 0.0),
            steps(size),
            **changes,
        )
        for count in counts
        for size in sizes
    ]


def records(tables, kind, **where):
    return [
        record
        for table in tables
        for record in table.records
        if record["scaling"] == kind and all(record[key] == value for key, value in where.items())
    ]


def notes(tables, kind):
    (table,) = [table for table in tables if f": {kind} scaling" in table.title]
    return table.notes


def test_devices_that_cost_one_another_nothing_scale_perfectly():
    tables = scaling(machine())
    assert [table.title.split(",")[0] for table in tables] == ["w: strong scaling", "w: weak scaling"]
    for kind in ("strong", "weak"):
        assert records(tables, kind)
        assert all(record["efficiency"] == pytest.approx(1.0) for record in records(tables, kind))
    shares = [record["communication"] for record in records(tables, "weak") if record["communication"] is not None]
    assert shares == pytest.approx([0.0] * len(shares), abs=1e-9)
    assert notes(tables, "strong")[-1] == (
        "batch size 1,024: it still pays on 8 devices, the most that were measured: each does 100% of what "
        "one of 1 does."
    )


def test_a_fixed_time_of_communication_gives_its_closed_form():
    """Strong: 1/(1 + n a/(c B)); weak: c b/(c b + a); its share of a step: a/(c b + a)."""
    wait = 1e-3
    tables = scaling(machine(communication=wait))
    for record in records(tables, "strong"):
        work, count = SECONDS_AN_EXAMPLE * record["batch_size"], record["devices"]
        assert record["efficiency"] == pytest.approx(1.0 if count == 1 else 1 / (1 + count * wait / work))
    for record in records(tables, "weak"):
        work, alone = SECONDS_AN_EXAMPLE * record["examples_on_each"], record["devices"] == 1
        base = min(each["devices"] for each in records(tables, "weak", examples_on_each=record["examples_on_each"]))
        if base == 1:
            assert record["efficiency"] == pytest.approx(1.0 if alone else work / (work + wait))
        if not alone and record["examples_on_each"] >= min(SIZES):
            assert record["communication"] == pytest.approx(wait / (work + wait))


def test_past_where_communication_takes_most_of_a_step_devices_do_not_pay():
    tables = scaling(machine(communication=1e-3, sizes=(128, 256, 512, 1024)))
    # Of 512 examples, 5.12 ms: 2 devices do 72 % each, 4 do 56 %, and 8 would do 39 %, but 64 were not timed alone.
    (said,) = [note for note in notes(tables, "strong") if note.startswith("batch size 512:")]
    assert said.startswith("batch size 512: past 4 devices it does not pay: a step with 64 examples on each of 8")
    tables = scaling(machine(communication=1e-3))
    (said,) = [note for note in notes(tables, "strong") if note.startswith("batch size 512:")]
    assert said == (
        "batch size 512: past 4 devices it does not pay: on 8 devices communication takes 61% of a step: 1.64 ms, of "
        "which 640 us train 64 examples on each."
    )


def test_parts_too_small_for_a_device_are_not_laid_on_communication():
    """Where a step takes about as long whatever it trains, a device does half as much with half of the batch."""
    tables = scaling(machine(overhead=0.05))
    (said,) = [note for note in notes(tables, "strong") if note.startswith("batch size 1,024:")]
    assert said.startswith("batch size 1,024: past 2 devices it does not pay: 256 examples are few for a device")
    assert all(
        record["communication"] == pytest.approx(0.0, abs=1e-6)
        for record in records(tables, "strong", batch_size=1024)
        if record["devices"] > 1
    )


def test_past_the_critical_batch_size_devices_do_not_pay_however_fast_they_are():
    """Steps S_min (1 + B_crit/B): n devices of b examples each take (n b + B_crit)/(b + B_crit) times the examples."""
    tables = scaling(machine(steps=lambda size: round(10_000 * (1 + 100 / size))))
    for record in records(tables, "weak", examples_on_each=64):
        expected = (64 + 100) / (record["batch_size"] + 100)
        assert record["efficiency"] == pytest.approx(1.0)
        assert record["efficiency_to_target"] == pytest.approx(expected, rel=1e-3)
    (said,) = [note for note in notes(tables, "weak") if note.startswith("64 on each device:")]
    # 4 devices: 164/356, less than a half.
    assert said.startswith(
        "64 on each device: past 2 devices it does not pay: batch beyond B_crit: a batch of 256 takes 2.2x the "
        "examples of one of 64 (B_crit 100"
    )
    assert all(
        record["efficiency_to_target"] == pytest.approx(1.0)
        and record["seconds_to_target"] == pytest.approx(record["steps_to_target"] * record["step_seconds"])
        for record in records(tables, "strong")
    )


def test_a_missed_target_is_no_number_and_devices_that_lead_to_it_do_not_pay():
    rows = [study(64, 1, 1e-3, 1000), study(128, 2, 1e-3, 600), replace(study(256, 4, 1e-3, 500), found=None)]
    rows[-1] = replace(rows[-1], confirmed=None)
    (table,) = scaling(rows)
    assert table.notes[-1] == (
        "64 on each device: past 2 devices it does not pay: with a batch of 256 the target was missed."
    )
    assert (table.records[-1]["steps_to_target"], table.records[-1]["efficiency_to_target"]) == (None, None)
    assert table.rows[-1][table.columns.index("steps to target")] == ">10,000"


def test_what_was_not_trained_on_more_devices_is_not_judged_by_its_speed_alone():
    waiting = replace(study(128, 2, 1e-3, 600, status="not measured"), confirmed=None, found=None)
    (table,) = scaling([study(64, 1, 1e-3, 1000), waiting])
    assert not [note for note in table.notes if "pays" in note or "does not pay" in note]


def test_without_a_step_on_one_device_efficiency_is_held_against_the_fewest_and_nothing_is_predicted():
    tables = scaling(machine(communication=1e-3, counts=(2, 4)))
    assert records(tables, "strong", devices=2, batch_size=512)[0]["efficiency"] == 1.0
    assert all(record["predicted_step_seconds"] is None for record in records(tables, "strong"))
    assert "predicted" not in tables[0].columns


def test_a_part_smaller_or_larger_than_what_was_timed_on_one_device_is_not_predicted():
    tables = scaling(machine(sizes=(64, 128)))
    (record,) = records(tables, "strong", batch_size=64, devices=2)
    assert (record["predicted_step_seconds"], record["communication"]) == (None, None)


def test_a_batch_that_fits_on_several_devices_alone_is_held_against_the_fewest_of_them():
    rows = [study(512, count, 1e-3) for count in COUNTS]
    rows[0] = replace(rows[0], timed=replace(rows[0].timed, processes=(), infeasible=True), status="infeasible")
    (table,) = scaling(rows)
    assert [(record["devices"], record["efficiency"]) for record in table.records] == [(2, 1.0), (4, 0.5), (8, 0.25)]
    assert table.notes[-1] == "out of memory, batch size on devices: 512 on 1."


def test_workloads_that_differ_in_more_than_their_devices_are_not_joined():
    one, two = study(64, 1, 1e-3), study(64, 2, 1e-3)
    assert len(scaling([one, two])) == 1
    assert scaling([one, study(64, 2, 1e-3, workload="other")]) == []
    assert scaling([one, study(64, 2, 1e-3, precision="bf16")]) == []
    assert scaling([two]) == []


def test_times_of_unlike_machines_are_doubted():
    elsewhere = {**HERE, "device": "another processor"}
    (table,) = scaling([study(64, 1, 1e-3), study(64, 2, 1e-3, environment=elsewhere)])
    assert [note for note in table.notes if note.startswith("doubt: ")] == [
        "doubt: timed in unlike places: a processor, torch 2.15.0; another processor, torch 2.15.0; time it anew with "
        "another --label."
    ]


def test_times_of_several_nodes_of_a_cluster_are_doubted():
    on_one, elsewhere = ({**HERE, "node": name} for name in ("n1", "n2"))
    rows = [study(64, 1, 1e-3, environment=on_one), study(64, 2, 1e-3, environment=elsewhere)]
    assert [note for note in scaling(rows)[0].notes if note.startswith("doubt: ")] == [
        "doubt: timed in unlike places: a processor, torch 2.15.0, node n1; a processor, torch 2.15.0, node n2; time "
        "it anew with another --label."
    ]
    alike = [study(64, count, 1e-3, environment=on_one) for count in (1, 2)]
    assert not any("doubt" in note for note in scaling(alike)[0].notes)


def test_a_cpu_whose_cores_are_shared_out_is_no_more_devices():
    rows = [study(64, count, 1e-3, environment={**HERE, "threads": 4 // count}) for count in (1, 2, 4)]
    (table,) = scaling(rows)
    assert not {"predicted", "communication"} & set(table.columns)  # of one device with all cores it would be wrong
    assert table.notes[-1] == (
        "doubt: the cores of a CPU were shared out, threads a device: 4 with 1, 2 with 2, 1 with 4; no cores were "
        "added."
    )
    on_gpus = [
        study(64, count, 1e-3, environment={**HERE, "device_type": "cuda", "threads": 4 // count}) for count in (1, 2)
    ]
    assert not any("doubt" in note for note in scaling(on_gpus)[0].notes)


def test_a_step_quicker_than_its_part_alone_is_doubted_as_are_times_that_are_themselves():
    rows = [study(64, 1, 1e-3), study(128, 2, 5e-4)]
    assert scaling(rows)[0].notes[-1] == (
        "doubt: quicker than the part of one device by itself, batch size on devices: 128 on 2; time both again."
    )
    busy = tuple(replace(process, once={"others_share": 0.5}) for process in rows[1].timed.processes)
    rows[1] = replace(rows[1], timed=replace(rows[1].timed, processes=busy))
    assert scaling(rows)[0].notes[-1] == (
        "doubt: there are reasons to doubt the times of w-devices=2; '--analysis throughput' names them."
    )


def test_what_is_told_is_json_and_every_row_has_a_cell_for_each_column():
    for table in scaling(machine(communication=1e-3, steps=lambda size: round(1000 * (1 + 100 / size)))):
        json.dumps(table.records, allow_nan=False)
        assert all(len(row) == len(table.columns) for row in table.rows)
