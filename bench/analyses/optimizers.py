"""Optimizers side by side: steps to target at each batch size, a performance profile and a score over all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

from bench.ask.plan import titled
from bench.ask.search import Dimension
from bench.conclude.measures import Summary, by_workload, target_in_words
from bench.conclude.slopes import perfect_scaling_until
from bench.numbers import raw
from bench.stats import CONFIDENCE, Interval, smallest_medians
from bench.table import Table

# What workloads have alike that are compared by their optimizers.
ALIKE = ("model", "dataset", "schedule", "precision", "devices", "reading", "threshold", "growth")
TAUS = (1.0, 1.5, 2.0, 4.0)
# r times the fewest steps scores (WORST - r)/(WORST - 1), and nothing from there on (AlgoPerf; Dahl et al. 2023).
WORST = 4.0
# How seldom, by its resamples, an optimizer would be as good as the best where it is told from it. Resamples of five
# seeds vary too little, which tests/test_analyses_optimizers.py makes up for here.
_TOLD = 0.01


@dataclass(frozen=True)
class _Cell:
    """Steps to target at one batch size with one optimizer; a miss is math.inf, beyond `tried` steps.

    samples: of every candidate that was confirmed, the steps of each seed.
    """

    steps: float
    tried: int
    samples: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _Group:
    """Workloads that differ in their optimizer or its search space; `rows` by label, `cells` by label and batch."""

    rows: dict[str, list[Summary]]
    cells: dict[str, dict[int, _Cell]]

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({row.study.batch_size for rows in self.rows.values() for row in rows})

    @cached_property
    def scored(self) -> list[str]:
        """The optimizers that are scored: all, or, where no batch size was measured with all of them, those that are
        left when the ones that share the fewest are left out, one after the other.
        """
        labels = list(self.cells)
        while len(labels) > 2 and not self._shared_by(labels):
            rest = [[each for each in labels if each != label] for label in labels]
            labels = max(rest, key=lambda each: len(self._shared_by(each)) or self._overlap(each))
        return labels

    def _shared_by(self, labels: Sequence[str]) -> list[int]:
        return [size for size in self.batch_sizes if all(size in self.cells[label] for label in labels)]

    def _overlap(self, labels: Sequence[str]) -> float:
        """Below 1, and the larger the more cells are at batch sizes that others have too."""
        cells = [size for label in labels for size in self.cells[label]]
        return sum(cells.count(size) - 1 for size in cells) / (1 + len(cells) ** 2)

    @property
    def shared(self) -> list[int]:
        """The batch sizes measured with every optimizer that is scored."""
        return self._shared_by(self.scored)

    @property
    def missed(self) -> list[int]:
        """The shared batch sizes at which no optimizer met the target."""
        return [size for size in self.shared if all(math.isinf(self.cells[each][size].steps) for each in self.scored)]

    @property
    def counted(self) -> list[int]:
        return [size for size in self.shared if size not in self.missed]

    def ratios(self) -> dict[str, list[float]]:
        """Steps over the fewest of any optimizer, in every shared cell that one of them met; a miss is math.inf."""
        fewest = {size: min(self.cells[each][size].steps for each in self.scored) for size in self.counted}
        found: dict[str, list[float]] = {label: [] for label in self.cells}
        for label in self.scored:
            found[label] = [self.cells[label][size].steps / fewest[size] for size in self.counted]
        return found

    @cached_property
    def score_draws(self) -> NDArray[numpy.floating]:
        """[scored optimizers, resamples] of the score: in every cell the seeds of all candidates are drawn again."""
        medians = numpy.array(
            [
                [
                    smallest_medians(self.cells[label][size].samples, place * len(self.counted) + column)
                    for column, size in enumerate(self.counted)
                ]
                for place, label in enumerate(self.scored)
            ]
        )
        with numpy.errstate(invalid="ignore"):  # where all miss in a draw, none scores
            shares = (WORST - medians / medians.min(axis=0)) / (WORST - 1)
        return numpy.asarray(numpy.clip(numpy.nan_to_num(shares, nan=0.0, neginf=0.0), 0.0, None).mean(axis=1))

    def score_interval(self, label: str) -> Interval:
        """The score with the interval of its resamples."""
        draws = numpy.quantile(self.score_draws[self.scored.index(label)], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        value = score(self.ratios()[label])
        # Against the fewest steps of all, scores are too low, and those of resamples lower again: they are reflected.
        low, high = (min(1.0, max(0.0, 2 * value - float(end))) for end in reversed(draws))
        return Interval(value, min(value, low), max(value, high))

    def as_good(self) -> list[str]:
        """The optimizers whose score is not told from the best one's, each at a level that is shared out over all."""
        scores = [score(self.ratios()[label]) for label in self.scored]
        best = scores.index(max(scores))
        behind = self.score_draws[best] - self.score_draws
        lowest = numpy.quantile(behind, _TOLD / max(1, len(scores) - 1), axis=1)
        return [label for place, label in enumerate(self.scored) if place == best or lowest[place] <= 0]


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
            cells[row.study.batch_size] = _Cell(math.inf, int(row.study.content["max_steps"]), ((math.inf,),))
        elif steps is not None and row.confirmed:
            samples = tuple(candidate.steps for candidate in row.confirmed.candidates)
            cells[row.study.batch_size] = _Cell(steps, row.confirmed.budget, samples)
        elif steps is not None:
            cells[row.study.batch_size] = _Cell(steps, row.found.steps, ((steps,),))
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
    scores = {label: group.score_interval(label) if of else None for label, of in ratios.items()}
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
                "" if (value := scores[label]) is None else f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]",
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
                "score": value.value if (value := scores[label]) else None,
                "score_low": value.low if value else None,
                "score_high": value.high if value else None,
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
            "steps of any; score: the mean of (4 - r)/3 over them, r times the fewest, 0 from 4 and for a miss, with "
            f"its {CONFIDENCE:.0%} interval over seeds and candidates."
        )
        as_good = group.as_good()
        if len(as_good) > 1:
            notes.append(f"not told from one another as the best: {', '.join(as_good)}.")
    else:
        notes.append("no batch size counts, and so there is no profile and no score.")
    if left := [label for label in group.cells if label not in group.scored]:
        notes.append(f"left out of the scores, for too few batch sizes are shared with the others: {', '.join(left)}.")
    notes += _dimensions(group)
    if partial:
        notes.append(f"left out, for not every optimizer was measured there: {_listed(partial)}.")
    if group.missed:
        notes.append(f"counts for none, for every optimizer missed there: {_listed(group.missed)}.")
    return notes


