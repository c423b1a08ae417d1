"""Numbers as people read them, and as JSON takes them."""

from __future__ import annotations

import math
import re

from bench.stats import Interval, MedianInterval

_SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_BYTES = {"GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10}
_UNITS = {**_SECONDS, "ns": 1e-9, **_BYTES, "B": 1.0}
_AMOUNT = re.compile(rf"(>?)(-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?: ({'|'.join(_UNITS)})\b)?")


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


def count_interval(value: MedianInterval) -> str:
    """`value [low, high]` of what is counted; the value alone where nothing is known of its interval."""
    spread = f" [{number(value.low, 6)}, {number(value.high, 6)}]" if value.confidence else ""
    return f"{number(value.median, 6)}{spread}"


def raw(value: float | None) -> float | None:
    """A value for JSON, which has neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None


def raw_interval(value: Interval) -> dict[str, float | None]:
    return {"value": raw(value.value), "low": raw(value.low), "high": raw(value.high)}


def seconds(value: float) -> str:
    """A time in the unit that suits it: 12.3 ms, 4.56 s, 7.8 min."""
    for unit, length in _SECONDS.items():
        if value >= length * (1.5 if length > 1 else 1):
            return f"{number(value / length)} {unit}"
    return f"{number(value * 1e9)} ns"


def seconds_interval(value: MedianInterval) -> str:
    """`value [low, high]`, each in its unit; the value alone where nothing is known of its interval."""
    spread = f" [{seconds(value.low)}, {seconds(value.high)}]" if value.confidence else ""
    return f"{seconds(value.median)}{spread}"


def memory(value: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, size in _BYTES.items():
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def sort_key(cell: str) -> float | None:
    """What a cell is sorted by: the amount it begins with, in seconds or bytes where it has a unit, a miss behind what
    it is beyond; None where it begins with none.
    """
    found = _AMOUNT.match(cell)
    if not found:
        return None
    amount = float(found[2].replace(",", "")) * _UNITS.get(found[3], 1.0)
    return math.nextafter(amount, math.inf) if found[1] else amount


def raw_median(value: MedianInterval | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    ends = {"median": raw(value.median), "low": raw(value.low), "high": raw(value.high)}
    return {**ends, "confidence": value.confidence}
