"""Anybody's table of steps to target, CSV or JSON -> curves, or everything that is wrong with it at once.

Columns: batch_size and steps; seed (any number of rows a batch size, each of another); label, where a file holds
several curves; and model_size, tokens or both, by which they are compared. JSON is a list of such rows, or columns of
equal length.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.conclude.points import Curve, Point
from bench.errors import DataError, nearest

_NEEDED = ("batch_size", "steps")
_SIZES = ("model_size", "tokens")


def read(path: Path) -> list[Curve]:
    """The curves of a file, in its order; raises DataError with every problem, each with its row.

    An empty cell of `steps` (in JSON, null) is a miss; a row without that cell is broken off.
    """
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: holds no rows; write one for each batch size and seed, with {' and '.join(_NEEDED)}")
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    problems = [f"{path}: has no column '{name}'; {nearest(name, columns)}" for name in _NEEDED if name not in columns]
    if problems:
        raise DataError("\n".join(problems))
    compared = [name for name in _SIZES if name in columns]
    groups: dict[str, dict[float, list[float]]] = {}
    sizes: dict[str, dict[str, float]] = {}
    seeds: dict[tuple[str, float, str], str] = {}
    for where, row in rows:
        label = str(row.get("label") or path.stem)
        values = {}
        for name in (*_NEEDED, *compared):
            raw = row.get(name)
            if name == "steps" and name in row and raw in (None, ""):
                values[name] = math.inf
            elif (value := _number(raw)) is not None and 0 < value < math.inf:
                values[name] = value
            else:
                found = "nothing" if raw in (None, "") else repr(raw)
                miss = ", or an empty cell for a miss" * (name == "steps")
                problems.append(f"{path}: {where}: {name}: found {found}; should be a number above 0{miss}")
        known = sizes.setdefault(label, {})
        problems += [
            f"{path}: {where}: {name}: found {values[name]:,g} and {known[name]:,g} before; a curve has one"
            for name in compared
            if name in values and known.setdefault(name, values[name]) != values[name]
        ]
        seed = row.get("seed")
        if seed not in (None, "") and "batch_size" in values:
            before = seeds.setdefault((label, values["batch_size"], str(seed)), where)
            if before != where:
                problems.append(
                    f"{path}: {where}: seed: found {seed} at batch size {values['batch_size']:,g} in {before} too; "
                    "each row should be of another"
                )
        if "batch_size" in values and "steps" in values:
            groups.setdefault(label, {}).setdefault(values["batch_size"], []).append(values["steps"])
    curves = [
        Curve(
            label,
            tuple(_point(batch_size, points[batch_size]) for batch_size in sorted(points)),
            tuple(sizes[label].items()),
        )
        for label, points in groups.items()
    ]
    for curve in curves if not problems else []:
        met = [point for point in curve.points if math.isfinite(point.median)]
        if len(met) < 2:
            problems.append(
                f"{path}: {curve.label}: found {len(met)} batch size{'s' * (len(met) != 1)} with steps to target; "
                "a fit needs two or more, and four to be believed"
            )
    if problems:
        raise DataError("\n".join(problems))
    return curves


def _point(batch_size: float, steps: list[float]) -> Point:
    finite = [value for value in steps if math.isfinite(value)]
    return Point(batch_size, tuple(steps), max(finite, default=0.0))


def _number(raw: Any) -> float | None:
    """A cell as a number; None where it is none."""
    if isinstance(raw, bool):
        return None
    try:
        return float(raw)
    except (OverflowError, TypeError, ValueError):
        return None


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where, row) of every row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a CSV or JSON file with {' and '.join(_NEEDED)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return list(_json_rows(path, text) if path.suffix == ".json" else _csv_rows(path, text))


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := sorted({name for name in header if name and header.count(name) > 1}):
            raise DataError(f"{path}: has the column '{twice[0]}' twice; each once would be right")
        for row in filter(None, reader):
            if len(row) > len(header):
                raise DataError(
                    f"{path}: line {reader.line_num}: found {len(row)} cells; the header has {len(header)} "
                    "(a number has no commas, or stands in quotes)"
                )
            cells = zip(header, row, strict=False)  # a row may end early, with nothing in its last columns
            yield f"line {reader.line_num}", {name: cell.strip() for name, cell in cells}
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: is not CSV: {error}") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from None
    except (RecursionError, ValueError):  # of so many brackets, or of so many digits
        raise DataError(f"{path}: cannot be read: is nested too deep, or holds a number too long") from None
    if isinstance(content, dict) and all(isinstance(column, list) for column in content.values()):
        lengths = {len(column) for column in content.values()}
        if len(lengths) > 1:
            raise DataError(f"{path}: has columns of {' and '.join(map(str, sorted(lengths)))} values; make them equal")
        content = [dict(zip(content, values, strict=True)) for values in zip(*content.values(), strict=True)]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f"{path}: should be a list of rows, {{batch_size: .., steps: ..}}, or columns of equal length")
    for place, row in enumerate(content):
        yield f"row {place + 1}", row
