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
from typing import Any

from bench.ask.plan import Study, Timing
from bench.contracts import Task
from bench.events import Event, Lost, Outcome
from bench.executors.local import LocalExecutor


class NodeExecutor(LocalExecutor):
    """On a node: a local executor with the devices that were reserved there; where something ran says which node."""

    def __init__(self, stall_seconds: float, modules: Sequence[str], path: Sequence[str], **about: str) -> None:
        """modules: what workers find imported.  path: where the run's own components lie.  about: what else to say."""
        sys.path[:] = path
        super().__init__((), stall_seconds, modules)
        self._about = {"node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(), **about}
        self.rehearse([], Path())  # chooses the devices

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        """Everything that would stop the studies, but for devices that this node lacks: who lacks them fails in `run`,
        and no other.
        """
        return self.try_out(studies, folder)

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
