"""What follows from several devices a trial: nothing of one number of them is taken for another's."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace

import pytest
from sides_by_hand import gate, plan_of, side
from summaries import summary
from test_analyses_scaling import study as scaled
from test_compare import SECONDS
from test_compare import study as timed_study

from bench.ask import check, components, document, plan
from bench.ask.suite import Interconnect, TimingOptions
from bench.conclude import baseline
from bench.conclude.compare import compare
from bench.conclude.gate import NOT_COMPARABLE
from bench.errors import BenchError
from bench.events import Ended, Evaluated, Finished, Started
from bench.keep.archive import Archive
from bench.run import runner
from bench.show import plans, report
from bench.show.publish.annotations import annotations
from bench.show.publish.junit import junit
from bench.show.publish.tables import comparison_table, judgement_table

BASE = [100, 104, 98, 110, 102]
TIMED = "{steps_to_target: {tolerance: 0.25}, throughput: {tolerance: 0.1}}"


def study(devices, **changes):
    """A study, trained and timed on some devices."""
    more = {"devices": devices} if devices > 1 else {}
    return timed_study(BASE, seconds=SECONDS, **more, **changes)


# ---- comparisons ---------------------------------------------------------------------------------------------------


def test_what_was_measured_on_other_numbers_of_devices_is_not_compared():
    found = compare(side(study(1)), side(study(2)))
    assert {row.difference for row in found.rows} == {"unlike"}
    assert {row.note for row in found.rows} == {"a trial's devices were 1 and are 2"}
    assert found.means == {}
    assert {row.difference for row in compare(side(study(2)), side(study(2))).rows} != {"unlike"}


@pytest.mark.parametrize("devices", [(1, 2), (4, 2)])
def test_a_gate_gives_an_error_for_other_numbers_of_devices(devices):
    base, candidate = map(study, devices)
    found = gate(plan_of(TIMED), side(base), side(candidate, name="candidate"))
    assert [(each.verdict, each.exit_code) for each in found.rulings] == [("error", NOT_COMPARABLE)] * 2
    assert {each.note for each in found.rulings} == {f"a trial's devices were {devices[0]} and are {devices[1]}"}


def test_comparisons_and_verdicts_name_the_devices_where_they_are_several():
    both = side(study(2)), side(study(2), name="candidate")
    compared = comparison_table(compare(*both))
    assert {row[0] for row in compared.rows[:-3]} <= {"w on 2 devices", "geometric mean"}
    assert {record["devices"] for record in compared.records} == {2}
    asked = plan_of(TIMED, devices=2)
    judged = gate(asked, *both)
    assert {row[0] for row in judgement_table(judged).rows} == {"w on 2 devices"}
    assert 'name="w on 2 devices"' in junit(judged)
    refused = gate(asked, side(study(1)), both[1])
    assert annotations(refused)[0].startswith("::error title=error%3A w on 2 devices%2C batch size 32%2C")


def test_a_name_that_says_the_devices_says_them_once():
    (row, *_) = compare(*(side(study(2, workload="w-devices=2")) for _ in range(2))).rows
    assert row.title == "w-devices=2"


def test_a_baseline_keeps_the_devices_and_one_of_before_there_were_any_is_of_one(tmp_path):
    path = tmp_path / "base.json"
    baseline.save(side(study(2)), path)
    content = json.loads(path.read_text())
    assert [each["devices"] for each in content["studies"]] == [2]
    assert [each.devices for each in baseline.read(path).samples.values()] == [2]
    for each in content["studies"]:
        del each["devices"]
    path.write_text(json.dumps(content))
    assert [each.devices for each in baseline.read(path).samples.values()] == [1]


# ---- what is shown -------------------------------------------------------------------------------------------------


def trained(devices, name="w"):
    """A workload trained and timed on some devices."""
    more = {"devices": devices} if devices > 1 else {}
    rows = [
        summary(size, round(1000 + 64_000 / size), workload=name, seeds=[1000 + 64_000 / size] * 5, **more)
        for size in (16, 32, 64, 128)
    ]
    links = {"timing": TimingOptions(interconnect=Interconnect(bandwidth_bytes_per_second=1e9, latency_seconds=1e-5))}
    clock = scaled(16, devices, 1e-3).timed
    return [replace(row, timed=replace(clock, study=replace(clock.study, content={**more, **links}))) for row in rows]


@pytest.mark.parametrize(
    "name", ["advice", "batch_scaling", "critical_batch", "learning_rates", "steps_to_target", "time_to_target"]
)
def test_tables_of_several_devices_say_on_how_many(name):
    analyse = components.find("analyses", name).load()
    assert analyse(trained(4))[0].title.startswith("w on 4 devices: ")
    assert analyse(trained(4, "w-devices=4"))[0].title.startswith("w-devices=4: ")
    assert analyse(trained(1))[0].title.startswith("w: ")


def test_advice_by_the_clock_is_for_as_many_devices_as_the_clock_was_read_on():
    advise = components.find("analyses", "advice").load()
    assert any(note.startswith("advice: on 4 such devices use") for note in advise(trained(4))[0].notes)
    assert any(note.startswith("advice: on this device use") for note in advise(trained(1))[0].notes)


def test_what_more_devices_would_buy_is_predicted_from_one():
    times = components.find("analyses", "time_to_target").load()
    assert len(times(trained(1))) == 2
    assert len(times(trained(4))) == 1


def test_optimizers_are_compared_on_as_many_devices():
    optimizers = components.find("analyses", "optimizers").load()
    sgd, adam = (summary(8, 100, workload=name, optimizer=name) for name in ("sgd", "adam"))
    on_two = [summary(8, 100, workload=name, optimizer=name, devices=2) for name in ("sgd", "adam")]
    assert optimizers([sgd, on_two[1]]) == []
    assert optimizers([sgd, adam])[0].title.endswith("softmax, digits, constant; validation error at most 0.1")
    assert "constant on 2 devices; " in optimizers(on_two)[0].title


# ---- a plan and its archive ----------------------------------------------------------------------------------------

SUITE = """
suite: wide
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: [64, 128]
    devices: [1, 2, 4]
    target: {validation_error: {at_most: 0.1}, rule: first}
    max_steps: 1000
    measure: [steps_to_target, throughput]
    search: {trials: 1, learning_rate: 0.1}
    confirm: {seeds: 0}
    timing: {processes: 1}
