"""Two sides -> what differs: a row for each workload, batch size and measure, with its evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.ask.plan import titled
from bench.conclude.evidence import adjusted, pairs_p, pairs_ratio, steps_interval, steps_p
from bench.conclude.sides import Key, Sample, Side, other_devices, other_target, unlike
from bench.stats import Interval, MedianInterval, median_interval

ALPHA = 0.05

Measure = Literal["steps_to_target", "throughput", "step_seconds", "peak_memory", "test_error"]
MEASURES: tuple[Measure, ...] = ("steps_to_target", "throughput", "step_seconds", "peak_memory", "test_error")
TIMING: tuple[Measure, ...] = ("throughput", "step_seconds", "peak_memory")

Difference = Literal["better", "worse", "~", "identical", "only in base", "only in candidate", "unlike"]


@dataclass(frozen=True)
class Values:
    """What one side measured: a value for each seed or process, math.inf for a miss, beyond `budget`.

    median: None of nothing, or of what holds a NaN.
    """

    each: tuple[float, ...]
    budget: float = math.inf

    @property
    def median(self) -> MedianInterval | None:
        known = self.each and not any(map(math.isnan, self.each))
        return median_interval(self.each) if known else None


@dataclass(frozen=True)
class Row:
    """One measure of one study on both sides.

    ratio: the candidate's over the base's, None where there is none.  p: two-sided, adjusted over all rows for the
    false discovery rate; None where nothing was tested.  devices: on how many a trial trains.
    """

    workload: str
    batch_size: int
    measure: Measure
    base: Values
    candidate: Values
    difference: Difference
    ratio: Interval | None = None
    p: float | None = None
    note: str = ""
    devices: int = 1

    @property
    def title(self) -> str:
        return titled(self.workload, self.devices)


@dataclass(frozen=True)
class Comparison:
    """What differs between two sides; `means` are the geometric means of ratios, and of how many, by measure."""

    base: Side
    candidate: Side
    rows: tuple[Row, ...]
    means: dict[Measure, tuple[float, int]]


def values_of(sample: Sample | None, measure: Measure) -> Values:
    """The raw values of a measure, none of a study that is not there; throughput in examples a second, memory in
    bytes.
    """
    if sample is None:
        return Values(())
    match measure:
        case "steps_to_target":
            return Values(sample.steps, sample.budget)
        case "throughput":
            return Values(tuple(sample.batch_size / seconds for seconds in sample.step_seconds))
        case "step_seconds":
            return Values(sample.step_seconds)
        case "peak_memory":
            return Values(sample.peak_memory_bytes)
        case "test_error":
            return Values(sample.test_errors)


def higher_is_better(measure: Measure) -> bool:
    return measure == "throughput"


def p_values(measure: Measure, base: Values, candidate: Values, ratio: float = 1.0) -> tuple[float, float]:
    """One-sided p-values for "the candidate's values are more than `ratio` times the base's", and for "less".

    Times and memory are compared in pairs of processes, others over seeds.
    """
    if measure in TIMING:
        more, less = pairs_p(pair_logs(base, candidate), ratio)
    else:
        more, less = steps_p(candidate.each, base.each, ratio, (candidate.budget, base.budget))
    return float(more), float(less)


def ratio_of(measure: Measure, base: Values, candidate: Values) -> Interval | None:
    """The candidate's values over the base's: of medians over seeds, with the interval of the test that compares them;
    of paired processes, the geometric mean. None where a side has no values, unresolved where most seeds missed.
    """
    if not base.median or not candidate.median:
        return None
    if measure in TIMING:
        return pairs_ratio(pair_logs(base, candidate)) if paired(base, candidate) else None
    above, below = candidate.median.median, base.median.median
    if not (math.isfinite(above) and math.isfinite(below) and below > 0):
        return Interval(math.nan, math.nan, math.nan)
    if min(base.each + candidate.each) <= 0 or min(len(base.each), len(candidate.each)) < 2:
        return Interval(above / below, 0.0, math.inf)
    return Interval(above / below, *steps_interval(candidate.each, base.each, (candidate.budget, base.budget)))


def paired(base: Values, candidate: Values) -> bool:
    """Whether both sides have a process for each of the other's."""
    return len(base.each) == len(candidate.each)


def pair_logs(base: Values, candidate: Values) -> list[float]:
    """The logarithm of each pair's ratio, the candidate's process over the base's."""
    return [math.log(after / before) for before, after in zip(base.each, candidate.each, strict=True)]


