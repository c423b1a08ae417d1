"""Workloads that differ in nothing but their number of devices, and what each batch size took on how many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.ask.forecast import step_seconds
from bench.ask.plan import apart_from_devices
from bench.conclude.measures import Summary, by_workload


@dataclass(frozen=True)
class Cell:
    """A batch size on a number of devices, timed.

    predicted: the seconds that its part of the batch takes on one device, without communication; None where that is
    not known, and of one device the step itself.
    """

    summary: Summary
    step_seconds: float
    predicted: float | None

    @property
    def devices(self) -> int:
        return self.summary.study.devices

    @property
    def batch_size(self) -> int:
        return self.summary.study.batch_size

    @property
    def part(self) -> float:
        """The examples of a batch that each device has."""
        return self.batch_size / self.devices

    @property
    def steps(self) -> float | None:
        """Steps to target; None where they are not known, or were not met."""
        steps = self.summary.steps_to_target
        return steps if steps is not None and math.isfinite(steps) else None

    @property
    def missed(self) -> bool:
        """Whether it was trained, and did not meet the target."""
        return self.summary.trained and self.summary.status == "measured" and self.steps is None

    @property
    def seconds_to_target(self) -> float | None:
        return self.steps * self.step_seconds if self.steps else None

    @property
    def communication(self) -> float | None:
        """The share of a step that its part of the batch does not account for; a little below 0 where that is nothing
        and a time is noisy. None of one device.
        """
        return None if self.devices == 1 or self.predicted is None else 1 - self.predicted / self.step_seconds


@dataclass(frozen=True)
class Group:
    """Workloads that differ in nothing but their devices: `rows` by number of devices, and the cells of what of them
    was timed.
    """

    name: str
    rows: Mapping[int, Sequence[Summary]]
    cells: Sequence[Cell]

    def strong(self) -> list[list[Cell]]:
        """The same batch on more and more devices."""
        return _series(self.cells, lambda cell: cell.batch_size)

    def weak(self) -> list[list[Cell]]:
        """The same part on more and more devices, and so a larger and larger batch."""
        return _series(self.cells, lambda cell: cell.part)


def groups(summaries: Sequence[Summary]) -> list[Group]:
    """Every set of workloads that differ in their devices alone, in their order."""
    alike: dict[tuple[str, str], dict[int, list[Summary]]] = {}
    for _, rows in by_workload(summaries, timed=True):
        study = rows[0].study
        rest = {key: value for key, value in study.content.items() if key != "devices"}
        key = apart_from_devices(study.workload, study.devices), json.dumps(rest, sort_keys=True, default=repr)
        alike.setdefault(key, {})[study.devices] = rows
    return [Group(name, rows, _cells(rows)) for (name, _), rows in alike.items() if len(rows) > 1]


def _cells(rows: Mapping[int, Sequence[Summary]]) -> list[Cell]:
    return [
        Cell(row, step, _predicted(row, rows.get(1, ())))
        for devices in sorted(rows)
        for row in rows[devices]
        if (step := _step(row)) is not None
    ]


def _step(row: Summary) -> float | None:
    return row.timed.seconds.median if row.timed and row.timed.seconds else None


def _predicted(row: Summary, of_one: Sequence[Summary]) -> float | None:
    """From steps that were timed on one device, as large a part of a CPU as each here, and never from beyond the sizes
    that were.
    """
    part = row.study.batch_size / row.study.devices
    alike = [each for each in of_one if threads_of(each) == threads_of(row)]
    alone = {each.study.batch_size: seconds for each in alike if (seconds := _step(each))}
    return step_seconds(alone, part) if alone and min(alone) <= part <= max(alone) else None


def threads_of(row: Summary) -> set[Any]:
    """How many threads each device of a CPU had when it was timed; those of a GPU's host add nothing to a step."""
    environments = [process.environment for process in row.timed.processes] if row.timed else []
    return {each["threads"] for each in environments if each.get("device_type") == "cpu" and "threads" in each}


def _series(cells: Sequence[Cell], alike: Callable[[Cell], float]) -> list[list[Cell]]:
    """Cells that are alike, in rising order of devices; one by itself says nothing."""
    found: dict[float, list[Cell]] = {}
    for cell in cells:
        found.setdefault(alike(cell), []).append(cell)
    return [found[key] for key in sorted(found) if len(found[key]) > 1]
