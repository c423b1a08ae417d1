"""A Slurm cluster: its jobs dial in to the run that submitted them, and carry out a study at a time for it.

A job keeps a local executor on its node, so that what a study does to its process is answered there. One that is
cancelled, preempted or lost is a broken connection, seen at once, or within minutes where its node says no goodbye; one
that Slurm requeues dials in again. Nothing is read from Slurm's accounting, which many clusters do not have. Detached
jobs dial in to nobody: each is given work that it does by itself.
"""

from __future__ import annotations

import math
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveInt

from bench.ask.plan import PlanUnit
from bench.contracts import Executor, Job, Task
from bench.errors import DeviceError
from bench.events import TERMINAL, Event
from bench.executors._node import RemoteTask, Suspects
from bench.executors._slurm_door import let_in, news
from bench.executors._slurm_job import Detached, work
from bench.executors._slurm_submitter import Submitter
from bench.executors.local import LocalExecutor, modules_of

if TYPE_CHECKING:
    import submitit

# A job is told 90 seconds before that its time is up: one with less would begin again and again.
_LEAST_MINUTES = 3
# How often it is asked how many jobs are left, where tasks wait for one.
_LOOK_SECONDS = 10.0
# So long without work, and those whose device failed are tried again, for nobody else comes.
_ALONE_SECONDS = 60.0


def slurm(
    devices: Sequence[str],
    stall_seconds: float,
    *,
    jobs: PositiveInt = 8,
    partition: str | None = None,
    account: str | None = None,
    gres: str | None = None,
    minutes: PositiveInt = 60,
    cpus: PositiveInt = 1,
    sbatch: dict[str, Any] | None = None,
    logs: str = "slurm-logs",
    host: str | None = None,
    cluster: Literal["slurm", "local"] = "slurm",
) -> SlurmExecutor:
    """At most `jobs` jobs of Slurm at a time, those apart whose device failed, which are kept and given nothing.

    A job that a run waits for carries out a study at a time, and a detached one as many as its devices have room for:
    ask for the devices of one study, or detach.

    partition, account, gres (such as `gpu:1`), cpus: what each job asks for.  minutes: so long it may take, 3 at
    least; it is told 90 seconds before that its time is up.  sbatch: what else to ask for, such as `{qos: high}`.
    logs: a folder that every node sees and nobody else can enter, for the jobs' logs.  host: the name under which the
    nodes reach this machine, if not its own.  cluster: `local` starts processes of this machine in place of jobs.
    """
    if devices:
        raise DeviceError(f"--device: found {', '.join(devices)}; a job has the devices that its gres asks for")
    if minutes < _LEAST_MINUTES:
        raise DeviceError(
            f"minutes: found {minutes}; should be at least {_LEAST_MINUTES}, or all of it is spent beginning"
        )
    submitter = Submitter(
        logs,
        cluster,
        sbatch or {},
        timeout_min=minutes,
        cpus_per_task=cpus,
        slurm_array_parallelism=jobs,
        slurm_partition=partition,
        slurm_account=account,
        slurm_gres=gres,
    )
    otherwise = cluster == "local" or any(key.startswith(("gpus", "gres", "cpus")) for key in sbatch or {})
    has = None if otherwise else asked_devices(gres, cpus)
    return SlurmExecutor(submitter, stall_seconds, jobs, host or socket.gethostname(), has)


def asked_devices(gres: str | None, cpus: int) -> tuple[int, str]:
    """How many devices a job has, and what asks for them: GPUs where its gres names any, such as `gpu:a100:2`."""
    asked = [each.partition("(")[0].split(":") for each in (gres or "").split(",")]
    gpus = sum(int(words[-1]) if words[-1].isdigit() else 1 for words in asked if words[0] == "gpu")
    return (gpus, f"gres={gres}") if gpus else (cpus, f"cpus={cpus}")


