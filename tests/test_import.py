"""What is imported from the public archive of Shallue et al. 2019, and what is refused."""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import tracemalloc
from contextlib import closing

import pytest

from bench.ask.search import as_plain
from bench.ask.suite import Threshold
from bench.cli import main
from bench.conclude import measures
from bench.errors import ArchiveError
from bench.keep import seals
from bench.keep.archive import Archive
from bench.keep.importers.batch_science import _GOALS, Goal, batch_science
from bench.show import report

HEADER = "step,train/cross_entropy_error,val/cross_entropy_error,val/classification_error,test/classification_error"
CONFIGS = {
    "learning_rate": {"type": "DOUBLE", "scale": "LOG_SCALE", "min_value": 0.0001, "max_value": 10.0},
    "momentum": {"type": "DOUBLE", "scale": "REVERSE_LOG_SCALE", "min_value": 0.9, "max_value": 0.9999},
    "learning_rate_decay_steps": {"type": "INTEGER", "scale": "", "min_value": 100, "max_value": 900},
    "label_smoothing": {"type": "DISCRETE", "feasible_points": [0.0, 0.01, 0.1]},
}
PARAMETERS = {"learning_rate": 0.1, "momentum": 0.99, "learning_rate_decay_steps": 500, "label_smoothing": 0.01}


def write_study(folder, place="mnist/simple_cnn_base/nesterov_momentum/32", **changes):
    """A study with no trial yet; its folder."""
    dataset, model, optimizer, size = place.split("/")[-4:]
    described = {"dataset": dataset, "model": model, "optimizer": optimizer, "batch_size": int(size)}
    described |= {"early_stopping": False, "parameter_configs": CONFIGS, "train_steps": 1000, **changes}
    study = folder / place
    study.mkdir(parents=True)
    (study / "study.json").write_text(json.dumps(described))
    return study


