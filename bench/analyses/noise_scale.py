"""The gradient noise scale along the winner's path, and the steps to target it predicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from bench.conclude.measures import Summary, by_workload
from bench.numbers import interval, number, raw, raw_interval
from bench.stats import Interval, around, ratio_of_means
from bench.table import Table

_COLUMNS = ["batch size", "B_simple at start", "average", "at end", "B_noise average", "steps to target", "predicted"]
# The two readings of each scale: what is divided, and by what.
_SIMPLE = ("noise_scale.noise_trace", "noise_scale.gradient_squared")
_CURVED = ("curvature_noise.noise_curvature", "curvature_noise.gradient_curvature")

# The largest batch that the probe looks at where a suite does not say.
_LARGE = 512
# A scale so many times that is overstated by a tenth.
_SMALL = 2

# {step: (numerator, denominator)} of one seed.
Path = dict[int, tuple[float, float]]


class _Row(NamedTuple):
    summary: Summary
    start: Interval
    average: Interval
    end: Interval
    curved: Interval | None
    gain: float

    @property
    def scale(self) -> Interval:
        return self.curved or self.average


def noise_scale(summaries: Sequence[Summary]) -> list[Table]:
    """B_simple at start, on average and at the end, for each workload that was probed for it."""
    tables = []
    for name, studies in by_workload(summaries):
        rows = [row for row in map(_row, studies) if row]
        tables += [_table(name, rows)] if rows else []
    return tables


def _row(summary: Summary) -> _Row | None:
    simple = _paths(summary, _SIMPLE)
    if not simple:
        return None
    ends = [path[max(path)] for path in simple]
    curved = _paths(summary, _CURVED)
    batch_size = summary.study.batch_size
    return _Row(
        summary,
        _ratio([path[min(path)] for path in simple]),
        average(simple, batch_size),
        _ratio(ends),
        average(curved, batch_size) if curved else None,
        adaptive_gain(curved or simple, batch_size),
    )


def _paths(summary: Summary, names: tuple[str, str]) -> list[Path]:
    paths = []
    for seen in summary.confirmed.probed if summary.confirmed else ():
        above, below = (seen.get(name, {}) for name in names)
        paths.append({step: (above[step], below[step]) for step in sorted(above.keys() & below.keys())})
    return [path for path in paths if path]


def _ratio(pairs: Sequence[tuple[float, float]]) -> Interval:
    return ratio_of_means([above for above, _ in pairs], [below for _, below in pairs])


def average(paths: Sequence[Path], batch_size: int) -> Interval:
    """The noise scale averaged over a run, from the paths of its seeds, as E_min/S_min of McCandlish et al. 2018.

    E_min = integral of B ds and S_min = integral of ds, a step at batch size B0 being worth ds = dt/(1 + B/B0) steps
    without noise (appendix D). With B = tr(Sigma)/|G|^2 these are the integrals of tr(Sigma)/D and |G|^2/D over dt,
    D = |G|^2 + tr(Sigma)/B0 being the mean square of a batch's gradient: estimates are averaged, and divided once.

    The interval is Student's around the logarithm, its deviation from leaving out one seed at a time, D included,
    which costs a degree of freedom more. A bias stays: D is of the same looks as what it divides, and where |G|^2 is
    seen high so is D. Where the largest batch probed is as large as the scale that is a few per cent; at half of it
    about a tenth, at an eighth about a quarter (tests/test_noise_scale.py simulates them).
    """
    whole = _averaged(paths, batch_size)
    without = [_averaged([*paths[:place], *paths[place + 1 :]], batch_size) for place in range(len(paths))]
    if math.isnan(whole):
        return Interval(whole, whole, whole)
    if len(paths) < 3 or any(map(math.isnan, without)):
        return Interval(whole, 0.0, math.inf)
    return around(whole, without, freedom=len(paths) - 2)


def _averaged(paths: Sequence[Path], batch_size: int) -> float:
    """The average alone; NaN where it is unresolved."""
    mean_squares = {}
    for step in {step for path in paths for step in path}:
        seen = [path[step] for path in paths if step in path]
        mean_squares[step] = statistics.fmean(below + above / batch_size for above, below in seen)
    above, below = (sum(parts) for parts in zip(*(_integral(path, mean_squares) for path in paths), strict=True))
    return above / below if above > 0 and below > 0 else math.nan


def _integral(path: Path, mean_squares: dict[int, float]) -> tuple[float, float]:
    """The integrals of numerator and denominator, each over the mean square, by the trapezoidal rule."""
    scaled = {
        step: (above / mean_squares[step], below / mean_squares[step])
        for step, (above, below) in path.items()
        if mean_squares[step] > 0
    }
    if len(scaled) == 1:
        return next(iter(scaled.values()))
    totals = [0.0, 0.0]
    for before, after in pairwise(sorted(scaled)):
        for place in (0, 1):
            totals[place] += (after - before) * (scaled[before][place] + scaled[after][place]) / 2
    return totals[0], totals[1]


def adaptive_gain(paths: Sequence[Path], batch_size: int) -> float:
    """gamma = (integral of sqrt(B) ds)^2/(S_min E_min), by which (S/S_min - 1)(E/E_min - 1) falls where the batch size
    follows the noise scale B (McCandlish et al. 2018, appendix D); 1 where B is constant, NaN where it is unresolved.

    B at a step is the ratio of means over the seeds that were seen there; ds is as in `average`. Noise of the estimates
    makes B vary where it does not, and so gamma is too low rather than too high: a bound from below.
    """
    moments = []
    for step in sorted({step for path in paths for step in path}):
        seen = _ratio([path[step] for path in paths if step in path])
        if seen.resolved:
            moments.append((step, seen.value))
    if len(moments) < 2:
        return math.nan
    root = steps = examples = 0.0
    for (before, first), (after, second) in pairwise(moments):
        for scale in (first, second):
            worth = (after - before) / 2 / (1 + scale / batch_size)
            root += worth * math.sqrt(scale)
            steps += worth
            examples += worth * scale
    return root**2 / (steps * examples)


def _predicted(batch_size: int, others: Sequence[_Row]) -> float:
    """Steps to target at a batch size, from the noise scale and the steps at others alone; NaN where there are none."""
    if not others:
        return math.nan
    scale = statistics.median(row.scale.value for row in others)
    least = statistics.fmean(
        math.log((row.summary.steps_to_target or math.nan) / (1 + scale / row.summary.study.batch_size))
        for row in others
    )
    return math.exp(least) * (1 + scale / batch_size)


def _table(name: str, rows: list[_Row]) -> Table:
    # Where the batch grows, steps to target are of no one batch size.
    steady = [row for row in rows if row.scale.resolved and not row.summary.grows]
    measured = [row for row in steady if math.isfinite(row.summary.steps_to_target or math.inf)]
    cells, records, errors = [], [], []
    for row in rows:
        size, steps = row.summary.study.batch_size, row.summary.steps_to_target
        predicted = _predicted(size, [other for other in measured if other is not row])
        if row in measured and math.isfinite(predicted):
            errors.append(abs(math.log(predicted / (steps or math.nan))))
        cells.append(
            [
                f"{size:,}",
                interval(row.start),
                interval(row.average),
                interval(row.end),
                interval(row.curved) if row.curved else "",
                number(steps, 6) if steps is not None and math.isfinite(steps) else "",
                f"{predicted:,.0f}" if math.isfinite(predicted) else "",
            ]
        )
        records.append(
            {
                "batch_size": size,
                "start": raw_interval(row.start),
                "average": raw_interval(row.average),
                "end": raw_interval(row.end),
                "curved_average": raw_interval(row.curved) if row.curved else None,
                "adaptive_gain": raw(row.gain),
                "steps_to_target": raw(steps),
                "predicted_steps": raw(predicted),
            }
        )
    notes = [
        "B_simple = tr(Sigma)/|G|^2 along the best trial's path, over fresh seeds; its average is E_min/S_min's; "
        "unresolved: the noise hides the gradient, ask for a larger 'large'."
    ]
    if errors:
        notes.append(
            "predicted: S_min (1 + scale/B), the scale (the median of the averages) and S_min from other batch sizes "
            f"alone; off by {math.expm1(statistics.median(errors)):.0%} (median)."
        )
    large = rows[0].summary.study.content["probes"].get("noise_scale", {}).get("large", _LARGE)
    small = [
        f"{row.summary.study.batch_size:,}"
        for row in rows
        if row.average.resolved and row.average.value > _SMALL * large
    ]
    if small:
        notes.append(
            f"doubt: at batch size {', '.join(small)}: the noise scale is more than {_SMALL} times 'large: {large}', "
            "and its average is overstated, by about a tenth and more; ask for a larger 'large'."
        )
    gains = [row.gain for row in rows if math.isfinite(row.gain)]
    if gains:
        notes.append(
            f"a batch size that follows the noise scale would bring (S/S_min - 1)(E/E_min - 1) from 1 to "
            f"{number(statistics.median(gains))} at best (median; noise of the estimates alone lowers it)."
        )
    title, spare = f"{name}: the gradient noise scale", ["at end", "B_simple at start"]
    return Table(title, _COLUMNS, cells, set(_COLUMNS), notes, spare, records).without_empty(["B_noise average"])
