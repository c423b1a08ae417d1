"""The gate as a CI job runs it: real processes, real trainings, and the exit code of each answer."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from test_run import bench, start

from bench.conclude import baseline, sides
from bench.keep import seals
from bench.keep.archive import Archive

README = Path(__file__).parent.parent / "README.md"

SUITE = """
suite: gated
gate: {gate}
workloads:
  - name: digits-softmax
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: [64, 256]
    measure: {measure}
    target: {{validation_error: {{at_most: 0.08}}}}
    max_steps: 2000
    search: {{trials: 4, learning_rate: {learning_rate}}}
    confirm: {{seeds: {seeds}}}
    timing: {{processes: 3, seconds: 0.2}}
"""
RATES = "{log_uniform: [0.01, 10]}"


def write(folder, name="gated.yaml", gate="{steps_to_target: {tolerance: 0.25}}", learning_rate=RATES, seeds=5):
    measure = "[steps_to_target, throughput]" if "throughput" in gate else "[steps_to_target]"
    text = SUITE.format(gate=gate, measure=measure, learning_rate=learning_rate, seeds=seeds)
    (folder / name).write_text(text)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """A folder with a suite, its archive `main`, the baseline that was saved of it, and archives of planted faults."""
    folder = tmp_path_factory.mktemp("gated")
    write(folder)
    bench("run", "gated.yaml", folder=folder)
    bench("baseline", "save", "gated/main", "-o", "base.json", folder=folder)
    write(folder, "slow.yaml", learning_rate="0.02")
    bench("run", "slow.yaml", "--label", "slow", folder=folder)
    write(folder, "few.yaml", seeds=3)
    bench("run", "few.yaml", "--label", "few", folder=folder)
    with changed(folder, "less") as db:
        (planned,) = db.execute("SELECT planned FROM suites").fetchone()
        db.execute("UPDATE suites SET planned = ?", (json.dumps(json.loads(planned)[:1]),))
    write(folder, "speed.yaml", gate="{throughput: {tolerance: 0.05}}")
    bench("run", "speed.yaml", "--label", "timed", folder=folder)
    bench("baseline", "save", "gated/timed", "-o", "timed.json", folder=folder)
    for label in ("main", "timed"):
        shown, _ = bench("show", f"results/gated/{label}.sqlite", "--format", "json", folder=folder)
        (folder / f"{label}-shown.json").write_text(shown)
    with changed(folder, "elsewhere", "timed") as db:
        (content,) = db.execute(
            "SELECT json_set(content, '$.device', 'another processor') FROM environments"
        ).fetchone()
        db.execute("INSERT INTO environments VALUES (?, ?)", (sha256(content.encode()).hexdigest()[:16], content))
        db.execute("UPDATE trials SET environment = (SELECT id FROM environments WHERE content = ?)", (content,))
        db.execute("DELETE FROM environments WHERE content != ?", (content,))
    with changed(folder, "unfinished") as db:
        db.execute("UPDATE studies SET finished = 0 WHERE batch_size = 64")
    (folder / "table.json").write_text("[]")
    rewritten(folder, "shifted.json", lambda steps: [round(1.2 * value) for value in steps])
    rewritten(folder, "typo.json", lambda steps: [10 * steps[0], *steps[1:]], budget=10**6)
    text = (folder / "base.json").read_text()
    first = json.loads(text)["studies"][0]["contenders"][0]["each"][0][1]
    (folder / "nan.json").write_text(text.replace(f"     {first}\n", "     NaN\n", 1))
    return folder


class changed:  # noqa: N801 (it reads as a verb)
    """A copy of the archive under another label, open to be spoiled."""

    def __init__(self, folder, label, source="main"):
        results = folder / "results" / "gated"
        self.path = results / f"{label}.sqlite"
        self.path.write_bytes((results / f"{source}.sqlite").read_bytes())

    def __enter__(self):
        self.db = sqlite3.connect(self.path)
        return self.db

    def __exit__(self, *_):
        with closing(self.db):
            self.db.execute("DELETE FROM seals")
            seals.seal_all(self.db)
            self.db.commit()


def rewritten(folder, name, steps_of, **changes):
    """The baseline with other steps to target, as another training would have left them."""
    content = json.loads((folder / "base.json").read_text())
    for study in content["studies"]:
        for contender in study["contenders"]:
            steps = steps_of([by for _, by in contender["each"] if by])
            contender["each"] = [[by - 1, by] for by in steps] + [each for each in contender["each"] if not each[1]]
        study |= {"trajectory": "another", **changes}
    (folder / name).write_text(json.dumps(content))


def exits(folder, *arguments, **environment):
    """(exit code, stdout, stderr) of `bench gate` in a process of its own."""
    process = start("gate", *arguments, folder=folder, **environment)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


CASES = {
    "the same archive": (["gated.yaml", "base.json", "main"], 0, "identical"),
    "a smaller learning rate, forced": (["slow.yaml", "base.json", "slow"], 1, "fail"),
    "a candidate of another suite": (["gated.yaml", "base.json", "slow"], 5, "another suite, source or data"),
    "a workload that is missing": (["gated.yaml", "base.json", "less"], 5, "the candidate lacks it; run the suite"),
    "a workload the base lacks": (["gated.yaml", "less", "main"], 4, "the base lacks it"),
    "an unfinished run": (["gated.yaml", "base.json", "unfinished"], 5, "the candidate's study was not measured"),
    "three seeds where five are needed": (["gated.yaml", "base.json", "few"], 5, "the candidate has 3 seeds of 5"),
    "a NaN in the base": (["gated.yaml", "nan.json", "main"], 4, "should be a finite number"),
    "a NaN in the candidate": (["gated.yaml", "base.json", "nan.json"], 5, "should be a finite number"),
    "a typo ten times its neighbours": (["gated.yaml", "typo.json", "main"], 4, "where its neighbours have"),
    "times on another device": (["speed.yaml", "timed", "elsewhere"], 4, "device"),
    "times of what was trained too": (["speed.yaml", "timed", "timed"], 0, "pass (2 pass)"),
    "times that a baseline keeps": (["speed.yaml", "timed.json", "timed"], 0, "pass (2 pass)"),
    "a summary as it was shown": (["gated.yaml", "main-shown.json", "main"], 0, "identical"),
    "times as they were shown": (["speed.yaml", "timed", "timed-shown.json"], 0, "pass (2 pass)"),
    "a smaller learning rate, against a summary": (["slow.yaml", "main-shown.json", "slow"], 1, "fail"),
    "a table for a summary": (["gated.yaml", "table.json", "main"], 4, "should be a baseline, or what 'bench show"),
    "times that were never taken": (["speed.yaml", "main", "main"], 5, "the candidate was not timed"),
    "steps on another device": (["gated.yaml", "main", "elsewhere"], 0, "identical"),
    "evidence for neither": (["gated.yaml", "base.json", "shifted.json"], 0, "inconclusive"),
    "evidence for neither, when asked for": (
        ["gated.yaml", "base.json", "shifted.json", "--fail-on", "inconclusive"],
        3,
        "seeds a side would settle it",
    ),
    "no base": (["gated.yaml", "nowhere.json", "main"], 4, "nowhere.json: cannot be read"),
    "no archive as base": (["gated.yaml", "nowhere", "main"], 4, "no such archive"),
    "no candidate": (["gated.yaml", "base.json", "nowhere"], 5, "no such archive"),
    "no rules": (["plain.yaml", "base.json", "main"], 2, "has no 'gate' for steps_to_target"),
    "an unknown option": (["gated.yaml", "base.json", "main", "--fail-off"], 2, "No such option"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_answer_has_its_exit_code(gated, case):
    write(gated, "plain.yaml", gate="null")
    arguments, expected, sentence = CASES[case]
    code, out, err = exits(gated, *arguments)
    assert code == expected, out + err
    assert sentence in out + err


@pytest.mark.parametrize("label", ["main", "timed"])
def test_a_summary_that_was_shown_is_the_same_side_as_its_archive(gated, label):
    with Archive.reading(gated / "results" / "gated" / f"{label}.sqlite") as archive:
        stored = sides.of_archive(archive)
    shown = baseline.read(gated / f"{label}-shown.json")
    assert shown.samples == stored.samples
    assert (shown.suite, shown.environments) == (stored.suite, stored.environments)


def test_the_help_says_what_each_exit_code_means():
    out, _ = bench("gate", "--help", folder=Path.cwd())
    for code in ("0 passed", "1 a", "2 wrong", "3 inconclusive", "4 the base", "5 the", "130 stopped"):
        assert code in " ".join(out.split())


def test_what_answers_at_once_imports_no_torch_and_no_great_part_of_scipy(gated):
    check = "assert not {'torch', 'sklearn', 'scipy.stats', 'scipy.optimize', 'matplotlib'} & set(sys.modules)"
    program = f"import sys; from bench.cli import main\ntry: main()\nfinally: {check}"
    commands = [["gate", "gated.yaml", "base.json", "shifted.json"], ["compare", "base.json", "shifted.json"]]
    for command in (*commands, ["show", "results/gated/timed.sqlite"]):
        environment = {**os.environ, "PYTHONPATH": str(README.parent)}
        done = subprocess.run(
            [sys.executable, "-c", program.replace("import sys;", f"import sys; sys.argv = {['bench', *command]!r};")],
            cwd=gated,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert "AssertionError" not in done.stderr
        assert done.returncode == 0, done.stderr


def test_the_numbers_behind_a_verdict_are_in_its_document(gated):
    exits(gated, "slow.yaml", "base.json", "slow", "--json", "out/gate.json")
    document = json.loads((gated / "out" / "gate.json").read_text())
    assert (document["verdict"], document["exit_code"]) == ("fail", 1)
    assert document["counts"]["fail"] == len(document["rulings"]) == 2
    for ruling in document["rulings"]:
        assert len(ruling["base"]["values"]) == len(ruling["candidate"]["values"]) == 5
        assert ruling["p_worse"] <= 0.05
        assert ruling["ratio"]["low"] > ruling["limit"] == 1.25
    assert document["base"]["environments"][0]["device_type"] == "cpu"


def test_a_page_that_cannot_be_written_is_a_warning_and_the_exit_code_is_the_gates(gated):
    code, out, err = exits(gated, "gated.yaml", "base.json", "main", GITHUB_STEP_SUMMARY=str(gated))
    assert (code, "identical" in out) == (0, True)
    assert "cannot be written: Is a directory; the verdicts stand below" in err


def test_the_commands_of_the_readme_save_hold_and_replace_a_baseline(gated):
    """Each line of the section's first block, as it stands there; the suite is a smaller one."""
    block = README.read_text().split("## Gate CI")[1].split("```sh\n")[1].split("```")[0]
    names = {"suites/quick.yaml": "gated.yaml", "quick/": "gated/", "results/baselines/quick.json": "readme.json"}
    commands = []
    for line in block.splitlines():
        for published, here in names.items():
            line = line.replace(published, here)
        if command := shlex.split(line, comments=True):
            commands.append(command)
    assert [command[1] for command in commands] == ["baseline", "run", "gate", "baseline"]
    for command in commands:
        bench(*command[1:], folder=gated)
    history = json.loads((gated / "readme.json").read_text())["history"]
    assert [entry["reason"] for entry in history] == ["saved", "a wider layer: more steps, better test error"]


