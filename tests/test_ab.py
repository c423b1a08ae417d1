"""Two sides timed in turns. An interpreter that takes `bench time` for something quick stands in for a real one."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sides_by_hand import SUITE, side, timed
from summaries import summary
from test_run import bench, start

from bench.conclude.sides import unlike
from bench.errors import BenchError
from bench.run import ab

GATE = "{throughput: {tolerance: 0.05}}"

# `-m bench time SUITE --label L --results DIR --format json`: writes what a run would have timed, and that it ran.
STAND_IN = """#!{python}
import json, os, sys, time
from pathlib import Path
assert sys.argv[1:4] == ["-m", "bench", "time"] and sys.argv[-2:] == ["--format", "json"], sys.argv
suite, label, results = Path(sys.argv[4]), sys.argv[6], Path(sys.argv[8])
assert suite.is_absolute() and suite.exists()
log = Path({log!r})
number = log.read_text().count(label) if log.exists() else 0
with log.open("a") as stream:
    stream.write(f"{{label}} {{os.getcwd()}} {{sys.argv[9:-2]}}\\n")
{body}
(results / "gated").mkdir()
(results / "gated" / f"{{label}}.sqlite").write_text(json.dumps(0.01 * {factor} * (1 + 0.002 * (number % 3))))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a suite and stand-ins; what they wrote is read as an archive would be."""

    def read(path, name):
        return side(_study(json.loads(path.read_text())), name=name)

    monkeypatch.setattr(ab, "_read", read)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gated.yaml").write_text(
        SUITE.format(gate=GATE, sizes=[32], seeds=0, devices=1, measure="[steps_to_target, throughput]")
    )
    return tmp_path


def _study(*seconds):
    return replace(summary(32, None, status="not measured"), timed=timed(seconds))


def stand_in(folder, name, factor=1.0, body=""):
    path = folder / name
    text = STAND_IN.format(python=sys.executable, log=str(folder / "log"), factor=factor, body=body)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return name


def told(folder):
    return [line.split()[0] for line in (folder / "log").read_text().splitlines()]


def test_a_slower_candidate_fails_and_the_same_one_does_not(folder):
    for name, factor in (("same", 1.0), ("slow", 1.15)):
        stand_in(folder, name, factor)
    arguments = ["ab", "gated.yaml", "--base", "same", "--pairs", "5", "--json", "gate.json"]
    out, err = bench(*arguments, "--candidate", "same", folder=folder)
    assert "pair 5 of 5" in err
    assert "gate gated: pass (1 pass); same against same" in out
    out, _ = bench(*arguments, "--candidate", "slow", folder=folder, code=1)
    assert "gate gated: fail (1 fail); slow against same" in out
    (ruling,) = json.loads((folder / "gate.json").read_text())["rulings"]
    assert ruling["measure"] == "throughput"
    assert len(ruling["candidate"]["values"]) == 5
    assert ruling["ratio"]["value"] == pytest.approx(1 / 1.15, rel=0.01)


@pytest.mark.parametrize("pairs", [3, 4, 10, 11])
def test_each_side_is_first_in_half_of_the_pairs_in_an_order_that_its_seed_tells(pairs):
    orders = [ab.order(f"seed {number}", pairs) for number in range(50)]
    for drawn in orders:
        assert {tuple(sorted(names)) for names in drawn} == {ab.NAMES}
        assert len(drawn) == pairs
        assert abs(2 * sum(names[0] == "base" for names in drawn) - pairs) <= 1
    assert len({tuple(drawn) for drawn in orders}) > 1
    assert ab.order("seed 7", pairs) == orders[7]
    # Each pair may begin with either side, the odd one out too.
    for place in range(pairs):
        assert 10 <= sum(drawn[place][0] == "base" for drawn in orders) <= 40
    if pairs % 2:
        more = [sum(names[0] == "base" for names in drawn) > pairs / 2 for drawn in orders]
        assert 10 <= sum(more) <= 40


def test_both_sides_of_a_pair_run_next_to_one_another_in_the_order_that_is_stated(folder):
    stand_in(folder, "python")
    arguments = ["ab", "gated.yaml", "--base", "python", "--candidate", "python", "--pairs", "7"]
    out, _ = bench(*arguments, "--json", "gate.json", folder=folder)
    runs = told(folder)
    pairs = [tuple(runs[place : place + 2]) for place in range(0, 14, 2)]
    assert pairs == ab.order("gated 7", 7)
    first = ", ".join(str(place) for place, names in enumerate(pairs, 1) if names[0] == "base")
    sentence = f"7 pairs, their order drawn from the seed 'gated 7': the base was first in {first}."
    assert sentence in out
    assert json.loads((folder / "gate.json").read_text())["notes"] == [sentence]


def test_a_plugin_is_found_on_both_sides_wherever_they_run(folder):
    stand_in(folder, "python")
    (folder / "lab").mkdir()
    (folder / "lab" / "lab_nets.py").write_text("")
    arguments = ["ab", "gated.yaml", "--base", "python", "--candidate", "python", "--pairs", "3", "--plugin"]
    bench(*arguments, "lab", folder=folder)
    given = {line.split(maxsplit=2)[2] for line in (folder / "log").read_text().splitlines()}
    assert given == {str(["--plugin", str(folder / "lab")])}
    _, err = bench(*arguments, "nowhere", folder=folder, code=2)
    assert err.strip().endswith("--plugin nowhere: there is no such file or folder")


def test_a_run_that_fails_ends_it_with_what_it_said(folder):
    stand_in(folder, "good")
    stand_in(folder, "bad", body="sys.exit('no such device')")
    _, err = bench("ab", "gated.yaml", "--base", "good", "--candidate", "bad", folder=folder, code=5)
    assert "candidate: 'bench time' in" in err
    assert "ended with 1: no such device" in err


def test_what_is_neither_interpreter_nor_checkout_nor_revision_is_a_sentence(folder):
    _, err = bench("ab", "gated.yaml", "--base", "nowhere", "--candidate", "nowhere", folder=folder, code=2)
    assert "found 'nowhere'; should be a Python interpreter, the folder of a checkout, or a git revision" in err


def test_a_suite_without_a_rule_for_time_or_memory_is_refused(folder):
    stand_in(folder, "same")
    (folder / "gated.yaml").write_text(
        SUITE.format(
            gate="{steps_to_target: {tolerance: 0.1}}", sizes=[32], seeds=0, devices=1, measure="[steps_to_target]"
        )
    )
    _, err = bench("ab", "gated.yaml", "--base", "same", "--candidate", "same", folder=folder, code=2)
    assert "has no 'gate' for throughput" in err
    assert not (folder / "log").exists()


def git(*arguments):
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    environment = {**os.environ, **identity}
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, env=environment).stdout


def test_a_revision_is_checked_out_where_bench_was_started_and_taken_away_again(folder, monkeypatch):
    git("init", "-q")
    (folder / "inside").mkdir()
    (folder / "inside" / "model.py").write_text("old")
    git("add", "-A")
    git("commit", "-q", "-m", "old")
    (folder / "inside" / "model.py").write_text("new")
    git("commit", "-q", "-a", "-m", "new")
    monkeypatch.chdir(folder / "inside")
    with ab.place("HEAD~1") as old, ab.place(".") as new:
        assert (old.folder / "model.py").read_text() == "old"
        assert (new.folder / "model.py").read_text() == "new"
        assert old.python == new.python == sys.executable
        kept = old.folder
    assert not kept.exists()
    assert git("worktree", "list").count("\n") == 1


def test_a_revision_without_the_folder_one_stands_in_is_a_sentence(folder, monkeypatch):
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "old")
    (folder / "inside").mkdir()
    monkeypatch.chdir(folder / "inside")
    with pytest.raises(BenchError, match="HEAD: has no folder inside/"), ab.place("HEAD"):
        pass
    assert git("worktree", "list").count("\n") == 1


def test_a_file_that_cannot_be_started_is_a_sentence(folder):
    stand_in(folder, "broken")
    (folder / "broken").write_text("no program")
    _, err = bench("ab", "gated.yaml", "--base", "broken", "--candidate", "broken", folder=folder, code=2)
    assert "broken cannot be started: Exec format error" in err


def test_the_folder_one_stands_in_does_not_shadow_what_an_interpreter_has_installed(folder):
    (folder / "shadow.py").write_text("")
    stand_in(folder, "own", body="import importlib.util\nassert not importlib.util.find_spec('shadow'), sys.path")
    # As `-m` does, and a script does not.
    text = (
        (folder / "own")
        .read_text()
        .replace("import json, os", "import sys; sys.flags.safe_path or sys.path.insert(0, '')\nimport json, os")
    )
    (folder / "own").write_text(text)
    bench("ab", "gated.yaml", "--base", "own", "--candidate", "own", "--pairs", "3", folder=folder)


def test_an_interpreter_of_a_virtual_environment_is_not_taken_for_the_one_it_links_to(folder):
    (folder / "venv").mkdir()
    (folder / "venv" / "python").symlink_to(sys.executable)
    with ab.place("venv/python") as found:
        assert found == ab.Place(str(folder / "venv" / "python"), folder, installed=True)


GREEDY = """
from math import prod

