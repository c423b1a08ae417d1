"""The public archive of Shallue et al. 2019, read into one of ours, a trial at a time.

Everything observed is kept. Which trials may decide is left to who concludes, and so their ends are told apart: a
COMPLETE trial reached its goal or was exhausted, an INFEASIBLE one diverged, an INCOMPLETE one was interrupted.
The archive does not say what counts as trained: the goals are those of the paper's figures, or the user's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench.ask.plan import Trial
from bench.ask.search import Choice, Dimension, Integer, LogUniform, ReverseLogUniform, Uniform, Value
from bench.ask.suite import READINGS, Threshold
from bench.errors import ArchiveError, nearest
from bench.events import Outcome
from bench.keep.archive import Archive
from bench.keep.importers._batch_science_files import (
    Source,
    TrialFolder,
    mapping,
    readings_in,
    sources_in,
    trial_folders,
    trial_in,
)
from bench.keep.records import ImportedTrial, StudyRecord

FORMAT = "batch-science"


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


def batch_science(folder: Path, archive: Archive, goals: Sequence[str] = ()) -> Iterator[Progress]:
    """Imports every study below a folder that has a goal, and says after each how far it is.

    goals: WORKLOADS:READING:NUMBER each, before the published ones, such as `mnist/fc_*:validation_error:0.03`.
    Raises ArchiveError if the archive holds a suite, or if anything below the folder is not as it should be.
    """
    archive.begin_import()
    sources = sources_in(folder)
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


def _chosen_goals(sources: Sequence[Source], asked: Sequence[str]) -> dict[str, Goal]:
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


def _study(source: Source, goal: Goal) -> tuple[StudyRecord, Iterator[ImportedTrial]]:
    """What an archive of ours holds of a study, and its trials, each read when it is asked for."""
    trials = [trial_in(folder) for folder in trial_folders(source.folder)]
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
        "threshold": {**goal.threshold.bound(), "rule": "first"},
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


def _imported(study: str, trial: TrialFolder, goal: Goal, max_steps: int) -> ImportedTrial:
    complete = trial.status == "COMPLETE"
    readings = readings_in(trial.folder / "measurements.csv", goal.reading if complete else None)
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


def _space(source: Source, trials: Sequence[TrialFolder]) -> dict[str, Any]:
    """The space of every parameter; of one whose range study.json does not say, the values its trials have."""
    path = source.folder / "study.json"
    configs = mapping(path, source.described, "parameter_configs")
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


def _check_values(name: str, dimension: Dimension, trials: Sequence[TrialFolder]) -> None:
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


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
