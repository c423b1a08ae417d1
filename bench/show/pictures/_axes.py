"""Axes as all pictures have them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator, StrMethodFormatter

# Of Okabe and Ito 2008, told apart by everyone.
BLUE, ORANGE, GREEN, YELLOW, GREY = "#0072b2", "#d55e00", "#009e73", "#f0e442", "#7f7f7f"


def batch_sizes(panel: Axes, sizes: Sequence[float]) -> None:
    """A logarithmic axis with a tick at every batch size measured."""
    panel.set_xscale("log", base=2)
    panel.set_xticks(sorted(set(sizes)), labels=[f"{size:,.0f}" for size in sorted(set(sizes))])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("batch size")


def amounts(panel: Axes, label: str) -> None:
    """A logarithmic axis of amounts, written in full."""
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    # Within a decade or so the ticks between its ends have to be read too.
    panel.yaxis.set_minor_formatter(StrMethodFormatter("{x:,g}") if high < 20 * low else NullFormatter())
    panel.set_ylabel(label)


def legend(panel: Axes) -> None:
    """What the marks mean, where there is more than one."""
    if len(panel.get_legend_handles_labels()[1]) > 1:
        panel.legend(fontsize="small", frameon=False)
