"""Seconds to target against batch size: steps to target times the time of a step."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes

from bench.conclude.measures import Summary
from bench.keep.archive import Archive
from bench.show.pictures._axes import BLUE, GREY, amounts, batch_sizes, legend


def time(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:  # noqa: ARG001 (the contract)
    """Log-log, with the time of a step itself. False where nothing was timed."""
    timed = [(row, statistics.median(row.timed.step_seconds)) for row in rows if row.timed and row.timed.step_seconds]
    if not timed:
        return False
    sizes = [row.study.batch_size for row, _ in timed]
    panel.plot(sizes, [seconds for _, seconds in timed], "--", marker=".", color=GREY, label="a step")
    met = [
        (row.study.batch_size, row.steps_to_target * seconds)
        for row, seconds in timed
        if row.steps_to_target is not None and math.isfinite(row.steps_to_target)
    ]
    if met:
        panel.plot(*zip(*met, strict=True), marker="o", color=BLUE, label="to the target")
    batch_sizes(panel, sizes)
    amounts(panel, "seconds")
    legend(panel)
    return True
