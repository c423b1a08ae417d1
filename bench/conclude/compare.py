"""Two sides -> what differs: a row for each workload, batch size and measure, with its evidence, and one for each
workload over its batch sizes.

How steps to target are tested depends on what was confirmed. Of the same metaparameters on both sides each is compared
with itself, all in one model of seeds that vary log-normally and are known between two evaluations (`censored.py`). Of
sides that were tuned apart smallest medians are compared, with the noise of tuning in the error. A seed that missed may
be one that never meets the target, which has no place in such models. There the test must hold by ranks too, but for
"takes more" of the same metaparameters, where misses make the model see less than there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Literal

import numpy

from bench.ask.plan import titled
from bench.conclude import evidence, settle
from bench.conclude.censored import model_interval, model_p, stopped
from bench.conclude.evidence import (
    Medians,
    Seeds,
    Stratum,
    adjusted,
    exactly,
    least_p,
    medians,
    medians_interval,
    medians_p,
    pairs_p,
    pairs_ratio,
    pooled,
    ranks_interval,
    ranks_p,
    seeds_of,
)
from bench.conclude.sides import Contender, Key, Sample, Side, other_devices, other_target, unlike
from bench.stats import Interval, MedianInterval, median, median_interval, smallest_median_interval

ALPHA = 0.05

Measure = Literal["steps_to_target", "throughput", "step_seconds", "peak_memory", "test_error"]
MEASURES: tuple[Measure, ...] = ("steps_to_target", "throughput", "step_seconds", "peak_memory", "test_error")
TIMING: tuple[Measure, ...] = ("throughput", "step_seconds", "peak_memory")

# P-values are adjusted within each of these.
FAMILIES: tuple[tuple[Measure, ...], ...] = (("steps_to_target",), TIMING, ("test_error",))
# A difference of which nobody would speak as a ratio: seeds that tell nothing.
MOST_LOG = math.log(1000)

Difference = Literal["better", "worse", "~", "identical", "only in base", "only in candidate", "unlike"]


@dataclass(frozen=True)
class Values:
    """What one side measured: a value for each seed or process, math.inf for a miss, beyond `budget`.

    median: None of nothing, or of what holds a NaN.  contenders: of steps to target, everything that was confirmed; the
    values are those of the first.
    """

    each: tuple[float, ...]
    budget: float = math.inf
    contenders: tuple[Contender, ...] = ()

    @cached_property
    def median(self) -> MedianInterval | None:
        if not self.each or any(map(math.isnan, self.each)):
            return None
        several = len(self.contenders) > 1
        return (
            smallest_median_interval([each.steps for each in self.contenders])
            if several
            else median_interval(self.each)
        )

    @property
    def missed(self) -> bool:
        """Whether a seed did not meet the target in the whole of its budget."""
        return any(math.isinf(by) and after >= self.budget for each in self.contenders for after, by in each.each)

    @property
    def seeds(self) -> list[Seeds]:
        """Of every contender, or the values themselves where there are no contenders."""
        return [seeds_of(each.each) for each in self.contenders] or [exactly(self.each)]


@dataclass(frozen=True)
class Contrast:
    """How seeds are compared: stratum by stratum, by their smallest medians, or, to be on the safe side, by both.

    strata: none where they are not used.  modelled: whether strata are compared by the model of `censored.py`.  ranked:
    whether they are by ranks.  medians: None where they are not used.  spread: how well the logarithm of the ratio is
    known; None where the seeds cannot tell.  apart: whether the sides were tuned apart.
    """

    strata: tuple[Stratum, ...]
    modelled: bool
    ranked: bool
    medians: Medians | None
    spread: Medians | None
    apart: bool

    def p_values(self, ratio: float) -> tuple[float, float]:
        """One-sided p-values for "the candidate's are more than `ratio` times the base's", and for "less"."""
        found = [ranks_p(self.strata, ratio)] if self.ranked else []
        found += [medians_p(self.medians, ratio)] if self.medians else []
        if self.modelled:
            more, less = model_p(self.strata, ratio)
            return float(more), max([float(less), *(float(by_ranks) for _, by_ranks in found)])
        return max(float(more) for more, _ in found), max(float(less) for _, less in found)

    @property
    def interval(self) -> tuple[float, float]:
        """The ratios that are not refused."""
        found = [ranks_interval(self.strata)] if self.ranked else []
        found += [medians_interval(self.medians)] if self.medians else []
        if self.modelled:
            low, high = model_interval(self.strata)
            return low, max([high, *(by_ranks for _, by_ranks in found)])
        return min(low for low, _ in found), max(high for _, high in found)

    def carries(self, level: float) -> bool:
        """Whether so many seeds can show anything at a level: there are only so many ways to deal out ranks."""
        return self.modelled or not self.ranked or least_p(evidence.sizes(self.strata)) <= level


@dataclass(frozen=True)
class Row:
    """One measure of one study on both sides.

    ratio: the candidate's over the base's, None where there is none.  p: two-sided, adjusted for the false discovery
    rate over the rows of its family: steps, times and memory, or test errors; None where nothing was tested.
    detectable: the ratio that would have been seen four times of five, where nothing was; None where none would.
    devices: on how many a trial trains.
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
    detectable: float | None = None

    @property
    def title(self) -> str:
        return titled(self.workload, self.devices)