def write_trial(study, number, errors, status="COMPLETE", **changes):
    """A trial whose validation error is {step: error}; its folder."""
    trial = study / str(number)
    trial.mkdir()
    said = {"_internal_trial_id": 7, "parameters": PARAMETERS, "status": status, "steps": 1000, "trial_id": number}
    (trial / "metadata.json").write_text(json.dumps(said | changes))
    rows = [f"{step},2.5,2.25,{error},0.5" for step, error in errors.items()]
    (trial / "measurements.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return trial


def write_archive(folder):
    """One study whose answer is step 300, of trial 4; its folder."""
    study = write_study(folder)
    write_trial(study, 1, {0: 0.9, 100: 0.005}, "INFEASIBLE", steps=100)
    write_trial(study, 2, {0: 0.9, 100: 0.004}, "INCOMPLETE", steps=100)
    write_trial(study, 10, {0: 0.9, 300: 0.009})
    write_trial(study, 4, {0: 0.9, 200: 0.01, 300: 0.008, 400: 0.002})
    write_trial(study, 3, {0: 0.9, 200: 0.01, 1000: 0.02})
    return study


def imported(folder, goals=()):
    """What importing a folder says on its way; the archive lies beside it."""
    with Archive.writing(folder.parent / "a.sqlite") as archive:
        return list(batch_science(folder, archive, goals))


def summaries(folder):
    with Archive.reading(folder.parent / "a.sqlite") as archive:
        return measures.summaries(archive)


def query(path, text):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(text).fetchall()


def dump(path):
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "batch_science"
    place.mkdir()
    return place


def test_steps_to_target_are_the_first_step_of_any_complete_trial_strictly_below_the_goal(folder):
    write_archive(folder)
    imported(folder)
    (concluded,) = summaries(folder)
    assert (concluded.status, concluded.steps_to_target, concluded.examples_to_target) == ("measured", 300, 9600)
    assert concluded.found.resolution == pytest.approx(99 / 300)
    assert concluded.outcomes == {"reached": 2, "exhausted": 1, "diverged": 1, "interrupted": 1}


def test_a_tie_goes_to_the_lower_trial(folder):
    study = write_study(folder)
    for number in (10, 9, 2):
        write_trial(study, number, {300: 0.001}, parameters=PARAMETERS | {"learning_rate": number / 10})
    imported(folder)
    assert summaries(folder)[0].found.metaparameters["learning_rate"] == 0.2


def test_a_study_no_complete_trial_of_which_met_the_goal_has_no_number(folder):
    study = write_study(folder)
    write_trial(study, 1, {100: 0.001}, "INFEASIBLE")
    write_trial(study, 2, {100: 0.001}, "INCOMPLETE")
    write_trial(study, 3, {100: 0.01})
    imported(folder)
    (concluded,) = summaries(folder)
    assert (concluded.found, concluded.steps_to_target) == (None, None)
    with Archive.reading(folder.parent / "a.sqlite") as archive:
        assert "no trial met the target in 1,000 steps" in report.tables(archive)[0].render("table")


def test_everything_observed_is_kept_whatever_became_of_the_trial(folder):
    write_archive(folder)
    imported(folder)
    with Archive.reading(folder.parent / "a.sqlite") as archive:
        (study,) = archive.studies()
        first = study.trials[0]
        names = ("test_error", "train_loss", "validation_error", "validation_loss")
        values = {0: (0.5, 2.5, 0.9, 2.25), 100: (0.5, 2.5, 0.005, 2.25)}
        kept = [(step, name, value) for step in values for name, value in zip(names, values[step], strict=True)]
        assert archive.readings(first.key) == kept
        assert (first.number, first.step, first.max_steps, first.train_seconds) == (1, 100, 1000, None)
        assert list(archive.environments().values()) == [{"imported_from": "batch-science"}]
        assert archive.suite_name() == "batch-science"


def space_of(content):
    """The space as JSON has it."""
    return json.loads(json.dumps(as_plain(content["space"])))


def test_a_study_says_what_was_searched_in_words_of_ours(folder):
    write_archive(folder)
    imported(folder)
    content = summaries(folder)[0].study.content
    assert space_of(content) == {
        "learning_rate": {"log_uniform": [0.0001, 10.0]},
        "momentum": {"reverse_log_uniform": [0.9, 0.9999]},
        "learning_rate_decay_steps": {"integer": [100, 900]},
        "label_smoothing": {"choice": [0.0, 0.01, 0.1]},
    }
    assert content["threshold"] == Threshold(below=0.01, rule="first")
    assert (content["trials"], content["seeds"], content["max_steps"]) == (3, 0, 1000)
    assert (content["dataset"], content["model"], content["schedule"]) == ("mnist", "simple_cnn_base", "linear")


def test_a_parameter_of_unknown_range_is_one_of_the_values_seen_and_breaks_nothing_that_is_shown(folder):
    study = write_study(folder, parameter_configs={"odd": {"type": "CATEGORICAL"}, "unused": CONFIGS["momentum"]})
    for number, rate in enumerate((0.1, 0.2), start=1):
        write_trial(study, number, {100: 0.001}, parameters={"learning_rate": rate, "odd": "word"})
    imported(folder)
    assert space_of(summaries(folder)[0].study.content) == {
        "learning_rate": {"choice": [0.1, 0.2]},
        "odd": "word",
        "unused": {"reverse_log_uniform": [0.9, 0.9999]},
    }
    with Archive.reading(folder.parent / "a.sqlite") as archive:
        assert "learning_rate 0.1" in "".join(table.render("table") for table in report.tables(archive))
        assert "best.learning_rate" in report.as_csv(archive)
        assert json.loads(report.as_json(archive))["workloads"][0]["studies"][0]["best"]["odd"] == "word"


def test_a_study_on_a_budget_of_time_is_said_to_go_as_far_as_each_of_its_complete_trials(folder):
    study = write_study(folder, train_steps=0)
    write_trial(study, 1, {100: 0.5}, steps=700)
    write_trial(study, 2, {100: 0.5}, steps=900)
    write_trial(study, 3, {100: 0.5}, "INFEASIBLE", steps=5)
    imported(folder)
    assert summaries(folder)[0].study.content["max_steps"] == 700


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "inf", "-inf"])
def test_a_cell_that_is_empty_or_not_finite_is_no_reading(folder, cell):
    write_trial(write_study(folder), 1, {100: cell, 200: 0.001})
    imported(folder)
    (concluded,) = summaries(folder)
    assert concluded.steps_to_target == 200
    readings = "SELECT step FROM readings WHERE name = 'validation_error'"
    assert query(folder.parent / "a.sqlite", readings) == [(200,)]
    assert query(folder.parent / "a.sqlite", "SELECT count(*) FROM readings") == [(7,)]


@pytest.mark.parametrize("status", ["INFEASIBLE", "INCOMPLETE"])
@pytest.mark.parametrize("text", ["", "\n", "step\n", "step,train/cross_entropy_error\n100,2.5\n"])
def test_a_trial_that_did_not_complete_may_have_been_evaluated_never(folder, status, text):
    study = write_study(folder)
    (write_trial(study, 1, {}, status) / "measurements.csv").write_text(text)
    write_trial(study, 2, {100: 0.001})
    imported(folder)
    assert summaries(folder)[0].steps_to_target == 100


