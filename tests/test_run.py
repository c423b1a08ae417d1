"""The main job, run as a user runs it: real processes, real training, real archives."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from bench.ask import check, components, plan
from bench.ask.source import tree_of
from bench.ask.suite import UNITS
from bench.cli import main
from bench.conclude import sides
from bench.crossing import crossing_of
from bench.keep.archive import Archive
from bench.measure.rehearsal import rehearse
from bench.show import page, plot

TESTS = Path(__file__).parent

SUITE = """
suite: small
workloads:
  - name: digits-softmax
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: {sizes}
    target: {{validation_error: {{at_most: {target}}}}}
    max_steps: {max_steps}
    race: {race}
    search: {{trials: {trials}, learning_rate: {{log_uniform: [0.01, 10]}}}}
    confirm: {{seeds: 2}}
"""


def write(folder, sizes=(32, 256), target=0.08, max_steps=2000, trials=4, race="true", model="softmax"):
    text = SUITE.format(sizes=list(sizes), target=target, max_steps=max_steps, trials=trials, race=race)
    path = folder / "small.yaml"
    path.write_text(text.replace("model: softmax", f"model: {model}"))
    return path


def start(*arguments, folder, **environment):
    """`bench` in a process of its own; user_models.py can be found as if it lay in the folder."""
    paths = {"PYTHONPATH": str(TESTS), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bench(*arguments, folder, code=0):
    """Runs the command line to its end in this process, whose fork server stays warm; (stdout, stderr)."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.chdir(folder)
        patch.syspath_prepend(str(TESTS))
        patch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert (ended.value.code or 0) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def archive(folder):
    return folder / "results" / "small" / "main.sqlite"


def contents(path):
    """Everything an archive holds but how long it took and the order it was written in."""
    with closing(sqlite3.connect(path)) as db:
        trials = db.execute("SELECT id, phase, number, metaparameters, max_steps, outcome, step FROM trials").fetchall()
        readings = db.execute(
            "SELECT trials.id, readings.step, name, value FROM readings JOIN trials ON trial = key"
        ).fetchall()
        members = db.execute("SELECT study, trials.id FROM members JOIN trials ON trial = key").fetchall()
        studies = db.execute("SELECT id, workload, batch_size, content, finished FROM studies").fetchall()
    return [sorted(rows) for rows in (trials, readings, members, studies)]


