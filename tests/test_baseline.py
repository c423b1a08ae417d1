"""A baseline is a side that survives being written down, and is not believed when it was spoiled."""

from __future__ import annotations

import json
import math

import pytest
from sides_by_hand import side
from summaries import summary
from test_gate import clocked, study

from bench.conclude import baseline
from bench.conclude.sides import given_by
from bench.errors import BaselineError, BenchError, IncompleteError

SEEDS = [100, 104, math.inf, 110, 102]


def saved(folder, *summaries):
    made = side(*(summaries or (clocked([0.01, 0.02, 0.03]), study(SEEDS, 64, digest="x"), summary(8, None))))
    baseline.save(made, folder / "b.json")
    return made, folder / "b.json"


def test_a_side_read_back_is_the_side_that_was_saved(tmp_path):
    made, path = saved(tmp_path)
    found = baseline.read(path)
    assert found.samples == made.samples
    assert (found.suite, found.environments) == (made.suite, made.environments)


def test_the_file_is_sorted_small_and_ends_in_a_newline_so_that_it_reviews_well(tmp_path):
    _, path = saved(tmp_path)
    text = path.read_text()
    assert text.endswith("}\n")
    content = json.loads(text)
    assert [study["batch_size"] for study in content["studies"]] == [8, 32, 64]
    assert json.dumps(content, indent=1, sort_keys=True) + "\n" == text
    assert len(text) < 1_500 * len(content["studies"])
    assert content["schema_version"] == 2


def test_a_miss_is_null_and_nothing_else_is(tmp_path):
    _, path = saved(tmp_path)
    (contender,) = json.loads(path.read_text())["studies"][2]["contenders"]
    assert contender["each"] == [[95, 100], [99, 104], [270, None], [104, 110], [97, 102]]
    assert (contender["metaparameters"], contender["number"], contender["searched"]) == ({"learning_rate": 0.1}, 0, 90)


def test_a_baseline_of_version_1_is_read_as_first_passages_of_metaparameters_that_are_not_known(tmp_path):
    _, path = saved(tmp_path)
    content = json.loads(path.read_text())
    content["schema_version"] = 1
    for held in content["studies"]:
        contenders = held.pop("contenders")
        held["steps"] = [by for _, by in contenders[0]["each"]] if contenders else []
        del held["rule"], held["given"]
    path.write_text(json.dumps(content))
    sample = baseline.read(path).samples["w", 64]
    assert (sample.steps, sample.rule) == (tuple(SEEDS), "first")
    (contender,) = sample.contenders
    assert contender.metaparameters is None
    assert contender.each == ((99, 100), (103, 104), (270, math.inf), (109, 110), (101, 102))
    assert given_by(sample) == ()


def test_a_baseline_is_not_overwritten_but_replaced_for_a_reason(tmp_path):
    made, path = saved(tmp_path)
    with pytest.raises(BenchError, match="is there already; 'bench baseline accept' replaces it"):
        baseline.save(made, path)
    other = side(study([200] * 5))
    baseline.accept(other, path, "a wider layer")
    assert baseline.read(path).samples == other.samples
    assert [entry["reason"] for entry in json.loads(path.read_text())["history"]] == ["saved", "a wider layer"]
    assert [file.name for file in tmp_path.iterdir()] == ["b.json"]


def test_there_is_nothing_to_accept_without_a_baseline_or_a_reason(tmp_path):
    with pytest.raises(BaselineError, match="cannot be read"):
        baseline.accept(side(study(SEEDS)), tmp_path / "none.json", "because")
    _, path = saved(tmp_path)
    with pytest.raises(BenchError, match="say why the new numbers are right"):
        baseline.accept(side(study(SEEDS)), path, "  ")


def test_what_was_not_measured_whole_is_no_baseline(tmp_path):
    with pytest.raises(IncompleteError, match="w at batch size 32 was not measured; run the suite"):
        saved(tmp_path, study(SEEDS, status="not measured"))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="cannot be written: File exists; choose"):
        saved(tmp_path / "file")


