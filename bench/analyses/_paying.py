"""Up to how many devices a workload pays for them, and what stops it there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from bench.analyses._devices import Cell
from bench.conclude.curve_fit import CurveFit
from bench.numbers import interval, number, seconds

# Devices pay while an hour of one does at least half as much as where they are fewest. So much is left at the critical
# batch size, where a run takes twice the least examples, and where half of each step is communication.
PAYS = 0.5


class Left(NamedTuple):
    """What is left, 1 being all, of the work that a device does in a given time where it is one of fewer.

    examples: since a larger batch takes more of them to the target; None where that is not known.  parts: since a
    smaller part of a batch uses a device less.  communication: since devices wait for one another.  These two are
    None where the time of a part on one device is not known.
    """

    examples: float | None
    step: float
    parts: float | None
    communication: float | None

    @property
    def whole(self) -> float:
        return self.step * (1.0 if self.examples is None else self.examples)


def left_of(cell: Cell, base: Cell) -> Left:
    """A cell against one of fewer devices; of a step is left what is left of parts times what is of communication."""
    step = (cell.part / cell.step_seconds) / (base.part / base.step_seconds)
    examples = parts = communication = None
    if cell.steps and base.steps:
        examples = (base.steps * base.batch_size) / (cell.steps * cell.batch_size)
    if cell.predicted and base.predicted:
        parts = (cell.part / cell.predicted) / (base.part / base.predicted)
        communication = (cell.predicted / cell.step_seconds) / (base.predicted / base.step_seconds)
    return Left(examples, step, parts, communication)


def paying(series: Sequence[Cell], fitted: CurveFit | None) -> str | None:
    """Where it stops to pay that devices are added, and why, as the end of a sentence.

    None where too few are known: where the first met its target, one that was not trained tells nothing.
    """
    base = series[0]
    known = [cell for cell in series if not base.steps or cell.steps or cell.missed]
    for before, cell in pairwise(known):
        past = f"past {before.devices:,} device{'s' * (before.devices > 1)} it does not pay"
        if base.steps and cell.missed:
            return f"{past}: with a batch of {cell.batch_size:,} the target was missed"
        if left_of(cell, base).whole < PAYS:
            return f"{past}: {_reason(cell, base, fitted)}"
    if len(known) < 2:
        return None
    last = known[-1]
    return (
        f"it still pays on {last.devices:,} devices, the most that were measured: each does "
        f"{left_of(last, base).whole:.0%} of what one of {base.devices:,} does"
    )


def _reason(cell: Cell, base: Cell, fitted: CurveFit | None) -> str:
    """What leaves the least, with its numbers."""
    left = left_of(cell, base)
    of_step = [share for share in (left.parts, left.communication) if share is not None] or [left.step]
    if left.examples is not None and left.examples <= min(of_step):
        return _batch(cell, base, 1 / left.examples, fitted)
    part, whole = number(cell.part), seconds(cell.step_seconds)
    if cell.predicted is None or base.predicted is None or left.parts is None or left.communication is None:
        return (
            f"a step with {part} examples on each of {cell.devices:,} devices takes {whole}, one with "
            f"{number(base.part)} on {base.devices:,} {seconds(base.step_seconds)}; how much of it is communication is "
            "not known, for the part of a device was not timed on one"
        )
    if left.communication <= left.parts:
        return (
            f"on {cell.devices:,} devices communication takes {1 - cell.predicted / cell.step_seconds:.0%} of a step: "
            f"{whole}, of which {seconds(cell.predicted)} train {part} examples on each"
        )
    return (
        f"{part} examples are few for a device: they take it {seconds(cell.predicted)}, and {number(base.part)} take "
        f"{seconds(base.predicted)}"
    )


def _batch(cell: Cell, base: Cell, paid: float, fitted: CurveFit | None) -> str:
    takes = f"a batch of {cell.batch_size:,} takes {paid:.1f}x the examples of one of {base.batch_size:,}"
    if fitted is None:
        return takes
    beyond = "batch beyond B_crit: " if cell.batch_size > fitted.critical_batch.value else ""
    return f"{beyond}{takes} (B_crit {interval(fitted.critical_batch)})"
