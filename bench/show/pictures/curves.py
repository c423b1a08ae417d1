"""Training curves: the reading that the target is about, of every seed of the winner, against steps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes

from bench.conclude.measures import Summary, curve_of_trial, stated_target
from bench.keep.archive import Archive
from bench.show.pictures._axes import GREY, amounts


def curves(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:
    """A colour for each batch size, log-log; the search's trials where nothing was confirmed. False without any."""
    colours = matplotlib.colormaps["viridis"]
    drawn = False
    rows = [row for row in rows if row.trained]
    for place, row in enumerate(rows):
        confirmed = [trial for trial in row.study.trials if trial.phase == "confirm"]
        label: str | None = f"{row.study.batch_size:,}"
        for trial in confirmed or row.study.trials:
            path = curve_of_trial(archive, row.study, trial)
            if path:
                shade = colours(place / max(1, len(rows) - 1))
                unit = row.study.batch_size if row.grows else 1
                along = [step * unit for step in path]
                panel.plot(along, list(path.values()), color=shade, linewidth=0.8, label=label)
                label, drawn = None, True
    if drawn:
        ((reading, threshold),) = stated_target(rows[0].study.content).items()
        (bound,) = threshold.values()
        panel.axhline(bound, linestyle="--", color=GREY)
        panel.set_xscale("log")
        panel.set_xlabel("examples" if rows[0].grows else "step")
        amounts(panel, reading.replace("_", " "))
        panel.legend(title="batch size", fontsize="small", frameon=False)
    return drawn
