"""The learning rates that were tried at each batch size: which met the target, and which soonest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from bench.conclude.measures import Summary
from bench.keep.archive import Archive
from bench.show.pictures._axes import GREY, ORANGE, amounts, batch_sizes, legend


def learning_rates(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:  # noqa: ARG001 (the contract)
    """A mark for each trial of the search, darker the sooner it met the target. False where none with a rate did."""
    found = [(row.study.batch_size, row.found) for row in rows if row.found]
    tried = [
        (size, attempt.metaparameters["learning_rate"], math.log2(attempt.steps / best.steps))
        for size, best in found
        for attempt in best.attempts
        if "learning_rate" in attempt.metaparameters
    ]
    if not tried:
        return False
    _rest(panel, rows)
    sizes, rates, slower = zip(*tried, strict=True)
    marks = panel.scatter(
        sizes, rates, c=slower, cmap="viridis", vmin=0, vmax=max(1.0, *slower), label="met the target"
    )
    panel.figure.colorbar(marks, ax=panel, label="log2 of its steps over the least")
    bests = [
        (size, best.metaparameters["learning_rate"]) for size, best in found if "learning_rate" in best.metaparameters
    ]
    panel.plot(*zip(*bests, strict=True), color=ORANGE, marker="o", markerfacecolor="none", label="the best")
    batch_sizes(panel, sizes)
    amounts(panel, "learning rate")
    legend(panel)
    return True


def _rest(panel: Axes, rows: Sequence[Summary]) -> None:
    """The trials that did not meet the target: a cross where one diverged, a point where it was not soon enough."""
    for diverged, mark, label in ((False, ".", "not in time"), (True, "x", "diverged")):
        others = [
            (row.study.batch_size, trial.metaparameters["learning_rate"])
            for row in rows
            for trial in row.study.trials
            if trial.phase == "search" and trial.outcome != "reached" and (trial.outcome == "diverged") == diverged
            if "learning_rate" in trial.metaparameters
        ]
        if others:
            panel.plot(*zip(*others, strict=True), mark, color=GREY, linestyle="none", label=label)
