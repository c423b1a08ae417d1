"""What the executors of clusters have in common: what is kept on a node, and what is heard of a task there."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from bench.ask.plan import PlanUnit
from bench.contracts import Task
from bench.events import Event, Failed, Lost, Outcome
from bench.executors.local import LocalExecutor

Seat = TypeVar("Seat")


class NodeExecutor(LocalExecutor):
    """On a node: a local executor with the devices that were reserved there; where something ran says which node."""

    def __init__(self, stall_seconds: float, modules: Sequence[str], path: Sequence[str], **about: str) -> None:
        """modules: what workers find imported.  path: where the run's own components lie.  about: what else to say."""
        sys.path[:] = path
        super().__init__((), stall_seconds, modules)
        self._about = {"node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(), **about}
        self.rehearse([], Path())  # chooses the devices

    def rehearse(self, units: Sequence[PlanUnit], folder: Path) -> list[str]:
        """Everything that would stop the units, but for devices that this node lacks: who lacks them fails in `run`,
        and no other.
        """
        return self.try_out(units, folder)

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        with closing(super().run(tasks, alone=alone)) as events:
            for task, environment, event in events:
                yield task, {**environment, **self._about}, event

    def carry_out(self, task: Task, alone: bool) -> Iterator[tuple[dict[str, Any], Event]]:
        for _, environment, event in self.run(deque([task]), alone=alone):
            yield environment, event


@dataclass
class RemoteTask:
    """A task that a node carries out: in which environment, once anything was heard of it, and whether it was lost."""

    task: Task
    environment: dict[str, Any] = field(default_factory=dict)
    lost: bool = False

    def told(self, said: tuple[dict[str, Any], Event]) -> Event:
        """The event, of what was said of it."""
        self.environment, event = said
        return event

    def lose(self, how: str, outcome: Outcome = "interrupted") -> Event:
        """What is to be said where what carried it out is gone: with its node, which is no trial's fault, if not by an
        outcome of its trials.
        """
        self.lost = True
        return Lost(f"{self.task.unit}: {how}", outcome)


class Suspects(Generic[Seat]):
    """Where a device failed. Nothing more is begun there, and its devices are kept, so that nobody is sent to them,
    until the same unit has failed of a device elsewhere too: then it is the unit that is at fault.
    """

    def __init__(self) -> None:
        self._held: dict[Seat, str] = {}

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def free_after(self, seat: Seat, unit: PlanUnit, event: Event) -> list[Seat]:
        """Where something may be begun now that a unit has ended in a seat: nowhere, if that is held."""
        if not (isinstance(event, Failed) and event.of_device):
            return [seat]
        if unit.id not in self._held.values():
            self._held[seat] = unit.id
            return []
        return [seat, *self._let_go([held for held, of in self._held.items() if of == unit.id])]

    def let_go(self) -> list[Seat]:
        """All that are held, where there is nowhere else left."""
        return self._let_go(list(self._held))

    def drop(self, seat: Seat) -> None:
        """Forgets one that is there no longer."""
        del self._held[seat]

    def _let_go(self, seats: list[Seat]) -> list[Seat]:
        for seat in seats:
            del self._held[seat]
        return seats