def _dimensions(group: _Group) -> list[str]:
    """Spaces of more dimensions are searched less well by as many trials."""
    searched = {
        label: sum(isinstance(each, Dimension) for each in rows[0].study.content["space"].values())
        for label, rows in group.rows.items()
    }
    if len(set(searched.values())) < 2:
        return []
    trials = {label: int(rows[0].study.content["trials"]) for label, rows in group.rows.items()}
    told = "; ".join(f"{label} {count}, {best_of(trials[label], count):.2g}x" for label, count in searched.items())
    return [
        "doubt: spaces of unlike dimensions were searched by the trials given; dimensions, and by what factor the best "
        f"trial's steps are above the least, if these double at a quarter of any range from the best value: {told}."
    ]


def best_of(trials: int, dimensions: int) -> float:
    """By what factor the best of some uniform draws from a space is above the least, where log steps are a quadratic
    bowl that doubles steps at a quarter of the range: 2^(16 E r^2), r being the distance of the nearest draw.

    E r^2 = Gamma(1 + 2/d) (n V_d)^(-2/d), V_d the volume of the unit ball: of n points without borders.
    """
    if not dimensions:
        return 1.0
    ball = math.pi ** (dimensions / 2) / math.gamma(dimensions / 2 + 1)
    return float(2 ** (16 * math.gamma(1 + 2 / dimensions) * (trials * ball) ** (-2 / dimensions)))


def _listed(sizes: Sequence[int]) -> str:
    plural = "batch size" if len(sizes) == 1 else f"{len(sizes)} batch sizes,"
    return f"{plural} {', '.join(f'{size:,}' for size in sizes)}"