SPOILED = {
    "is not JSON": (lambda text: text[:-20], "Invalid JSON"),
    "of another schema": (
        lambda text: text.replace('"schema_version": 2', '"schema_version": 3'),
        "version 3; this bench reads versions 1 and 2",
    ),
    "a word for a number": (
        lambda text: text.replace('"budget": 270', '"budget": "270"', 1),
        "studies.1.budget: should be",
    ),
    "an infinity": (lambda text: text.replace("     100\n", "     Infinity\n"), "finite number"),
    "steps that end before they begin": (
        lambda text: text.replace("     95,\n", "     100,\n"),
        "should be [after, by] with after < by",
    ),
    "a metaparameter that is a list": (
        lambda text: text.replace('"learning_rate": 0.1', '"learning_rate": [0.1]'),
        "text or a finite number",
    ),
    "a key too many of a contender": (lambda text: text.replace('"searched"', '"odd": 1, "searched"', 1), "odd"),
    "a negative step": (lambda text: text.replace("104", "-104"), "should be greater than 0"),
    "a key too many": (lambda text: text.replace('"found"', '"foound": 1, "found"', 1), "foound"),
    "a study too many": (lambda text: text.replace('"batch_size": 64', '"batch_size": 32'), "twice"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_baseline_is_refused_in_a_sentence(tmp_path, fault):
    _, path = saved(tmp_path)
    spoil, sentence = SPOILED[fault]
    text = path.read_text()
    path.write_text(spoil(text))
    assert path.read_text() != text
    with pytest.raises(BaselineError) as caught:
        baseline.read(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def shown(folder, change=lambda content: None):
    """What `bench show --format json` prints of a side, as far as it matters here, after a change."""
    made, path = saved(folder)
    content = json.loads(path.read_text())
    studies = [{"batch_size": study["batch_size"], "raw": study} for study in content["studies"]]
    (environment,) = content["environments"]
    document = {"suite": "gated", "environment": environment, "workloads": [{"name": "w", "studies": studies}]}
    change(document)
    (folder / "shown.json").write_text(json.dumps(document))
    return made, folder / "shown.json"


def raw(content):
    return content["workloads"][0]["studies"][1]["raw"]


@pytest.mark.parametrize("listed", [False, True])
def test_a_summary_that_was_shown_is_a_side_too(tmp_path, listed):
    def change(content):
        content["environment"] = [content["environment"]] if listed else content["environment"]

    made, path = shown(tmp_path, change)
    found = baseline.read(path)
    assert (found.samples, found.suite, found.environments) == (made.samples, made.suite, made.environments)


HOSTILE = {
    "without raw values": (lambda content: content["workloads"][0]["studies"][0].pop("raw"), "without raw values"),
    "a NaN": (lambda content: raw(content)["step_seconds"].append(math.nan), "should be a finite number"),
    "more than a float holds": (lambda content: raw(content)["step_seconds"].append(10**400), "a finite number"),
    "a time no clock can tell": (lambda content: raw(content)["step_seconds"].append(1e-300), "at least 1e-15"),
    "a batch size beyond all": (lambda content: raw(content).update(batch_size=10**200), "at most 1,000,000,000,000"),
    "a NaN in an environment": (lambda content: content["environment"].update(threads=math.nan), "finite number"),
    "an environment of lists": (lambda content: content["environment"].update(threads=[1]), "text or a finite number"),
    "no environment": (lambda content: content.update(environment=None), "in an environment it does not hold"),
    "another environment": (lambda content: raw(content).update(timed_in=[3]), "in an environment it does not hold"),
    "a workload twice": (lambda content: content["workloads"].append(content["workloads"][0]), "twice"),
    "a word for its workloads": (lambda content: content.update(workloads="w"), "workloads: "),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_summary_is_refused_in_a_sentence(tmp_path, fault):
    change, sentence = HOSTILE[fault]
    _, path = shown(tmp_path, change)
    with pytest.raises(BaselineError) as caught:
        baseline.read(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Invalid JSON"),
        ("[" * 100_000, "recursion limit"),
        ('{"suite": "s", "workloads": ' + '{"w":' * 100_000, "recursion limit"),
        ("[]", "should be a baseline, or what 'bench show --format json' prints"),
        ('{"suite": "gated", "verdict": "pass"}', "should be a baseline, or what"),
    ],
)
def test_what_is_neither_kind_of_file_is_refused_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(BaselineError) as caught:
        baseline.read(tmp_path / "b.json")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_an_end_is_not_read_to_it(tmp_path):
    (tmp_path / "b.json").symlink_to("/dev/zero")
    with pytest.raises(BaselineError, match="holds more than 100,000,000 bytes"):
        baseline.read(tmp_path / "b.json")


def test_a_summary_is_no_baseline_to_replace(tmp_path):
    _, path = shown(tmp_path)
    before = path.read_text()
    with pytest.raises(BaselineError, match="and no baseline"):
        baseline.accept(side(study(SEEDS)), path, "because")
    assert path.read_text() == before


def test_a_baseline_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BaselineError, match="not UTF-8"):
        baseline.read(tmp_path / "b.json")
