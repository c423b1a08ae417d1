"""What charts show of a study: the learning rates that were tried, and the curves of its trainings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench.ask.search import Value
from bench.ask.suite import UNITS
from bench.conclude.measures import Summary, stated_target
from bench.keep.archive import Archive

Kind = Literal["met the target", "diverged", "not in time"]


@dataclass(frozen=True)
class Tried:
    """A learning rate of the search, and what came of it.

    steps: to the target, and slower: as a multiple of the fewest of the search; None where the target was not met.
    """

    batch_size: int
    learning_rate: Value
    kind: Kind
    steps: int | None
    slower: float | None


def tried(row: Summary) -> Iterator[Tried]:
    """Each trial of the search that has a learning rate."""
    met = {attempt.number: attempt.steps for attempt in row.found.attempts} if row.found else {}
    for trial in row.study.trials:
        if trial.phase == "search" and "learning_rate" in trial.metaparameters:
            rate, steps = trial.metaparameters["learning_rate"], met.get(trial.number)
            kind: Kind = "met the target" if steps else "diverged" if trial.outcome == "diverged" else "not in time"
            yield Tried(row.study.batch_size, rate, kind, steps, steps / min(met.values()) if steps else None)


def curves(row: Summary, archive: Archive) -> list[dict[int, float]]:
    """The reading that the target is about, in the target's unit, at every evaluated step of each confirmation, or of
    each trial of the search where nothing was confirmed: {step: value}, and {examples: value} where the batch grows.
    """
    content, unit = row.study.content, row.study.batch_size if row.grows else 1
    stated, _ = stated_target(content)
    told = UNITS[stated].number if stated in UNITS else float
    found = []
    for trial in [trial for trial in row.study.trials if trial.phase == "confirm"] or row.study.trials:
        path = {step: told(value) for step, name, value in archive.readings(trial.key) if name == content["reading"]}
        found.append({step * unit: value for step, value in path.items() if math.isfinite(value)})
    return found
