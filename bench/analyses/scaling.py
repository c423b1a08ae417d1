"""What more devices buy, as measured: the same batch shared by more of them, and the same part of a batch on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from bench.analyses._devices import Cell, Group, groups, threads_of
from bench.analyses._paying import PAYS, left_of, paying
from bench.analyses._timing import doubt_notes
from bench.conclude.curve_fit import CurveFit, fit_curve
from bench.conclude.measures import Summary
from bench.conclude.points import curve_of
from bench.numbers import number, seconds
from bench.table import Table

_COLUMNS = [
    *("batch size", "devices", "on each", "step time", "predicted", "communication", "examples/s", "efficiency"),
    *("steps to target", "time to target", "efficiency to target"),
]
_OPTIONAL = {"predicted", "communication", "steps to target", "time to target", "efficiency to target"}
_SPARE = ["steps to target", "examples/s", "predicted"]

# A share of communication this far below nothing is more than noise.
_TOO_QUICK = -0.1

Scaling = Literal["strong", "weak"]
_MEANS: dict[Scaling, str] = {
    "strong": "the same batch on more devices",
    "weak": "the same part of a batch on each of more devices",
}


def scaling(summaries: Sequence[Summary]) -> list[Table]:
    """Strong and weak scaling of each set of workloads that differ in their devices alone, where they were timed."""
    tables = []
    for group in groups(summaries):
        fitted = _fitted(group)
        kinds: dict[Scaling, list[list[Cell]]] = {"strong": group.strong(), "weak": group.weak()}
        tables += [_table(group, kind, series, fitted) for kind, series in kinds.items() if series]
    return tables


def _fitted(group: Group) -> CurveFit | None:
    """The critical batch size, which hangs on no device, from the fewest devices that show it."""
    fits = (fit_curve(curve_of(group.rows[devices])) for devices in sorted(group.rows))
    return next((fit for fit in fits if fit), None)


def _table(group: Group, kind: Scaling, series: Sequence[Sequence[Cell]], fitted: CurveFit | None) -> Table:
    # Each is held against the fewest devices of its series.
    placed = [(cell, cells[0]) for cells in series for cell in cells]
    table = Table(
        f"{group.name}: {kind} scaling, {_MEANS[kind]}",
        _COLUMNS,
        [_row(cell, base) for cell, base in placed],
        set(_COLUMNS),
        spare=_SPARE,
        records=[{"scaling": kind, **_record(cell, base)} for cell, base in placed],
    ).without_empty(_OPTIONAL)
    said = [(_of(kind, cells), paying(cells, fitted)) for cells in series]
    pays = [f"{of}: {sentence}." for of, sentence in said if sentence]
    return replace(table, notes=[*_legend(table.columns), *pays, *_doubts(group)])


def _of(kind: Scaling, cells: Sequence[Cell]) -> str:
    return f"batch size {cells[0].batch_size:,}" if kind == "strong" else f"{number(cells[0].part)} on each device"


def _row(cell: Cell, base: Cell) -> list[str]:
    left = left_of(cell, base)
    return [
        f"{cell.batch_size:,}",
        f"{cell.devices:,}",
        number(cell.part),
        seconds(cell.step_seconds),
        seconds(cell.predicted) if cell.devices > 1 and cell.predicted else "",
        "" if cell.communication is None else f"{cell.communication:.0%}",
        number(cell.batch_size / cell.step_seconds, 4),
        f"{left.step:.0%}",
        number(cell.steps, 6) if cell.steps else curve_of([cell.summary]).points[0].missed if cell.missed else "",
        "" if cell.seconds_to_target is None else seconds(cell.seconds_to_target),
        "" if left.examples is None else f"{left.whole:.0%}",
    ]


def _record(cell: Cell, base: Cell) -> dict[str, Any]:
    left = left_of(cell, base)
    return {
        "batch_size": cell.batch_size,
        "devices": cell.devices,
        "examples_on_each": cell.part,
        "step_seconds": cell.step_seconds,
        "predicted_step_seconds": cell.predicted if cell.devices > 1 else None,
        "communication": cell.communication,
        "examples_per_second": cell.batch_size / cell.step_seconds,
        "efficiency": left.step,
        "steps_to_target": cell.steps,
        "seconds_to_target": cell.seconds_to_target,
        "efficiency_to_target": None if left.examples is None else left.whole,
    }


def _legend(columns: Sequence[str]) -> list[str]:
    notes = ["efficiency: the examples/s of a device, over those of one where they are fewest."]
    if "predicted" in columns:
        notes.append(
            "predicted: what its part of a batch takes one device, as timed (between timed sizes by a straight line on "
            "log axes); communication: the share of the step beyond that."
        )
    if "efficiency to target" in columns:
        notes.append(
            "time to target: steps to target x step time; efficiency to target: device time to it where devices are "
            "fewest, over device time here."
        )
    return [*notes, f"devices pay while their efficiency, to the target where that is known, is {PAYS:.0%} or more."]


def _place(environment: Mapping[str, Any]) -> str:
    """Where a process was timed: nodes of a cluster may differ in more than is known of them."""
    node = f", node {environment['node']}" if "node" in environment else ""
    return f"{environment.get('device', 'unknown')}, torch {environment.get('torch', 'unknown')}{node}"


def _doubts(group: Group) -> list[str]:
    """What is missing from the tables, and why their rows may not be comparable."""
    timings = [row.timed for rows in group.rows.values() for row in rows if row.timed]
    unfit = [f"{each.study.batch_size:,} on {each.study.devices:,}" for each in timings if each.infeasible]
    notes = [f"out of memory, batch size on devices: {', '.join(unfit)}."] if unfit else []
    known = [process.environment for each in timings for process in each.processes if process.environment]
    places = sorted(set(map(_place, known)))
    if len(places) > 1:
        notes.append(f"doubt: timed in unlike places: {'; '.join(places)}; time it anew with another --label.")
    threads = {devices: count for devices, rows in group.rows.items() for row in rows for count in threads_of(row)}
    if len(set(threads.values())) > 1:
        each_had = ", ".join(f"{count} with {devices:,}" for devices, count in sorted(threads.items()))
        notes.append(f"doubt: the cores of a CPU were shared out, threads a device: {each_had}; no cores were added.")
    quick = [cell for cell in group.cells if (cell.communication or 0.0) < _TOO_QUICK]
    if quick:
        cells = ", ".join(f"{cell.batch_size:,} on {cell.devices:,}" for cell in quick)
        notes.append(
            f"doubt: quicker than the part of one device by itself, batch size on devices: {cells}; time both again."
        )
    if doubted := dict.fromkeys(each.study.title for each in timings if doubt_notes([each])):
        notes.append(
            f"doubt: there are reasons to doubt the times of {', '.join(doubted)}; '--analysis throughput' names them."
        )
    return notes
