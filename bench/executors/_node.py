"""What the executors of clusters have in common: what is kept on a node, and what is said of one that is lost."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.contracts import Task
from bench.events import Event, Lost
from bench.executors.local import LocalExecutor


class NodeExecutor(LocalExecutor):
    """On a node: a local executor with the devices that were reserved there; where something ran says which node."""

    def __init__(self, stall_seconds: float, modules: Sequence[str], path: Sequence[str], **about: str) -> None:
        """modules: what workers find imported.  path: where the run's own components lie.  about: what else to say."""
        sys.path[:] = path
        super().__init__((), stall_seconds, modules)
        self._about = {"node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(), **about}
        self.rehearse([], Path())  # chooses the devices

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        with closing(super().run(tasks, alone=alone)) as events:
            for task, environment, event in events:
                yield task, {**environment, **self._about}, event

    def carry_out(self, task: Task, alone: bool) -> Iterator[tuple[dict[str, Any], Event]]:
        for _, environment, event in self.run(deque([task]), alone=alone):
            yield environment, event


def lost(task: Task, how: str) -> Lost:
    """A node that is gone is no trial's fault."""
    return Lost(f"{task.study.workload.name} at batch size {task.study.batch_size:,}: {how}", "interrupted")
