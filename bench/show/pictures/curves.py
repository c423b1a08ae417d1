"""Training curves: the reading that the target is about, of every seed of the winner, against steps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes

from bench.conclude import charts
from bench.conclude.measures import Summary, stated_target
from bench.keep.archive import Archive
from bench.show.pictures._axes import GREY, amounts


def curves(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:
    """A colour for each batch size, log-log; the search's trials where nothing was confirmed. False without any."""
    colours = matplotlib.colormaps["viridis"]
    drawn = False
    rows = [row for row in rows if row.trained]
    for place, row in enumerate(rows):
        label: str | None = f"{row.study.batch_size:,}"
        for path in filter(None, charts.curves(row, archive)):
            shade = colours(place / max(1, len(rows) - 1))
            panel.plot(list(path), list(path.values()), color=shade, linewidth=0.8, label=label)
            label, drawn = None, True
    if drawn:
        reading, threshold = stated_target(rows[0].study.content)
        (bound,) = threshold.bound().values()
        panel.axhline(bound, linestyle="--", color=GREY)
        panel.set_xscale("log")
        panel.set_xlabel("examples" if rows[0].grows else "step")
        amounts(panel, reading.replace("_", " "))
        panel.legend(title="batch size", fontsize="small", frameon=False)
    return drawn
