"""Archive -> what a study shows: steps to target as found and as confirmed, its resolution, its best metaparameters."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

from bench.ask.plan import contenders
from bench.ask.search import Dimension
from bench.ask.suite import Threshold
from bench.conclude.sampling import target_uncertainty
from bench.crossing import Crossed, CrossingRule
from bench.keep.archive import Archive
from bench.keep.records import StudyRecord, TrialRecord
from bench.stats import MedianInterval, median, median_interval, smallest_median_interval

# Trials with one of these were no longer training, or were cut off: what they showed decides nothing.
_UNDECIDING = ("diverged", "interrupted", "crashed", "timed out")

# A best value this close to an end of its range, as a share of the range, asks for a wider one.
EDGE = 0.05

Status = Literal["measured", "infeasible", "not measured"]


@dataclass(frozen=True)
class Attempt:
    """A trial of the search that met the target."""

    crossed: Crossed
    metaparameters: dict[str, Any]
    number: int

    @property
    def steps(self) -> int:
        """Steps to target, overstated by at most `crossed.gap`."""
        return int(self.crossed.by)


@dataclass(frozen=True)
class Found:
    """The search's answer: the trial with the fewest steps to target (the minimum over trials of Shallue et al. 2019).

    attempts: every trial that met the target, the best first. In a race few go on so far: `race: {slack: 1.25}` shows
    more.
    """

    attempts: tuple[Attempt, ...]

    @property
    def steps(self) -> int:
        return self.attempts[0].steps

    @property
    def resolution(self) -> float:
        """By which share the steps may be overstated, for they are only known at evaluations."""
        return self.attempts[0].crossed.gap

    @property
    def metaparameters(self) -> dict[str, Any]:
        return self.attempts[0].metaparameters


@dataclass(frozen=True)
class Grown:
    """How large the batch of the last step was, and how many steps the optimizer had taken."""

    batch_size: int
    optimizer_steps: int


@dataclass(frozen=True)
class Candidate:
    """One of the best trials of the search, trained again with fresh seeds: the steps to target of each."""

    metaparameters: dict[str, Any]
    each: tuple[Crossed, ...]

    @property
    def steps(self) -> tuple[float, ...]:
        """Of each seed, math.inf for a miss."""
        return tuple(crossed.by for crossed in self.each)

    @property
    def median(self) -> float:
        return median(self.steps)


@dataclass(frozen=True)
class Confirmed:
    """The best trials again with fresh seeds, that with the smallest median first: the headline is its median.

    candidates: the best trials of the search; what follows is of the first of them.
    budget: the steps beyond which a miss lies.
    probed: what probes saw of each seed, as {reading: {step: value}}, up to the target.
    tested: the test error of each seed that met the target, when it did.
    grown: of each seed whose batch grew, how far it was when it met the target.
    digest: a hash of every reading of every seed of every candidate; equal where trainings were equal to the last bit.
    target_uncertainty: by which share another validation set would move the steps (`sampling.py`), where that is known.
    """

    candidates: tuple[Candidate, ...]
    budget: int
    probed: tuple[dict[str, dict[int, float]], ...] = ()
    tested: tuple[float, ...] = ()
    digest: str = ""
    grown: tuple[Grown, ...] = ()
    target_uncertainty: float | None = None

    @property
    def metaparameters(self) -> dict[str, Any]:
        return self.candidates[0].metaparameters

    @property
    def each(self) -> tuple[float, ...]:
        """Every seed's steps to target, math.inf for a miss."""
        return self.candidates[0].steps

    @cached_property
    def steps(self) -> MedianInterval:
        """The smallest median, with an interval over the seeds of all candidates, so that it holds the noise of
        choosing among them.
        """
        return smallest_median_interval([candidate.steps for candidate in self.candidates])

    @property
    def seeds(self) -> int:
        return len(self.each)

    @property
    def reached(self) -> int:
        return sum(map(math.isfinite, self.each))

    @property
    def test_error(self) -> float | None:
        return statistics.median(self.tested) if self.tested else None


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
    """What was measured of a workload at one batch size, concluded. What is None was not found, or not looked for.

    rule: how steps to target were read (`crossing.py`).  at_edge: the best metaparameters that lie at an end of their
    range.
    """

    study: StudyRecord
    status: Status
    outcomes: dict[str, int]
    found: Found | None
    confirmed: Confirmed | None
    train_seconds: float
    timed: Timed | None = None
    inference: Timed | None = None
    rule: CrossingRule = "isotonic"
    at_edge: dict[str, Literal["low", "high"]] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any] | None:
        """The metaparameters that the headline is of: of the best candidate, or of the best trial of the search."""
        return self.confirmed.metaparameters if self.confirmed else self.found.metaparameters if self.found else None

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
    rule = _rule(archive, study)
    search = [trial for trial in study.trials if trial.phase == "search"]
    found = _found(archive, study, search, rule)
    outcomes = Counter[str](trial.outcome or "unfinished" for trial in search)
    infeasible = _infeasible(study)
    status = "infeasible" if infeasible else "measured" if study.finished else "not measured"
    confirmed = _confirmed(archive, study, found, rule) if found and status == "measured" else None
    seconds = sum(trial.train_seconds or 0.0 for trial in study.trials)
    best = confirmed.metaparameters if confirmed else found.metaparameters if found else {}
    edges = _edges(study, best)
    return Summary(study, status, dict(outcomes), found, confirmed, seconds, timed, inference, rule, edges)


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


