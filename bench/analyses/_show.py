"""Numbers as analyses write them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from bench.measures import Summary
from bench.scaling import Point
from bench.stats import Interval


def workloads(summaries: Sequence[Summary]) -> Iterator[tuple[str, list[Summary]]]:
    """(name, its studies) of each workload."""
    for name, rows in groupby(summaries, key=lambda summary: summary.study.workload):
        yield name, list(rows)


def number(value: float, digits: int = 3) -> str:
    """A number to so many digits, whole ones in full below 1e15: 0.0123, 1.23, 12,345; nothing for NaN."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value and not 10 ** (digits - 1) <= abs(value) < 1e15:
        return f"{value:,.{digits}g}"
    return f"{value:,.0f}"


def interval(value: Interval) -> str:
    """`value [low, high]`; the value alone where the interval says nothing, and of what is unresolved its bounds."""
    says_nothing = math.isnan(value.low) or (value.low <= 0 and math.isinf(value.high))
    if not value.resolved:
        if says_nothing:
            return "unresolved"
        bounds = f"above {number(value.low)}" if math.isinf(value.high) else f"below {number(value.high)}"
        return f"unresolved, {bounds}"
    if value.low == value.high or says_nothing:
        return number(value.value)
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"


def missed(point: Point) -> str:
    """Steps to target of a miss: beyond what was tried, where that is known."""
    return f">{point.tried:,.0f}" if point.tried else "missed"


def raw(value: float | None) -> float | None:
    """A value for JSON, which has neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None


def raw_interval(value: Interval) -> dict[str, float | None]:
    return {"value": raw(value.value), "low": raw(value.low), "high": raw(value.high)}
