"""The best learning rate against batch size: near-ties, the exponent of its growth, and the scaling rule it allows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.conclude.measures import Summary, by_workload, searches
from bench.conclude.power_law import power_law
from bench.conclude.saturation import Shape, shape_of
from bench.numbers import interval, number
from bench.stats import CONFIDENCE, Interval
from bench.table import Table

# The exponent of the learning rate in the batch size under each rule (Goyal et al. 2017; Krizhevsky 2014).
RULES = {"linear": 1.0, "square root": 0.5}
FEWEST = 3

_MOMENTUM = re.compile(r"\bmomentum=([0-9.]+(?:e[+-]?\d+)?)\b")
# An optimizer that has this in its name has a momentum even where none is recorded.
_NAMED_FOR_MOMENTUM = re.compile("momentum|nesterov", re.IGNORECASE)


@dataclass(frozen=True)
class _Best:
    """The best trial of a study, as far as its learning rate goes; `effective` is None without a recorded momentum.

    Intervals are from the least to the largest value among the best trial and its near-ties.
    """

    batch_size: int
    steps: int
    near_ties: int
    rate: Interval
    momentum: float | None
    effective: Interval | None
    edges: dict[str, str]


@dataclass(frozen=True)
class _Fit:
    """The exponent of a workload; None with fewer than three batch sizes. `bounds` lie at an edge and were left out.

    shape: whether a straight line, and whether a curve that saturates, may be what the rates follow.
    """

    quantity: str
    used: list[int]
    bounds: list[int]
    exponent: Interval | None
    shape: Shape | None = None

    @property
    def allows(self) -> list[str] | None:
        """The rules inside the interval; None where there is no interval."""
        return [name for name, rule in RULES.items() if _holds(self.exponent, rule)] if self.exponent else None

    @property
    def verdict(self) -> str:
        """The one rule allowed, or that the rate saturates, or neither; undecided where both rules are allowed, or one
        and no growth at all.

        A line through a curve that saturates has some exponent between 0 and 1, and so one of 0.5 says nothing until
        that curve is ruled out.
        """
        exponent, allowed, shape = self.exponent, self.allows, self.shape
        if exponent is None or allowed is None or shape is None:
            return "undecided"
        if shape.saturating and not shape.straight:
            return "saturating"
        if len(allowed) > 1 or (allowed and _holds(exponent, 0.0)):
            return "undecided"
        grows = not _holds(exponent, 0.0)
        if shape.saturating and (allowed == ["square root"] or (not allowed and grows)):
            return "undecided"
        return allowed[0] if allowed else "neither"


def _holds(exponent: Interval, rule: float) -> bool:
    # Points on a line leave an interval as narrow as rounding.
    return exponent.low - 1e-9 <= rule <= exponent.high + 1e-9


def learning_rates(summaries: Sequence[Summary]) -> list[Table]:
    """The best learning rate against batch size for each workload that searched it, and then the scaling rules."""
    # A rate that was given is the best of one.
    searched = [row for row in summaries if row.trained and not row.grows and searches(row.study, "learning_rate")]
    tables, fits = [], {}
    for name, rows in by_workload(searched):
        bests = [_best(row) for row in rows]
        fits[name] = _fit([best for best in bests if best])
        tables.append(_table(name, rows, bests, fits[name]))
    return [*tables, _rules(fits)] if tables else []


# ---- what is concluded -------------------------------------------------------------------------------------------


def _best(summary: Summary) -> _Best | None:
    found, optimizer = summary.found, summary.study.content["optimizer"]
    if found is None or summary.status != "measured" or _rate(summary.best or {}) is None:
        return None
    crossed = found.attempts[0].crossed
    limit = _near(found.steps, 1 - crossed.after / crossed.by)
    ties = [tried.metaparameters for tried in found.attempts if tried.steps <= limit]
    # What was best once it was confirmed, and then those that the search could not tell from its own best.
    best = summary.best or found.metaparameters
    near = [best, *(values for values in ties if values != best)]
    rates = [rate for values in near if (rate := _rate(values)) is not None]
    momenta = [_momentum(values, optimizer) for values in near]
    effective = [
        rate / (1 - momentum)
        for values, momentum in zip(near, momenta, strict=True)
        if momentum is not None and (rate := _rate(values)) is not None
    ]
    return _Best(
        summary.study.batch_size,
        found.steps,
        len(near) - 1,
        _span(rates),
        momenta[0],
        _span(effective) if momenta[0] is not None else None,
        {name: edge for name, edge in summary.at_edge.items() if name in ("learning_rate", "momentum")},
    )


def _near(steps: int, resolution: float) -> int:
    """The last step at which a trial that met the target is a near-tie of the best.

    The best met it after (1 - r) S and at S at the latest, r being the resolution: its share of S since the evaluation
    before. Gaps between evaluations grow with the step, and so the next evaluation stands at S/(1 - r), rounded up.
    What met the target at the best's evaluation may have been sooner, and what met it at the next may have been a step
    later: the evaluations cannot tell these from the best. Where the target was met at the first evaluation, r is 1 and
    the next one stands at 2 S: so far at most. At the second, or where each step is evaluated, one evaluation too many
    is let in; the next never is left out.
    """
    return math.ceil(steps / (1 - min(resolution, 0.5)) - 1e-9)


def _rate(values: dict[str, Any]) -> float | None:
    """The learning rate, where it is one that has a logarithm: an imported archive may hold anything."""
    rate = values.get("learning_rate")
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def _momentum(values: dict[str, Any], optimizer: str) -> float | None:
    """The momentum a trial drew or was given by the search, or by the suite as the optimizer's option.

    None where the archive does not hold it: there is none, or it is the optimizer's own default.
    """
    written = _MOMENTUM.search(optimizer)
    momentum = values.get("momentum", float(written[1]) if written else None)
    return float(momentum) if isinstance(momentum, int | float) and 0 <= momentum < 1 else None


def _span(values: Sequence[float]) -> Interval:
    return Interval(values[0], min(values), max(values))


def _fit(bests: Sequence[_Best]) -> _Fit:
    """log of the (effective) learning rate against log of the batch size.

    The effective learning rate lr/(1 - momentum) (Shallue et al. 2019), what a plain step with the same effect would
    take, is fitted where the momentum is known throughout. A best value at an edge of its range is a bound, not a
    measurement, and a least-squares line takes measurements only.
    """
    effective = bool(bests) and all(best.effective for best in bests)
    acting = ("learning_rate", "momentum") if effective else ("learning_rate",)
    bounds = [best.batch_size for best in bests if any(name in best.edges for name in acting)]
    points = {
        best.batch_size: (best.effective if effective and best.effective else best.rate).value
        for best in bests
        if best.batch_size not in bounds
    }
    enough = len(points) >= FEWEST
    return _Fit(
        "effective learning rate" if effective else "learning rate",
        list(points),
        bounds,
        _exponent(points) if enough else None,
        shape_of(list(points), list(points.values())) if enough else None,
    )


def _exponent(points: dict[int, float]) -> Interval:
    exponent = power_law(list(points), list(points.values()))[1]
    # A rate that is the same everywhere, as one of a coarse choice may be, has no spread to take a deviation from.
    flat = math.isnan(exponent.high - exponent.low)
    return Interval(exponent.value, exponent.value, exponent.value) if flat else exponent


# ---- how it is shown ---------------------------------------------------------------------------------------------


def _table(name: str, rows: Sequence[Summary], bests: Sequence[_Best | None], fit: _Fit) -> Table:
    columns = ["batch size", "steps", "near-ties", "best learning rate"]
    if any(best and best.effective for best in bests):
        columns += ["momentum", "effective learning rate"]
    return Table(
        f"{name}: best learning rate against batch size; {rows[0].study.content['optimizer']}",
        columns,
        [_row(row, best)[: len(columns)] for row, best in zip(rows, bests, strict=True)],
        {"batch size", "steps", "near-ties"},
        _notes(rows, bests, fit),
        ["near-ties", "momentum"],
        [_record(row, best, fit) for row, best in zip(rows, bests, strict=True)],
    )


def _row(summary: Summary, best: _Best | None) -> list[str]:
    size = f"{summary.study.batch_size:,}"
    if best is None:
        return [size, "none" if summary.status == "measured" and summary.found is None else "", *[""] * 4]
    edges = {name: f" ({edge} edge)" for name, edge in best.edges.items()}
    return [
        size,
        f"{best.steps:,}",
        f"{best.near_ties:,}",
        interval(best.rate) + edges.get("learning_rate", ""),
        "" if best.momentum is None else number(best.momentum) + edges.get("momentum", ""),
        interval(best.effective) if best.effective else "",
    ]


def _record(summary: Summary, best: _Best | None, fit: _Fit) -> dict[str, Any]:
    rate, effective = (best.rate, best.effective) if best else (None, None)
    return {
        "workload": summary.study.workload,
        "batch_size": summary.study.batch_size,
        "status": summary.status,
        "steps": best.steps if best else None,
        "near_ties": best.near_ties if best else None,
        "learning_rate": rate.value if rate else None,
        "learning_rate_low": rate.low if rate else None,
        "learning_rate_high": rate.high if rate else None,
        "momentum": best.momentum if best else None,
        "effective_learning_rate": effective.value if effective else None,
        "effective_learning_rate_low": effective.low if effective else None,
        "effective_learning_rate_high": effective.high if effective else None,
        "learning_rate_edge": best.edges.get("learning_rate") if best else None,
        "momentum_edge": best.edges.get("momentum") if best else None,
        "fitted": fit.exponent is not None and summary.study.batch_size in fit.used,
    }


def _notes(rows: Sequence[Summary], bests: Sequence[_Best | None], fit: _Fit) -> list[str]:
    notes = []
    if any(bests):
        notes.append(
            "near-ties: how many other trials met the target at the best one's evaluation or the next; [low, high] is "
            "the interval of them all."
        )
        if any(row.study.content["slack"] == 1 for row in rows):
            notes.append(
                "in a race near-ties are only seen up to the best step; 'race: {slack: 1.25}' shows more of them."
            )
    if any(best and best.effective for best in bests):
        notes.append("effective learning rate: learning rate / (1 - momentum).")
    elif _NAMED_FOR_MOMENTUM.search(rows[0].study.content["optimizer"]):
        notes.append(
            "the momentum is the optimizer's own and not in the archive; being the same at every batch size, it leaves "
            "the exponent of the effective learning rate as that of the learning rate."
        )
    for best in bests:
        for name, edge in (best.edges if best else {}).items():
            side = "at most" if edge == "low" else "at least"
            treated = "the fit leaves it out" if best and best.batch_size in fit.bounds else "the fit uses it"
            notes.append(
                f"batch size {best.batch_size if best else 0:,}: the best {name.replace('_', ' ')} is at the {edge} "
                f"edge of its range, so what is shown is a bound: the best is {side} that; "
                f"{treated if fit.exponent else 'no fit is made'}."
            )
    return notes


def _rules(fits: dict[str, _Fit]) -> Table:
    rows, notes = [], []
    for name, fit in fits.items():
        exponent, allowed = fit.exponent, fit.allows
        shown = interval(exponent) if exponent else ""
        rules = ["" if allowed is None else "allowed" if rule in allowed else "excluded" for rule in RULES]
        rows.append([name, fit.quantity, str(len(fit.used)), shown, *rules, fit.verdict])
        if fit.shape and fit.verdict == "saturating":
            notes.append(
                f"{name}: the {fit.quantity} saturates at {number(fit.shape.most)}, and is half of that at batch size "
                f"{number(fit.shape.half)}: below it scale linearly, above it not at all."
            )
        if exponent is None:
            left_out = f", with {len(fit.bounds)} at an edge of a range left out" if fit.bounds else ""
            notes.append(f"{name}: no fit; it takes {FEWEST} batch sizes or more, and has {len(fit.used)}{left_out}.")
    return Table(
        "scaling rules: how the best learning rate grows with the batch size",
        ["workload", "of", "batch sizes", "exponent", "linear (1)", "square root (1/2)", "rule"],
        rows,
        {"batch sizes", "exponent"},
        [
            f"exponent: slope of log learning rate against log batch size by least squares, with its {CONFIDENCE:.0%} "
            "interval; a rule is allowed where that holds it. Rules are meant for perfect scaling; past it the best "
            "rate saturates, as lr_max/(1 + B_half/B) does (McCandlish et al. 2018). saturating: the rates bend as "
            "that curve does and a line does not; undecided: the interval holds both rules, or one and no growth (0), "
            "or the square root, and that curve is not ruled out.",
            *notes,
        ],
        ["of", "linear (1)", "square root (1/2)"],
        [
            {
                "workload": name,
                "quantity": fit.quantity.replace(" ", "_"),
                "batch_sizes": fit.used,
                "left_out": fit.bounds,
                "exponent": fit.exponent.value if fit.exponent else None,
                "low": fit.exponent.low if fit.exponent else None,
                "high": fit.exponent.high if fit.exponent else None,
                "confidence": CONFIDENCE if fit.exponent else None,
                "allows": fit.allows,
                "rule": fit.verdict,
                "saturates_at": fit.shape.most if fit.shape and fit.verdict == "saturating" else None,
                "half_at_batch_size": fit.shape.half if fit.shape and fit.verdict == "saturating" else None,
            }
            for name, fit in fits.items()
        ],
    )
