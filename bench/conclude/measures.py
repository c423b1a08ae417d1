"""Archive -> what a study shows: steps to target as found and as confirmed, its resolution, its best metaparameters."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from bench.ask.plan import CONFIRM_BUDGET
from bench.ask.search import Dimension
from bench.ask.suite import Threshold
from bench.keep.archive import Archive
from bench.keep.records import StudyRecord, TrialRecord
from bench.stats import MedianInterval, median_interval

# Trials with one of these were no longer training, or were cut off: what they showed decides nothing.
_UNDECIDING = ("diverged", "interrupted", "crashed", "timed out")

# A best value this close to an end of its range, as a share of the range, asks for a wider one.
EDGE = 0.05

Status = Literal["measured", "infeasible", "not measured"]


@dataclass(frozen=True)
class Attempt:
    """A trial of the search that met the target, at the first evaluated step that did."""

    steps: int
    metaparameters: dict[str, Any]
    number: int


@dataclass(frozen=True)
class Found:
    """The search's answer: the earliest evaluated step of any trial that meets the target.

    attempts: every trial that met it, the winner first. In a race few go on so far: `race: {slack: 1.25}` shows more.
    """

    steps: int
    resolution: float
    metaparameters: dict[str, Any]
    at_edge: dict[str, Literal["low", "high"]]
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class Grown:
    """How large the batch of the last step was, and how many steps the optimizer had taken."""

    batch_size: int
    optimizer_steps: int


@dataclass(frozen=True)
class Confirmed:
    """The winner again with fresh seeds: the median of its steps to target; a miss is beyond `budget`.

    each: every seed's steps to target, math.inf for a miss.
    probed: what probes saw of each seed, as {reading: {step: value}}.
    tested: the test error of each seed that met the target.
    grown: of each seed whose batch grew, how far it was when it met the target.
    digest: a hash of every reading of every seed; equal where trainings were equal to the last bit.
    """

    steps: MedianInterval
    each: tuple[float, ...]
    probed: tuple[dict[str, dict[int, float]], ...]
    reached: int
    seeds: int
    budget: int
    test_error: float | None
    tested: tuple[float, ...] = ()
    digest: str = ""
    grown: tuple[Grown, ...] = ()


@dataclass(frozen=True)
class Process:
    """What one fresh process saw of a step.

    windows: seconds a step, of each window in order; none where it did not fit in memory.  once: readings of the
    whole, by name.  precise: whether the median of the windows was known as well as was asked for.  environment: where
    it ran.
    """

    windows: tuple[float, ...]
    once: dict[str, float]
    precise: bool
    environment: dict[str, Any]

    @property
    def step_seconds(self) -> float:
        """The median of the windows."""
        return statistics.median(self.windows)


@dataclass(frozen=True)
class Timed:
    """One ordinary training step, or a forward pass alone, timed in fresh processes, in their order."""

    study: StudyRecord
    processes: tuple[Process, ...]
    infeasible: bool

    @property
    def step_seconds(self) -> tuple[float, ...]:
        """The median of each process's windows."""
        return tuple(process.step_seconds for process in self.processes if process.windows)

    @property
    def peak_memory_bytes(self) -> tuple[float, ...]:
        """The most that each process took; where it did not fit, the most before it ended."""
        seen = (process.once.get("peak_memory_bytes") for process in self.processes)
        return tuple(peak for peak in seen if peak is not None)

    @property
    def seconds(self) -> MedianInterval | None:
        """The median over processes, with its interval: a process is the unit of evidence, and not a step."""
        return median_interval(self.step_seconds) if self.step_seconds else None

    def median(self, name: str) -> float | None:
        """The median over processes of a reading of the whole; None where no process has it."""
        seen = [process.once[name] for process in self.processes if name in process.once]
        return statistics.median(seen) if seen else None


