"""Archive -> a picture in a file: one kind of picture, a panel for each workload.

A kind is a file in bench/show/pictures with a function of its name: (panel, summaries of a workload, archive) ->
whether there was anything to draw.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.ask import components
from bench.conclude.measures import by_workload, summaries
from bench.errors import BenchError, nearest
from bench.keep.archive import Archive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
_PANEL_INCHES = (6.4, 4.4)


def kinds() -> list[str]:
    """The kinds of pictures there are."""
    return components.names("show/pictures")


def plot(archive: Archive, kind: str, path: Path) -> None:
    """Draws a picture into a file, in the format of its suffix.

    Raises BenchError for another suffix, an unknown kind, an archive that holds nothing for it, or a missing library.
    """
    if path.suffix not in SUFFIXES:
        raise BenchError(f"{path}: found the suffix '{path.suffix}'; should be one of {', '.join(SUFFIXES)}")
    if kind not in kinds():
        raise BenchError(f"found the kind '{kind}'; {nearest(kind, kinds())}")
    figure = _drawn(archive, kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def _drawn(archive: Archive, kind: str) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError("matplotlib is not installed; pip install 'bench[plot]'") from None
    draw = getattr(importlib.import_module(f"bench.show.pictures.{kind}"), kind)
    workloads = list(by_workload(summaries(archive), timed=True))
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width, height * len(workloads)), layout="constrained")
    drawn = []
    for place, (name, rows) in enumerate(workloads):
        panel = figure.add_subplot(len(workloads), 1, place + 1)
        # A name is no formula, whatever it holds.
        panel.set_title(name, parse_math=False)
        drawn.append(draw(panel, rows, archive))
        if not drawn[-1]:
            panel.set_axis_off()
    if not any(drawn):
        raise BenchError(f"{archive.path}: holds nothing to draw as '{kind}'; measure it first, or choose another kind")
    return figure