def test_workloads_are_named_by_their_folders_and_come_in_order_of_batch_size(folder):
    for place in (
        *("mnist/simple_cnn_base/sgd/32", "mnist/simple_cnn_base/sgd/2", "mnist/simple_cnn_base/sgd/128"),
        *("solution_quality/mnist/simple_cnn_base/sgd/32", "lm1b/lstm/sgd/64"),
    ):
        write_trial(write_study(folder, place), 1, {100: 0.001})
    said = imported(folder)
    assert [(row.study.workload, row.study.batch_size) for row in summaries(folder)] == [
        ("lm1b-lstm-sgd", 64),
        ("mnist-simple_cnn_base-sgd", 2),
        ("mnist-simple_cnn_base-sgd", 32),
        ("mnist-simple_cnn_base-sgd", 128),
        ("solution_quality-mnist-simple_cnn_base-sgd", 32),
    ]
    assert [(progress.done, progress.total) for progress in said] == [(done, 5) for done in range(1, 6)]


@pytest.mark.parametrize("part", ["mnist", "mnist/simple_cnn_base/nesterov_momentum", "."])
def test_a_part_of_the_archive_is_named_as_in_the_whole(folder, part):
    write_archive(folder)
    with Archive.writing(folder.parent / "a.sqlite") as archive:
        list(batch_science(folder / part, archive))
    assert summaries(folder)[0].study.workload == "mnist-simple_cnn_base-nesterov_momentum"


@pytest.mark.parametrize(
    ("task", "reading", "below"),
    [
        (("mnist", "simple_cnn_base"), "validation_error", 0.01),
        (("fashion_mnist", "simple_cnn_base"), "validation_error", 0.1),
        (("cifar_10", "resnet_8"), "validation_error", 0.3),
        (("imagenet", "resnet_50"), "validation_error", 0.25),
        (("imagenet", "vgg_11"), "validation_error", 0.35),
        (("lm1b", "transformer_base"), "validation_loss", 3.9),
        (("lm1b", "lstm"), "validation_loss", 3.9),
    ],
)
def test_the_goals_of_figure_1_are_the_published_ones(task, reading, below):
    assert _GOALS[task] == Goal(reading, below)
    assert not _GOALS[task].threshold.met(below)


def test_what_has_no_goal_is_left_out_and_said_and_a_goal_that_is_given_goes_before(folder):
    for place in ("mnist/fc_1024/sgd/32", "mnist/simple_cnn_base/sgd/32", "open_images_v4/resnet_50/sgd/64"):
        write_trial(write_study(folder, place), 1, {100: 0.025, 200: 0.01})
    said = imported(folder, ["mnist/*:validation_error:0.03", "mnist/fc_*:validation_loss:5"])
    assert said[0].left_out == ("open_images_v4/resnet_50",)
    assert [row.steps_to_target for row in summaries(folder)] == [100, 100]


@pytest.mark.parametrize(
    ("goal", "sentence"),
    [
        ("mnist/fc:validation_error", "DATASET/MODEL:READING:NUMBER would be right"),
        ("mnist/*:validation_error:none", "DATASET/MODEL:READING:NUMBER would be right"),
        ("mnist/*:validation_error:0", "a number above 0"),
        ("mnist/*:validation_error:nan", "a number above 0"),
        ("mnist/*:average_precision:0.3", "validation_error or validation_loss"),
        ("mnist/simple_cnn:validation_error:0.3", "did you mean 'mnist/simple_cnn_base'?"),
        ("mnist/*:validation_error:0.95", "meets validation_error < 0.95 at step 0"),
    ],
)
def test_a_goal_that_cannot_be_is_refused(folder, goal, sentence):
    write_archive(folder)
    refused(folder, sentence, [goal])


def refused(folder, sentence, goals=()):
    """Importing is refused with a sentence of one line, and no archive is left."""
    with pytest.raises(ArchiveError) as caught:
        imported(folder, goals)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.glob("a.sqlite*"))


def test_a_folder_that_is_missing_or_holds_something_else_is_refused(folder):
    refused(folder / "elsewhere", "no such folder")
    refused(folder, "holds no study; a folder with DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json in it")
    study = write_study(folder)
    refused(folder, "holds no trial")
    write_trial(study, 1, {100: 0.5})
    (study / "study.json").unlink()
    refused(folder, "32: holds trials and no study.json")