def _rule(archive: Archive, study: StudyRecord) -> CrossingRule:
    """How a study's steps to target are read: as its suite says.

    Before suites could say so, trials stopped at the first reading that met the target: where any stopped before its
    isotonic crossing was settled, the study is read as it was run.
    """
    threshold: Threshold = study.content["threshold"]
    if "rule" in threshold.model_fields_set:
        return threshold.rule
    met = [trial for trial in study.trials if trial.outcome == "reached"]
    return "isotonic" if met and all(_settled(archive, study, trial) for trial in met) else "first"


def _settled(archive: Archive, study: StudyRecord, trial: TrialRecord) -> bool:
    return archive.crossing(trial.key, trial.max_steps, study.content["reading"], study.content["threshold"]).settled


def _crossed(archive: Archive, study: StudyRecord, trial: TrialRecord, rule: CrossingRule) -> Crossed | None:
    """The steps to target of a trial, a miss of a trial that was trained to its end; None where they are not known."""
    content = study.content
    found = archive.crossing(trial.key, trial.max_steps, content["reading"], content["threshold"], rule)
    if found.settled:
        return found.crossed
    if trial.outcome == "overtaken" and trial.phase == "confirm":
        # A crossing that was not settled may still move later, and never earlier.
        return Crossed(found.crossed.after, math.inf)
    return Crossed(found.step, math.inf) if trial.outcome in ("exhausted", "diverged") else None


def _found(archive: Archive, study: StudyRecord, trials: Sequence[TrialRecord], rule: CrossingRule) -> Found | None:
    if given := study.content.get("given"):  # the search was another study's, which kept no more of it than this
        return Found(
            tuple(Attempt(Crossed(each.steps - 1, each.steps), each.metaparameters, each.number) for each in given)
        )
    attempts = []
    for trial in trials:
        crossed = _crossed(archive, study, trial, rule) if trial.outcome not in _UNDECIDING else None
        if crossed and math.isfinite(crossed.by):
            attempts.append(Attempt(crossed, trial.metaparameters, trial.number))
    attempts.sort(key=lambda attempt: (attempt.steps, attempt.number))
    return Found(tuple(attempts)) if attempts else None


