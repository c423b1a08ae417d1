"""The learning rates that were tried at each batch size: which met the target, and which soonest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from bench.conclude.charts import tried
from bench.conclude.measures import Summary
from bench.keep.archive import Archive
from bench.show.pictures._axes import GREY, ORANGE, amounts, batch_sizes, legend


def learning_rates(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:  # noqa: ARG001 (the contract)
    """A mark for each trial of the search, darker the sooner it met the target. False where none with a rate did."""
    trials = [each for row in rows for each in tried(row)]
    met = [(each.batch_size, each.learning_rate, math.log2(each.slower)) for each in trials if each.slower]
    if not met:
        return False
    for kind, mark in (("not in time", "."), ("diverged", "x")):
        if others := [(each.batch_size, each.learning_rate) for each in trials if each.kind == kind]:
            panel.plot(*zip(*others, strict=True), mark, color=GREY, linestyle="none", label=kind)
    sizes, rates, slower = zip(*met, strict=True)
    marks = panel.scatter(
        sizes, rates, c=slower, cmap="viridis", vmin=0, vmax=max(1.0, *slower), label="met the target"
    )
    panel.figure.colorbar(marks, ax=panel, label="log2 of its steps over the least")
    found = [(row.study.batch_size, row.found.metaparameters) for row in rows if row.found]
    bests = [(size, best["learning_rate"]) for size, best in found if "learning_rate" in best]
    panel.plot(*zip(*bests, strict=True), color=ORANGE, marker="o", markerfacecolor="none", label="the best")
    batch_sizes(panel, sizes)
    amounts(panel, "learning rate")
    legend(panel)
    return True