def test_nothing_is_imported_where_nothing_has_a_goal(folder):
    write_trial(write_study(folder, "mnist/fc_1024/sgd/32"), 1, {100: 0.5})
    refused(folder, "no goal is known for mnist/fc_1024; give one, such as 'mnist/fc_1024:validation_error:0.1'")


def test_two_studies_of_one_workload_and_batch_size_are_refused(folder):
    for place in ("mnist/simple_cnn_base/sgd/32", "mnist/simple_cnn_base/sgd/032"):
        write_trial(write_study(folder, place), 1, {100: 0.5})
    refused(folder, "a study has its own")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_steps": None}, "study.json: train_steps is null; a whole number"),
        ({"train_steps": -1}, "study.json: train_steps is -1"),
        ({"batch_size": 0}, "study.json: batch_size is 0"),
        ({"batch_size": 2.5}, "study.json: batch_size is 2.5"),
        ({"batch_size": True}, "study.json: batch_size is true"),
        ({"parameter_configs": []}, "study.json: parameter_configs is []; an object"),
        (
            {"parameter_configs": {"momentum": CONFIGS["momentum"] | {"max_value": 1.0}}},
            "study.json: the parameter 'momentum' has the range",
        ),
        (
            {"parameter_configs": {"learning_rate": CONFIGS["learning_rate"] | {"min_value": 0}}},
            "study.json: the parameter 'learning_rate' has the range",
        ),
        (
            {"parameter_configs": {"label_smoothing": {"type": "DISCRETE", "feasible_points": []}}},
            "study.json: the parameter 'label_smoothing' has the range",
        ),
    ],
    ids=str,
)
def test_a_study_that_says_what_cannot_be_is_refused(folder, changes, sentence):
    write_trial(write_study(folder, **changes), 1, {100: 0.001})
    refused(folder, sentence)


@pytest.mark.parametrize("key", ["batch_size", "train_steps", "parameter_configs"])
def test_a_study_that_does_not_say_enough_is_refused(folder, key):
    path = write_archive(folder) / "study.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))
    refused(folder, f"study.json: has no {key}; it has dataset")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"status": "STOPPED"}, "found the status 'STOPPED'; COMPLETE, INCOMPLETE, INFEASIBLE are known"),
        ({"status": 3}, "status is 3; a word"),
        ({"steps": "many"}, 'steps is "many"; a whole number'),
        ({"steps": 2**70}, "steps is 1180591620717411303424; a whole number"),
        ({"steps": math.nan}, "steps is NaN"),
        ({"trial_id": 1}, "has the trial_id 1 of"),
        ({"parameters": None}, "parameters is null"),
        ({"parameters": PARAMETERS | {"momentum": [0.9]}}, "the parameter 'momentum' is [0.9]"),
        ({"parameters": PARAMETERS | {"momentum": math.nan}}, "the parameter 'momentum' is NaN"),
        ({"parameters": PARAMETERS | {"momentum": 1.0}}, "the parameter 'momentum' is 1.0; a value in"),
        ({"parameters": PARAMETERS | {"learning_rate": -1}}, "the parameter 'learning_rate' is -1; a value in"),
        ({"parameters": PARAMETERS | {"learning_rate": "high"}}, "the parameter 'learning_rate' is \"high\"; a value"),
    ],
    ids=str,
)
def test_a_trial_that_says_what_cannot_be_is_refused(folder, changes, sentence):
    study = write_archive(folder)
    write_trial(study, 77, {100: 0.001}, **changes)
    refused(folder, sentence)