def in_a_process(*arguments, folder):
    """`bench` by itself: what this one imported of one's own code stays as it was."""
    process = start(*arguments, folder=folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


OPTIMIZER = """
from torch.optim import SGD

def gentle(parameters, *, learning_rate: float):
    \"\"\"SGD.\"\"\"
    return SGD(parameters, lr={factor} * learning_rate)
"""


def test_a_change_that_slows_training_is_failed_and_equal_code_is_identical(tmp_path):
    """With the metaparameters of the base: a search would tune the change away."""
    write(tmp_path)
    text = (tmp_path / "gated.yaml").read_text()
    (tmp_path / "gated.yaml").write_text(text.replace("optimizer: sgd", "optimizer: 'gentle:gentle'"))
    (tmp_path / "gentle.py").write_text(OPTIMIZER.format(factor=1.0))
    bench("run", "gated.yaml", folder=tmp_path)
    bench("baseline", "save", "gated/main", "-o", "base.json", folder=tmp_path)
    bench("run", "gated.yaml", "--label", "equal", "--confirm", "base.json", folder=tmp_path)
    code, out, err = exits(tmp_path, "gated.yaml", "base.json", "equal")
    assert (code, "2 identical" in out) == (0, True), out + err
    (tmp_path / "gentle.py").write_text(OPTIMIZER.format(factor=0.03))
    in_a_process("run", "gated.yaml", "--label", "slow", "--confirm", "base.json", folder=tmp_path)
    code, out, err = exits(tmp_path, "gated.yaml", "base.json", "slow")
    assert (code, "2 fail" in out, "tuned by itself" in out) == (1, True, False), out + err
    in_a_process("run", "gated.yaml", "--label", "tuned", folder=tmp_path)
    code, out, err = exits(tmp_path, "gated.yaml", "base.json", "tuned")
    assert "the candidate was tuned by itself in 2 of 2 studies" in out, out + err


def test_what_was_confirmed_in_a_way_that_is_not_known_cannot_be_confirmed_again(gated):
    content = json.loads((gated / "base.json").read_text())
    content["schema_version"] = 1
    for study in content["studies"]:
        contenders = study.pop("contenders")
        study["steps"] = [by for _, by in contenders[0]["each"]]
        del study["rule"], study["given"]
    (gated / "first.json").write_text(json.dumps(content))
    process = start("run", "gated.yaml", "--label", "first", "--confirm", "first.json", folder=gated)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "does not say with which metaparameters" in err


def test_the_workflow_of_the_readme_does_what_it_says(gated, tmp_path):
    """Its steps, run in their order as a runner would, with its files; the suite is a smaller one."""
    text = README.read_text().split("A workflow, whole:\n\n```yaml\n")[1].split("```")[0]
    steps = [step["run"] for step in yaml.safe_load(text)["jobs"]["gate"]["steps"] if "run" in step]
    assert steps[0] == "pip install -e ."
    names = {"suites/quick.yaml": "gated.yaml", "results/baselines/quick.json": "base.json"}
    page = tmp_path / "summary.md"
    runner = {
        **os.environ,
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(page),
        "PYTHONPATH": str(README.parent),
    }
    for step in steps[1:]:
        for published, here in names.items():
            step = step.replace(published, here)
        done = subprocess.run(["bash", "-ec", step], cwd=gated, env=runner, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert page.read_text().startswith("### gate gated: identical")
    assert "::notice title=bench gate::gate gated: identical" in done.stderr
    assert (gated / "results" / "gate.xml").exists()
    assert json.loads((gated / "results" / "gate.json").read_text())["verdict"] == "identical"
