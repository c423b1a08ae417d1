"""Carries out one study: search, race, replace, confirm. Knows what a cohort does, not how.

The answer of a search is the earliest evaluated step, over its trials, that meets the target (ties: the lowest
number). All trials advance in lockstep, so at the first evaluation where one of them meets the target the answer is
known, and the race is over: the others, run to their budgets, could not change it.

A trial that diverges before the answer is known is replaced by the next draw. One that would have diverged later is
not: whole curves (`race: false`) follow the same rule, and so have the same trials and the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from bench.contracts import Cohort, Ended, Evaluated, Known, Observation, Outcome, Recalled, Started, StudyEvent
from bench.plan import MOST_DRAWS, Study, Trial

MakeCohort = Callable[[Sequence[Trial]], Cohort]


def run(
    study: Study, known: Mapping[str, Known], validation_examples: int, make_cohort: MakeCohort
) -> Iterator[StudyEvent]:
    """Everything the study needs that is not known yet: the search, then the winner's confirmation."""
    search = _Search(study, known, validation_examples, make_cohort)
    yield from search.run()
    if search.best is not None:
        step, winner = search.best
        yield from _confirm(study, study.confirmations(winner, step), known, validation_examples, make_cohort)


@dataclass
class _Group:
    """Trials that took their seats together, and the cohort that trains them."""

    cohort: Cohort
    trials: list[Trial]
    step: int = 0


class _Search:
    def __init__(
        self, study: Study, known: Mapping[str, Known], validation_examples: int, make_cohort: MakeCohort
    ) -> None:
        self.study = study
        self.known = known
        self.make_cohort = make_cohort
        self.best: tuple[int, Trial] | None = None
        self._waiting = study.draws()
        self._drawn = 0
        self._diverged: list[int] = []
        self._reached: set[Trial] = set()
        self._groups: list[_Group] = []
        entry = study.workload.entry
        self._wanted = entry.search.trials
        self._steps = list(study.evaluation_steps(validation_examples, entry.max_steps))

    def run(self) -> Iterator[StudyEvent]:
        for step in self._steps:
            for group in self._groups:
                yield from self._advance(group, step)
            while newcomers := self._due(step):
                yield from self._seat(newcomers, step)
            idle = not any(group.trials for group in self._groups) and all(step >= at for at in self._diverged)
            if step >= self._limit() or idle:
                break
        for group in self._groups:
            outcome: Outcome = "exhausted" if group.step == self._steps[-1] else "overtaken"
            yield from self._end(group, list(group.trials), outcome)

    def _due(self, now: int) -> list[Trial]:
        """The next draws to take part: the trials asked for, and a replacement for each that diverged in time."""
        before = min(now, self.best[0] if self.best else math.inf)
        in_time = sum(step <= before for step in self._diverged)
        number = min(self._wanted + in_time, MOST_DRAWS * self._wanted)
        due = self._waiting[self._drawn : number]
        self._drawn = max(self._drawn, number)
        return due

    def _limit(self) -> float:
        """The step no trial needs to pass."""
        slack = self.study.workload.slack
        return slack * self.best[0] if slack is not None and self.best else math.inf

    def _seat(self, newcomers: list[Trial], step: int) -> Iterator[StudyEvent]:
        """Applies what is known of the newcomers, and trains the others up to where the study stands."""
        for trial in newcomers:
            if known := self.known.get(trial.id):
                if known.reached_at is not None:
                    self._reach(trial, known.reached_at)
                elif known.outcome == "diverged":
                    self._diverged.append(known.step)
        fresh = [trial for trial in newcomers if not self._settled(trial)]
        if len(fresh) < len(newcomers):
            yield Recalled(tuple(trial for trial in newcomers if trial not in fresh))
        if not fresh:
            return
        yield Started(tuple(fresh))
        group = _Group(self.make_cohort(fresh), fresh)
        self._groups.append(group)
        for earlier in takewhile(lambda earlier: earlier <= step, self._steps):
            if group.step < self._limit():
                yield from self._advance(group, earlier)

    def _settled(self, trial: Trial) -> bool:
        """Whether the archive knows all the study needs of a trial: one overtaken elsewhere may have to go further."""
        known = self.known.get(trial.id)
        return known is not None and (known.outcome != "overtaken" or known.step >= self._limit())

    def _advance(self, group: _Group, step: int) -> Iterator[StudyEvent]:
        if not group.trials:
            return
        observed = group.cohort.advance(step)
        group.step = step
        yield _evaluated(step, observed)
        workload = self.study.workload
        for trial, observation in observed.items():
            if observation.diverged_at is not None:
                group.trials.remove(trial)
                if trial not in self._reached:
                    self._diverged.append(observation.diverged_at)
                outcome: Outcome = "reached" if trial in self._reached else "diverged"
                yield Ended(trial, outcome, observation.diverged_at, group.cohort.train_seconds(trial))
            elif trial not in self._reached and workload.threshold.met(observation.readings[workload.reading]):
                self._reach(trial, step)
        if workload.slack is not None:
            yield from self._end(group, [trial for trial in group.trials if trial in self._reached], "reached")

    def _reach(self, trial: Trial, step: int) -> None:
        self._reached.add(trial)
        if self.best is None or (step, trial.number) < (self.best[0], self.best[1].number):
            self.best = (step, trial)

    def _end(self, group: _Group, trials: Sequence[Trial], outcome: Outcome) -> Iterator[StudyEvent]:
        if not trials:
            return
        ends: dict[Trial, Outcome] = {trial: "reached" if trial in self._reached else outcome for trial in trials}
        yield from _test(group.cohort, group.step, [trial for trial in trials if ends[trial] != "overtaken"])
        for trial in trials:
            yield Ended(trial, ends[trial], group.step, group.cohort.train_seconds(trial))
            group.trials.remove(trial)
        group.cohort.drop(trials)


def _confirm(
    study: Study,
    confirmations: Sequence[Trial],
    known: Mapping[str, Known],
    validation_examples: int,
    make_cohort: MakeCohort,
) -> Iterator[StudyEvent]:
    """Each confirmation trains until it meets the target itself, diverges, or its budget is spent."""
    running = [trial for trial in confirmations if trial.id not in known]
    if len(running) < len(confirmations):
        yield Recalled(tuple(trial for trial in confirmations if trial.id in known))
    if not running:
        return
    workload = study.workload
    yield Started(tuple(running))
    cohort = make_cohort(running)
    budget = running[0].max_steps
    for step in study.evaluation_steps(validation_examples, budget):
        observed = cohort.advance(step)
        yield _evaluated(step, observed)
        ended: dict[Trial, Outcome] = {}
        for trial, observation in observed.items():
            if observation.diverged_at is not None:
                running.remove(trial)
                yield Ended(trial, "diverged", observation.diverged_at, cohort.train_seconds(trial))
            elif workload.threshold.met(observation.readings[workload.reading]):
                ended[trial] = "reached"
            elif step == budget:
                ended[trial] = "exhausted"
        yield from _test(cohort, step, list(ended))
        for trial, outcome in ended.items():
            yield Ended(trial, outcome, step, cohort.train_seconds(trial))
            running.remove(trial)
        cohort.drop(list(ended))
        if not running:
            return


def _evaluated(step: int, observed: Mapping[Trial, Observation]) -> Evaluated:
    return Evaluated(step, {trial.id: seen.readings for trial, seen in observed.items() if seen.diverged_at is None})


def _test(cohort: Cohort, step: int, trials: Sequence[Trial]) -> Iterator[StudyEvent]:
    if trials:
        yield Evaluated(step, {trial.id: readings for trial, readings in cohort.test(trials).items()})