@dataclass(frozen=True)
class Summary:
    """What was measured of a workload at one batch size, concluded. What is None was not found, or not looked for."""

    study: StudyRecord
    status: Status
    outcomes: dict[str, int]
    found: Found | None
    confirmed: Confirmed | None
    train_seconds: float
    timed: Timed | None = None
    inference: Timed | None = None

    @property
    def trained(self) -> bool:
        """Whether steps to target were asked for, and not timings alone."""
        return self.study.measure == "steps_to_target"

    @property
    def here(self) -> str:
        """In words, on what each trial trains and is timed."""
        return "this device" if self.study.devices == 1 else f"{self.study.devices:,} such devices"

    @property
    def grows(self) -> bool:
        """Whether the batch only starts at the batch size; a step is then so many examples, and not the optimizer's."""
        return bool(self.study.content.get("growth"))

    @property
    def seconds_to_target(self) -> MedianInterval | None:
        """Steps to target times a step's seconds, with the ends of both intervals multiplied, which covers at least as
        often as both do together; math.inf for a miss.
        """
        steps, step = self.steps_to_target, self.timed.seconds if self.timed else None
        if steps is None or step is None:
            return None
        interval = self.confirmed.steps if self.confirmed else MedianInterval(steps, steps, steps, 0.0)
        return MedianInterval(
            steps * step.median,
            interval.low * step.low,
            interval.high * step.high,
            interval.confidence * step.confidence,
        )

    @property
    def steps_to_target(self) -> float | None:
        """The confirmed median, math.inf where most seeds missed; where none is asked for, the search's number."""
        if self.confirmed:
            return self.confirmed.steps.median
        unconfirmed = self.found and self.status == "measured" and not self.study.content["seeds"]
        return self.found.steps if self.found and unconfirmed else None

    @property
    def examples_to_target(self) -> float | None:
        steps = self.steps_to_target
        return None if steps is None else steps * self.study.batch_size


def summaries(archive: Archive) -> list[Summary]:
    """What the suite last run into the archive asks for: one for each workload at each batch size.

    Of `to: max`, batch sizes beyond the first that did not fit are left out, since they were not tried.
    """
    together: dict[tuple[str, int], dict[str, StudyRecord]] = {}
    for study in archive.studies():
        together.setdefault((study.workload, study.batch_size), {})[study.measure] = study
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in together))}
    places = sorted(together, key=lambda place: order[place[0]])
    concluded = [_summary(archive, together[place]) for place in places]
    tried = [row for row in concluded if _tried(row) or not row.study.content.get("open_ended")]
    return tried or concluded


def _tried(row: Summary) -> bool:
    clocked = [each.study for each in (row.timed, row.inference) if each is not None]
    return any(study.trials for study in (row.study, *clocked))


def _summary(archive: Archive, studies: Mapping[str, StudyRecord]) -> Summary:
    timed, inference = (_timed(archive, studies.get(measure)) for measure in ("throughput", "inference"))
    study = studies.get("steps_to_target")
    if study is None:
        clocked = [each for each in (timed, inference) if each is not None]
        finished = any(each.study.finished and not each.infeasible for each in clocked)
        infeasible = any(each.infeasible for each in clocked)
        status: Status = "measured" if finished else "infeasible" if infeasible else "not measured"
        seconds = sum(trial.train_seconds or 0.0 for each in clocked for trial in each.study.trials)
        return Summary(clocked[0].study, status, {}, None, None, seconds, timed, inference)
    search = [trial for trial in study.trials if trial.phase == "search"]
    found, winner = _found(archive, study, search)
    outcomes = Counter[str](trial.outcome or "unfinished" for trial in search)
    infeasible = _infeasible(study)
    status = "infeasible" if infeasible else "measured" if study.finished else "not measured"
    confirmed = _confirmed(archive, study, found, winner) if found and winner and status == "measured" else None
    seconds = sum(trial.train_seconds or 0.0 for trial in study.trials)
    return Summary(study, status, dict(outcomes), found, confirmed, seconds, timed, inference)


def _infeasible(study: StudyRecord) -> bool:
    return any(trial.outcome == "infeasible" for trial in study.trials)


def _timed(archive: Archive, study: StudyRecord | None) -> Timed | None:
    if study is None:
        return None
    ended = [trial for trial in study.trials if trial.outcome in ("reached", "exhausted", "infeasible")]
    environments = archive.environments()
    return Timed(study, tuple(_process(archive, trial, environments) for trial in ended), _infeasible(study))


def _process(archive: Archive, trial: TrialRecord, environments: Mapping[str, dict[str, Any]]) -> Process:
    seen = _by_name(archive.readings(trial.key))
    windows = tuple(seen.pop("step_seconds", {}).values())
    once = {name: path[0] for name, path in seen.items()}
    return Process(windows, once, trial.outcome == "reached", environments.get(trial.environment, {}))


