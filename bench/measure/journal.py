"""The calls of a study and their answers, so that a study that was cut off goes on from where it was.

What a study does follows from what its cohorts and probes answer. Answered from a journal it says again what it said,
and trains nothing; at the first call that the journal has no answer for, its cohorts are built with the state they had,
and what follows is what would have followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from torch import Tensor

from bench.ask.plan import Trial
from bench.contracts import Cohort, Look, Observation, OutOfMemory
from bench.events import StudyEvent, Way
from bench.measure.study import MakeCohort

# A study's events, given what makes its cohorts and what looks at them.
Carry = Callable[[MakeCohort, Look], Iterator[StudyEvent]]
# [cohort's number, name, argument, answer].
Call = list[Any]
# The ids of the trials left in a cohort, and what its `state` gave.
CohortState = tuple[list[str], dict[str, Any]]

_OUT_OF_MEMORY = "out of memory"


class Strayed(Exception):  # noqa: N818 (said as part of a sentence)
    """A journal is not the study's own, or cannot be gone on from."""


class _Beyond(Exception):  # noqa: N818 (it ends a rehearsal, and is caught)
    """A call that the journal has no answer for."""


class Journal:
    """Stands between a study and what makes its cohorts and looks at them.

    calls: those answered so far.  states: of cohorts to build, by number.  evaluated: called with this after each
    evaluation that was no answer of the journal's.  All may raise Strayed.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        states: Mapping[int, CohortState],
        make: MakeCohort,
        look: Look,
        evaluated: Callable[[Journal], None] = lambda _: None,
    ) -> None:
        self.calls = list(calls)
        self.evaluated = evaluated
        self._at = 0
        self._states = dict(states)
        self._make = make
        self._look = look
        self._made = 0
        # A cohort that the study lets go is gone, with the memory it holds.
        self._cohorts: WeakValueDictionary[int, _Kept] = WeakValueDictionary()

    def make(self, trials: Sequence[Trial]) -> Cohort:
        cohort = _Kept(self, self._made, trials)
        self._made += 1
        cohort.begin(self._make)
        self._cohorts[cohort.number] = cohort
        return cohort

    def part(self, cohort: _Kept, trials: Sequence[Trial]) -> _Kept:
        """Some of a cohort's trials as a cohort of their own."""
        apart = _Kept(self, self._made, list(cohort.trials.values()), cohort.way)
        self._made += 1
        apart.left = _ids(trials)
        self._cohorts[apart.number] = apart
        return apart

    def look(
        self, cohort: Cohort, trials: Sequence[Trial], step: int, names: Sequence[str]
    ) -> dict[Trial, dict[str, float]]:
        assert isinstance(cohort, _Kept)  # the study has no others
        argument = [step, _ids(trials), list(names)]
        answer = self.ask(
            cohort.number, "look", argument, lambda: _by_id(self._look(cohort.real(), trials, step, names))
        )
        return {trial: answer[trial.id] for trial in trials}

    def states(self) -> dict[int, CohortState]:
        """Of each cohort that the study still holds."""
        return {number: (list(cohort.left), cohort.state()) for number, cohort in sorted(self._cohorts.items())}

    def answers(self) -> bool:
        """Whether the next call is answered from the journal."""
        return self._at < len(self.calls)

    def ask(self, cohort: int, name: str, argument: Any, carry_out: Callable[[], Any]) -> Any:
        """The answer to a call: the journal's, or what carrying it out gives, which the journal then holds."""
        if self.answers():
            *call, answer = self.calls[self._at]
            if call != [cohort, name, argument]:
                raise Strayed(f"it holds another study's calls: '{call[1]}' where this one has '{name}'")
        else:
            try:
                answer = carry_out()
            except OutOfMemory:
                answer = _OUT_OF_MEMORY
            self.calls.append([cohort, name, argument, answer])
        self._at += 1
        if answer == _OUT_OF_MEMORY:
            raise OutOfMemory
        return answer

    def state(self, number: int) -> CohortState:
        """The state of a cohort that is still to be built."""
        if number not in self._states:
            raise Strayed("it lacks a cohort")
        return self._states[number]

    def rebuilt(self, number: int, trials: Sequence[Trial], way: Way) -> Cohort:
        """A cohort as it was: all its trials, so that they train in the same way, less those that ended."""
        left, state = self.state(number)
        cohort = self._make(trials)
        if cohort.way != way:
            raise Strayed(f"its trials train {way.name}, and now train {cohort.way.name} ({cohort.way.reason})")
        cohort.drop([trial for trial in trials if trial.id not in left])
        try:
            cohort.restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise Strayed(f"its state does not fit: {error}") from error
        del self._states[number]
        return cohort


