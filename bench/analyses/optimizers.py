"""Optimizers side by side: steps to target at each batch size, a performance profile and a score over all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.ask.plan import titled
from bench.conclude.measures import Summary, by_workload, target_in_words
from bench.conclude.slopes import perfect_scaling_until
from bench.numbers import raw
from bench.table import Table

# What workloads have alike that are compared by their optimizers.
ALIKE = ("model", "dataset", "schedule", "precision", "devices", "reading", "threshold", "growth")
TAUS = (1.0, 1.5, 2.0, 4.0)
# r times the fewest steps scores (WORST - r)/(WORST - 1), and nothing from there on (AlgoPerf; Dahl et al. 2023).
WORST = 4.0


@dataclass(frozen=True)
class _Cell:
    """Steps to target at one batch size with one optimizer; a miss is math.inf, beyond `tried` steps."""

    steps: float
    tried: int


@dataclass(frozen=True)
class _Group:
    """Workloads that differ in their optimizer or its search space; `rows` by label, `cells` by label and batch."""

    rows: dict[str, list[Summary]]
    cells: dict[str, dict[int, _Cell]]

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({row.study.batch_size for rows in self.rows.values() for row in rows})

    @property
    def shared(self) -> list[int]:
        """The batch sizes measured with every optimizer."""
        return [size for size in self.batch_sizes if all(size in cells for cells in self.cells.values())]

    @property
    def missed(self) -> list[int]:
        """The shared batch sizes at which no optimizer met the target."""
        return [size for size in self.shared if all(math.isinf(cells[size].steps) for cells in self.cells.values())]

    def ratios(self) -> dict[str, list[float]]:
        """Steps over the fewest of any optimizer, in every shared cell that one of them met; a miss is math.inf."""
        counted = [size for size in self.shared if size not in self.missed]
        fewest = {size: min(cells[size].steps for cells in self.cells.values()) for size in counted}
        return {label: [cells[size].steps / fewest[size] for size in counted] for label, cells in self.cells.items()}


def optimizers(summaries: Sequence[Summary]) -> list[Table]:
    """Two tables for each set of workloads that differ in nothing but their optimizer and its search space: that of one
    may be a scaling rule's values.
    """
    return [table for group in _groups(summaries) for table in (_steps_table(group), _score_table(group))]


def profile(ratios: Sequence[float], tau: float) -> float:
    """rho(tau): the share of cells within tau times the best (Dolan and More 2002); a miss is math.inf."""
    return sum(ratio <= tau for ratio in ratios) / len(ratios)


def score(ratios: Sequence[float]) -> float:
    """The area under the profile from 1 to 4 as a share: the mean over cells of max(0, (4 - r)/3) (AlgoPerf)."""
    return sum(max(0.0, (WORST - ratio) / (WORST - 1)) for ratio in ratios) / len(ratios)


# ---- what is compared --------------------------------------------------------------------------------------------


def _groups(summaries: Sequence[Summary]) -> list[_Group]:
    alike: dict[str, dict[str, list[Summary]]] = {}
    for name, rows in by_workload(summaries):
        content = rows[0].study.content
        alike.setdefault(repr([content.get(key) for key in ALIKE]), {})[name] = rows
    groups = []
    for found in alike.values():
        named = {name: str(rows[0].study.content["optimizer"]) for name, rows in found.items()}
        spaces = [json.dumps(rows[0].study.content["space"], sort_keys=True, default=repr) for rows in found.values()]
        if len(set(zip(named.values(), spaces, strict=True))) < 2:
            continue
        # The same optimizer twice, as with two search spaces, is told apart by the workload's name.
        twice = {optimizer for optimizer in named.values() if list(named.values()).count(optimizer) > 1}
        rows_of = {
            f"{optimizer}, {name}" if optimizer in twice else optimizer: found[name]
            for name, optimizer in named.items()
        }
        groups.append(_Group(rows_of, {label: _cells(rows) for label, rows in rows_of.items()}))
    return groups


def _cells(rows: Sequence[Summary]) -> dict[int, _Cell]:
    """What was measured; a study that is not, or ran out of memory, is no miss and has no cell."""
    cells = {}
    for row in rows:
        if row.status != "measured":
            continue
        steps = row.steps_to_target
        if row.found is None:
            cells[row.study.batch_size] = _Cell(math.inf, int(row.study.content["max_steps"]))
        elif steps is not None:
            cells[row.study.batch_size] = _Cell(steps, row.confirmed.budget if row.confirmed else row.found.steps)
    return cells


# ---- how it is shown ---------------------------------------------------------------------------------------------


def _described(group: _Group) -> str:
    study = next(iter(group.rows.values()))[0].study
    parts = ", ".join(str(study.content[key]) for key in ("model", "dataset", "schedule"))
    return f"{titled(parts, study.devices)}; {target_in_words(study.content)}"


def _steps_table(group: _Group) -> Table:
    cells = {size: [of.get(size) for of in group.cells.values()] for size in group.batch_sizes}
    shown = [cell for row in cells.values() for cell in row]
    return Table(
        f"optimizers, steps to target: {_described(group)}",
        ["batch size", *group.cells],
        [[f"{size:,}", *map(_steps, row)] for size, row in cells.items()],
        {"batch size", *group.cells},
        [
            "steps to target: the median over fresh seeds of the best trial; the search's where no seed was asked for."
            + (" >N: a miss, tried up to N." if any(cell and math.isinf(cell.steps) for cell in shown) else "")
            + (" Blank: not measured." if None in shown else ""),
            *_budgets(group),
        ],
        records=[
            {
                "batch_size": size,
                "optimizers": list(group.cells),
                "workloads": [rows[0].study.workload for rows in group.rows.values()],
                "status": [
                    "not measured" if not cell else "met" if math.isfinite(cell.steps) else "missed" for cell in row
                ],
                "steps_to_target": [raw(cell.steps) if cell else None for cell in row],
                "tried": [cell.tried if cell else None for cell in row],
            }
            for size, row in cells.items()
        ],
    )


def _steps(cell: _Cell | None) -> str:
    if cell is None:
        return ""
    return f"{cell.steps:,.0f}" if math.isfinite(cell.steps) else f">{cell.tried:,}"


def _budgets(group: _Group) -> list[str]:
    """Optimizers that were tuned with unlike effort are not compared by what they are."""
    notes = []
    for key, unit in (("trials", "trials of the search"), ("max_steps", "steps at most")):
        given = {
            label: sorted({int(row.study.content[key]) for row in rows if row.status == "measured"})
            for label, rows in group.rows.items()
        }
        if len({tuple(values) for values in given.values() if values}) > 1:
            each = "; ".join(f"{label} {_range(values)}" for label, values in given.items() if values)
            notes.append(f"tuned with unlike effort, {unit}: {each}.")
    return notes


def _range(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _score_table(group: _Group) -> Table:
    ratios = group.ratios()
    until = {label: perfect_scaling_until(rows) for label, rows in group.rows.items()}
    within = {label: [profile(of, tau) for tau in TAUS] if of else None for label, of in ratios.items()}
    scores = {label: score(of) if of else None for label, of in ratios.items()}
    columns = ["optimizer", "perfect scaling until", *(f"within {tau:g}x" for tau in TAUS), "score"]
    return Table(
        f"optimizers, over all batch sizes: {_described(group)}",
        columns,
        [
            [
                label,
                _until(until[label]),
                *(f"{share:.0%}" for share in within[label] or ()),
                *("" for _ in TAUS if within[label] is None),
                "" if (value := scores[label]) is None else f"{value:.3f}",
            ]
            for label in group.rows
        ],
        set(columns[1:]),
        _score_notes(group),
        ["within 1.5x", "within 4x", "within 2x"],
        [
            {
                "optimizer": label,
                "workload": rows[0].study.workload,
                "perfect_scaling_until": until[label],
                "batch_sizes": [size for size in group.shared if size not in group.missed],
                "ratios": [raw(ratio) for ratio in ratios[label]],
                "tau": list(TAUS),
                "within": within[label],
                "score": scores[label],
            }
            for label, rows in group.rows.items()
        ],
    )


def _until(batch_size: int | None) -> str:
    return "not seen" if batch_size is None else f"{batch_size:,}"


def _score_notes(group: _Group) -> list[str]:
    counted = len(group.shared) - len(group.missed)
    partial = [size for size in group.batch_sizes if size not in group.shared]
    notes = []
    if counted:
        notes.append(
            f"within: the share of {counted} batch sizes at which an optimizer took at most that many times the fewest "
            "steps of any; score: the mean of (4 - r)/3 over them, r times the fewest, 0 from 4 and for a miss."
        )
    else:
        notes.append("no batch size counts, and so there is no profile and no score.")
    if partial:
        notes.append(f"left out, for not every optimizer was measured there: {_listed(partial)}.")
    if group.missed:
        notes.append(f"counts for none, for every optimizer missed there: {_listed(group.missed)}.")
    return notes


def _listed(sizes: Sequence[int]) -> str:
    plural = "batch size" if len(sizes) == 1 else f"{len(sizes)} batch sizes,"
    return f"{plural} {', '.join(f'{size:,}' for size in sizes)}"
