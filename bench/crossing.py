"""Steps to target: where the readings of a trial cross its target, for good as far as can be known.

A single reading is noisy: the first one that meets the target comes earlier the more often one evaluates. So the rule
`isotonic` fits the readings e_1 .. e_n at steps s_1 < .. < s_n by the non-increasing function of least weighted squares
(weights log(s_i/s_(i-1)), with s_0 = s_1/2), and the crossing is the first s_i whose fitted value meets the target.
The rule `first` is Shallue et al.'s: the first reading that meets the target.

The fit at i is the minimum over j <= i of the maximum over k >= i of the weighted mean of e_j .. e_k. One more reading
adds candidates to each maximum, so it can only raise the fit of the readings before it. Therefore

- a trial that has not crossed by step s can never come to have crossed by s,
- a crossing moves later, or away, and never earlier, and
- a crossing appears only at the newest reading.

A crossing at s is settled once the trial has been trained to `SETTLE` x s, or to the end of its budget. What is read
after that is not looked at: the answer is the same however far the trial goes on.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

CrossingRule = Literal["isotonic", "first"]
# Of the step of a crossing, how far a trial goes on until the crossing is settled.
SETTLE = {"isotonic": 1.5, "first": 1.0}


class Crossed(NamedTuple):
    """Steps to target of one trial, which are known to lie in (after, by]: the two evaluations around the crossing.

    A miss has `by` infinite: the trial did not cross in the `after` steps it was trained.  first: whether `by` was the
    first look after step 0, or the target was met at step 0 already: then `by` is an upper bound and nothing more.
    """

    after: float
    by: float
    first: bool = False

    @property
    def middle(self) -> float:
        """The middle of the whole steps it may be, on a logarithmic scale; math.inf for a miss."""
        return math.sqrt((self.after + 1) * self.by) if math.isfinite(self.by) else math.inf

    @property
    def gap(self) -> float:
        """By which share of the step it may be overstated; 0 where every step was evaluated."""
        return (self.by - self.after - 1) / self.by if math.isfinite(self.by) else 0.0


@dataclass
class _Block:
    """Readings that are fitted by one value, the first of them at step `start`, the reading before that at `after`."""

    after: int
    start: int
    weight: float
    mean: float


class Crossing:
    """Follows the readings of one trial and knows where they cross the target by now.

    The fit is that of pool adjacent violators: each reading is a block of its own until it is higher than the block
    before, with which it is then pooled. A reading costs constant time on average.

    met: whether a value meets the target.
    """

    def __init__(self, met: Callable[[float], bool], rule: CrossingRule = "isotonic") -> None:
        self._met = met
        self._rule = rule
        self._blocks: list[_Block] = []
        self._first: tuple[int, int] | None = None  # the reading before, and the first that met the target
        self._met_before_training = False
        self.step = 0
        self.settled = False

    def read(self, step: int, value: float) -> None:
        """Takes the next reading; one at step 0, before training, is no part of the fit."""
        if step == 0:
            self._met_before_training = self._met(value)
        if self.settled or step == 0:
            return
        if self._rule == "first":
            if self._first is None and self._met(value):
                self._first = (self.step, step)
        else:
            self._pool(_Block(self.step, step, math.log(step / (self.step or step / 2)), value))
        self.step = step
        at = self.at
        self.settled = at is not None and step >= SETTLE[self._rule] * at

    def finish(self) -> None:
        """Says that the budget is spent: a crossing counts though the trial did not go on past it."""
        self.settled = self.settled or self.at is not None

    def _pool(self, block: _Block) -> None:
        while self._blocks and block.mean > self._blocks[-1].mean:
            before = self._blocks.pop()
            weight = before.weight + block.weight
            mean = before.mean + (block.mean - before.mean) * (block.weight / weight)
            block = _Block(before.after, before.start, weight, mean)
        self._blocks.append(block)

    @property
    def at(self) -> int | None:
        """The step of the crossing by now; None where there is none."""
        found = self._found()
        return found[1] if found else None

    @property
    def crossed(self) -> Crossed:
        """The crossing by now with the evaluation before it; a miss where there is none."""
        found = self._found()
        if found is None:
            return Crossed(self.step, math.inf)
        return Crossed(*found, first=found[0] == 0 or self._met_before_training)

    def _found(self) -> tuple[int, int] | None:
        if self._rule == "first":
            return self._first
        # The means of blocks fall, so those that meet the target are the last ones.
        place = bisect_left(self._blocks, True, key=lambda block: self._met(block.mean))
        return (self._blocks[place].after, self._blocks[place].start) if place < len(self._blocks) else None


def crossing_of(
    readings: Iterable[tuple[int, float]], met: Callable[[float], bool], rule: CrossingRule, budget: int
) -> Crossing:
    """The crossing of a whole series of (step, value), in the order of steps, of a trial with so many steps at most.

    NaN never meets a target and is above every number.
    """
    crossing = Crossing(met, rule)
    for step, value in readings:
        crossing.read(step, math.inf if math.isnan(value) else value)
    if crossing.step >= budget:
        crossing.finish()
    return crossing