class _Kept:
    """A cohort whose calls are answered from the journal; see `contracts.Cohort`."""

    def __init__(self, journal: Journal, number: int, trials: Sequence[Trial], way: Way | None = None) -> None:
        self.number = number
        self.left = _ids(trials)
        self.trials = {trial.id: trial for trial in trials}
        self.way = way or Way("one by one", "not yet begun")
        self._journal = journal
        self._real: Cohort | None = None

    def begin(self, make: MakeCohort) -> None:
        def begun() -> list[str]:
            self._real = make(list(self.trials.values()))
            return [self._real.way.name, self._real.way.reason]

        self.way = Way(*self._ask("make", _ids(self.trials.values()), begun))

    def real(self) -> Cohort:
        """What trains."""
        if self._real is None:
            self._real = self._journal.rebuilt(self.number, list(self.trials.values()), self.way)
        return self._real

    def train(self, step: int) -> None:
        self._ask("train", step, lambda: self.real().train(step))

    def advance(self, step: int, examples: int | None = None) -> dict[Trial, Observation]:
        def advanced() -> dict[str, Any]:
            observed = self.real().advance(step, examples)
            return {trial.id: [seen.diverged_at, seen.readings] for trial, seen in observed.items()}

        answered = self._journal.answers()
        answer = self._ask("advance", [step, examples], advanced)
        self.left = [name for name in self.left if answer[name][0] is None]
        if not answered and step > 0:  # before the first step there is nothing to keep
            self._journal.evaluated(self._journal)
        return {self.trials[name]: Observation(dict(seen), at) for name, (at, seen) in answer.items()}

    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        answer = self._ask("test", _ids(trials), lambda: _by_id(self.real().test(trials)))
        return {trial: dict(answer[trial.id]) for trial in trials}

    def part(self, trials: Sequence[Trial]) -> Cohort:
        apart = self._journal.part(self, trials)

        def parted() -> None:
            apart.take(self.real().part(trials))

        self._ask("part", _ids(trials), parted)
        self.left = [name for name in self.left if name not in apart.left]
        return apart

    def take(self, real: Cohort) -> None:
        """Has this cohort train what was parted from another."""
        self._real = real

    def drop(self, trials: Sequence[Trial]) -> None:
        self._ask("drop", _ids(trials), lambda: self.real().drop(trials))
        self.left = [name for name in self.left if name not in _ids(trials)]

    def train_seconds(self, trial: Trial) -> float:
        seconds: float = self._ask("train_seconds", trial.id, lambda: self.real().train_seconds(trial))
        return seconds

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        return self.real().weights(trial)

    def state(self) -> dict[str, Any]:
        return self._journal.state(self.number)[1] if self._real is None else self._real.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.real().restore(state)

    def _ask(self, name: str, argument: Any, carry_out: Callable[[], Any]) -> Any:
        return self._journal.ask(self.number, name, argument, carry_out)


def check(calls: Sequence[Call], states: Mapping[int, CohortState], carry: Carry) -> None:
    """Follows a study through a journal, as far as that goes, and trains nothing; raises Strayed where they part."""
    journal = Journal(calls, states, _beyond, _beyond)
    try:
        for _ in carry(journal.make, journal.look):
            pass
    except (_Beyond, OutOfMemory):
        pass
    if journal.answers():
        raise Strayed("the study ends before it")


def _beyond(*_: object) -> NoReturn:
    raise _Beyond


def _ids(trials: Any) -> list[str]:
    return [trial.id for trial in trials]


def _by_id(readings: Mapping[Trial, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {trial.id: seen for trial, seen in readings.items()}
