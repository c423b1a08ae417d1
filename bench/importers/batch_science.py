"""The public archive of Shallue et al. 2019, read into one of ours, a trial at a time.

    DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json                the space searched, and train_steps
    DATASET/MODEL/OPTIMIZER/BATCH_SIZE/TRIAL/metadata.json       parameters, status, steps
    DATASET/MODEL/OPTIMIZER/BATCH_SIZE/TRIAL/measurements.csv    an evaluation a row: step, val/classification_error, ..

Everything observed is kept. Which trials may decide is left to who concludes, and so their ends are told apart: a
COMPLETE trial reached its goal or was exhausted, an INFEASIBLE one diverged, an INCOMPLETE one was interrupted.
The archive does not say what counts as trained: the goals are those of the paper's figures, or the user's.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.archive import Archive
from bench.contracts import Outcome
from bench.errors import ArchiveError, nearest
from bench.plan import Trial
from bench.records import ImportedTrial, StudyRecord
from bench.search import Choice, Dimension, Integer, LogUniform, ReverseLogUniform, Uniform, Value
from bench.suite import READINGS, Threshold

FORMAT = "batch-science"

_LAYOUT = "DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json"
_STATUSES = ("COMPLETE", "INCOMPLETE", "INFEASIBLE")
_SPLITS = {"val": "validation"}
_METRICS = {"cross_entropy_error": "loss", "classification_error": "error"}
# The largest whole number an archive holds.
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Goal:
    """When a trial counts as trained: a reading strictly below a number."""

    reading: str
    below: float

    @property
    def threshold(self) -> Threshold:
        return Threshold(below=self.below)


# The goals of figure 1, by the names of folders: for every optimizer, so that optimizers can be compared.
_GOALS = {
    ("mnist", "simple_cnn_base"): Goal("validation_error", 0.01),
    ("fashion_mnist", "simple_cnn_base"): Goal("validation_error", 0.1),
    ("cifar_10", "resnet_8"): Goal("validation_error", 0.3),
    ("imagenet", "resnet_50"): Goal("validation_error", 0.25),
    ("imagenet", "vgg_11"): Goal("validation_error", 0.35),
    ("lm1b", "transformer_base"): Goal("validation_loss", 3.9),
    ("lm1b", "lstm"): Goal("validation_loss", 3.9),
    ("common_crawl", "transformer_base"): Goal("validation_loss", 3.9),
}


@dataclass(frozen=True)
class Progress:
    """How far an import is: trials read, of how many. `left_out` is what has no goal, as DATASET/MODEL."""

    done: int
    total: int
    workload: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A study's folder. `names` are those of the folders above it: groups, if any, then dataset, model, optimizer."""

    folder: Path
    names: tuple[str, ...]
    batch_size: int
    described: dict[str, Any]
    trial_count: int

    @property
    def workload(self) -> str:
        return "-".join(self.names)

    @property
    def task(self) -> str:
        """What goals are about: the dataset and the model."""
        return "/".join(self.names[:-1])


@dataclass(frozen=True)
class _Trial:
    """What a trial's metadata.json says."""

    folder: Path
    number: int
    parameters: dict[str, Value]
    status: str
    steps: int


def batch_science(folder: Path, archive: Archive, goals: Sequence[str] = ()) -> Iterator[Progress]:
    """Imports every study below a folder that has a goal, and says after each how far it is.

    goals: WORKLOADS:READING:NUMBER each, before the published ones, such as `mnist/fc_*:validation_error:0.03`.
    Raises ArchiveError if the archive holds a suite, or if anything below the folder is not as it should be.
    """
    archive.begin_import()
    sources = _sources(folder)
    chosen = _chosen_goals(sources, goals)
    kept = [source for source in sources if source.task in chosen]
    left_out = tuple(dict.fromkeys(source.task for source in sources if source.task not in chosen))
    if not kept:
        raise ArchiveError(
            f"{folder}: no goal is known for {', '.join(left_out)}; give one, such as '{left_out[0]}:{READINGS[0]}:0.1'"
        )
    environment = archive.environment({"imported_from": FORMAT})
    done, total, planned = 0, sum(source.trial_count for source in kept), []
    for source in kept:
        study, trials = _study(source, chosen[source.task])
        archive.import_study(study, environment, trials)
        planned.append(study.id)
        done += source.trial_count
        yield Progress(done, total, source.workload, left_out)
    text = {
        "format": FORMAT,
        "left_out": left_out,
        "studies": {source.folder.relative_to(folder).as_posix(): source.described for source in kept},
    }
    archive.finish_import(FORMAT, json.dumps(text), planned)