@dataclass(frozen=True)
class Pooled:
    """Steps to target of a workload over so many batch sizes, in one test.

    ratio: the geometric mean of theirs.  p: two-sided, adjusted over workloads.
    """

    workload: str
    devices: int
    sizes: int
    ratio: Interval
    p: float
    difference: Difference

    @property
    def title(self) -> str:
        return titled(self.workload, self.devices)


@dataclass(frozen=True)
class Comparison:
    """What differs between two sides; `means` are the geometric means of ratios, and of how many, by measure."""

    base: Side
    candidate: Side
    rows: tuple[Row, ...]
    pooled: tuple[Pooled, ...]
    means: dict[Measure, tuple[float, int]]


def values_of(sample: Sample | None, measure: Measure) -> Values:
    """The raw values of a measure, none of a study that is not there; throughput in examples a second, memory in
    bytes.
    """
    if sample is None:
        return Values(())
    match measure:
        case "steps_to_target":
            return Values(sample.steps, sample.budget, sample.contenders)
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


def contrast(base: Values, candidate: Values) -> Contrast:
    """How the seeds of two sides, of two or more each, are compared."""
    after, before, strata = candidate.seeds, base.seeds, _strata(base, candidate)
    missed = base.missed or candidate.missed
    # Values that do not vary, or are 0, have no logarithm to vary.
    positive = all(bool((seeds.least > 0).all()) for seeds in (*after, *before))
    varies = positive and any(float(each) > 0 for each in pooled([*after, *before])[:2])
    if strata:
        spread = _spread(strata) if varies else None
        return Contrast(strata, varies, missed or not varies, None, spread, apart=False)
    found = medians(after, before) if varies else None
    best = min(after, key=_median), min(before, key=_median)
    return Contrast((best,), False, missed or not found, found, found, apart=True)


def _median(seeds: Seeds) -> float:
    return median(seeds.most.tolist())


def _strata(base: Values, candidate: Values) -> tuple[Stratum, ...]:
    """The seeds of each of the metaparameters that both sides confirmed; none where they are not the same."""
    sides = [
        {
            repr(sorted(each.metaparameters.items())): stopped(
                seeds_of(each.each), max(values.contenders[0].steps), values.budget
            )
            for each in values.contenders
            if each.metaparameters is not None
        }
        for values in (candidate, base)
    ]
    if not sides[0] or sides[0].keys() != sides[1].keys() or len(sides[0]) != len(candidate.contenders):
        return ()
    return tuple((seeds, sides[1][name]) for name, seeds in sides[0].items())


def _spread(strata: Sequence[Stratum]) -> Medians:
    """How well the model knows the logarithm of the ratio: about as well as means within strata tell it, but for what
    rounding hides of values that vary little (Widrow and Kollar 2008, as in `evidence.medians`).
    """
    deviation, rounding, freedom = pooled([seeds for both in strata for seeds in both])
    share = sum(1 / n + 1 / m for n, m in evidence.sizes(strata)) / len(strata) ** 2
    gaps = [math.log(most / least) for both in strata for seeds in both for least, most in _known(seeds)]
    smooth = max(float(deviation / rounding) ** 2 - 1, 0.0) if rounding else math.inf
    hidden = numpy.asarray(fmean(gaps) * math.exp(-(math.pi**2) / 6 * smooth) if gaps else 0.0)
    return Medians(-hidden, hidden, deviation * math.sqrt(share), freedom)


def _known(seeds: Seeds) -> list[tuple[float, float]]:
    """The first and the last step that each seed may have taken that met the target."""
    both = zip(seeds.least.tolist(), seeds.most.tolist(), strict=True)
    return [(least, most) for least, most in both if math.isfinite(most)]


def ratio_of(base: Values, candidate: Values, by: Contrast | None = None) -> Interval | None:
    """The candidate's median over the base's, with the interval of the test that compares them, or without one.

    None where a side has no values, unresolved where most seeds missed.
    """
    if not base.median or not candidate.median:
        return None
    above, below = candidate.median.median, base.median.median
    if not (math.isfinite(above) and math.isfinite(below) and below > 0):
        return Interval(math.nan, math.nan, math.nan)
    low, high = by.interval if by else (0.0, math.inf)
    return Interval(above / below, min(low, above / below), max(high, above / below))


def processes_ratio(base: Values, candidate: Values) -> Interval | None:
    """The geometric mean of the ratios of paired processes, None where they do not pair."""
    both = base.median and candidate.median and paired(base, candidate)
    return pairs_ratio(pair_logs(base, candidate)) if both else None


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
    told = [(sample.contenders, sample.budget, sample.test_errors) for sample in (base, candidate)]
    if identical("steps_to_target", base, candidate) and told[0] != told[1]:
        return "it holds other numbers than the candidate of trainings equal to the last bit"
    return None