def _confirmed(archive: Archive, study: StudyRecord, found: Found, rule: CrossingRule) -> Confirmed | None:
    ranked = [(attempt.steps, attempt.metaparameters) for attempt in found.attempts]
    best = contenders(ranked, study.content.get("top", 1))
    again: dict[int, list[TrialRecord]] = {}
    for trial in study.trials:
        # One that was cut off missed nothing, and diverging is a miss.
        decided = trial.outcome == "diverged" or trial.outcome not in _UNDECIDING
        if trial.phase == "confirm" and decided and trial.metaparameters in best:
            again.setdefault(best.index(trial.metaparameters), []).append(trial)
    # Where the best trials were others before, their confirmations had another budget.
    budget = max((trial.max_steps for trial in again.get(0, ())), default=0)
    trained = {place: [trial for trial in each if trial.max_steps == budget] for place, each in sorted(again.items())}
    crossed = {
        place: [_crossed(archive, study, trial, rule) or Crossed(trial.step or 0, math.inf) for trial in each]
        for place, each in trained.items()
        if each
    }
    if not crossed:
        return None
    order = sorted(crossed, key=lambda place: (median([each.by for each in crossed[place]]), place))
    paths = {trial.key: archive.readings(trial.key) for each in trained.values() for trial in each}
    own, readings = crossed[order[0]], [_by_name(paths[trial.key]) for trial in trained[order[0]]]
    # Tested are the weights that met the target: their average, where the target is one of it.
    tested = "ema_test_error" if study.content["reading"].startswith("ema_") else "test_error"
    return Confirmed(
        candidates=tuple(Candidate(best[place], tuple(crossed[place])) for place in order),
        budget=budget,
        # Only a probe's readings have a point in their name.
        probed=tuple(
            {name: _until(path, each.by) for name, path in seen.items() if "." in name}
            for seen, each in zip(readings, own, strict=True)
        ),
        tested=tuple(
            list(_until(seen[tested], each.by).values())[-1]
            for seen, each in zip(readings, own, strict=True)
            if math.isfinite(each.by) and _until(seen.get(tested, {}), each.by)
        ),
        digest=hashlib.sha256(repr(list(paths.values())).encode()).hexdigest()[:16],
        grown=tuple(
            Grown(int(seen["batch_size"][int(each.by)]), int(seen["optimizer_steps"][int(each.by)]))
            for seen, each in zip(readings, own, strict=True)
            if all(each.by in seen.get(name, {}) for name in ("batch_size", "optimizer_steps"))
        ),
        target_uncertainty=_target_uncertainty(study, readings, own),
    )


def _target_uncertainty(
    study: StudyRecord, readings: Sequence[Mapping[str, dict[int, float]]], crossed: Sequence[Crossed]
) -> float | None:
    """None of a loss, whose examples' spread is not kept, and of archives that do not say how large the set was."""
    reading, (target,) = study.content["reading"], study.content["threshold"].bound().values()
    examples = {seen.get("validation_examples", {}).get(0) for seen in readings}
    if not reading.endswith("_error") or None in examples:
        return None
    paths, crossings = [seen.get(reading, {}) for seen in readings], [each.by for each in crossed]
    return target_uncertainty(paths, crossings, target, int(max(filter(None, examples))))


def _until(path: Mapping[int, float], step: float) -> dict[int, float]:
    """What was read up to a step."""
    return {at: value for at, value in path.items() if at <= step}


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
    ((key, bound),) = threshold.bound().items()
    return f"{reading} {key} {bound:g}".replace("_", " ")


def by_workload(rows: Sequence[Summary], *, timed: bool = False) -> Iterator[tuple[str, list[Summary]]]:
    """(title, its studies) of each workload that was trained; timed: of those that were timed alone, too."""
    asked = (row for row in rows if timed or row.trained)
    for title, group in groupby(asked, key=lambda row: row.study.title):
        yield title, list(group)


def _edges(study: StudyRecord, best: Mapping[str, Any]) -> dict[str, Literal["low", "high"]]:
    edges: dict[str, Literal["low", "high"]] = {}
    for name, dimension in study.content["space"].items():
        searched = isinstance(dimension, Dimension) and name in best
        position = dimension.position(best[name]) if searched else None
        if position is not None and not EDGE <= position <= 1 - EDGE:
            edges[name] = "low" if position < EDGE else "high"
    return edges
