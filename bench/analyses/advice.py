"""Which batch size to use: the soonest, the cheapest, and the knee between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analyses._points import unfitted
from bench.conclude.curve_fit import CurveFit, fit_curve, no_fit
from bench.conclude.measures import Summary, by_workload
from bench.conclude.points import Curve, Point, curve_of
from bench.numbers import count_interval, interval, seconds_interval
from bench.table import Table

_COLUMNS = ["choice", "batch size", "steps to target", "examples", "steps saved", "examples paid"]


def advice(summaries: Sequence[Summary]) -> list[Table]:
    """A sentence for each workload that met its target at two batch sizes or more, with its evidence and its doubt."""
    tables = []
    for _, rows in by_workload(summaries):
        curve = curve_of(rows)
        if fitted := fit_curve(curve):
            tables.append(_table(curve, fitted, rows))
        elif reason := no_fit(curve):
            tables.append(_none(curve, reason, rows))
    return tables


def _none(curve: Curve, reason: str, summaries: Sequence[Summary]) -> Table:
    """What the clock says, and why the steps advise nothing; nothing at all of steps that are only upper bounds."""
    timed = [] if any(point.first for point in curve.points) else _by_the_clock(summaries)
    notes = [*timed, f"no advice by steps, since they have no fit: {reason}."]
    return unfitted(f"{curve.label}: which batch size", curve, reason, notes)


def _table(curve: Curve, fitted: CurveFit, summaries: Sequence[Summary]) -> Table:
    met = [point for point in curve.points if math.isfinite(point.log)]
    # Of those as soon the cheaper is the better, and of those as cheap the sooner.
    soonest = min(met, key=lambda point: (point.median, _examples(point)))
    cheapest = min(met, key=lambda point: (_examples(point), point.median))
    # Noise can leave the batch size nearest to B_crit worse in both than another: it is no compromise then.
    fair = [point for point in met if not any(_beats(other, point) for other in met)]
    knee = min(fair, key=lambda point: abs(math.log(point.batch_size / fitted.fit.critical_batch)))
    choices = {"soonest": soonest, "cheapest": cheapest, "knee": knee}
    rows, records = [], []
    for choice, point in choices.items():
        saved, paid = cheapest.median / point.median, _examples(point) / _examples(cheapest)
        rows.append(
            [
                choice,
                f"{point.batch_size:,.0f}",
                count_interval(point.interval),
                f"{_examples(point):,.0f}",
                f"{saved:.1f}x",
                f"{paid:.1f}x",
            ]
        )
        records.append(
            {
                "choice": choice,
                "batch_size": point.batch_size,
                "steps_to_target": point.median,
                "examples_to_target": _examples(point),
                "steps_saved": saved,
                "examples_paid": paid,
            }
        )
    timed = _by_the_clock(summaries)
    by_steps = _sentence(soonest, cheapest, knee, fitted, timed=bool(timed))
    notes = [*timed, by_steps, *_doubts(soonest, met, fitted)]
    if not timed:
        notes.append(
            "soonest is by steps here: a larger batch may take longer a step; 'measure: [.., throughput]' tells."
        )
    return Table(f"{curve.label}: which batch size", _COLUMNS, rows, set(_COLUMNS[1:]), notes, records=records)


def _sentence(soonest: Point, cheapest: Point, knee: Point, fitted: CurveFit, *, timed: bool) -> str:
    """What steps alone advise; where steps are timed, sooner is what the clock says, and these are not called so."""
    lead, verb, sooner, none_sooner = "advice: use", "be", "sooner", "none was sooner"
    if timed:
        lead = "by steps, which count where devices are many: use"
        verb, sooner, none_sooner = "take", "fewer steps", "none took fewer"
    saved, paid = cheapest.median / knee.median, _examples(knee) / _examples(cheapest)
    where = f"the nearest to B_crit ({interval(fitted.critical_batch)}) that no other beats in both steps and examples"
    if knee is cheapest is soonest:
        return f"{lead} batch size {knee.batch_size:,.0f}, both the soonest and the cheapest of those measured."
    against = f"{saved:.1f}x fewer steps than batch size {cheapest.batch_size:,.0f} for {paid:.1f}x its examples"
    sentence = f"{lead} batch size {knee.batch_size:,.0f}, {where}"
    sentence += ", the cheapest of those measured" if knee is cheapest else f": {against}"
    if knee is soonest:
        return f"{sentence}; {none_sooner}."
    gained, dearer = knee.median / soonest.median, _examples(soonest) / _examples(knee)
    return (
        f"{sentence}; batch size {soonest.batch_size:,.0f} would {verb} {gained:.1f}x {sooner} still "
        f"for {dearer:.1f}x the examples."
    )


def _doubts(soonest: Point, met: list[Point], fitted: CurveFit) -> list[str]:
    doubts = list(fitted.doubts)
    quickest = soonest.interval
    rivals = [
        f"{point.batch_size:,.0f}"
        for point in met
        if point is not soonest and point.interval.low <= quickest.high and quickest.confidence
    ]
    if rivals:
        doubts.append(f"the interval of the soonest overlaps that of batch size {', '.join(rivals)}")
    return [f"doubt: {doubt}." for doubt in doubts]


def _by_the_clock(summaries: Sequence[Summary]) -> list[str]:
    """What the time a step takes on this device says, where every batch size that meets the target was timed."""
    times = {
        row.study.batch_size: row.seconds_to_target
        for row in summaries
        if row.steps_to_target is not None and math.isfinite(row.steps_to_target)
    }
    known = {size: time for size, time in times.items() if time is not None}
    if len(known) < 2 or len(known) < len(times):
        return []
    size, least = min(known.items(), key=lambda item: item[1].median)
    slowest_size, slowest = max(known.items(), key=lambda item: item[1].median)
    sentence = (
        f"advice: on {summaries[0].here} use batch size {size:,}: it reaches the target soonest, "
        f"in {seconds_interval(least)}, {slowest.median / least.median:.1f}x sooner than {slowest_size:,}"
    )
    rivals = [
        f"{other:,}" for other, time in known.items() if other != size and least.confidence and time.low <= least.high
    ]
    return [sentence + (f"; its interval overlaps that of {', '.join(rivals)}." if rivals else ".")]


def _beats(point: Point, other: Point) -> bool:
    """Whether a point takes no more steps than another, no more examples, and fewer of one."""
    steps, examples = other.median - point.median, _examples(other) - _examples(point)
    return min(steps, examples) >= 0 and max(steps, examples) > 0


def _examples(point: Point) -> float:
    return point.median * point.batch_size
