"""What is timed, from a suite to its tables: real processes, real steps, real archives."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import StringIO

import pytest
from PIL import Image

from bench.ask import check, plan
from bench.events import Ended, Finished, Started
from bench.keep.archive import Archive
from bench.run import runner
from tests.test_run import TESTS, archive, bench, start, wait_for_readings

SUITE = """
suite: small
workloads:
  - name: w
    model: {model}
    dataset: {dataset}
    optimizer: {{sgd: {{learning_rate: 0.1}}}}
    batch_sizes: {sizes}
    measure: {measure}
    timing: {{processes: {processes}, seconds: 0.05}}
    {more}
"""


def write(folder, model="softmax", dataset="digits", sizes="[8, 64]", measure="[throughput]", processes=2, more=""):
    text = SUITE.format(model=model, dataset=dataset, sizes=sizes, measure=measure, processes=processes, more=more)
    (folder / "small.yaml").write_text(text)


def limited(gib, *arguments, folder):
    """`bench` in a process that may not take more address space than so much, nor may what it starts; (out, err)."""
    limit = int(gib * 2**30)
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


def test_a_suite_that_is_only_timed_prints_its_table_and_keeps_every_window(tmp_path):
    write(tmp_path)
    out, err = bench("time", "small.yaml", folder=tmp_path)
    assert "w: a training step; softmax, digits, sgd(learning_rate=0.1); fp32" in out
    for column in ("batch size", "step time", "examples/s", "peak memory", "compute", "memory", "binding"):
        assert column in out
    assert "batch size 64, throughput: done" in err
    told = json.loads(bench("show", "small.yaml", "--format", "json", folder=tmp_path)[0])
    for record in told["analyses"]["throughput"][0]["records"]:
        assert len(record["processes"]) == 2
        for process in record["processes"]:
            assert len(process["windows"]) >= 3
            assert all(0 < window < 1 for window in process["windows"])
            assert process["operations"] == pytest.approx(record["batch_size"] * 4 * 64 * 10)
            assert process["peak_memory_bytes"] > 0
        assert 0 < record["compute_share"] < 1
    (row, _) = csv.DictReader(StringIO(bench("show", "small.yaml", "--format", "csv", folder=tmp_path)[0]))
    assert float(row["step_seconds.median"]) > 0
    assert "nothing wrong" in bench("verify", str(archive(tmp_path)), folder=tmp_path)[0]
    # Again, nothing is timed.
    again, err = bench("time", "small.yaml", folder=tmp_path)
    assert (again, err) == (out, "")


def test_time_to_target_stands_beside_steps_to_target_and_advice_uses_it(tmp_path):
    more = "target: {validation_error: {at_most: 0.1}}\n    max_steps: 500\n    search: {trials: 1}"
    write(tmp_path, measure="[steps_to_target, throughput]", more=more)
    out, _ = bench("run", "small.yaml", folder=tmp_path)
    assert "time to target" in out
    assert "advice: on this device use batch size" in out
    assert "PREDICTED for more than one device" in out
    document = json.loads(bench("show", "small.yaml", "--format", "json", folder=tmp_path)[0])
    for study in document["workloads"][0]["studies"]:
        steps, step = study["steps_to_target"]["median"], study["step_seconds"]["median"]
        assert study["seconds_to_target"]["median"] == pytest.approx(steps * step)


def test_any_suite_can_be_timed_without_training_it(tmp_path):
    more = "target: {validation_error: {at_most: 0.1}}\n    max_steps: 500\n    search: {trials: 1}"
    write(tmp_path, measure="[steps_to_target]", more=more, sizes="[8]", processes=1)
    out, _ = bench("time", "small.yaml", folder=tmp_path)
    assert "a training step" in out
    assert "not measured yet" in out
    # What is trained later stands beside it, and is not hidden when the suite is timed again.
    bench("run", "small.yaml", folder=tmp_path)
    out, err = bench("time", "small.yaml", folder=tmp_path)
    assert "a training step" in out
    assert "1 reached" in out
    assert err == ""


def test_a_change_of_what_is_only_read_shows_what_was_timed(tmp_path):
    write(tmp_path, sizes="[8]", processes=2)
    bench("time", "small.yaml", folder=tmp_path)
    suite = (tmp_path / "small.yaml").read_text()
    for change in ("processes: 1,", "processes: 2, interconnect: {latency_seconds: 1.0e-6},"):
        (tmp_path / "small.yaml").write_text(suite.replace("processes: 2,", change))
        out, _ = bench("time", "small.yaml", folder=tmp_path)
        assert "not measured" not in out
        assert "examples/s" in out
    again, err = bench("time", "small.yaml", folder=tmp_path)
    assert (again, err) == (out, "")


def test_what_fits_a_forward_pass_is_shown_where_training_does_not_fit(tmp_path):
    write(
        tmp_path,
        model="user_models:hungry_in_training",
        sizes="{from: 2, to: max, factor: 4}",
        measure="[throughput, inference]",
        processes=1,
    )
    out, _ = limited(8, "time", "small.yaml", folder=tmp_path)
    trained, passed = out[out.index("a training step") :], out[out.index("a forward pass") :]
    assert "the largest batch size tried that fits is 32; 128 does not" in trained
    assert [line for line in passed.splitlines() if line.split()[:1] == ["512"]]


def test_a_model_that_fails_is_told_once_and_the_others_are_timed(tmp_path):
    write(tmp_path, model="[softmax, 'user_models:raising']", sizes="[8]", processes=2)
    out, err = bench("time", "small.yaml", folder=tmp_path, code=5)
    assert err.count("a fault in the model") == 1
    assert "1 of 2 studies were not measured" in err
    assert "w-softmax: a training step" in out


def test_a_forward_pass_alone_is_timed(tmp_path):
    write(tmp_path, measure="[inference]", processes=1)
    out, _ = bench("run", "small.yaml", folder=tmp_path)
    assert "w: a forward pass; softmax, digits; fp32" in out
    assert "knee: batch size" in out


def test_out_of_memory_is_a_row_with_its_peak_and_the_other_rows_are_there(tmp_path):
    write(tmp_path, model="user_models:hungry", sizes="[2, 512]", processes=1)
    out, _ = limited(8, "time", "small.yaml", folder=tmp_path)
    rows = [line.split() for line in out.splitlines() if line.split()[:1] in (["2"], ["512"])]
    assert rows[0][0] == "2"
    assert rows[0][2] in ("us", "ms", "s")
    assert rows[1][:4] == ["512", "out", "of", "memory"]
    assert rows[1][5] in ("KiB", "MiB", "GiB")
    # It is an outcome: it is not tried again.
    assert limited(8, "time", "small.yaml", folder=tmp_path)[1] == ""


def test_the_largest_batch_size_that_fits_is_found(tmp_path):
    write(tmp_path, model="user_models:hungry", sizes="{from: 2, to: max, factor: 4}", processes=1)
    out, _ = limited(8, "time", "small.yaml", folder=tmp_path)
    assert "the largest batch size tried that fits is 32; 128 does not" in out
    assert "512" not in out
    assert limited(8, "time", "small.yaml", folder=tmp_path)[1] == ""


def test_a_run_that_was_killed_times_what_is_missing_and_no_more(tmp_path):
    write(tmp_path, sizes="[8]", processes=8)
    process = start("time", "small.yaml", folder=tmp_path)
    wait_for_readings(archive(tmp_path), 1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)

    def processes():
        with closing(sqlite3.connect(archive(tmp_path))) as db:
            return dict(
                db.execute("SELECT number, train_seconds FROM trials WHERE outcome IN ('reached', 'exhausted')")
            )

    before = processes()
    assert len(before) < 8
    bench("time", "small.yaml", folder=tmp_path)
    assert len(processes()) == 8
    assert before.items() <= processes().items()


def test_examples_from_a_folder_come_through_a_loader_and_what_steps_wait_is_told(tmp_path):
    for part in ("train", "validation", "test"):
        for label in ("cats", "dogs"):
            folder = tmp_path / "data" / "pets" / part / label
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (20, 16), (number * 20, 100, 50)).save(folder / f"{number}.png")
    write(
        tmp_path,
        dataset="{image_folder: {path: pets, size: 8}}",
        sizes="[4]",
        processes=1,
        more="input: loader",
    )
    out, _ = bench("time", "small.yaml", "--data", str(tmp_path / "data"), folder=tmp_path)
    assert "examples through a DataLoader" in out
    assert "waiting" in out


def test_a_folder_that_is_missing_is_a_sentence(tmp_path):
    write(tmp_path, dataset="{image_folder: {path: pets}}", sizes="[4]")
    _, err = bench("time", "small.yaml", "--data", str(tmp_path), folder=tmp_path, code=2)
    assert "cannot be read as folders of images" in err
    assert "Traceback" not in err


def test_each_reading_is_filed_under_the_place_that_took_it(tmp_path):
    write(tmp_path, sizes="[8]", processes=2)
    planned = plan.make(check.load(tmp_path / "small.yaml"))

    class TwoPlaces:
        def rehearse(self, units, folder):
            return []

        def run(self, tasks, *, alone=False):
            places = iter([{"device": "one"}, {"device": "other"}])
            while tasks:
                task, where = tasks.popleft(), next(places)
                for event in (Started((task.process,)), Ended(task.process, "reached", 1, 0.1), Finished()):
                    yield task, where, event

    with Archive.writing(tmp_path / "a.sqlite") as opened:
        list(runner.run(planned, list(planned.units), opened, TwoPlaces(), tmp_path))
        places = opened.environments()
        (study,) = opened.studies()
    assert [places[trial.environment]["device"] for trial in study.trials] == ["one", "other"]
