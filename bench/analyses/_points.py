"""The points of a curve as cells, and as a table of their own where there is no fit to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.conclude.points import Curve, Point
from bench.numbers import number, raw
from bench.table import Table

_COLUMNS = ["batch size", "steps to target"]


def steps_cell(point: Point) -> str:
    """The median of a point; a miss as beyond what was tried, and an upper bound as one."""
    if math.isinf(point.median):
        return point.missed
    return f"at most {number(point.median, 6)}" if point.first else number(point.median, 6)


def unfitted(title: str, curve: Curve, reason: str, notes: Sequence[str]) -> Table:
    """The points of a curve that has no fit, and why it has none."""
    rows = [[f"{point.batch_size:,.0f}", steps_cell(point)] for point in curve.points]
    record = {
        "label": curve.label,
        "no_fit": reason,
        "batch_sizes": [point.batch_size for point in curve.points],
        "steps_to_target": [raw(point.median) for point in curve.points],
    }
    return Table(title, _COLUMNS, rows, set(_COLUMNS), list(notes), records=[record])
