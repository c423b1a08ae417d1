"""Steps to target against batch size: the search's answer, its confirmation, and what they cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from bench.ask.search import Dimension, ScalingRule
from bench.ask.suite import Doubling, Growth
from bench.conclude.measures import Confirmed, Summary, by_workload, target_in_words
from bench.conclude.sampling import LARGE
from bench.numbers import seconds, seconds_interval
from bench.table import Table

COLUMNS = [
    *("batch size", "trials", "steps to target", "reached", "search", "examples", "step time", "time to target"),
    *("best", "test error", "seconds"),
]
# Of a workload whose batch grows, where steps are no steps of the optimizer.
GROWING = [
    *("starts at", "trials", "examples to target", "reached", "search", "optimizer steps", "grew to", "best"),
    *("test error", "seconds"),
]
_TIMED = ("step time", "time to target")
# What a narrow terminal can do without, in that order.
_SPARE = ["seconds", "test error", "examples", "trials", "search", "step time"]
_NUMERIC = {*COLUMNS, *GROWING} - {"trials", "best"}


def steps_to_target(summaries: Sequence[Summary]) -> list[Table]:
    """Steps to target against batch size, a table for each workload."""
    return [_table(name, rows) for name, rows in by_workload(summaries)]


def _table(name: str, rows: list[Summary]) -> Table:
    content = rows[0].study.content
    parts = [content[key] for key in ("model", "dataset", "optimizer", "schedule")]
    title = f"{name}: {', '.join(parts)}; {target_in_words(content)}"
    if rows[0].grows:
        return Table(title, GROWING, [_growing_row(row) for row in rows], _NUMERIC, _growing_notes(rows), _SPARE)
    table = Table(title, COLUMNS, [_row(row) for row in rows], _NUMERIC, _notes(rows), _SPARE)
    return table if any(row.timed for row in rows) else table.without_empty(_TIMED)


def _growing_row(summary: Summary) -> list[str]:
    """Of a batch that grows, what is counted in examples instead of steps, which are so many examples each."""
    cells = dict(zip(COLUMNS, _row(summary), strict=True))
    found, confirmed, unit = summary.found, summary.confirmed, summary.study.batch_size
    grown = confirmed.grown if confirmed else ()
    cells["starts at"] = cells["batch size"]
    cells["examples to target"] = _confirmed(confirmed, unit) if confirmed else ""
    if found:
        cells["search"] = f"{found.steps * unit:,} (-{found.resolution:.0%})"
    cells["optimizer steps"] = f"{statistics.median(each.optimizer_steps for each in grown):,.0f}" if grown else ""
    cells["grew to"] = f"{statistics.median(each.batch_size for each in grown):,.0f}" if grown else ""
    return [cells[column] for column in GROWING]


def _growing_notes(rows: list[Summary]) -> list[str]:
    growth: Growth = rows[0].study.content["growth"]
    if isinstance(growth, Doubling):
        how = f"doubles after {', '.join(f'{examples:,}' for examples in growth.double_at)} examples"
    else:
        eta = f", eta {growth.eta:g}" if growth.eta else ""
        how = f"grows by {growth.adaptive.replace('_', ' ')}{eta}, to at most {growth.most:,}"
    return [
        f"the batch starts at the batch size and {how}; where a suite or another table says steps, a step is as many "
        "examples as the first batch had.",
        "optimizer steps, grew to: medians over the seeds that met the target, when they did.",
        *(note.replace("steps to target:", "examples to target:") for note in _notes(rows)),
    ]


def _row(summary: Summary) -> list[str]:
    found, confirmed = summary.found, summary.confirmed
    examples = summary.examples_to_target
    return [
        f"{summary.study.batch_size:,}",
        ", ".join(f"{count} {outcome}" for outcome, count in sorted(summary.outcomes.items()))
        or ("given" if "given" in summary.study.content else summary.status),
        _confirmed(confirmed) if confirmed else "",
        f"{confirmed.reached}/{confirmed.seeds}" if confirmed else "",
        f"{found.steps:,} (-{found.resolution:.0%})" if found else "none" if summary.status == "measured" else "",
        "" if examples is None else _number(examples, confirmed.budget * summary.study.batch_size if confirmed else 0),
        *_times(summary),
        _best(summary),
        f"{confirmed.test_error:.3f}" if confirmed and confirmed.test_error is not None else "",
        f"{summary.train_seconds:.1f}",
    ]


def _times(summary: Summary) -> tuple[str, str]:
    step = summary.timed.seconds if summary.timed else None
    whole = summary.seconds_to_target
    if step is None or whole is None:
        return (seconds(step.median) if step else "", "")
    missed = math.isinf(whole.median)
    beyond = f">{seconds(step.median * summary.confirmed.budget)}" if missed and summary.confirmed else ""
    return seconds(step.median), beyond or seconds_interval(whole)


def _confirmed(confirmed: Confirmed, unit: int = 1) -> str:
    """Steps to target with their interval, each counted as so much."""
    steps, budget = confirmed.steps, confirmed.budget * unit
    median, low, high = (_number(value * unit, budget) for value in (steps.median, steps.low, steps.high))
    return f"{median} [{low}, {high}]" if steps.confidence else median


def _number(value: float, budget: int) -> str:
    """A count, or, for a miss, that it is beyond what was tried."""
    return f"{value:,.0f}" if math.isfinite(value) else f">{budget:,}"


def _best(summary: Summary) -> str:
    space, best = summary.study.content["space"], summary.best or {}
    searched = [name for name in best if isinstance(space.get(name), Dimension | ScalingRule)]
    return ", ".join(
        f"{name} {_short(best[name])}" + (f" ({summary.at_edge[name]} edge)" if name in summary.at_edge else "")
        for name in searched
    )


def _short(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if 0.9995 <= value < 1:  # a decay: its distance from 1 is what acts
        return f"{value:.{2 - math.floor(math.log10(1 - value))}g}"
    return f"{value:.3g}"


def _doubts(measured: Sequence[Confirmed]) -> list[str]:
    doubts = []
    known = [each.target_uncertainty for each in measured if each.target_uncertainty is not None]
    if known and (moved := statistics.median(known)) > LARGE:
        doubts.append(
            f"another validation set as large as this one would move steps to target by about {moved:.0%} either way, "
            "mostly alike at all batch sizes; use more validation examples, or a target where the error falls faster"
        )
    return doubts


def _notes(rows: list[Summary]) -> list[str]:
    notes = []
    measured = [row.confirmed for row in rows if row.confirmed]
    if measured:
        level = min(confirmed.steps.confidence for confirmed in measured)
        interval = f", with its {level:.0%} interval" if level else ""
        notes.append(
            f"steps to target: the smallest median over fresh seeds of the best trials{interval}; search: the minimum "
            "over the trials of the search, and by how much evaluations may overstate it."
        )
    if any(row.seconds_to_target for row in rows):
        notes.append("time to target: steps to target x step time, the ends of both intervals multiplied.")
    if any(row.rule == "first" for row in rows):
        notes.append(
            "steps are those of the first reading that met the target, which come earlier the more often one looks."
        )
    notes += [f"doubt: {doubt}." for doubt in _doubts(measured)]
    for row in rows:
        size, content = row.study.batch_size, row.study.content
        draws, diverged = sum(row.outcomes.values()), row.outcomes.get("diverged", 0)
        fallen = [trial for trial in row.study.trials if trial.outcome in ("crashed", "timed out")]
        if fallen:
            notes.append(
                f"batch size {size:,}: trials that crashed or timed out and decide nothing: {len(fallen)}; "
                "'bench run' tries them again."
            )
        if row.status == "not measured" and row.study.fault:
            said = row.study.fault.partition(": ")[2] or row.study.fault
            notes.append(
                f"batch size {size:,}: not measured: {said}; once that is mended, 'bench run' goes on with it."
            )
        elif row.status == "not measured":
            notes.append(f"batch size {size:,}: not measured yet; 'bench run' goes on with it, if none is under way.")
        elif row.status == "infeasible":
            notes.append(
                f"batch size {size:,}: out of memory; leave it out, or run on a larger device with another --label."
            )
        elif diverged > content["trials"]:
            notes.append(
                f"batch size {size:,}: {diverged} of {draws} trials diverged and no more are drawn; "
                "lower the learning rate's range."
            )
        elif row.found is None:
            notes.append(
                f"batch size {size:,}: no trial met the target in {content['max_steps']:,} steps; "
                "raise max_steps, widen the search, or ask for less."
            )
        for name, edge in row.at_edge.items():
            wider = "lower" if edge == "low" else "higher"
            notes.append(f"batch size {size:,}: the best {name} is at the {edge} edge of its range; let it go {wider}.")
    return notes
