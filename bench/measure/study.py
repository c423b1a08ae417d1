"""Carries out one study: search, race, replace, confirm. Knows what a cohort does, not how.

The answer of a search is the trials with the fewest steps to target (ties: the lowest number), as many as are to be
confirmed, where `crossing.py` says what steps to target are. Two facts make a race exact: a trial that has not crossed
its target by step s cannot come to have crossed by s, and a crossing only ever moves later. So the answer is known once

- the crossings of the best trials are settled, and
- every other trial has been trained to the last of these without crossing before it.

Trials advance from evaluation to evaluation, those behind first, and each only while the answer can depend on it: the
others wait where they are, in a cohort of their own, and go on only if the best crossing moves. The answer is that of
training every trial to its budget (`race: false`).

A trial that diverges by the fewest steps to target is replaced by the next draw. Whether it did is only known once all
trials have come so far: replacements are drawn then, in the order of the evaluations that saw trials diverge, so that
the same trials are drawn however long the others wait.

Where the trials do not fit in memory together they train in chunks, each no further than what is known of the others
asks for, and the race is then decided from what the chunks showed: the same answer again.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.ask.plan import CONTENDS, MOST_DRAWS, Study, Trial, contenders
from bench.contracts import Cohort, Look, OutOfMemory
from bench.crossing import SETTLE, Crossing
from bench.events import Ended, Evaluated, Known, Outcome, Recalled, Seated, Started, StudyEvent
from bench.stats import median

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
    """Everything the study needs that is not known yet: the search, then the confirmation of the best trials, and what
    the probes see on their way; of a study that is given what to confirm, the confirmation alone. Trials whose ids
    stand `apart` together train in a cohort of their own.

    Raises OutOfMemory where not even one trial fits.
    """
    carried = _Study(study, dict(known), validation_examples, make_cohort, look, apart)
    if study.given:
        trials, steps = study.given_trials()
        yield from carried.confirm(study.confirmations(trials, steps), min(steps))
        return
    yield from carried.search()
    if best := carried.best():
        yield from carried.confirm(study.confirmations(*best), min(best[1]))


@dataclass
class _Seat:
    """What the study knows of a trial: how far it was trained, and where its target is crossed by now.

    over: it trains no more, or what is known of it is from before.  fell: the evaluation that saw it diverge.
    """

    trial: Trial
    crossing: Crossing
    step: int = 0
    at: int | None = None
    settled: bool = False
    over: bool = False
    fell: int | None = None

    @property
    def bound(self) -> int:
        """Steps to target are this or more, and more than this where nothing was crossed yet."""
        return self.step if self.at is None else self.at


@dataclass
class _Group:
    """Trials that train together, and the cohort that trains them."""

    cohort: Cohort
    seats: list[_Seat]
    step: int = -1  # nothing was evaluated yet, not even step 0


@dataclass
class _Race:
    """Where the search stands. `drawn`: how many of the draws take part; `fallen`: evaluations that saw trials diverge
    which were not replaced yet, in order.
    """

    seats: list[_Seat] = field(default_factory=list)
    groups: list[_Group] = field(default_factory=list)
    drawn: int = 0
    refined: bool = False
    fallen: list[int] = field(default_factory=list)


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
        entry = study.workload.entry
        # Trials that differ in nothing but their seeds are confirmed once.
        self.top = min(
            entry.confirm.top if entry.confirm.seeds else 1, len({repr(t.metaparameters) for t in self.draws})
        )
        self.budget = entry.max_steps
        self.looks = dict(study.evaluations(validation_examples, self.budget))
        self.steps = list(self.looks)
        self.settle = SETTLE[study.workload.threshold.rule]
        self.race = _Race()
        self.again: dict[Trial, _Seat] = {}

    def best(self) -> tuple[list[Trial], list[int]] | None:
        """The trials that are confirmed, and their steps to target, the best first; None where none met the target."""
        ranked = _ranked(seat for seat in self.race.seats if seat.settled)
        values = contenders([(seat.bound, seat.trial.metaparameters) for seat in ranked], self.top)
        seats = [next(seat for seat in ranked if seat.trial.metaparameters == each) for each in values]
        return ([seat.trial for seat in seats], [seat.bound for seat in seats]) if seats else None

    # ---- the search ---------------------------------------------------------------------------------------------

    def search(self) -> Iterator[StudyEvent]:
        """The race; where it does not fit in memory, its trials in chunks first, and the race from what they showed."""
        if self.apart:
            for trials in self._separate(self.draws):
                yield from self._in_chunks([trials], self._chunk)
        self.race = _Race(drawn=self.study.workload.entry.search.trials)
        try:
            yield from self._take_part(self.draws[: self.race.drawn])
            yield from self._train()
        except OutOfMemory:
            training = [seat.trial for seat in self.race.seats if not seat.over]
            self.race.groups.clear()
            if len(training) < 2:
                raise
        else:
            for group in self.race.groups:
                yield from self._end_rest(group)
            return
        yield from self._in_chunks(_halves(training), self._chunk)
        yield from self.search()

    def _replacements(self) -> list[Trial]:
        """The next draws, one for each trial that diverged before any other can have crossed its target."""
        race, most = self.race, MOST_DRAWS * self.study.workload.entry.search.trials
        due: list[Trial] = []
        while not due and race.fallen and race.fallen[0] <= self._come_to():
            replaced = bisect_right(race.fallen, race.fallen[0])
            del race.fallen[:replaced]
            due = self.draws[race.drawn : min(race.drawn + replaced, most)]
            race.drawn += len(due)
        return due

    def _refinement(self) -> list[Trial]:
        """Once the answer is known: the trials that are drawn about it, if the suite asks for any."""
        best = self.best()
        if self.race.refined or best is None:
            return []
        self.race.refined = True
        return self.study.refinement(best[0])

    def _come_to(self) -> float:
        """The step that no trial can come to have crossed its target before."""
        return min((seat.bound for seat in self.race.seats if seat.fell is None), default=math.inf)

    def _take_part(self, newcomers: list[Trial]) -> Iterator[StudyEvent]:
        """Seats newcomers: those that are known with what is known, the others in a cohort."""
        yield from self._recall([trial for trial in newcomers if trial.id in self.known])
        fresh = [trial for trial in newcomers if trial.id not in self.known]
        if fresh:
            yield from self._seat(fresh)

    def _recall(self, trials: Sequence[Trial]) -> Iterator[StudyEvent]:
        if not trials:
            return
        for trial in trials:
            known, seat = self.known[trial.id], self._seat_of(trial, over=True)
            if known.outcome == "diverged":
                self._fall(seat, known.step)
            elif known.outcome in ("reached", "overtaken", "exhausted"):
                seat.step, seat.at, seat.settled = known.step, known.reached_at, known.outcome == "reached"
            else:
                continue  # one that crashed has nothing to tell
            self.race.seats.append(seat)
        yield Recalled({trial: self.known[trial.id] for trial in trials})

    def _seat_of(self, trial: Trial, *, over: bool = False) -> _Seat:
        target = self.study.workload.threshold
        return _Seat(trial, Crossing(target.met, target.rule), over=over)

    def _fall(self, seat: _Seat, step: int) -> None:
        """Takes note that a trial diverged at a step."""
        seat.fell = self.steps[bisect_left(self.steps, step)]
        self.race.fallen = sorted([*self.race.fallen, seat.fell])

    def _seat(self, trials: Sequence[Trial]) -> Iterator[StudyEvent]:
        seats = [self._seat_of(trial) for trial in trials]
        self.race.seats = [seat for seat in self.race.seats if seat.trial not in trials] + seats
        group = yield from self._start(trials, seats)
        self.race.groups.append(group)

    def _start(self, trials: Sequence[Trial], seats: list[_Seat]) -> Generator[StudyEvent, None, _Group]:
        yield Started(tuple(trials))
        group = _Group(self.make_cohort(trials), seats)
        yield Seated(tuple(trials), group.cohort.way)
        return group

    def _train(self, *, chunk: bool = False) -> Iterator[StudyEvent]:
        """Trains until the answer is known.

        chunk: replaces no trial, and begins none again that was not trained far enough before.
        """
        while True:
            if newcomers := [] if chunk else self._replacements():
                yield from self._take_part(newcomers)
                continue
            needs = self._needs()
            short = [seat.trial for seat in self.race.seats if seat.over and not seat.settled and _wants(seat, needs)]
            if short and not chunk:
                for trial in short:
                    del self.known[trial.id]
                yield from self._seat(short)
                continue
            behind = [group for group in self.race.groups if any(_wants(seat, needs) for seat in group.seats)]
            if behind:
                yield from self._advance(min(behind, key=lambda group: group.step), needs)
            elif newcomers := [] if chunk else self._refinement():
                yield from self._take_part(newcomers)
            else:
                return

    def _needs(self) -> dict[int, float]:
        """By number of the trial, the step to which it has to be trained as far as is known."""
        racing = [seat for seat in self.race.seats if seat.fell is None]
        ranked = _ranked(seat for seat in racing if seat.at is not None)
        slack = self.study.workload.slack
        if slack is None or not ranked:
            return {seat.trial.number: math.inf if slack is None or not seat.settled else 0 for seat in racing}
        fewest = ranked[0].bound
        values = contenders([(seat.bound, seat.trial.metaparameters) for seat in ranked], self.top)
        # Where all to be confirmed are found, nothing later matters; else whatever could still be one of them.
        last = next(seat.bound for seat in ranked if seat.trial.metaparameters == values[-1])
        until = max(slack * fewest, last if len(values) == self.top else CONTENDS * fewest)
        needs: dict[int, float] = {}
        for seat in racing:
            if seat.settled:
                needs[seat.trial.number] = 0
            elif seat.at is None:
                needs[seat.trial.number] = until
            else:
                needs[seat.trial.number] = self.settle * seat.at if seat.at <= until else 0
        return needs

    def _advance(self, group: _Group, needs: Mapping[int, float]) -> Iterator[StudyEvent]:
        """Takes a group to the next evaluation, but for trials that need not go on: they wait in a group of theirs."""
        waiting = [seat for seat in group.seats if not _wants(seat, needs)]
        if waiting:
            apart = _Group(group.cohort.part([seat.trial for seat in waiting]), waiting, group.step)
            self.race.groups.append(apart)
            group.seats = [seat for seat in group.seats if seat not in waiting]
        step = self.steps[bisect_right(self.steps, group.step)]
        yield from self._observe(group, step, self.looks[step])
        if self.study.workload.slack is not None:
            yield from self._end(group, {seat.trial: "reached" for seat in group.seats if seat.settled})
        if step == self.budget:
            yield from self._end_rest(group)
        self.race.groups = [each for each in self.race.groups if each.seats]

    def _observe(self, group: _Group, step: int, examples: int) -> Generator[StudyEvent, None, list[_Seat]]:
        """Trains a group up to a step and evaluates it there, on so many examples; those that cross their target there,
        which are tested.
        """
        observed = group.cohort.advance(step, examples)
        group.step = step
        # How large the validation set is stands with the first reading of it.
        of = {} if step else {"validation_examples": float(self.validation_examples)}
        told = {trial.id: seen.readings | of for trial, seen in observed.items() if seen.diverged_at is None}
        yield Evaluated(step, told)
        crossed = []
        for seat in list(group.seats):
            seen = observed[seat.trial]
            if seen.diverged_at is not None:
                if not seat.settled:
                    self._fall(seat, seen.diverged_at)
                group.seats.remove(seat)
                yield self._ended(group, seat, "reached" if seat.settled else "diverged", seen.diverged_at)
                continue
            before = seat.at
            seat.crossing.read(step, seen.readings[self.study.workload.reading])
            if step == seat.trial.max_steps:
                seat.crossing.finish()
            seat.step, seat.at, seat.settled = step, seat.crossing.at, seat.crossing.settled
            if seat.at == step != before:
                crossed.append(seat)
        if crossed:
            readings = group.cohort.test([seat.trial for seat in crossed])
            yield Evaluated(step, {trial.id: seen for trial, seen in readings.items()})
        return crossed

    # ---- in chunks ----------------------------------------------------------------------------------------------

    def _separate(self, trials: Sequence[Trial]) -> list[list[Trial]]:
        """Those of the trials that stand apart, and still have to be trained, as they stand together."""
        groups = ([trial for trial in trials if trial.id in ids and trial.id not in self.known] for ids in self.apart)
        return [group for group in groups if group]

    def _in_chunks(self, waiting: list[list[Trial]], carry: Carry) -> Iterator[StudyEvent]:
        """Carries trials to their ends without replacing any, as many at once as fit."""
        while waiting:
            chunk = waiting.pop(0)
            try:
                yield from carry(chunk)
            except OutOfMemory:
                self.race.groups.clear()
                left = [trial for trial in chunk if trial.id not in self.known]
                if len(left) < 2:
                    raise
                waiting[:0] = _halves(left)

    def _chunk(self, trials: list[Trial]) -> Iterator[StudyEvent]:
        """Trials of the search, which go no further than what is known of the others asks for."""
        self.race = _Race()
        for _ in self._recall([trial for trial in self.draws if trial.id in self.known]):
            pass  # told in the race
        yield from self._seat(trials)
        yield from self._train(chunk=True)
        for group in self.race.groups:
            yield from self._end_rest(group)
        self.race.groups.clear()

    # ---- the confirmation ---------------------------------------------------------------------------------------

    def confirm(self, confirmations: Sequence[Trial], fewest: int) -> Iterator[StudyEvent]:
        """Each trains until its own crossing is settled, it diverges, its budget is spent, or its number cannot matter.

        fewest: steps to target of the best trial of the search, which say where to evaluate densely.
        """
        settled = [trial for trial in confirmations if trial.id in self.known]
        if settled:
            yield Recalled({trial: self.known[trial.id] for trial in settled})
        self.again = {trial: self._seat_of(trial) for trial in confirmations}
        for trial in settled:
            seat, known = self.again[trial], self.known[trial.id]
            seat.at, seat.settled = known.reached_at, known.outcome == "reached"
        separate = self._separate([trial for trial in confirmations if trial not in settled])
        seated = [trial for group in separate for trial in group]
        rest = [trial for trial in confirmations if trial not in (*settled, *seated)]

        def carry(trials: list[Trial]) -> Iterator[StudyEvent]:
            return self._confirm(trials, fewest)

        yield from self._in_chunks([group for group in (*separate, rest) if group], carry)

    def _confirm(self, trials: list[Trial], fewest: int) -> Iterator[StudyEvent]:
        budget = trials[0].max_steps
        # A frame of its own: when it fails, its cohort is gone before the next is made.
        seats = [self._seat_of(trial) for trial in trials]
        self.again |= dict(zip(trials, seats, strict=True))
        group = yield from self._start(trials, seats)
        probes = deque(self.study.probe_steps(budget).items())
        for step, examples in self.study.confirmation(self.validation_examples, budget, fewest):
            while probes and probes[0][0] < step:
                group.step, due = probes.popleft()
                group.cohort.train(group.step)
                yield from self._probe(group, _below(group), due)
            crossed = yield from self._observe(group, step, examples)
            due = probes.popleft()[1] if probes and probes[0][0] == step else []
            yield from self._probe(group, _below(group), due)
            missed = [seat.trial for seat in group.seats if step == budget and not seat.settled]
            ended = [*(seat.trial for seat in crossed), *missed]
            yield from self._probe(group, ended, list(self.study.workload.probes))
            ends: dict[Trial, Outcome] = {seat.trial: "reached" for seat in group.seats if seat.settled}
            yield from self._end(group, {**ends, **dict.fromkeys(missed, "exhausted")})
            yield from self._end(group, dict.fromkeys(self._beaten(group, step), "overtaken"))
            if not group.seats:
                return

    def _beaten(self, group: _Group, step: int) -> list[Trial]:
        """The trials of a group, at a step, that can change neither the smallest median nor its interval.

        Once every seed of one of the best is settled, a seed that is not has more steps to target than any of these.
        Where it is of another one whose median is larger already, with such seeds as misses, its number does not
        matter: in whatever way seeds are drawn again, the smaller median stays what it is.
        """
        steps: dict[str, list[float]] = {}
        for trial, seat in self.again.items():
            by_now = seat.at is not None and seat.settled and self.settle * seat.at <= step
            steps.setdefault(repr(trial.metaparameters), []).append(seat.at if seat.at and by_now else math.inf)
        whole = min((median(each) for each in steps.values() if math.isfinite(max(each))), default=math.inf)
        beaten = {values for values, each in steps.items() if whole < median(each) and not math.isfinite(max(each))}
        return [seat.trial for seat in group.seats if repr(seat.trial.metaparameters) in beaten and whole < math.inf]

    def _probe(self, group: _Group, trials: Sequence[Trial], probes: Sequence[str]) -> Iterator[StudyEvent]:
        if trials and probes:
            readings = self.look(group.cohort, trials, group.step, probes)
            yield Evaluated(group.step, {trial.id: seen for trial, seen in readings.items()})

    # ---- endings ------------------------------------------------------------------------------------------------

    def _end_rest(self, group: _Group) -> Iterator[StudyEvent]:
        rest: Outcome = "exhausted" if group.step == self.budget else "overtaken"
        yield from self._end(group, {seat.trial: "reached" if seat.settled else rest for seat in group.seats})

    def _end(self, group: _Group, ends: Mapping[Trial, Outcome]) -> Iterator[StudyEvent]:
        """Ends trials that still train; those that were not tested at a crossing, and are not cut off, are tested."""
        if not ends:
            return
        tested = [trial for trial, outcome in ends.items() if outcome == "exhausted"]
        if tested:
            readings = group.cohort.test(tested)
            yield Evaluated(group.step, {trial.id: seen for trial, seen in readings.items()})
        ending = [seat for seat in group.seats if seat.trial in ends]
        group.seats = [seat for seat in group.seats if seat.trial not in ends]
        for seat in ending:
            yield self._ended(group, seat, ends[seat.trial], group.step)
        group.cohort.drop([seat.trial for seat in ending])

    def _ended(self, group: _Group, seat: _Seat, outcome: Outcome, step: int) -> Ended:
        seat.over = True
        self.known[seat.trial.id] = Known(outcome, step, seat.at)
        return Ended(seat.trial, outcome, step, group.cohort.train_seconds(seat.trial))


def _ranked(seats: Iterator[_Seat]) -> list[_Seat]:
    """By steps to target, then by number."""
    return sorted(seats, key=lambda seat: (seat.bound, seat.trial.number))


def _wants(seat: _Seat, needs: Mapping[int, float]) -> bool:
    """Whether a trial has to be trained further than it was."""
    return seat.fell is None and seat.step < min(needs[seat.trial.number], seat.trial.max_steps)


def _below(group: _Group) -> list[Trial]:
    """The trials that have not crossed their target, as far as is known: what probes look at."""
    return [seat.trial for seat in group.seats if seat.at is None]


def _halves(trials: list[Trial]) -> list[list[Trial]]:
    middle = len(trials) // 2
    return [trials[:middle], trials[middle:]]