def identical(measure: Measure, base: Sample, candidate: Sample) -> bool:
    """Whether the sides agree to the last bit: whole trainings, or an amount of memory that never varied."""
    if measure in ("steps_to_target", "test_error"):
        return bool(base.trajectory) and base.trajectory == candidate.trajectory
    memory = {*base.peak_memory_bytes, *candidate.peak_memory_bytes}
    return measure == "peak_memory" and len(memory) == 1 and bool(base.peak_memory_bytes)


def contradiction(base: Sample, candidate: Sample) -> str | None:
    """What cannot be: trainings equal to the last bit of which one side tells other numbers. None where none is."""
    told = [(sample.steps, sample.budget, sample.test_errors) for sample in (base, candidate)]
    if identical("steps_to_target", base, candidate) and told[0] != told[1]:
        return "it holds other numbers than the candidate of trainings equal to the last bit"
    return None


def compare(base: Side, candidate: Side) -> Comparison:
    """Every measure that either side has, in the order of the candidate's studies, then what only the base has."""
    keys = list(dict.fromkeys([*candidate.samples, *base.samples]))
    rows = [row for key in keys for row in _rows(base, candidate, key)]
    tested = [row for row in rows if row.p is not None]
    level = iter(adjusted([row.p for row in tested if row.p is not None]))
    rows = [_decided(row, next(level)) if row.p is not None else row for row in rows]
    return Comparison(base, candidate, tuple(rows), _means(rows))


def _rows(base: Side, candidate: Side, key: Key) -> list[Row]:
    before, after = base.samples.get(key), candidate.samples.get(key)
    devices = next(sample.devices for sample in (after, before) if sample)
    rows = []
    for measure in MEASURES:
        row = Row(*key, measure, values_of(before, measure), values_of(after, measure), "~", devices=devices)
        if row.base.each or row.candidate.each or measure == "steps_to_target":
            rows.append(_filled(row, before, after))
    return rows


def _filled(row: Row, before: Sample | None, after: Sample | None) -> Row:
    measure, base, candidate = row.measure, row.base, row.candidate
    if before is None or after is None:
        return replace(row, difference="only in candidate" if after else "only in base")
    if reason := other_devices(before, after):
        return replace(row, difference="unlike", note=reason)
    if measure not in TIMING and (reason := other_target(before, after)):
        return replace(row, difference="unlike", note=reason)
    if measure in TIMING and (before.infeasible or after.infeasible):
        sides = {"base": before, "candidate": after}
        unfit = [name for name, sample in sides.items() if sample.infeasible]
        return replace(row, note=f"{' and '.join(unfit)}: did not fit in memory")
    if not base.each or not candidate.each:
        return replace(row, note=_nothing(measure, before, after, base))
    if measure in TIMING and (reason := unlike(before, after)):
        return replace(row, difference="unlike", note=reason)
    if any(map(math.isnan, base.each + candidate.each)):
        return replace(row, note="a value is not a number")
    if measure in TIMING and not paired(base, candidate):
        return replace(row, note=f"{len(base.each)} and {len(candidate.each)} processes do not pair")
    if measure not in TIMING and (reason := contradiction(before, after)):
        return replace(row, difference="unlike", note=reason)
    if identical(measure, before, after):
        return replace(row, difference="identical", ratio=Interval(1.0, 1.0, 1.0))
    ratio = ratio_of(measure, base, candidate)
    if min(len(base.each), len(candidate.each)) < 2:
        return replace(row, ratio=ratio, note="one value says nothing of its spread")
    return replace(row, ratio=ratio, p=min(1.0, 2 * min(p_values(measure, base, candidate))))


def _nothing(measure: Measure, before: Sample, after: Sample, base: Values) -> str:
    sample, name = (after, "candidate") if base.each else (before, "base")
    if measure in TIMING:
        return f"{name}: not timed"
    if sample.training != "measured":
        return f"{name}: {sample.training}"
    if sample.found is None:
        return f"{name}: no trial met the target in {sample.max_steps:,} steps"
    return f"{name}: no test error" if sample.steps else f"{name}: not confirmed with fresh seeds"


def _decided(row: Row, p: float) -> Row:
    base, candidate = row.base, row.candidate
    more, less = p_values(row.measure, base, candidate)
    if p > ALPHA:
        return replace(row, p=p)
    return replace(row, p=p, difference="better" if (more < less) == higher_is_better(row.measure) else "worse")


def _means(rows: Sequence[Row]) -> dict[Measure, tuple[float, int]]:
    means: dict[Measure, tuple[float, int]] = {}
    for measure in MEASURES:
        logs = [
            math.log(row.ratio.value) for row in rows if row.measure == measure and row.ratio and row.ratio.value > 0
        ]
        if logs:
            means[measure] = math.exp(sum(logs) / len(logs)), len(logs)
    return means
