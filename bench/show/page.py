"""Archive -> one HTML page that holds all it needs: charts, tables, environment and suite. It asks no network for
anything, and works from a file.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.conclude.charts import curves, tried
from bench.conclude.curve_fit import fit_curve
from bench.conclude.measures import Summary, by_workload, stated_target, summaries
from bench.conclude.points import Point, curve_of
from bench.errors import BenchError
from bench.keep.archive import Archive
from bench.numbers import sort_key
from bench.show.report import tables
from bench.table import Table

# More points than a chart has pixels only make the page heavy.
_MOST_POINTS = 400
_WEB = Path(__file__).parent / "web"


def page(archive: Archive) -> str:
    """The page, as text; raises BenchError where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise BenchError("plotly is not installed; pip install 'bench[plot]'") from None
    # Inside a script "<" could end it; within a string of JSON it may be written as its number.
    data = json.dumps(_data(archive), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "{title}": html.escape(f"bench: {archive.suite_name()}"),
        "{style}": (_WEB / "page.css").read_text(encoding="utf-8"),
        "{data}": data,
        "{library}": get_plotlyjs(),
        "{program}": (_WEB / "page.js").read_text(encoding="utf-8"),
    }
    text = (_WEB / "page.html").read_text(encoding="utf-8")
    # One pass, so that nothing that is put in is taken for a place.
    return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], text)


def _data(archive: Archive) -> dict[str, Any]:
    found = tables(archive)
    return {
        "advice": [note for table in found for note in table.notes if note.startswith("advice: ")],
        "workloads": [_workload(archive, name, rows) for name, rows in by_workload(summaries(archive))],
        "tables": [
            {
                "title": table.title,
                "columns": table.columns,
                "rows": table.rows,
                "keys": [_keys(table, row) for row in table.rows],
                "numeric": [column in table.numeric for column in table.columns],
                "notes": table.notes,
            }
            for table in found
        ],
        "environments": list(archive.environments().values()),
        "suite": archive.suite_text(),
    }


def _keys(table: Table, row: list[str]) -> list[float | None]:
    """What each cell of a row is sorted by; a text by itself."""
    return [
        sort_key(cell) if column in table.numeric else None for column, cell in zip(table.columns, row, strict=True)
    ]


def _workload(archive: Archive, name: str, rows: Sequence[Summary]) -> dict[str, Any]:
    content = rows[0].study.content
    curve = curve_of(rows)
    fitted = fit_curve(curve)
    sizes = [point.batch_size for point in curve.points]
    along = [sizes[0] * (sizes[-1] / sizes[0]) ** (place / 100) for place in range(101)] if fitted else []
    reading, threshold = stated_target(content)
    (bound,) = threshold.bound().values()
    return {
        "name": name,
        "reading": reading.replace("_", " "),
        "threshold": bound,
        "points": [_point(point) for point in curve.points],
        "fit": {"sizes": along, "steps": [fitted.fit.steps(size) for size in along] if fitted else []},
        "trials": [asdict(trial) for row in rows for trial in tried(row)],
        "along": "examples" if rows[0].grows else "step",
        "curves": [path for row in rows for path in _curves(archive, row)],
    }


def _point(point: Point) -> dict[str, Any]:
    steps = point.interval
    missed = math.isinf(steps.median)
    low, high = (
        f"{value:,.0f}" if math.isfinite(value) else f">{point.tried:,.0f}" for value in (steps.low, steps.high)
    )
    reached = f"{sum(map(math.isfinite, point.steps))} of {len(point.steps)} met the target"
    return {
        "batch_size": point.batch_size,
        "steps": None if missed else steps.median,
        "low": None if missed else steps.low,
        "high": None if missed else min(steps.high, max(point.tried, steps.median)),
        "tried": point.tried,
        "text": f">{point.tried:,.0f} steps; {reached}"
        if missed
        else f"{steps.median:,.0f} steps [{low}, {high}]; {reached}",
    }


def _curves(archive: Archive, row: Summary) -> list[dict[str, Any]]:
    found = []
    for seed, curve in enumerate(curves(row, archive)):
        path = list(curve.items())
        apart = max(1, math.ceil(len(path) / _MOST_POINTS))
        thinned = path[::apart] + (path[-1:] if (len(path) - 1) % apart else [])
        steps, values = [step for step, _ in thinned], [value for _, value in thinned]
        found.append({"batch_size": row.study.batch_size, "seed": seed, "steps": steps, "values": values})
    return found