import torch
from torch import nn


class Greedy(nn.Linear):
    def forward(self, batch):
        if self.training and len(batch) >= 32:  # not where it is only tried
            raise torch.OutOfMemoryError("planted")
        return super().forward(batch)


def model(example_shape, classes):
    return nn.Sequential(nn.Flatten(), {kind}(prod(example_shape), classes))
"""


def test_real_runs_of_two_checkouts_are_held_against_one_another(tmp_path):
    """Nothing stands in here: real processes, timings, archives. What is planted no busy machine can hide."""
    for name, kind in ((".", "nn.Linear"), ("changed", "Greedy")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "planted.py").write_text(GREEDY.format(kind=kind))
    text = SUITE.format(gate=GATE, sizes=[32], seeds=0, devices=1, measure="[throughput]")
    text = text.replace("model: softmax", "model: planted:model") + "    timing: {processes: 1, seconds: 0.1}\n"
    (tmp_path / "gated.yaml").write_text(text)
    command = ["ab", "gated.yaml", "--base", ".", "--candidate", "changed", "--pairs", "3", "--json", "gate.json"]
    process = start(*command, folder=tmp_path)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    assert "gate gated: fail (1 fail); changed against ." in out
    (ruling,) = json.loads((tmp_path / "gate.json").read_text())["rulings"]
    assert ruling["note"] == "no longer fits in memory"
    assert len(ruling["base"]["values"]) == 3
    assert ruling["candidate"]["values"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_it_ends_what_a_run_started_and_the_worktrees_are_gone(folder, number):
    body = """
