"""`bench new`: what it writes works as it is written, in an empty folder and in a clone of bench."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ask import new
from bench.errors import ComponentError

ROOT = Path(__file__).parent.parent
KINDS = ("model", "dataset", "optimizer", "schedule", "probe", "analysis")
SUITE = """
suite: own
workloads:
  - name: all
    model: {model}
    dataset: {dataset}
    optimizer: {optimizer}
    schedule: {schedule}
    batch_sizes: [64]
    target: {{validation_error: {{at_most: 0.2}}}}
    max_steps: 400
    search: {{trials: 4, learning_rate: {{log_uniform: [0.003, 0.03]}}, power: 1.0}}
    confirm: {{seeds: 1}}
    probes: {{'{probe}': {{every: 4x}}}}
"""


def python(*arguments, folder, path=ROOT):
    """Runs a module of an installed bench, or of the one at `path`, in a folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_everything_new(folder, path, said, places):
    """Writes each kind, runs the tests it wrote, and measures a suite of nothing but what it wrote."""
    for kind in KINDS:
        out = python("bench", "new", kind, f"my_{kind}", folder=folder, path=path)
        assert [line.removeprefix("written: ") for line in out.splitlines()[:2]] == [
            place.format(kind=kind, plural=new.PLURALS[kind]) for place in places
        ]
        assert said(f"my_{kind}") in out
    tests = sorted(folder.rglob("test_my_*.py"))
    assert len(tests) == len(KINDS)
    python("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *tests, folder=folder, path=path)
    (folder / "own.yaml").write_text(SUITE.format(**{kind: said(f"my_{kind}") for kind in KINDS}))
    python("bench", "run", "own.yaml", folder=folder, path=path)
    shown = json.loads(python("bench", "show", "own.yaml", "--format", "json", folder=folder, path=path))
    (study,) = shown["workloads"][0]["studies"]
    assert study["steps_to_target"]["reached"] == 1
    out = python("bench", "show", "own.yaml", "--analysis", said("my_analysis"), folder=folder, path=path)
    assert f"{64 * study['steps_to_target']['median']:,.0f}" in out
    assert ".still" in python("bench", "show", "own.yaml", "--analysis", "probes", folder=folder, path=path)


def test_every_kind_works_as_it_is_written_in_an_empty_folder(tmp_path):
    check_everything_new(tmp_path, ROOT, lambda name: f"{name}:{name}", ["my_{kind}.py", "test_my_{kind}.py"])


def test_every_kind_works_as_it_is_written_in_a_clone_where_it_has_its_place(tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "bench", clone / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "tests").mkdir()
    places = ["bench/{plural}/my_{kind}.py", "tests/test_my_{kind}.py"]
    check_everything_new(clone, clone, lambda name: name, places)
    listed = python("bench", "list", folder=clone, path=clone)
    assert all(f"  my_{kind}" in listed for kind in KINDS)


def test_a_new_suite_is_measured_as_it_is_written(tmp_path):
    assert "bench run first.yaml" in python("bench", "new", "suite", "first", folder=tmp_path)
    assert "nothing wrong" in python("bench", "check", "first.yaml", folder=tmp_path)
    assert python("bench", "run", "first.yaml", folder=tmp_path).count("3/3") == 4


def test_nothing_is_overwritten(tmp_path):
    new.write("suite", "first", tmp_path)
    (tmp_path / "mine.py").write_text("precious")
    (tmp_path / "test_other.py").write_text("precious")
    for kind, name, file in (("model", "mine", "mine.py"), ("model", "other", "test_other.py"), ("suite", "first", "")):
        with pytest.raises(ComponentError, match=f"{file or 'first.yaml'}: is there already; choose another name"):
            new.write(kind, name, tmp_path)
    assert (tmp_path / "mine.py").read_text() == (tmp_path / "test_other.py").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.yaml", "mine.py", "test_other.py"]


@pytest.mark.parametrize(
    "name", ["Mine", "my-net", "class", "", "../mine", "1st", "a b", "mine.py", "\n", "bench:x", "a" * 300]
)
def test_a_name_that_python_or_a_suite_could_not_use_is_a_sentence(tmp_path, name):
    with pytest.raises(ComponentError, match="a component's name is lower-case letters, digits and '_'"):
        new.write("model", name, tmp_path)
    if name not in ("my-net", "class", "1st"):
        with pytest.raises(ComponentError, match="a suite's name is lower-case letters, digits, '-' and '_'"):
            new.write("suite", name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["math", "random", "torch", "bench"])
def test_a_name_under_which_python_would_find_another_module_is_refused(tmp_path, name):
    with pytest.raises(ComponentError, match="Python has a module of that name"):
        new.write("optimizer", name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "name"), [("model", "nn"), ("model", "prod"), ("optimizer", "path")])
def test_a_name_that_what_is_written_has_for_another_thing_is_refused(tmp_path, kind, name):
    with pytest.raises(ComponentError, match="has that word for another thing"):
        new.write(kind, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_in_a_clone_the_name_of_a_component_or_of_a_test_that_is_there_is_refused():
    for name, file in (("mlp", "bench/models/mlp.py"), ("components", "tests/test_components.py")):
        with pytest.raises(ComponentError, match=f"{file}: is there already"):
            new.write("model", name, ROOT)


def test_a_folder_that_takes_no_file_is_a_sentence(tmp_path):
    with pytest.raises(ComponentError, match=r"mine\.py: cannot be written: No such file or directory"):
        new.write("model", "mine", tmp_path / "nowhere")
