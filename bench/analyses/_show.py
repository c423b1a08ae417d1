"""Numbers as analyses write them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from bench.measures import Summary
from bench.stats import Interval


def workloads(summaries: Sequence[Summary]) -> Iterator[tuple[str, list[Summary]]]:
    """(name, its studies) of each workload."""
    for name, rows in groupby(summaries, key=lambda summary: summary.study.workload):
        yield name, list(rows)


def number(value: float, digits: int = 3) -> str:
    """A number to so many digits, whole ones in full: 0.0123, 1.23, 12,345; nothing for NaN."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value and abs(value) < 10 ** (digits - 1):
        return f"{value:,.{digits}g}"
    return f"{value:,.0f}"


def interval(value: Interval) -> str:
    """`value [low, high]`; the value alone where the interval says nothing."""
    if not value.resolved:
        return "unresolved"
    if value.low == value.high or (value.low <= 0 and math.isinf(value.high)):
        return number(value.value)
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"


def raw(value: float | None) -> float | None:
    """A value for JSON, which has neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None


def raw_interval(value: Interval) -> dict[str, float | None]:
    return {"value": raw(value.value), "low": raw(value.low), "high": raw(value.high)}