class SlurmExecutor:
    """Carries out tasks in jobs of Slurm; see `contracts.Executor`."""

    def __init__(
        self, submitter: Submitter, stall_seconds: float, jobs: int, host: str, has: tuple[int, str] | None = None
    ) -> None:
        """has: how many devices each job has, and what asks for them; None where that is not known."""
        self._submitter, self._stall_seconds, self.jobs, self._host = submitter, stall_seconds, jobs, host
        self._has = has
        self._modules: list[str] = []

    def rehearse(self, units: Sequence[PlanUnit], folder: Path) -> list[str]:
        """Everything that would stop the units, as this machine finds it."""
        self._modules = modules_of(units)
        problems = LocalExecutor(["cpu"], self._stall_seconds).try_out(units, folder)
        return [*problems, *dict.fromkeys(self._too_many(units))]

    def _too_many(self, units: Sequence[PlanUnit]) -> Iterator[str]:
        """Of those on more devices than a job has, which would have failed once they had waited for their turn."""
        most, option = self._has or (math.inf, "")
        for name, devices in ((each.workload.name, each.workload.devices) for each in units):
            if devices > most:
                yield f"{name}: found devices: {devices}; a job has {most}, as {option} asks for"

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        key = secrets.token_bytes(32)
        idle: list[Connection] = []
        running: dict[Connection, RemoteTask] = {}
        suspects: Suspects[Connection] = Suspects()
        jobs: list[submitit.Job[None]] = []
        heard, looked, worked = True, -math.inf, time.monotonic()
        with socket.create_server(("", 0)) as door:
            address = self._host, door.getsockname()[1]
            call = partial(work, address, key, self._stall_seconds, self._modules, sys.path)
            try:
                while tasks or running:
                    if tasks and not idle and time.monotonic() > looked + _LOOK_SECONDS:
                        wanted = 1 if alone else min(self.jobs, len(tasks) + len(running))
                        left, looked = self._submitter.left(jobs), time.monotonic()
                        if not left and not heard:
                            raise DeviceError(f"no job is left; see their logs in '{self._submitter.logs}'")
                        if left - len(suspects) < wanted:  # their time was up, say
                            jobs += self._submitter.submit([call] * (wanted - left + len(suspects)))
                            heard = False
                    if idle or running:
                        worked = time.monotonic()
                    elif time.monotonic() > worked + _ALONE_SECONDS:  # there is no other place
                        idle += suspects.let_go()
                    while tasks and idle:
                        connection, task = idle.pop(), tasks.popleft()
                        try:
                            connection.send((task, alone))
                        except OSError:  # it is gone, and was not seen to go
                            connection.close()
                            tasks.appendleft(task)
                        else:
                            running[connection] = RemoteTask(task)
                    for connection in idle:  # nothing is left for them, and others may wait for their nodes
                        connection.close()
                    idle.clear()
                    ready = wait([door, *running, *suspects], _LOOK_SECONDS)
                    for connection in [connection for connection in suspects if connection in ready]:
                        suspects.drop(connection)  # its job's time is up
                        connection.close()
                    idle += let_in(door, key) if door in ready else []
                    for connection in [connection for connection in running if connection in ready]:
                        heard, carried = True, running[connection]
                        event = news(connection, carried)
                        if isinstance(event, TERMINAL):
                            del running[connection]
                            idle += [] if carried.lost else suspects.free_after(connection, carried.task.unit, event)
                        yield carried.task, carried.environment, event
            finally:
                for connection in [*idle, *running, *suspects]:
                    connection.close()
                self._submitter.end(jobs)

    def detach(self, works: Sequence[Callable[[Executor], None]]) -> list[Job]:
        if self._submitter.cluster == "local":
            raise DeviceError("--detach: found cluster=local; nobody could ask for its processes, as Slurm is asked")
        told = self._stall_seconds, self._modules, sys.path.copy()
        submitted = self._submitter.submit([Detached(work, *told) for work in works])
        return [Job(job.job_id, str(job.paths.stderr)) for job in submitted]
