"""How fast a forward pass alone is: where a larger batch buys no more throughput, and what a latency allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analyses._timing import doubt_notes, timed, where
from bench.conclude.measures import Summary, Timed
from bench.numbers import memory, number, raw_median, seconds, seconds_interval
from bench.table import Table

_COLUMNS = ["batch size", "latency", "examples/s", "of the best", "peak memory"]
# The knee is the smallest batch size with this share of the best throughput.
KNEE = 0.9


def inference(summaries: Sequence[Summary]) -> list[Table]:
    """Latency and examples a second against batch size, a table for each workload whose forward pass was timed."""
    return [_table(name, timings) for name, timings in timed(summaries, "inference")]


def _table(name: str, timings: Sequence[Timed]) -> Table:
    rates = {
        timing.study.batch_size: timing.study.batch_size / timing.seconds.median for timing in timings if timing.seconds
    }
    best = max(rates.values(), default=math.nan)
    rows = []
    for timing in timings:
        size = timing.study.batch_size
        peak = memory(max(timing.peak_memory_bytes)) if timing.peak_memory_bytes else ""
        if timing.seconds is None:
            rows.append([f"{size:,}", "out of memory" if timing.infeasible else "not measured", "", "", peak])
            continue
        rate = rates[size]
        rows.append([f"{size:,}", seconds_interval(timing.seconds), number(rate, 4), f"{rate / best:.0%}", peak])
    content = timings[0].study.content
    title = f"{name}: a forward pass; {content['model']}, {content['dataset']}; {content['precision']}"
    notes = [f"on {where(timings)}.", *_advice(timings, rates), *doubt_notes(timings)]
    return Table(
        title, _COLUMNS, rows, set(_COLUMNS), notes, ["of the best"], [_record(each, rates) for each in timings]
    )


def _advice(timings: Sequence[Timed], rates: dict[int, float]) -> list[str]:
    if not rates:
        return []
    knee = min(size for size, rate in rates.items() if rate >= KNEE * max(rates.values()))
    notes = [f"knee: batch size {knee:,} has {rates[knee] / max(rates.values()):.0%} of the best throughput."]
    bound = timings[0].study.content["timing"].latency_bound
    if bound is not None:
        within = [timing for timing in timings if timing.seconds and timing.seconds.high <= bound]
        if within:
            best = max(within, key=lambda timing: rates[timing.study.batch_size])
            size = best.study.batch_size
            notes.append(
                f"advice: within {seconds(bound)} use batch size {size:,}: {number(rates[size], 4)} examples/s."
            )
        else:
            notes.append(f"no batch size answers within {seconds(bound)}, the end of its interval taken.")
    return notes


def _record(timing: Timed, rates: dict[int, float]) -> dict[str, object]:
    return {
        "batch_size": timing.study.batch_size,
        "infeasible": timing.infeasible,
        "latency_seconds": raw_median(timing.seconds),
        "examples_per_second": rates.get(timing.study.batch_size),
        "peak_memory_bytes": max(timing.peak_memory_bytes, default=None),
        "processes": [{"windows": list(process.windows), **process.once} for process in timing.processes],
    }