def _found(
    archive: Archive, study: StudyRecord, trials: Sequence[TrialRecord]
) -> tuple[Found | None, TrialRecord | None]:
    deciding = [trial for trial in trials if trial.outcome not in _UNDECIDING]
    steps = ((_first_step(archive, study, trial), trial.number, trial) for trial in deciding)
    reached = [(step, number, trial) for step, number, trial in steps if step is not None]
    if not reached:
        return None, None
    reached.sort(key=lambda row: row[:2])
    step, _, winner = reached[0]
    before = archive.step_before(winner.key, study.content["reading"], step)
    attempts = tuple(Attempt(steps, trial.metaparameters, trial.number) for steps, _, trial in reached)
    found = Found(step, (step - before) / step, winner.metaparameters, _edges(study, winner), attempts)
    return found, winner


def _confirmed(archive: Archive, study: StudyRecord, found: Found, winner: TrialRecord) -> Confirmed | None:
    budget = CONFIRM_BUDGET * found.steps
    again = [
        trial
        for trial in study.trials
        if trial.phase == "confirm"
        and trial.metaparameters == winner.metaparameters
        and trial.max_steps == budget
        # One that was cut off missed nothing, and diverging is a miss.
        and (trial.outcome == "diverged" or trial.outcome not in _UNDECIDING)
    ]
    if not again:
        return None
    steps = [_first_step(archive, study, trial) or math.inf for trial in again]
    rows = [archive.readings(trial.key) for trial in again]
    readings = [_by_name(seen) for seen in rows]
    # Tested are the weights that met the target: their average, where the target is one of it.
    tested = "ema_test_error" if study.content["reading"].startswith("ema_") else "test_error"
    tests = [
        value
        for seen, step in zip(readings, steps, strict=True)
        if math.isfinite(step)
        for value in seen.get(tested, {}).values()
    ]
    return Confirmed(
        steps=median_interval(steps),
        each=tuple(steps),
        # Only a probe's readings have a point in their name.
        probed=tuple({name: path for name, path in seen.items() if "." in name} for seen in readings),
        reached=sum(map(math.isfinite, steps)),
        seeds=len(again),
        budget=budget,
        test_error=statistics.median(tests) if tests else None,
        tested=tuple(tests),
        grown=tuple(
            Grown(int(seen["batch_size"][int(step)]), int(seen["optimizer_steps"][int(step)]))
            for seen, step in zip(readings, steps, strict=True)
            if all(step in seen.get(name, {}) for name in ("batch_size", "optimizer_steps"))
        ),
        digest=hashlib.sha256(repr(rows).encode()).hexdigest()[:16],
    )


def searches(study: StudyRecord, name: str) -> bool:
    """Whether a study searched a metaparameter, and was not given it, at once or by a scaling rule."""
    return isinstance(study.content["space"].get(name), Dimension)


def _by_name(readings: Iterable[tuple[int, str, float]]) -> dict[str, dict[int, float]]:
    paths: dict[str, dict[int, float]] = {}
    for step, name, value in readings:
        paths.setdefault(name, {})[step] = value
    return paths


def stated_target(content: Mapping[str, Any]) -> tuple[str, Threshold]:
    """The target of a study as its suite gives it, such as (validation_perplexity, {at_most: 20})."""
    stated: dict[str, Threshold] = content.get("target") or {content["reading"]: content["threshold"]}
    ((reading, threshold),) = stated.items()
    return reading, threshold


def target_in_words(content: Mapping[str, Any]) -> str:
    """A study's target in words: `validation error at most 0.05`."""
    reading, threshold = stated_target(content)
    ((key, bound),) = threshold.model_dump(exclude_none=True).items()
    return f"{reading} {key} {bound:g}".replace("_", " ")


def by_workload(rows: Sequence[Summary], *, timed: bool = False) -> Iterator[tuple[str, list[Summary]]]:
    """(title, its studies) of each workload that was trained; timed: of those that were timed alone, too."""
    asked = (row for row in rows if timed or row.trained)
    for title, group in groupby(asked, key=lambda row: row.study.title):
        yield title, list(group)


def _first_step(archive: Archive, study: StudyRecord, trial: TrialRecord) -> int | None:
    return archive.first_step(trial.key, study.content["reading"], study.content["threshold"])


def _edges(study: StudyRecord, winner: TrialRecord) -> dict[str, Literal["low", "high"]]:
    edges: dict[str, Literal["low", "high"]] = {}
    for name, dimension in study.content["space"].items():
        searched = isinstance(dimension, Dimension) and name in winner.metaparameters
        position = dimension.position(winner.metaparameters[name]) if searched else None
        if position is not None and not EDGE <= position <= 1 - EDGE:
            edges[name] = "low" if position < EDGE else "high"
    return edges
