"""Carries out one study: search, race, replace, confirm. Knows what a cohort does, not how.

The answer of a search is the earliest evaluated step, over its trials, that meets the target (ties: the lowest
number). All trials advance in lockstep, so at the first evaluation where one of them meets the target the answer is
known, and the race is over: the others, run to their budgets, could not change it.

A trial that diverges before the answer is known is replaced by the next draw. One that would have diverged later is
not: whole curves (`race: false`) follow the same rule, and so have the same trials and the same answer.

Where the trials do not fit in memory together they train in chunks, each no further than the best step so far, and
the race is then decided from what the chunks showed: the same answer again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from bench.ask.plan import MOST_DRAWS, Study, Trial
from bench.contracts import Cohort, Look, OutOfMemory
from bench.events import Ended, Evaluated, Known, Outcome, Recalled, Seated, Started, StudyEvent

MakeCohort = Callable[[Sequence[Trial]], Cohort]
Carry = Callable[[list[Trial]], Iterator[StudyEvent]]


def run(
    study: Study,
    known: Mapping[str, Known],
    validation_examples: int,
    make_cohort: MakeCohort,
    look: Look,
    apart: Sequence[frozenset[str]] = (),
) -> Iterator[StudyEvent]:
    """Everything the study needs that is not known yet: the search, then the winner's confirmation, and what the
    probes see on its way. Trials whose ids stand `apart` together train in a cohort of their own.

    Raises OutOfMemory where not even one trial fits.
    """
    carried = _Study(study, dict(known), validation_examples, make_cohort, look, apart)
    yield from carried.search()
    if carried.best is not None:
        step, winner = carried.best
        yield from carried.confirm(study.confirmations(winner, step))


@dataclass
class _Group:
    """Trials that took their seats together, and the cohort that trains them."""

    cohort: Cohort
    trials: list[Trial]
    step: int = 0


class _Study:
    def __init__(
        self,
        study: Study,
        known: dict[str, Known],
        validation_examples: int,
        make_cohort: MakeCohort,
        look: Look,
        apart: Sequence[frozenset[str]],
    ) -> None:
        self.study = study
        self.known = known
        self.validation_examples = validation_examples
        self.make_cohort = make_cohort
        self.look = look
        self.apart = apart
        self.draws = study.draws()
        self.steps = list(study.evaluation_steps(validation_examples, study.workload.entry.max_steps))
        self._begin()

    def _begin(self) -> None:
        self.best: tuple[int, Trial] | None = None
        self.drawn = 0
        self.diverged: list[int] = []
        self.reached: dict[Trial, int] = {}
        self.groups: list[_Group] = []

    # ---- the search ---------------------------------------------------------------------------------------------

    def search(self) -> Iterator[StudyEvent]:
        """The race; where it does not fit in memory, its trials in chunks first, and the race from what they showed."""
        if self.apart:
            for trial in self.draws[: self.study.workload.entry.search.trials]:
                self._recall(trial)
            yield from self._in_chunks(self._separate(self.draws), self._chunk)
            self._begin()
        try:
            yield from self._race()
        except OutOfMemory:
            unsettled = [trial for trial in self.draws[: self.drawn] if not self._settled(trial)]
            self.groups.clear()
            self._forget(unsettled)
            if len(unsettled) < 2:
                raise
        else:
            return
        yield from self._in_chunks(_halves(unsettled), self._chunk)
        self._begin()
        yield from self.search()

    def _race(self) -> Iterator[StudyEvent]:
        for step in self.steps:
            for group in self.groups:
                yield from self._advance(group, step)
            while newcomers := self._due(step):
                yield from self._seat(newcomers, step)
            idle = not any(group.trials for group in self.groups) and all(step >= at for at in self.diverged)
            if step >= self._limit() or idle:
                break
        for group in self.groups:
            yield from self._end_rest(group)

    def _due(self, now: int) -> list[Trial]:
        """The next draws to take part: the trials asked for, and a replacement for each that diverged in time."""
        wanted = self.study.workload.entry.search.trials
        before = min(now, self.best[0] if self.best else math.inf)
        number = min(wanted + sum(step <= before for step in self.diverged), MOST_DRAWS * wanted)
        due = self.draws[self.drawn : number]
        self.drawn = max(self.drawn, number)
        return due

    def _limit(self) -> float:
        """The step no trial needs to pass."""
        slack = self.study.workload.slack
        return slack * self.best[0] if slack is not None and self.best else math.inf

    def _seat(self, newcomers: list[Trial], step: int) -> Iterator[StudyEvent]:
        """Applies what is known of the newcomers, and trains the others up to where the study stands."""
        for trial in newcomers:
            self._recall(trial)
        fresh = [trial for trial in newcomers if not self._settled(trial)]
        if len(fresh) < len(newcomers):
            settled = [trial for trial in newcomers if trial not in fresh]
            yield Recalled({trial: self.known[trial.id] for trial in settled})
        if fresh:
            group = yield from self._start(fresh)
            self.groups.append(group)
            yield from self._catch_up(group, step)

    def _start(self, trials: Sequence[Trial]) -> Generator[StudyEvent, None, _Group]:
        yield Started(tuple(trials))
        group = _Group(self.make_cohort(trials), list(trials))
        yield Seated(tuple(trials), group.cohort.way)
        return group

    def _catch_up(self, group: _Group, until: int) -> Iterator[StudyEvent]:
        for step in takewhile(lambda step: step <= until, self.steps):
            if group.step < self._limit():
                yield from self._advance(group, step)

    def _settled(self, trial: Trial) -> bool:
        """Whether all the study needs of a trial is known: one that was overtaken elsewhere may have to go further."""
        known = self.known.get(trial.id)
        return known is not None and (known.outcome != "overtaken" or known.step >= self._limit())

    def _recall(self, trial: Trial) -> None:
        """Lets what is known of a trial bear on the race. One that crashed has nothing to tell, and is not replaced."""
        if known := self.known.get(trial.id):
            if known.reached_at is not None:
                self._reach(trial, known.reached_at)
            elif known.outcome == "diverged":
                self.diverged.append(known.step)

    def _separate(self, trials: Sequence[Trial]) -> list[list[Trial]]:
        """Those of the trials that stand apart, and still have to be trained, as they stand together."""
        groups = ([trial for trial in trials if trial.id in ids and not self._settled(trial)] for ids in self.apart)
        return [group for group in groups if group]

    def _in_chunks(self, waiting: list[list[Trial]], carry: Carry) -> Iterator[StudyEvent]:
        """Carries trials to their ends without replacing any, as many at once as fit."""
        while waiting:
            chunk = waiting.pop(0)
            try:
                yield from carry(chunk)
            except OutOfMemory:
                left = [trial for trial in chunk if trial.id not in self.known]
                if len(left) < 2:
                    raise
                self._forget(left)
                waiting[:0] = _halves(left)

    def _chunk(self, trials: list[Trial]) -> Iterator[StudyEvent]:
        """Trials of the search, which go no further than the best step so far."""
        # A frame of its own: when it fails, its cohort is gone before the next is made.
        group = yield from self._start(trials)
        yield from self._catch_up(group, self.steps[-1])
        yield from self._end_rest(group)

    def _forget(self, trials: Sequence[Trial]) -> None:
        """Trials that begin again have not reached the target again; the best step stays true, and bounds them."""
        for trial in trials:
            self.reached.pop(trial, None)

    def _advance(self, group: _Group, step: int) -> Iterator[StudyEvent]:
        if not group.trials:
            return
        for trial in (yield from self._observe(group, step)):
            if trial not in self.reached:
                self._reach(trial, step)
        if self.study.workload.slack is not None:
            yield from self._end(group, {trial: "reached" for trial in group.trials if trial in self.reached})

    def _observe(self, group: _Group, step: int) -> Generator[StudyEvent, None, list[Trial]]:
        """Trains a group up to a step, and evaluates it there; those that meet the target."""
        observed = group.cohort.advance(step)
        group.step = step
        yield Evaluated(step, {trial.id: seen.readings for trial, seen in observed.items() if seen.diverged_at is None})
        workload, met = self.study.workload, []
        for trial, observation in observed.items():
            if observation.diverged_at is not None:
                outcome: Outcome = "reached" if trial in self.reached else "diverged"
                if outcome == "diverged":
                    self.diverged.append(observation.diverged_at)
                yield self._ended(group, trial, outcome, observation.diverged_at)
            elif workload.threshold.met(observation.readings[workload.reading]):
                met.append(trial)
        return met

    def _reach(self, trial: Trial, step: int) -> None:
        self.reached[trial] = step
        if self.best is None or (step, trial.number) < (self.best[0], self.best[1].number):
            self.best = (step, trial)

    def _end_rest(self, group: _Group) -> Iterator[StudyEvent]:
        rest: Outcome = "exhausted" if group.step == self.steps[-1] else "overtaken"
        ends: dict[Trial, Outcome] = {trial: "reached" if trial in self.reached else rest for trial in group.trials}
        yield from self._end(group, ends)

    # ---- the confirmation ---------------------------------------------------------------------------------------

    def confirm(self, confirmations: Sequence[Trial]) -> Iterator[StudyEvent]:
        """Each trains until it meets the target itself, diverges, or its budget is spent."""
        settled = [trial for trial in confirmations if trial.id in self.known]
        if settled:
            yield Recalled({trial: self.known[trial.id] for trial in settled})
        separate = self._separate([trial for trial in confirmations if trial not in settled])
        seated = [trial for group in separate for trial in group]
        rest = [trial for trial in confirmations if trial not in (*settled, *seated)]
        yield from self._in_chunks([group for group in (*separate, rest) if group], self._confirm)

    def _confirm(self, trials: list[Trial]) -> Iterator[StudyEvent]:
        budget = trials[0].max_steps
        group = yield from self._start(trials)
        probes = deque(self.study.probe_steps(budget).items())
        for step in self.study.evaluation_steps(self.validation_examples, budget):
            while probes and probes[0][0] < step:
                group.step, due = probes.popleft()
                group.cohort.train(group.step)
                yield from self._probe(group, group.trials, due)
            met = yield from self._observe(group, step)
            self.reached |= dict.fromkeys(met, step)
            ends: dict[Trial, Outcome] = {
                trial: "reached" if trial in met else "exhausted"
                for trial in group.trials
                if trial in met or step == budget
            }
            due = probes.popleft()[1] if probes and probes[0][0] == step else []
            yield from self._probe(group, [trial for trial in group.trials if trial not in ends], due)
            yield from self._probe(group, list(ends), list(self.study.workload.probes))
            yield from self._end(group, ends)
            if not group.trials:
                return

    def _probe(self, group: _Group, trials: Sequence[Trial], probes: Sequence[str]) -> Iterator[StudyEvent]:
        if trials and probes:
            readings = self.look(group.cohort, trials, group.step, probes)
            yield Evaluated(group.step, {trial.id: seen for trial, seen in readings.items()})

    # ---- endings ------------------------------------------------------------------------------------------------

    def _end(self, group: _Group, ends: Mapping[Trial, Outcome]) -> Iterator[StudyEvent]:
        """Ends trials that still train; each but an overtaken one is read on the test split first."""
        tested = [trial for trial, outcome in ends.items() if outcome != "overtaken"]
        if tested:
            readings = group.cohort.test(tested)
            yield Evaluated(group.step, {trial.id: seen for trial, seen in readings.items()})
        for trial, outcome in ends.items():
            yield self._ended(group, trial, outcome, group.step)
        group.cohort.drop(list(ends))

    def _ended(self, group: _Group, trial: Trial, outcome: Outcome, step: int) -> Ended:
        group.trials.remove(trial)
        self.known[trial.id] = Known(outcome, step, self.reached.get(trial))
        return Ended(trial, outcome, step, group.cohort.train_seconds(trial))


def _halves(trials: list[Trial]) -> list[list[Trial]]:
    middle = len(trials) // 2
    return [trials[:middle], trials[middle:]]
