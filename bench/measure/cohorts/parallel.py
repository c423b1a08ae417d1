"""Trials that several ranks train together: one by one, the first rank saying to the others what it does."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

import torch

from bench.ask.plan import Study, Trial
from bench.errors import ComponentError
from bench.events import Way
from bench.examples import Data
from bench.measure import parallel
from bench.measure.cohorts.one_by_one import OneByOne


class Parallel(OneByOne):
    """Keeps the contract of `contracts.Cohort` in the first rank; the others `follow`.

    What takes all ranks is told; they train what it trains, hold what it holds, and evaluate nothing.
    """

    _numbers = itertools.count()

    def __init__(self, study: Study, data: Data, device: torch.device, trials: Sequence[Trial], way: Way) -> None:
        self._number = next(self._numbers)
        self._tell("make", list(trials), way)
        super().__init__(study, data, device, trials, way)

    def train(self, step: int) -> None:
        self._tell("train", step)
        super().train(step)

    def part(self, trials: Sequence[Trial]) -> Self:
        number = next(self._numbers)
        self._tell("part", list(trials), number)
        # What is told here has been told as a part: the others drop these trials with it.
        apart = copy.copy(self)
        OneByOne.keep(apart, trials)
        apart._number = number
        OneByOne.drop(self, trials)
        return apart

    def drop(self, trials: Sequence[Trial]) -> None:
        self._tell("drop", list(trials))
        super().drop(trials)

    def state(self) -> dict[str, Any]:
        self._tell("state")
        return super().state()

    def restore(self, state: dict[str, Any]) -> None:
        self._tell("restore", state)
        super().restore(state)

    def _tell(self, name: str, *arguments: Any) -> None:
        parallel.tell((self._number, name, arguments))


class _Following(OneByOne):
    """A cohort of the first rank in one of the others."""

    def train(self, step: int) -> None:
        super().train(step)
        self._losses = {trial.id: [] for trial in self._runs}  # the first rank looks at them

    def state(self) -> dict[str, Any]:
        with suppress(ComponentError):  # the first rank has it too, and says that the study is not kept
            return super().state()
        return {}


def follow(study: Study, data: Data, device: torch.device) -> None:
    """Does what the first rank says until it says None."""
    cohorts: dict[int, _Following] = {}
    while (told := parallel.hear()) is not None:
        number, name, arguments = told
        if name == "make":
            cohorts[number] = _Following(study, data, device, *arguments)
        elif name == "part":
            trials, apart = arguments
            cohorts[apart] = cohorts[number].part(trials)
        else:
            getattr(cohorts[number], name)(*arguments)