# ---- what there is, and its goals --------------------------------------------------------------------------------


def _sources(folder: Path) -> list[_Source]:
    if not folder.is_dir():
        raise ArchiveError(f"{folder}: no such folder; one that holds {_LAYOUT} would be right")
    sources = [_source(folder, place) for place in _study_folders(folder)]
    if not sources:
        raise ArchiveError(f"{folder}: holds no study; a folder with {_LAYOUT} in it would be right")
    sources.sort(key=lambda source: (source.names, source.batch_size))
    for before, after in pairwise(sources):
        if (before.workload, before.batch_size) == (after.workload, after.batch_size):
            raise ArchiveError(
                f"{after.folder}: has the workload and the batch size of {before.folder}; a study has its own"
            )
    return sources


def _study_folders(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ArchiveError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        if "study.json" in files:
            folders.clear()  # trials, of which there are many
            yield Path(place)
        elif "metadata.json" in files:
            raise ArchiveError(f"{Path(place).parent}: holds trials and no study.json; {_LAYOUT} would be right")


def _source(root: Path, folder: Path) -> _Source:
    path = folder / "study.json"
    described = _object(path)
    for key in ("train_steps", "batch_size"):
        _count(path, described, key)
    if not described["batch_size"]:
        raise ArchiveError(f"{path}: batch_size is 0; a whole number of at least 1 would be right")
    names = folder.relative_to(root).parts[:-1]
    if len(names) < 3:  # a part of the archive: the folders that would name it lie above
        names = tuple(_text(path, described, key) for key in ("dataset", "model", "optimizer"))
    trial_count = len(_trial_folders(folder))
    if not trial_count:
        raise ArchiveError(f"{folder}: holds no trial; a folder for each, named by its number, would be right")
    return _Source(folder, names, int(described["batch_size"]), described, trial_count)


def _trial_folders(folder: Path) -> list[Path]:
    numbered = (path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    return sorted(numbered, key=lambda path: int(path.name))


def _chosen_goals(sources: Sequence[_Source], asked: Sequence[str]) -> dict[str, Goal]:
    """The goal of every task that has one: the first asked for that fits it, or the published one."""
    published = {source.task: _GOALS.get((source.names[-3], source.names[-2])) for source in sources}
    patterns = [_pattern(text) for text in asked]
    for pattern, _ in patterns:
        if not any(fnmatchcase(task, pattern) for task in published):
            raise ArchiveError(f"found a goal for '{pattern}', which fits nothing; {nearest(pattern, [*published])}")
    chosen = {}
    for task, known in published.items():
        fitting = [goal for pattern, goal in patterns if fnmatchcase(task, pattern)]
        if goal := next(iter(fitting), known):
            chosen[task] = goal
    return chosen


def _pattern(text: str) -> tuple[str, Goal]:
    try:
        pattern, reading, number = text.rsplit(":", 2)
        goal = Goal(reading, float(number))
        if reading not in READINGS or not goal.threshold:
            raise ValueError
    except ValueError:
        raise ArchiveError(
            f"found the goal '{text}'; DATASET/MODEL:READING:NUMBER would be right, such as"
            f" 'mnist/fc_*:{READINGS[0]}:0.03', with {' or '.join(READINGS)} and a number above 0"
        ) from None
    return pattern, goal


# ---- a study -----------------------------------------------------------------------------------------------------


def _study(source: _Source, goal: Goal) -> tuple[StudyRecord, Iterator[ImportedTrial]]:
    """What an archive of ours holds of a study, and its trials, each read when it is asked for."""
    trials = [_trial(folder) for folder in _trial_folders(source.folder)]
    numbers: dict[int, Path] = {}
    for trial in trials:
        if other := numbers.get(trial.number):
            raise ArchiveError(f"{trial.folder}: has the trial_id {trial.number} of {other}; a trial has its own")
        numbers[trial.number] = trial.folder
    complete = [trial.steps for trial in trials if trial.status == "COMPLETE"]
    # A study on a budget of time says 0: what each of its complete trials was given at least.
    max_steps = int(source.described["train_steps"]) or min(complete or [trial.steps for trial in trials])
    decays = any("learning_rate_decay_steps" in trial.parameters for trial in trials)
    content = {
        **dict(zip(("dataset", "model", "optimizer"), source.names[-3:], strict=True)),
        "schedule": "linear" if decays else "schedule not recorded",
        "reading": goal.reading,
        "threshold": goal.threshold.model_dump(exclude_none=True),
        "max_steps": max_steps,
        "trials": len(complete),
        "seeds": 0,
        "slack": None,
        "probes": {},
        "space": _space(source, trials),
    }
    name = _hash([FORMAT, source.workload, source.batch_size, content])
    study = StudyRecord(name, source.workload, source.batch_size, content, finished=True, trials=())
    return study, (_imported(name, trial, goal, max_steps) for trial in trials)


def _imported(study: str, trial: _Trial, goal: Goal, max_steps: int) -> ImportedTrial:
    complete = trial.status == "COMPLETE"
    readings = _readings(trial.folder / "measurements.csv", goal.reading if complete else None)
    threshold = goal.threshold
    met = [step for step, name, value in readings if name == goal.reading and threshold.met(value)]
    if complete and 0 in met:
        raise ArchiveError(
            f"{trial.folder}: meets {goal.reading} {threshold} at step 0, untrained; a lower goal would be right"
        )
    ends: dict[str, Outcome] = {
        "COMPLETE": "reached" if met else "exhausted",
        "INCOMPLETE": "interrupted",
        "INFEASIBLE": "diverged",
    }
    # Which seeds a trial had is not in the archive: the zeros stand for what is not known.
    planned = Trial(
        _hash([study, trial.number, trial.parameters]),
        "search",
        trial.number,
        trial.parameters,
        init_seed=0,
        order_seed=0,
        max_steps=max(max_steps, trial.steps),
    )
    return ImportedTrial(planned, ends[trial.status], trial.steps, readings)


def _trial(folder: Path) -> _Trial:
    path = folder / "metadata.json"
    content = _object(path)
    status = _text(path, content, "status")
    if status not in _STATUSES:
        raise ArchiveError(f"{path}: found the status '{status}'; {', '.join(_STATUSES)} are known")
    parameters = _mapping(path, content, "parameters")
    for name, value in parameters.items():
        if not isinstance(value, Value) or (isinstance(value, float) and not math.isfinite(value)):
            raise ArchiveError(f"{path}: the parameter '{name}' is {json.dumps(value)}; a number would be right")
    return _Trial(folder, _count(path, content, "trial_id"), parameters, status, _count(path, content, "steps"))


# ---- the space that was searched ---------------------------------------------------------------------------------


def _space(source: _Source, trials: Sequence[_Trial]) -> dict[str, Any]:
    """The space of every parameter; of one whose range study.json does not say, the values its trials have."""
    path = source.folder / "study.json"
    configs = _mapping(path, source.described, "parameter_configs")
    space: dict[str, Any] = {}
    for name in sorted({*configs, *(name for trial in trials for name in trial.parameters)}):
        dimension = _dimension(path, name, configs.get(name))
        if dimension is None:
            seen = list(dict.fromkeys(trial.parameters[name] for trial in trials if name in trial.parameters))
            if not seen:
                continue
            dimension = seen[0] if len(seen) == 1 else Choice(choice=seen)
        if isinstance(dimension, Dimension):
            _check_values(name, dimension, trials)
            space[name] = dimension.model_dump()
        else:
            space[name] = dimension
    return space


def _dimension(path: Path, name: str, config: object) -> Dimension | Value | None:
    """A parameter's dimension, or its one value; None where its range is not said in words that are known."""
    try:
        match config:
            case {"type": "DISCRETE", "feasible_points": [point]} if isinstance(point, Value):
                return point
            case {"type": "DISCRETE", "feasible_points": points}:
                return Choice(choice=points)
            case {"min_value": low, "max_value": high} if isinstance(low, Value) and low == high:
                return low
            case {"type": "INTEGER", "min_value": low, "max_value": high}:
                return Integer(integer=(low, high))
            case {"type": "DOUBLE", "scale": "LINEAR_SCALE", "min_value": low, "max_value": high}:
                return Uniform(uniform=(low, high))
            case {"type": "DOUBLE", "scale": "LOG_SCALE", "min_value": low, "max_value": high}:
                return LogUniform(log_uniform=(low, high))
            case {"type": "DOUBLE", "scale": "REVERSE_LOG_SCALE", "min_value": low, "max_value": high}:
                return ReverseLogUniform(reverse_log_uniform=(low, high))
            case _:
                return None
    except ValueError:
        raise ArchiveError(
            f"{path}: the parameter '{name}' has the range {json.dumps(config)}; min_value below max_value, on a"
            " LOG_SCALE both above 0, on a REVERSE_LOG_SCALE both below 1, would be right"
        ) from None


def _check_values(name: str, dimension: Dimension, trials: Sequence[_Trial]) -> None:
    """Raises ArchiveError at a value that has no place in its range, such as 0 on a logarithmic scale."""
    for trial in trials:
        try:
            if name in trial.parameters:
                dimension.position(trial.parameters[name])
        except (ArithmeticError, TypeError, ValueError):
            raise ArchiveError(
                f"{trial.folder / 'metadata.json'}: the parameter '{name}' is {json.dumps(trial.parameters[name])};"
                f" a value in {json.dumps(dimension.model_dump())} would be right"
            ) from None


# ---- files -------------------------------------------------------------------------------------------------------


def _readings(path: Path, needed: str | None) -> list[tuple[int, str, float]]:
    """Every finite cell as (step, name, value), in the archive's order; an empty cell or NaN is no reading.

    needed: a reading that has to be there. A trial that did not complete may have been evaluated never.
    """
    found: dict[str, dict[int, float]] = {}
    steps: set[int] = set()
    line = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if not header and needed is None:
                return []
            at, columns = _columns(path, header, needed)
            found = {name: {} for _, name in columns}
            for row in rows:
                line = rows.line_num
                if not row:
                    continue
                if len(row) != len(header):
                    raise ArchiveError(f"{path}:{line}: found {len(row)} cells; the header has {len(header)}")
                step = _step(row[at])
                if step in steps:
                    raise ArchiveError(f"{path}:{line}: found the step {step} again; one row a step would be right")
                steps.add(step)
                for index, name in columns:
                    value = float(row[index] or "nan")
                    if math.isfinite(value):
                        found[name][step] = value
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}; each trial has a {path.name}") from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path}: is not text: {error.reason}; a CSV file would be right") from error
    except (csv.Error, ValueError) as error:
        raise ArchiveError(f"{path}:{line}: {error}; a row of numbers would be right") from error
    return [(step, name, value) for name in sorted(found) for step, value in sorted(found[name].items())]


