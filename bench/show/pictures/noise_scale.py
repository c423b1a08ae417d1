"""The gradient noise scale of each study, averaged over its run, beside the critical batch size that was measured."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from bench.analyses.noise_scale import noise_scale as tables
from bench.conclude.curve_fit import fit_curve
from bench.conclude.measures import Summary
from bench.conclude.points import curve_of
from bench.keep.archive import Archive
from bench.show.pictures._axes import BLUE, ORANGE, amounts, batch_sizes, legend


def noise_scale(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:  # noqa: ARG001 (the contract)
    """Log-log. False where no noise scale was probed, or none resolved."""
    records = [record for table in tables(rows) for record in table.records]
    known = [(record["batch_size"], record["average"]) for record in records if record["average"]["value"] is not None]
    if not known:
        return False
    for size, scale in known:
        panel.plot(
            [size], [scale["value"]], "o", color=BLUE, label="B_simple, averaged" if size == known[0][0] else None
        )
        # Without an upper end the interval is that of a single seed, and says nothing.
        if scale["high"] is not None and scale["low"]:
            panel.plot([size, size], [scale["low"], scale["high"]], color=BLUE)
    if fitted := fit_curve(curve_of(rows)):
        panel.axhline(fitted.critical_batch.value, linestyle="--", color=ORANGE, label="B_crit, measured")
    batch_sizes(panel, [size for size, _ in known])
    amounts(panel, "noise scale, examples")
    legend(panel)
    return True