"""


class Clock:
    """An executor by whose clock a step takes so many seconds, and all trials meet their target at step 100."""

    def __init__(self, step_seconds):
        self.step_seconds = step_seconds

    def rehearse(self, studies, folder):
        return []

    def run(self, tasks, *, alone=False):
        while tasks:
            task = tasks.popleft()
            trial = task.process or task.unit.draws()[0]
            shown = {"step_seconds": self.step_seconds(task.unit)} if task.process else {"validation_error": 0.05}
            step = 1 if task.process else 100
            yield task, {"device": "paper"}, Started((trial,))
            yield task, {"device": "paper"}, Evaluated(step, {trial.id: shown})
            yield task, {"device": "paper"}, Ended(trial, "reached", step, 1.0)
            yield task, {"device": "paper"}, Finished()


def made_of(text=SUITE):
    return plan.make(check.check(document.parse(text)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Of 1 ms for each 64 examples that a device has, and 1 ms more where there are several."""
    folder, made = tmp_path_factory.mktemp("wide"), made_of()
    clock = Clock(lambda unit: unit.batch_size / unit.workload.devices / 64e3 + 1e-3 * (unit.workload.devices > 1))
    with Archive.writing(folder / "a.sqlite") as written:
        list(runner.run(made, list(made.units), written, clock, folder))
    with Archive.reading(folder / "a.sqlite") as opened:
        yield opened


def test_json_and_csv_have_the_devices_of_each_workload(archive):
    shown = json.loads(report.as_json(archive))
    assert [(each["name"], each["devices"]) for each in shown["workloads"]] == [
        ("w-devices=1", 1),
        ("w-devices=2", 2),
        ("w-devices=4", 4),
    ]
    assert {study["raw"]["devices"] for study in shown["workloads"][1]["studies"]} == {2}
    rows = list(csv.DictReader(io.StringIO(report.as_csv(archive))))
    assert [row["devices"] for row in rows] == ["1", "1", "2", "2", "4", "4"]


