"""How long it takes to reach the target, on one device as measured and on several as predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from bench.ask.forecast import step_seconds
from bench.ask.suite import Interconnect
from bench.conclude.measures import Summary, by_workload
from bench.numbers import number, raw, raw_median, seconds, seconds_interval
from bench.table import Table

_COLUMNS = ["batch size", "steps to target", "step time", "time to target", "examples/s"]
_PREDICTED = ["devices", "batch size", "on each", "step time", "all-reduce", "time to target", "sooner", "device time"]
_MOST_DEVICES = 64


class _Met(NamedTuple):
    """A batch size that meets the target, and was timed."""

    batch_size: int
    steps: float
    step_seconds: float
    summary: Summary


def time_to_target(summaries: Sequence[Summary]) -> list[Table]:
    """Time to target against batch size, for each workload both trained and timed, and what more devices would buy."""
    tables = []
    for name, rows in by_workload(summaries):
        met = [
            _Met(row.study.batch_size, steps, row.timed.seconds.median, row)
            for row in rows
            if row.timed and row.timed.seconds and (steps := row.steps_to_target) and math.isfinite(steps)
        ]
        if met:
            tables.append(_measured(name, met))
        if met and rows[0].study.devices == 1:  # of more devices 'scaling' tells what was measured
            tables.append(_predicted(name, met))
    return tables


def _measured(name: str, met: Sequence[_Met]) -> Table:
    rows, records = [], []
    for each in met:
        whole = each.summary.seconds_to_target
        step = each.summary.timed.seconds if each.summary.timed else None
        if whole is None or step is None:
            continue
        rows.append(
            [
                f"{each.batch_size:,}",
                number(each.steps, 6),
                seconds_interval(step),
                seconds_interval(whole),
                number(each.batch_size / each.step_seconds, 4),
            ]
        )
        records.append(
            {
                "batch_size": each.batch_size,
                "steps_to_target": each.steps,
                "step_seconds": raw_median(step),
                "seconds_to_target": raw_median(whole),
            }
        )
    soonest = min(met, key=lambda each: each.steps * each.step_seconds)
    notes = [
        f"time to target: steps to target x step time of one ordinary step on {met[0].summary.here}; its interval "
        "has the ends of both multiplied; evaluation is not counted in.",
        f"the soonest here, and so the cheapest in device time, is batch size {soonest.batch_size:,}: "
        f"{seconds(soonest.steps * soonest.step_seconds)}.",
    ]
    return Table(f"{name}: time to target", _COLUMNS, rows, set(_COLUMNS), notes, ["examples/s"], records)


class _Choice(NamedTuple):
    """The best batch size for a number of devices."""

    devices: int
    batch_size: int
    step_seconds: float
    all_reduce_seconds: float
    seconds: float


def _predicted(name: str, met: Sequence[_Met]) -> Table:
    timed = met[0].summary.timed
    links: Interconnect = timed.study.content["timing"].interconnect if timed else Interconnect()
    gradients = (timed.median("gradient_bytes") if timed else None) or 0.0
    choices = []
    devices = 1
    while devices <= _MOST_DEVICES:
        possible = [_predict(each, devices, met, gradients, links) for each in met if each.batch_size >= devices]
        if possible:
            choices.append(min(possible, key=lambda choice: choice.seconds))
        devices *= 2
    first = choices[0].seconds
    cheapest = min(choices, key=lambda choice: choice.devices * choice.seconds)
    soonest = min(choices, key=lambda choice: choice.seconds)
    rows = [
        [
            f"{choice.devices}",
            f"{choice.batch_size:,}",
            number(choice.batch_size / choice.devices),
            seconds(choice.step_seconds),
            seconds(choice.all_reduce_seconds) if choice.devices > 1 else "",
            seconds(choice.seconds),
            f"{first / choice.seconds:.2f}x",
            seconds(choice.devices * choice.seconds),
        ]
        for choice in choices
    ]
    notes = [
        "PREDICTED for more than one device: a batch split evenly, each step as long as one of its part on one device "
        "(between measured sizes by a straight line on log axes; below the smallest as long as that), and then a ring "
        f"all-reduce of {gradients / 1e6:,.3g} MB of gradients, not overlapped, over links of "
        f"{links.bandwidth_bytes_per_second / 1e9:g} GB/s and {links.latency_seconds * 1e6:g} us.",
        f"soonest: {soonest.devices} devices with batch size {soonest.batch_size:,}; cheapest in device time: "
        f"{cheapest.devices} with batch size {cheapest.batch_size:,}.",
    ]
    records = [
        {**choice._asdict(), "predicted": choice.devices > 1, "seconds": raw(choice.seconds)} for choice in choices
    ]
    title = f"{name}: what more devices would buy (predicted)"
    return Table(title, _PREDICTED, rows, set(_PREDICTED), notes, ["all-reduce", "on each"], records)


def _predict(each: _Met, devices: int, met: Sequence[_Met], gradient_bytes: float, links: Interconnect) -> _Choice:
    """Ring all-reduce over n devices: 2 (n - 1)/n of the bytes over each link, in 2 (n - 1) messages."""
    step = step_seconds({each.batch_size: each.step_seconds for each in met}, each.batch_size / devices)
    moved = 2 * (devices - 1) / devices * gradient_bytes / links.bandwidth_bytes_per_second
    all_reduce = moved + 2 * (devices - 1) * links.latency_seconds
    return _Choice(devices, each.batch_size, step, all_reduce, each.steps * (step + all_reduce))
