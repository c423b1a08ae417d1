"""A cohort that trains nothing: each trial follows a curve given in advance, so that a study takes microseconds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.ask import check, document, plan
from bench.ask.plan import Study, Trial
from bench.contracts import Cohort, Observation, OutOfMemory
from bench.crossing import Crossing, CrossingRule, crossing_of
from bench.events import Ended, Evaluated, Started, Way


def study_of(text: str) -> Study:
    """The first study of a suite given as text."""
    return plan.make(check.check(document.parse(text))).studies[0]


SUITE = """
suite: fake
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: [100]
    target: {{validation_error: {{at_most: 0.1}}, rule: {rule}}}
    max_steps: {max_steps}
    race: {race}
    evaluate: {{resolution: 0.2}}
    search: {{trials: {trials}, learning_rate: {{log_uniform: [0.01, 1]}}}}
    confirm: {{seeds: {seeds}, top: {top}}}
"""


def fake_text(
    trials: int = 4, race: object = "true", seeds: int = 0, max_steps: int = 1000, top: int = 3, rule: str = "isotonic"
) -> str:
    return SUITE.format(trials=trials, race=race, seeds=seeds, max_steps=max_steps, top=top, rule=rule)


def fake_study(**how: object) -> Study:
    return study_of(fake_text(**how))


@dataclass(frozen=True)
class Curve:
    """A trial that meets the target from one step on, or diverges at one; None is never.

    noisy: a seed, with which readings fall slowly and meet the target by chance long before they do for good.
    """

    reaches: int | None = None
    diverges: int | None = None
    noisy: int | None = None

    def error(self, step: int) -> float:
        if self.noisy is None:
            return 0.05 if self.reaches is not None and step >= self.reaches else 0.5
        noise = random.Random(self.noisy * 1_000_003 + step).gauss(0, 0.3)
        return 0.1 * ((self.reaches or 1e9) / max(step, 1)) ** 0.5 * math.exp(noise)


class FakeCohort:
    """Keeps the contract of `contracts.Cohort`.

    `steps_taken` counts the trial-steps of every cohort made; more trials than `room` run out of memory at step 5.
    """

    steps_taken = 0
    room = 10**6

    way = Way("one by one", "it is a fake")

    def __init__(self, trials: Sequence[Trial], curve: Callable[[Trial], Curve]) -> None:
        self.curves = {trial: curve(trial) for trial in trials}
        self.step = 0

    def train(self, step: int) -> None:
        FakeCohort.steps_taken += (step - self.step) * len(self.curves)
        self.step = step

    def advance(self, step: int, examples: int | None = None) -> dict[Trial, Observation]:
        if step >= 5 and len(self.curves) > self.room:
            raise OutOfMemory
        self.train(step)
        seen = {}
        for trial, curve in list(self.curves.items()):
            if curve.diverges is not None and curve.diverges <= step:
                seen[trial] = Observation(diverged_at=curve.diverges)
                del self.curves[trial]
            else:
                seen[trial] = Observation({"validation_error": curve.error(step)})
        return seen

    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        return {trial: {"test_error": 0.2} for trial in trials}

    def part(self, trials: Sequence[Trial]) -> FakeCohort:
        apart = FakeCohort(trials, self.curves.__getitem__)
        apart.step = self.step
        self.drop(trials)
        return apart

    def drop(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            del self.curves[trial]

    def train_seconds(self, trial: Trial) -> float:
        return 1.0

    def state(self) -> dict[str, int]:
        return {"step": self.step}

    def restore(self, state: dict[str, int]) -> None:
        self.step = state["step"]


@dataclass
class Told:
    """What a study's events amount to."""

    started: list[Trial]
    ended: dict[tuple[str, int], tuple[str, int]]
    readings: dict[str, dict[int, dict[str, float]]]

    def ranked(self, rule: CrossingRule = "isotonic") -> list[tuple[int, int]]:
        """(steps to target, number) of the trials of the search that are known to have met it, from readings alone."""
        found = []
        for trial in self.started:
            crossing = self.crossing(trial, rule)
            if trial.phase == "search" and crossing.settled:
                found.append((crossing.at, trial.number))
        return sorted(found)

    def crossing(self, trial: Trial, rule: CrossingRule = "isotonic") -> Crossing:
        """Where the readings of a trial cross the target."""
        path = {step: seen for step, seen in self.readings.get(trial.id, {}).items() if "validation_error" in seen}
        errors = [(step, path[step]["validation_error"]) for step in sorted(path)]
        return crossing_of(errors, lambda error: error <= 0.1, rule, trial.max_steps)

    @property
    def best(self) -> list[tuple[int, int]]:
        """The search's answer: the three best, none with more than 1.5 times the steps of the first."""
        ranked = self.ranked()
        return [(steps, number) for steps, number in ranked[:3] if steps <= 1.5 * ranked[0][0]]

    @property
    def steps_to_target(self) -> int | None:
        return self.best[0][0] if self.best else None


def listen(events: object) -> Told:
    told = Told([], {}, {})
    restarted: set[Trial] = set()
    for event in events:
        match event:
            case Started(trials):
                restarted |= set(trials) & set(told.started)
                told.started += [trial for trial in trials if trial not in told.started]
            case Ended(trial, outcome, step):
                again = told.ended.get((trial.phase, trial.number), (None, 0))[0]
                assert again is None or trial in restarted, "one outcome a trial"
                told.ended[trial.phase, trial.number] = (outcome, step)
            case Evaluated(step, readings):
                for name, seen in readings.items():
                    told.readings.setdefault(name, {}).setdefault(step, {}).update(seen)
    return told


def look(cohort: Cohort, trials: Sequence[Trial], step: int, names: Sequence[str]) -> dict[Trial, dict[str, float]]:
    """A look at a cohort that sees its step."""
    return {trial: {f"{name}.seen_at": float(step) for name in names} for trial in trials}