def wait_for_readings(path, number, process):
    """Until the archive holds that many readings: the run is half-way."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if path.exists():
            with closing(sqlite3.connect(path)) as db:
                try:
                    if db.execute("SELECT count(*) FROM readings").fetchone()[0] >= number:
                        return
                except sqlite3.OperationalError:
                    pass  # the tables are being made
        time.sleep(0.01)
    raise AssertionError("the run ended, or never got half-way")


def marked(mark):
    """The processes that carry a mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append(place.name)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the small suite was run, and what the run printed."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder)
    process = start("run", "small.yaml", folder=folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return folder, out, err


def test_a_run_prints_a_table_and_where_its_archive_is(finished):
    _, out, err = finished
    assert "validation error at most 0.08" in out
    assert "steps to target" in out
    assert "archive: results/small/main.sqlite" in out
    assert "batch size 256: done" in err


def test_the_json_document_has_the_promised_shape(finished):
    folder, _, _ = finished
    out, _ = bench("show", "small.yaml", "--format", "json", folder=folder)
    document = json.loads(out)
    assert list(document) == ["suite", "environment", "workloads", "analyses"]
    assert {"critical_batch", "advice"} <= set(document["analyses"])
    assert document["environment"]["device_type"] == "cpu"
    (workload,) = document["workloads"]
    assert [study["batch_size"] for study in workload["studies"]] == [32, 256]
    for study in workload["studies"]:
        steps = study["steps_to_target"]
        assert {"search", "median", "low", "high", "reached", "seeds", "resolution"} <= set(steps)
        assert sum(study["outcomes"].values()) >= 4
        assert steps["low"] <= steps["median"] <= steps["high"]
        assert study["examples_to_target"] == steps["median"] * study["batch_size"]
        assert set(study["best"]) == {"learning_rate"}


@pytest.mark.parametrize(
    ("style", "sign"), [("table", "---"), ("markdown", "|"), ("latex", "\\toprule"), ("csv", "suite,workload,")]
)
def test_every_format_shows_every_batch_size(finished, style, sign):
    folder, _, _ = finished
    out, _ = bench("show", archive(folder), "--format", style, folder=folder)
    assert sign in out
    assert "32" in out
    assert "256" in out


def test_two_fresh_runs_give_identical_readings(finished, tmp_path):
    folder, _, _ = finished
    write(tmp_path)
    bench("run", "small.yaml", folder=tmp_path)
    assert contents(archive(tmp_path)) == contents(archive(folder))


def test_the_race_and_whole_curves_give_the_same_steps_to_target(finished, tmp_path):
    folder, _, _ = finished
    write(tmp_path, race="false", max_steps=400)
    bench("run", "small.yaml", folder=tmp_path)
    answers = []
    for place in (folder, tmp_path):
        out, _ = bench("show", "small.yaml", "--format", "json", folder=place)
        answers.append([study["steps_to_target"]["search"] for study in json.loads(out)["workloads"][0]["studies"]])
    assert answers[0] == answers[1]


ASK = "import sys; sys.argv = ['bench', *sys.argv[1:]]; from bench.cli import main\ntry: main()\nfinally: {check}"


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "scipy", "pydantic", "rich", "yaml"}),
        (["check", "small.yaml"], {"torch", "scipy", "sklearn"}),
        (["plan", "small.yaml"], {"torch", "sklearn"}),
        (["list"], {"torch", "scipy", "sklearn"}),
        (["show", "small.yaml"], {"torch", "sklearn"}),
        (["show", "small.yaml", "--analysis", "steps_to_target"], {"torch", "scipy", "sklearn"}),
        (["run", "small.yaml"], {"torch", "sklearn"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_training_imports_no_torch(finished, arguments, heavy):
    folder, _, _ = finished
    check = f"assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(check=check), *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "AssertionError" not in done.stderr


def test_a_second_run_trains_nothing(finished):
    folder, _, _ = finished
    before = contents(archive(folder))
    _, err = bench("run", "small.yaml", folder=folder)
    assert "done" not in err
    assert contents(archive(folder)) == before


def test_one_more_batch_size_trains_that_study_alone(finished, tmp_path):
    folder, _, _ = finished
    archive(tmp_path).parent.mkdir(parents=True)
    archive(tmp_path).write_bytes(archive(folder).read_bytes())
    write(tmp_path, sizes=(32, 128, 256))
    _, err = bench("run", "small.yaml", folder=tmp_path)
    assert "batch size 128: done" in err
    assert "32: done" not in err
    assert "256: done" not in err


def test_one_more_trial_trains_that_trial_and_keeps_the_others(finished, tmp_path):
    folder, _, _ = finished
    archive(tmp_path).parent.mkdir(parents=True)
    archive(tmp_path).write_bytes(archive(folder).read_bytes())
    write(tmp_path, trials=5)
    bench("run", "small.yaml", folder=tmp_path)
    before, after = contents(archive(folder)), contents(archive(tmp_path))
    assert set(before[0]) <= set(after[0])
    assert set(before[1]) <= set(after[1])
    new = [row for row in set(after[0]) - set(before[0]) if row[1] == "search"]
    assert len(new) == 2  # one at each batch size


def test_a_run_that_was_killed_goes_on_to_the_same_archive_and_leaves_no_process(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        write(folder, target=0.0, max_steps=1500, race="false")
    bench("run", "small.yaml", folder=whole)
    mark = uuid.uuid4().hex
    for readings in (50, 600):
        process = start("run", "small.yaml", folder=cut, BENCH_TEST_MARK=mark)
        wait_for_readings(archive(cut), readings, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        until = time.monotonic() + 10
        while marked(mark) and time.monotonic() < until:
            time.sleep(0.05)
        assert marked(mark) == []
    bench("run", "small.yaml", folder=cut)
    assert contents(archive(cut)) == contents(archive(whole))


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(tmp_path):
    write(tmp_path, target=0.0, max_steps=100_000)
    process = start("run", "small.yaml", folder=tmp_path)
    wait_for_readings(archive(tmp_path), 50, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "bench run small.yaml" in err
    assert "Traceback" not in err
    out, _ = bench("show", archive(tmp_path), folder=tmp_path)
    assert "interrupted" in out
    assert "not measured yet" in out


def test_two_runs_at_once_on_one_archive_are_one_run_and_a_sentence(tmp_path):
    write(tmp_path, target=0.0, max_steps=100_000)
    process = start("run", "small.yaml", folder=tmp_path)
    wait_for_readings(archive(tmp_path), 1, process)
    _, err = bench("run", "small.yaml", folder=tmp_path, code=2)
    assert "another bench run is writing to it" in err
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("model", "sentence", "then"),
    [
        ("user_models:raising", "ZeroDivisionError: a fault in the model", "mend what is said of them, then run"),
        ("user_models:killed", "killed by SIGKILL", "run"),
    ],
)
def test_a_study_that_fails_is_said_and_the_others_are_measured(tmp_path, model, sentence, then):
    # The workload that fails is the second of two, and its trials are not called misses.
    write(tmp_path, sizes=[32], model=f"[softmax, '{model}']")
    out, err = bench("run", "small.yaml", folder=tmp_path, code=5)
    assert sentence in err
    assert f"1 of 2 studies were not measured; {then} the suite again" in err
    (told,) = [line for line in out.splitlines() if line.startswith("batch size 32: not measured: ")]
    assert sentence in told
    assert told.endswith("; once that is mended, 'bench run' goes on with it.")
    assert "2/2" in out
    assert "crashed" in out


def test_running_out_of_memory_makes_a_study_infeasible_and_no_other(tmp_path):
    write(tmp_path, sizes=[32], model="[softmax, 'user_models:out_of_memory']")
    out, _ = bench("run", "small.yaml", folder=tmp_path)
    assert "4 infeasible" in out
    assert "out of memory" in out
    assert "2/2" in out


def test_a_diverging_search_says_so(tmp_path):
    path = write(tmp_path, sizes=[32])
    path.write_text(path.read_text().replace("[0.01, 10]", "[1.0e+37, 1.0e+38]"))
    out, _ = bench("run", "small.yaml", folder=tmp_path)
    assert "8 diverged" in out
    assert "8 of 8 trials diverged" in out


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (("", ""), ["--device", "cuda:7"], "this machine has"),
        (("", ""), ["--label", "../x"], "a label is letters"),
        (("dataset: digits", "dataset: cifar10"), ["--data", "nowhere"], "name another with --data or BENCH_DATA"),
        (("model: softmax", "model: simple_cnn\n    schedule: linear"), ["--results", "/proc/x"], "cannot be written"),
        (("model: softmax", "model: lstm"), [], "lstm cannot take examples of shape [1, 8, 8] from digits: ValueError"),
        (("model: softmax", "model: torchvision:resnet18"), [], "cannot take examples of shape [1, 8, 8] from digits"),
        (("model: softmax", "model: user_models:not_a_model"), [], "a model is a torch.nn.Module"),
        (("optimizer: sgd", "optimizer: {sam: {base: sgd, momentum: 0.9}}"), [], "momentum, which sgd does not take"),
        (("model: softmax", "modell: softmax"), [], "did you mean 'model'?"),
    ],
    ids=["device", "label", "data", "results", "images", "shape", "module", "optimizer", "typo"],
)
def test_what_the_user_must_mend_is_a_sentence_and_trains_nothing(tmp_path, change, arguments, sentence):
    path = write(tmp_path)
    path.write_text(path.read_text().replace(*change))
    _, err = bench("run", "small.yaml", *arguments, folder=tmp_path, code=2)
    assert sentence in err
    assert not archive(tmp_path).exists() or contents(archive(tmp_path))[0] == []


def test_an_analysis_that_is_not_listed_is_a_sentence(finished):
    folder, _, _ = finished
    for name, sentence in (
        ("bench.stats:nothing", "'bench.stats' defines no function or class 'nothing'"),
        ("bench.stats:median_interval", "stats.py) failed: TypeError: "),
        ("critical_batchs", "found no analysis 'critical_batchs'; "),
    ):
        _, err = bench("show", "small.yaml", "--analysis", name, folder=folder, code=2)
        assert sentence in err
    assert "did you mean 'critical_batch'?" in err


def test_what_is_no_archive_is_a_sentence(tmp_path):
    (tmp_path / "torn.sqlite").write_bytes(b"not a database" * 100)
    assert "no such archive" in bench("show", "missing.sqlite", folder=tmp_path, code=2)[1]
    assert "cannot be used as an archive" in bench("show", "torn.sqlite", folder=tmp_path, code=2)[1]


@pytest.mark.parametrize("command", ["show", "report", "verify", "status"])
def test_every_command_finds_an_archive_by_its_suite_and_label(finished, tmp_path, command):
    (tmp_path / "results").symlink_to(finished[0] / "results")
    names = ("small/main", "results/small/main.sqlite")
    by_name, by_path = (bench(command, name, folder=tmp_path)[0] for name in names)
    assert by_name == by_path != ""


def test_the_schema_is_json_and_says_of_every_key_of_a_workload_what_it_is(tmp_path):
    out, _ = bench("schema", folder=tmp_path)
    schema = json.loads(out)
    assert {"name", "model", "dataset", "optimizer", "batch_sizes"} <= set(schema["$defs"]["Entry"]["properties"])
    for section in (schema, schema["$defs"]["Entry"]):
        assert [key for key, value in section["properties"].items() if not value.get("description")] == []


def test_the_doctor_says_what_is_there_and_what_is_missing(tmp_path):
    out, _ = bench("doctor", "--data", tmp_path / "none", folder=tmp_path)
    for word in ("torchvision works  yes", "cpu", "cores", "cifar10            absent", "digits             inside"):
        assert word in out


def test_plan_shows_every_study_and_trial_with_its_cost(tmp_path):
    write(tmp_path)
    out, _ = bench("plan", "small.yaml", folder=tmp_path)
    assert f"{2000 * (2 * 4 + 3 * 2):,}" in out
    assert out.count("learning_rate") == 8


def test_one_worker_and_two_give_identical_readings(finished, tmp_path, monkeypatch):
    folder, _, _ = finished
    write(tmp_path)
    monkeypatch.setattr("bench.executors.local.cores", lambda: 1)
    bench("run", "small.yaml", folder=tmp_path)
    assert contents(archive(tmp_path)) == contents(archive(folder))


def test_how_trials_were_trained_is_in_the_archive_with_its_reason(finished):
    folder, _, _ = finished
    with closing(sqlite3.connect(archive(folder))) as db:
        ways = {way for (way,) in db.execute("SELECT way FROM trials")}
    assert len(ways) >= 1
    assert all(way.startswith("one by one: ") and "operations a step on a CPU" in way for way in ways)


def test_what_a_component_prints_does_not_spoil_the_document(tmp_path):
    write(tmp_path, sizes=[256], model="user_models:talking")
    process = start("run", "small.yaml", "--format", "json", folder=tmp_path)
    out, err = process.communicate(timeout=120)
    assert json.loads(out)["suite"] == "small"
    assert "hello from the model" in err


def test_a_model_of_ones_own_that_was_edited_is_trained_again(tmp_path):
    path = write(tmp_path, sizes=[256], model="edited_model:net")
    text = (TESTS / "user_models.py").read_text()
    for version in (text, text + "\nEDITED = True\n"):
        (tmp_path / "edited_model.py").write_text(version)
        components.find.cache_clear()
        tree_of.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(tmp_path))
            _, err = bench("run", path, folder=tmp_path)
        assert "batch size 256: done" in err


def test_the_log_says_what_the_table_says(tmp_path):
    write(tmp_path, sizes=[256], race="false", max_steps=100)
    _, err = bench("run", "small.yaml", folder=tmp_path)
    out, _ = bench("show", "small.yaml", "--format", "json", folder=tmp_path)
    (study,) = json.loads(out)["workloads"][0]["studies"]
    done = f"done, {study['steps_to_target']['search']} steps to target, "
    assert re.search(rf"{done}(\d) of \1 seeds confirm", err)
    write(tmp_path, sizes=[256], race="false", max_steps=100, trials=5)
    _, err = bench("run", "small.yaml", folder=tmp_path)
    assert re.search(rf"{done}(\d) of \1 seeds confirm", err)


LANGUAGE = """
suite: small
workloads:
  - name: language
    model: user_models:following
    dataset: {bigram: {vocabulary: 8, length: 8}}
    optimizer: adam
    batch_sizes: [256]
    target: {validation_perplexity: {below: 5}}
    max_steps: 200
    search: {trials: 2, learning_rate: 0.1}
    confirm: {seeds: 2}
"""


def test_a_target_in_perplexity_is_shown_as_it_was_given_and_stored_as_a_loss(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(LANGUAGE)
    told, _ = bench("run", path, folder=tmp_path)
    assert "adam, constant; validation perplexity below 5" in told
    shown = json.loads(bench("show", path, "--format", "json", folder=tmp_path)[0])
    (workload,) = shown["workloads"]
    assert workload["target"] == {"validation_perplexity": {"below": 5}}
    steps = workload["studies"][0]["steps_to_target"]["search"]
    with closing(sqlite3.connect(archive(tmp_path))) as db:
        losses = [
            db.execute(
                "SELECT readings.step, value FROM readings JOIN trials ON key = trial WHERE phase = 'search'"
                f" AND readings.name = 'validation_loss' AND number = {number} ORDER BY readings.step"
            ).fetchall()
            for number in (0, 1)
        ]
        assert not db.execute("SELECT 1 FROM readings WHERE name LIKE '%perplexity%'").fetchall()
    crossings = [crossing_of(path, lambda loss: math.exp(loss) < 5, "isotonic", 200) for path in losses]
    assert min(crossing.at for crossing in crossings if crossing.settled) == steps
    with Archive.reading(archive(tmp_path)) as opened:
        (drawn,) = page._data(opened)["workloads"]
        (panel,) = plot._drawn(opened, "curves").axes
        (sample,) = sides.of_archive(opened).samples.values()
    assert (drawn["reading"], drawn["threshold"]) == ("validation perplexity", 5)
    assert 3 < min(value for curve in drawn["curves"] for value in curve["values"]) < 5
    assert panel.get_ylabel() == "validation perplexity"
    assert set(panel.get_lines()[-1].get_ydata()) == {5}
    assert sample.target == "validation_perplexity < 5 of bigram(length=8, vocabulary=8)"


def test_what_a_loss_is_also_given_in_is_that_loss():
    for unit in UNITS.values():
        assert unit.number(unit.loss(4.2)) == pytest.approx(4.2)
    assert UNITS["validation_perplexity"].number(1e4) == math.inf


# ---- data of one's own ---------------------------------------------------------------------------------------------

TEXT = """
suite: small
workloads:
  - name: w
    model: {transformer: {width: 8, heads: 1, depth: 1}}
    dataset: {text: {path: mine.txt, length: 4}}
    optimizer: sgd
    batch_sizes: [8]
    target: {validation_loss: {below: 10}}
    max_steps: 5
    search: {trials: 1, learning_rate: 0.01}
    confirm: {seeds: 0}
gate: {steps_to_target: {tolerance: 0.25}}
"""


def test_data_of_ones_own_that_changed_is_trained_on_anew_and_goes_through_no_gate_as_the_old(tmp_path):
    (tmp_path / "small.yaml").write_text(TEXT)
    for text, label in (("abcd", "old"), ("dcba", "old"), ("dcba", "new")):
        (tmp_path / "mine.txt").write_text(text * 200)
        bench("run", "small.yaml", "--data", ".", "--label", label, folder=tmp_path)
    with closing(sqlite3.connect(tmp_path / "results" / "small" / "old.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM trials WHERE outcome = 'reached'").fetchone() == (2,)
    with Archive.reading(tmp_path / "results" / "small" / "old.sqlite") as archive:
        (study,) = archive.studies()
    out, _ = bench("plan", "small.yaml", "--data", ".", folder=tmp_path)
    assert study.id in out
    told = "measured of another suite, source or data"
    assert told not in bench("gate", "small.yaml", "old", "new", "--data", ".", folder=tmp_path, code=5)[0]
    (tmp_path / "mine.txt").write_text("abcd" * 200)
    assert told in bench("gate", "small.yaml", "old", "new", "--data", ".", folder=tmp_path, code=5)[0]


def test_data_that_is_no_more_what_the_run_found_is_not_trained_on(tmp_path):
    (tmp_path / "small.yaml").write_text(TEXT)
    (tmp_path / "mine.txt").write_text("abcd" * 200)
    planned = plan.make(check.load(tmp_path / "small.yaml"), data=tmp_path)
    assert rehearse(planned.units, tmp_path) == []
    (tmp_path / "mine.txt").write_text("dcba" * 200)
    (told,) = rehearse(planned.units, tmp_path)
    assert told == (
        f"w: text(length=4, path=mine.txt) in {tmp_path} is not what lay there when the run began; run the suite "
        "again, with the same files on every machine"
    )