def compare(base: Side, candidate: Side) -> Comparison:
    """Every measure that either side has, in the order of the candidate's studies, then what only the base has."""
    keys = list(dict.fromkeys([*candidate.samples, *base.samples]))
    rows = [row for key in keys for row in _rows(base, candidate, key)]
    for family in FAMILIES:
        places = [place for place, row in enumerate(rows) if row.measure in family and row.p is not None]
        tested = [_tested(rows[place], ALPHA / (2 * len(places))) for place in places]
        level = adjusted([min(1.0, 2 * min(both)) for _, both in tested])
        for place, (row, both), p in zip(places, tested, level, strict=True):
            rows[place] = _decided(row, both, p)
    return Comparison(base, candidate, tuple(rows), tuple(_pooled(rows)), _means(rows))


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
    if min(len(base.each), len(candidate.each)) < 2:
        ratio = processes_ratio(base, candidate) if measure in TIMING else ratio_of(base, candidate)
        return replace(row, ratio=ratio, note="one value says nothing of its spread")
    return replace(row, p=1.0)  # to be tested, once it is known with how many others


def _nothing(measure: Measure, before: Sample, after: Sample, base: Values) -> str:
    sample, name = (after, "candidate") if base.each else (before, "base")
    if measure in TIMING:
        return f"{name}: not timed"
    if sample.training != "measured":
        return f"{name}: {sample.training}"
    if sample.found is None:
        return f"{name}: no trial met the target in {sample.max_steps:,} steps"
    return f"{name}: no test error" if sample.steps else f"{name}: not confirmed with fresh seeds"


def _tested(row: Row, level: float) -> tuple[Row, tuple[float, float]]:
    """A row with its ratio, and what it would have seen, were it alone at this level; and both its p-values."""
    base, candidate = row.base, row.candidate
    if row.measure in TIMING:
        logs = pair_logs(base, candidate)
        seen, ratio = settle.processes(logs, 1.0, level)[0], processes_ratio(base, candidate)
        more, less = pairs_p(logs)
        return replace(row, ratio=ratio, detectable=_far(seen)), (float(more), float(less))
    by = contrast(base, candidate)
    seen = settle.seeds(by.spread, level) if by.carries(level) else math.inf
    return replace(row, ratio=ratio_of(base, candidate, by), detectable=_far(seen)), by.p_values(1.0)


def _far(seen: float) -> float | None:
    return math.exp(seen) if seen < MOST_LOG else None


def _decided(row: Row, both: tuple[float, float], p: float) -> Row:
    if p > ALPHA:
        return replace(row, p=p)
    return replace(row, p=p, detectable=None, difference=_direction(row.measure, both))


def _direction(measure: Measure, both: tuple[float, float]) -> Difference:
    more, less = both
    return "better" if (more < less) == higher_is_better(measure) else "worse"


def _pooled(rows: Sequence[Row]) -> list[Pooled]:
    """One test for each workload of which two batch sizes or more were tested for their steps."""
    tested: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.measure == "steps_to_target" and row.p is not None and row.ratio and row.ratio.resolved:
            tested.setdefault((row.workload, row.devices), []).append(row)
    several = {key: group for key, group in tested.items() if len(group) > 1}
    found = [_over(group) for group in several.values()]
    level = adjusted([min(1.0, 2 * min(both)) for both, _ in found])
    return [
        Pooled(
            *key,
            len(group),
            Interval(
                mean := math.exp(fmean(math.log(row.ratio.value) for row in group if row.ratio)),
                min(low, mean),
                max(high, mean),
            ),
            p,
            _direction("steps_to_target", both) if p <= ALPHA else "~",
        )
        for (key, group), (both, (low, high)), p in zip(several.items(), found, level, strict=True)
    ]


def _over(rows: Sequence[Row]) -> tuple[tuple[float, float], tuple[float, float]]:
    """One-sided p-values over batch sizes, and the interval: of the strata of all, where all have them; else of the
    mean of what the smallest medians differ by.
    """
    each = [contrast(row.base, row.candidate) for row in rows]
    if not any(by.apart for by in each):
        strata = tuple(stratum for by in each for stratum in by.strata)
        modelled = all(by.modelled for by in each)
        whole = Contrast(strata, modelled, any(by.ranked for by in each), None, None, apart=False)
    else:
        known = [medians(row.candidate.seeds, row.base.seeds) for row in rows]
        told = [found for found in known if found.freedom > 0 and found.error > 0]
        whole = Contrast((), False, False, evidence.mean_of(told or known), None, apart=True)
    return whole.p_values(1.0), whole.interval


def _means(rows: Sequence[Row]) -> dict[Measure, tuple[float, int]]:
    means: dict[Measure, tuple[float, int]] = {}
    for measure in MEASURES:
        logs = [
            math.log(row.ratio.value) for row in rows if row.measure == measure and row.ratio and row.ratio.value > 0
        ]
        if logs:
            means[measure] = math.exp(sum(logs) / len(logs)), len(logs)
    return means
