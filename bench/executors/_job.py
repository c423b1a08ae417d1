"""In a job of Slurm: a local executor on its node, which says in which job it is and where its log lies.

The job works for a run it dials in to (`work`), or by itself (`Detached`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contracts import Event, Executor, Task
from bench.executors.local import LocalExecutor

if TYPE_CHECKING:
    import submitit


class JobExecutor(LocalExecutor):
    """The devices of the job that this runs in; where something ran says too which job it was."""

    def __init__(self, stall_seconds: float, modules: Sequence[str]) -> None:
        import submitit

        super().__init__((), stall_seconds, modules)
        environment = submitit.JobEnvironment()
        node = os.environ.get("SLURMD_NODENAME", environment.hostname)
        self._about = {"job": environment.job_id, "node": node, "log": str(environment.paths.stderr)}

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        with closing(super().run(tasks, alone=alone)) as events:
            for task, where, event in events:
                yield task, {**where, **self._about}, event


def end_at_once() -> None:
    """Slurm ends all processes of a job at once, and that a worker fell then is not to be told as a trial's fault."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


def work(address: tuple[str, int], key: bytes, stall_seconds: float, modules: list[str], path: list[str]) -> None:
    """Carries out what the run asks for, until it hangs up."""
    sys.path[:] = path
    end_at_once()  # the connection breaks before anything is said of a worker
    executor = JobExecutor(stall_seconds, modules)
    executor.rehearse([], Path())
    with Client(address, authkey=key) as connection, suppress(EOFError, ConnectionError):
        while True:
            task, alone = connection.recv()
            for _, where, event in executor.run(deque([task]), alone=alone):
                connection.send((where, event))


@dataclass(frozen=True)
class Detached:
    """Work of a job that no run waits for; submitit queues one whose time is up, or that is preempted, again."""

    work: Callable[[Executor], None]
    stall_seconds: float
    modules: Sequence[str]
    path: Sequence[str]

    def __call__(self) -> None:
        sys.path[:] = self.path
        end_at_once()  # as if it were killed, which its archive survives
        self.work(JobExecutor(self.stall_seconds, self.modules))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What the job does when it is begun again: the same, for its archive says what is left of it."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)