import subprocess
child = subprocess.Popen(["sleep", "300"])
Path("child").write_text(str(child.pid))
time.sleep(300)
"""
    stand_in(folder, "long", body=body)
    git("init", "-q")
    git("add", "gated.yaml")
    git("commit", "-q", "-m", "one")
    git("commit", "-q", "--allow-empty", "-m", "two")
    (folder / "temporary").mkdir()
    # The stand-in runs first, while the other side's worktree waits.
    first, second = ab.order("gated 10", 10)[0]
    command = [sys.executable, "-m", "bench", "ab", "gated.yaml", f"--{first}", "long", f"--{second}", "HEAD"]
    environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while not (folder / "child").exists() or not (folder / "child").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert git("worktree", "list").count("\n") == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "times of half the pairs are no evidence" in err
    child = Path("/proc") / (folder / "child").read_text() / "status"
    assert not child.exists() or "zombie" in child.read_text()
    assert git("worktree", "list").count("\n") == 1
    assert list((folder / "temporary").iterdir()) == []


def test_a_checkout_that_is_cut_short_leaves_no_worktree(folder):
    """The signal comes while git checks out, which a filter makes last."""
    git("init", "-q")
    (folder / ".gitattributes").write_text("*.slow filter=slow\n")
    (folder / "a.slow").write_text("a")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    git("config", "filter.slow.smudge", "touch begun; sleep 30")
    command = [sys.executable, "-m", "bench", "ab", "gated.yaml", "--base", "HEAD", "--candidate", "HEAD"]
    (folder / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while not list((folder / "temporary").rglob("begun")):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert git("worktree", "list").count("\n") == 1
    assert list((folder / "temporary").iterdir()) == []


def test_a_side_that_timed_several_processes_a_run_counts_once_a_run():
    runs = [side(_study(0.01, 0.02, 0.09)), side(_study(0.03, 0.04, 0.05))]
    assert ab.merged(runs, "both").samples["w", 32].step_seconds == (0.02, 0.04)


def test_runs_in_unlike_environments_stay_unlike():
    runs = [side(_study(0.01)), side(_study(0.01), device="another")]
    merged = ab.merged(runs, "both")
    assert len(merged.environments) == 2
    assert "timed in 2 environments" in unlike(merged.samples["w", 32], merged.samples["w", 32])