@pytest.mark.parametrize("name", ["32/study.json", "32/3/metadata.json"])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"a": 1,\n"b"}', ":2: is not JSON"),
        (b"", ":1: is not JSON"),
        (b"[1]", ": holds [1]"),
        (b"\xff", ": is not JSON"),
        (b"[" * 100_000, ": cannot be read: is nested too deep"),
        (b"1" * 5_000, ": cannot be read: is nested too deep, or holds a number too long"),
    ],
)
def test_broken_json_is_refused_with_its_file_and_line(folder, name, text, sentence):
    study = write_archive(folder)
    (study.parent / name).write_bytes(text)
    refused(folder, name + sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ":1: found the columns none; 'step' has to be there"),
        ("val/classification_error\n0.1\n", ":1: found the columns val/classification_error; 'step' has to be there"),
        ("step,val/cross_entropy_error\n1,2\n", "'val/classification_error' has to be there"),
        ("step,val/classification_error,step\n1,0.1,1\n", ":1: found a column twice"),
        ("step,val/classification_error\n1,0.1\n2\n", ":3: found 1 cells; the header has 2"),
        ("step,val/classification_error\n1,0.1,7\n", ":2: found 3 cells; the header has 2"),
        ("step,val/classification_error\n1,0.1\n\n2,low\n", ":4: could not convert string to float: 'low'"),
        ("step,val/classification_error\n1.5,0.1\n", ":2: found the step '1.5'"),
        ("step,val/classification_error\n-1,0.1\n", ":2: found the step '-1'"),
        ("step,val/classification_error\nnan,0.1\n", ":2: found the step 'nan'"),
        (",val/classification_error\n1,0.1\n", "'step' has to be there"),
        ("step,val/classification_error\n1,0.1\n1,0.2\n", ":3: found the step 1 again"),
        ('step,val/classification_error\n1,"0.1\n', ": unexpected end of data"),
        (b"step,val/classification_error\n1,\xff\n", "is not text"),
    ],
)
def test_broken_measurements_are_refused_with_their_file_and_line(folder, text, sentence):
    study = write_archive(folder)
    (study / "3" / "measurements.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(folder, sentence)
    refused(folder, "3/measurements.csv:")


@pytest.mark.parametrize("name", ["metadata.json", "measurements.csv"])
def test_a_trial_that_lacks_a_file_is_refused(folder, name):
    (write_archive(folder) / "3" / name).unlink()
    refused(folder, f"3/{name}: cannot be read: No such file or directory")


def test_importing_again_is_refused_and_changes_nothing(folder):
    write_archive(folder)
    imported(folder)
    before = dump(folder.parent / "a.sqlite")
    with pytest.raises(ArchiveError, match=r"holds the suite 'batch-science' already; .* --label"):
        imported(folder)
    assert dump(folder.parent / "a.sqlite") == before


def test_an_import_that_was_killed_counts_as_none_and_is_begun_again_whole(folder):
    write_archive(folder)
    imported(folder)
    path = folder.parent / "a.sqlite"
    whole = dump(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM suites")
        db.execute("DELETE FROM readings WHERE step = 100")
        db.execute("DELETE FROM seals")
        seals.seal_all(db)
    imported(folder)
    assert dump(path) == whole


def test_an_import_that_is_stopped_midway_leaves_no_archive(folder):
    for size in (2, 32):
        write_trial(write_study(folder, f"mnist/simple_cnn_base/sgd/{size}"), 1, {100: 0.001})
    with Archive.writing(folder.parent / "a.sqlite") as archive:
        next(batch_science(folder, archive))
    assert not list(folder.parent.glob("a.sqlite*"))


def test_memory_does_not_grow_with_the_number_of_trials(folder):
    def peak(trials):
        study = write_study(folder, f"mnist/simple_cnn_base/sgd/{trials}")
        for number in range(trials):
            write_trial(study, number, dict.fromkeys(range(1000), 0.5))
        path = folder.parent / f"{trials}.sqlite"
        with Archive.writing(path) as archive:
            tracemalloc.start()
            list(batch_science(study, archive))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert query(path, "SELECT count(*) FROM readings") == [(trials * 4000,)]
        return most

    assert peak(12) < 2 * peak(3)


def test_the_command_line_imports_and_says_where_and_what_it_left_out(folder, monkeypatch, capsys):
    write_archive(folder)
    write_trial(write_study(folder, "mnist/fc_1024/sgd/32"), 1, {100: 0.02})
    monkeypatch.chdir(folder.parent)

    def bench(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    assert bench("import", "batch_science", "--format", "batch-science") == (
        0,
        "archive: results/batch-science/main.sqlite\n",
        "left out, for want of a --goal: mnist/fc_1024\n",
    )
    code, out, _ = bench("show", "results/batch-science/main.sqlite", "--format", "json")
    assert (code, json.loads(out)["workloads"][0]["studies"][0]["steps_to_target"]["search"]) == (0, 300)
    code, out, _ = bench("show", "results/batch-science/main.sqlite")
    assert "mnist-simple_cnn_base-nesterov_momentum" in out
    assert bench("import", "batch_science")[0] == 2
    with_goal = ("import", "batch_science", "--label", "fc", "--goal", "mnist/fc_*:validation_error:0.03")
    assert bench(*with_goal) == (0, "archive: results/batch-science/fc.sqlite\n", "")
    assert bench("import", "missing", "--label", "b")[0] == 2
    assert sorted(path.name for path in folder.parent.glob("results/*/*.sqlite")) == ["fc.sqlite", "main.sqlite"]