def _columns(path: Path, header: Sequence[str], needed: str | None) -> tuple[int, list[tuple[int, str]]]:
    """Where the step stands, and the place and the name of every reading."""
    names = ["step" if title == "step" else _reading(title) for title in header]
    if len(set(names)) < len(names):
        raise ArchiveError(f"{path}:1: found a column twice in {', '.join(header)}; each once would be right")
    for name in ("step", needed):
        if name is not None and name not in names:
            known = {_reading(f"{split}/{metric}"): f"{split}/{metric}" for split in _SPLITS for metric in _METRICS}
            raise ArchiveError(
                f"{path}:1: found the columns {', '.join(header) or 'none'}; '{known.get(name, name)}' has to be there"
            )
    at = names.index("step")
    return at, [(index, name) for index, name in enumerate(names) if index != at]


def _reading(title: str) -> str:
    """Our name of a column: `val/classification_error` is the validation_error; what is not known keeps its own."""
    split, _, metric = title.rpartition("/")
    return "_".join(filter(None, (_SPLITS.get(split, split), _METRICS.get(metric, metric))))


def _step(cell: str) -> int:
    number = float(cell)
    if not number.is_integer() or not 0 <= number <= _LARGEST:
        raise ValueError(f"found the step '{cell}'")
    return int(number)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}; each trial has a metadata.json") from error
    except json.JSONDecodeError as error:
        raise ArchiveError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path}: is not JSON: {error.reason}") from error
    except (RecursionError, ValueError):  # of so many brackets, or of so many digits
        raise ArchiveError(f"{path}: cannot be read: is nested too deep, or holds a number too long") from None
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds {json.dumps(content)[:40]}; an object, {{...}}, would be right")
    return content


def _text(path: Path, content: Mapping[str, Any], key: str) -> str:
    value = _value(path, content, key)
    if not isinstance(value, str) or not value:
        raise ArchiveError(f"{path}: {key} is {json.dumps(value)}; a word would be right")
    return value


def _count(path: Path, content: Mapping[str, Any], key: str) -> int:
    value = _value(path, content, key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _LARGEST or value != math.floor(value):
        raise ArchiveError(f"{path}: {key} is {json.dumps(value)}; a whole number of at least 0 would be right")
    return int(value)


def _mapping(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = _value(path, content, key)
    if not isinstance(value, dict):
        raise ArchiveError(f"{path}: {key} is {json.dumps(value)[:40]}; an object, {{...}}, would be right")
    return value


def _value(path: Path, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ArchiveError(f"{path}: has no {key}; it has {', '.join(content) or 'nothing'}")
    return content[key]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