def test_scaling_is_told_of_what_an_archive_holds(archive):
    strong, weak = report.tables(archive, "scaling")
    assert [(row["batch_size"], row["devices"]) for row in strong.records] == [
        (size, devices) for size in (64, 128) for devices in (1, 2, 4)
    ]
    # Of 128 examples, 2 ms: 2 devices take 1 ms each and 1 ms for one another.
    (found,) = [row for row in strong.records if (row["batch_size"], row["devices"]) == (128, 2)]
    assert (found["efficiency"], found["communication"]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert found["seconds_to_target"] == pytest.approx(100 * 2e-3)
    assert {(row["examples_on_each"], row["devices"]) for row in weak.records} >= {(64, 1), (64, 2)}


def test_a_plan_on_paper_takes_each_study_as_long_as_its_step_was_timed(archive):
    """2,000 steps a study at most: (1 + 2 + 1.5 + 2 + 1.25 + 1.5) ms of a step, on 1, 1, 2, 2, 4 and 4 devices."""
    table = plans.forecast_table(runner.in_order(made_of().studies), archive, 8)
    device_seconds = 2000 * (1e-3 + 2e-3 + 2 * (1.5e-3 + 2e-3) + 4 * (1.25e-3 + 1.5e-3))
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["device time"] == f"{device_seconds:.0f} s"
    # All but those on 4 devices begin at once, on 6; these need 4 each, and wait for what was begun before.
    assert (cells["longest study"], cells["ends after"], cells["least"]) == ("4 s", "7 s", "5.25 s")
    assert not any("without communication" in note for note in table.notes)


def test_a_step_that_was_not_timed_on_several_devices_is_that_of_its_part_on_one_and_said_to_be(tmp_path):
    made = made_of()
    alone = [unit for unit in made.timings if unit.workload.devices == 1]
    with Archive.writing(tmp_path / "a.sqlite") as written:
        list(runner.run(made, alone, written, Clock(lambda unit: unit.batch_size / 64e3), tmp_path))
    with Archive.reading(tmp_path / "a.sqlite") as opened:
        table = plans.forecast_table(runner.in_order(made.studies), opened, 8)
    assert table.title == "6 studies on 8 devices"
    (said,) = [note for note in table.notes if "without communication" in note]
    assert said.endswith("w-devices=2, w-devices=4")


def test_a_study_on_more_devices_than_there_are_is_told_in_a_sentence(archive):
    with pytest.raises(BenchError, match=r"^--devices: found 2; a study of w-devices=4 takes 4 at once, so as many or"):
        plans.forecast_table(runner.in_order(made_of().studies), archive, 2)


def test_a_step_of_another_model_under_the_same_name_says_nothing_of_how_long_a_plan_takes(archive):
    other = made_of(SUITE.replace("softmax", "mlp"))
    with pytest.raises(
        BenchError, match="holds no step time of w-devices=1, w-devices=2, w-devices=4; measure it with"
    ):
        plans.forecast_table(runner.in_order(other.studies), archive, 8)


def test_a_plan_that_trains_nothing_takes_no_time_and_that_is_what_is_said(archive):
    only_timed = made_of(SUITE.replace("[steps_to_target, throughput]", "[throughput]"))
    with pytest.raises(BenchError, match=r"^--devices: the suite trains nothing"):
        plans.forecast_table(only_timed.studies, archive, 8)


def test_a_plan_has_a_column_of_devices_where_any_are_several():
    studies, _, timings = plans.plan_tables(made_of())
    assert [row[studies.columns.index("devices")] for row in studies.rows] == ["1", "1", "2", "2", "4", "4"]
    assert [row[timings.columns.index("devices")] for row in timings.rows] == ["1", "1", "2", "2", "4", "4"]
    alone = plans.plan_tables(made_of(SUITE.replace("[1, 2, 4]", "1")))
    assert not any("devices" in table.columns for table in alone)


def test_a_sample_is_of_one_device_where_nothing_is_said():
    (sample,) = side(study(1)).samples.values()
    assert asdict(sample)["devices"] == 1
