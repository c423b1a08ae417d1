"""In a job of Slurm: a local executor on its node, which says in which job it is and where its log lies.

The job works for a run it dials in to (`work`), or by itself (`Detached`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Client
from typing import TYPE_CHECKING

from bench.contracts import Executor
from bench.executors._node import NodeExecutor

if TYPE_CHECKING:
    import submitit


def _executor(stall_seconds: float, modules: Sequence[str], path: Sequence[str]) -> NodeExecutor:
    """With the devices of the job that this runs in."""
    import submitit

    environment = submitit.JobEnvironment()
    return NodeExecutor(stall_seconds, modules, path, job=environment.job_id, log=str(environment.paths.stderr))


def end_at_once() -> None:
    """Slurm ends all processes of a job at once, and that a worker fell then is not to be told as a trial's fault."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


def work(address: tuple[str, int], key: bytes, stall_seconds: float, modules: list[str], path: list[str]) -> None:
    """Carries out what the run asks for, until it hangs up."""
    end_at_once()  # the connection breaks before anything is said of a worker
    executor = _executor(stall_seconds, modules, path)
    with Client(address, authkey=key) as connection, suppress(EOFError, ConnectionError):
        while True:
            task, alone = connection.recv()
            for where_and_event in executor.carry_out(task, alone):
                connection.send(where_and_event)


@dataclass(frozen=True)
class Detached:
    """Work of a job that no run waits for; submitit queues one whose time is up, or that is preempted, again."""

    work: Callable[[Executor], None]
    stall_seconds: float
    modules: Sequence[str]
    path: Sequence[str]

    def __call__(self) -> None:
        end_at_once()  # as if it were killed, which its archive survives
        self.work(_executor(self.stall_seconds, self.modules, self.path))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What the job does when it is begun again: the same, for its archive says what is left of it."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)
