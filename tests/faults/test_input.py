"""Whatever is fed to bench: a sentence, soon, and nothing of it is run."""

from __future__ import annotations

import json
import random
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
from test_archive import measure
from test_run import bench, write

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SHIPPED = [path.read_text() for path in sorted((ROOT / "suites").glob("*.yaml"))]

MANY = 1000
SEED = 6
NASTY = [
    *(
        "~",
        "null",
        "true",
        "no",
        "-1",
        "0",
        "1e308",
        "1e309",
        ".nan",
        ".inf",
        "9" * 400,
        "0x7f",
        "1_000",
        "''",
        "[]",
        "{}",
    ),
    *("[[[[", "}}", "&a", "*a", "!!python/object/apply:os.system ['true']", "<<: {}", "---", "...", "? x", "%YAML 1.1"),
    *("- ", ": ", "#", "\t", "\x00", "\x1b[31m", "\u202e", "\ufeff", "\U0001f600", "../../etc/passwd", "os:system"),
    *("::error::", "a" * 5000, "|", ">", "@", "`", "torchvision:resnet18", "no.such.module:net", "antigravity:x"),
]


def mutated(text, dice):
    """A shipped suite after a few accidents."""
    for _ in range(dice.randint(1, 6)):
        lines = text.split("\n")
        place, end = dice.randrange(len(text) + 1), dice.randrange(len(text) + 1)
        match dice.randrange(9):
            case 0:
                text = text[:place] + dice.choice(NASTY) + text[place:]
            case 1:
                text = text[: min(place, end)] + text[max(place, end) :] if dice.random() < 0.3 else text[:place]
            case 2:
                text = text[:place] + chr(dice.randrange(1, 0x3000)) + text[place + 1 :]
            case 3:
                lines.insert(dice.randrange(len(lines)), dice.choice(lines))
                text = "\n".join(lines)
            case 4:
                del lines[dice.randrange(len(lines))]
                text = "\n".join(lines)
            case 5:
                words = re.findall(r"[\w.]+", text) or ["x"]
                text = text.replace(dice.choice(words), dice.choice(NASTY), 1)
            case 6:
                words = re.findall(r"[\w.]+", text) or ["x"]
                text = text.replace(dice.choice(words), dice.choice(words))
            case 7:
                text = re.sub(r"\d+", lambda _: str(dice.choice([0, -1, 1, 2**31, 2**63, 10**17, 0.5])), text, count=2)
            case _:
                at = dice.randrange(len(lines))
                lines[at] = " " * dice.randrange(12) + lines[at].lstrip()
                text = "\n".join(lines)
    return text


def made_up(dice, depth=0):
    """Random YAML, often with keys that a suite has."""
    keys = [
        "suite",
        "workloads",
        "name",
        "model",
        "search",
        "trials",
        "target",
        "batch_sizes",
        "probes",
        "defaults",
        "x",
    ]
    indent = "  " * depth
    match dice.randrange(5) if depth < 6 else 4:
        case 0 | 1:
            return "".join(
                f"{indent}{dice.choice(keys)}:\n{made_up(dice, depth + 1)}\n" for _ in range(dice.randint(1, 4))
            )
        case 2:
            return "".join(f"{indent}-\n{made_up(dice, depth + 1)}\n" for _ in range(dice.randint(1, 4)))
        case 3:
            return indent + "".join(dice.choice(string.printable) for _ in range(dice.randrange(40)))
        case _:
            return indent + dice.choice(NASTY)


def test_a_thousand_fuzzed_suites_are_each_a_sentence_within_a_second_and_300_mb(tmp_path):
    dice = random.Random(SEED)
    for number in range(MANY):
        text = mutated(dice.choice(SHIPPED), dice) if number % 4 else made_up(dice)
        (tmp_path / f"{number:04}.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    done = subprocess.run(
        [sys.executable, HERE / "check_many.py", tmp_path], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    told, peak_bytes = json.loads(done.stdout)
    assert len(told) == MANY
    assert [case for case in told if case["code"] not in (0, 2)] == []
    assert [case for case in told if case["code"] == 2 and not case["err"].strip()] == []
    assert [case for case in told if case["seconds"] > 1.0] == []
    assert peak_bytes < 300e6
    assert {case["code"] for case in told} == {0, 2}, "some were still suites"


def test_what_lies_beside_an_archive_is_not_run_when_it_is_shown(tmp_path):
    measure(tmp_path / "a.sqlite")
    (tmp_path / "wcwidth.py").write_text("print('planted')")  # a module that a package we use tries to import
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench", "show", "a.sqlite"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "planted" not in done.stdout


@pytest.mark.parametrize("command", [["show", "small.yaml"], ["gate", "small.yaml", "a.sqlite", "a.sqlite"]])
def test_what_lies_beside_a_suite_is_not_run_when_its_archive_is_shown_or_judged(tmp_path, command):
    text = write(tmp_path).read_text()
    (tmp_path / "small.yaml").write_text(f"{text}gate:\n  steps_to_target: {{tolerance: 0.1}}\n")
    measure(tmp_path / "results" / "small" / "main.sqlite")
    measure(tmp_path / "a.sqlite")
    (tmp_path / "wcwidth.py").write_text("print('planted')")
    done = subprocess.run([sys.executable, "-P", "-m", "bench", *command], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.stdout
    assert "planted" not in done.stdout


UNSAFE = ["yaml.load(", "torch.load(", "pickle", "eval(", "exec(", "shell=True", "os.system(", "extractall("]


def test_nothing_unsafe_is_called_anywhere():
    found = [
        (path.name, number, line.strip())
        for path in sorted((ROOT / "bench").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in UNSAFE
        # A method of that name, where it is made or written of, is not the function.
        if re.search(rf"(?<![\w.`])(?<!def ){re.escape(word)}", line)
        and not (word == "torch.load(" and "weights_only=True" in line)
    ]
    assert found == []


@pytest.mark.parametrize("model", ["'trap:net'", "trap:net"])
def test_checking_and_planning_run_none_of_the_code_that_a_suite_names_and_checking_says_where_it_is(tmp_path, model):
    (tmp_path / "trap.py").write_text(
        "from pathlib import Path\nPath('sprung').touch()\ndef net(example_shape, classes):\n    '''A trap.'''\n"
    )
    (tmp_path / "s.yaml").write_text(
        "suite: s\nworkloads:\n  - name: w\n    model: " + model + "\n    dataset: digits\n    optimizer: sgd\n"
        "    batch_sizes: [8]\n    target: {validation_error: {at_most: 0.1}}\n    max_steps: 10\n"
        "    search: {trials: 1, learning_rate: 0.1}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        out, _ = bench("check", "s.yaml", folder=tmp_path)
        bench("plan", "s.yaml", folder=tmp_path)
    assert not (tmp_path / "sprung").exists()
    assert "running it runs code from outside bench: trap:net" in out
