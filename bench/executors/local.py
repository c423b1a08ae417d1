"""This machine: a fresh process for each study, one at a time per CUDA device, on a CPU one per core. A study
whose trials have several devices takes as many of these places, and a process on each.

Processes are forked from a server that has imported torch, so that a fresh one costs milliseconds, not seconds.
The parent never imports torch and alone holds the archive; workers send it events between timed stretches.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.ask import components
from bench.ask.plan import PlanUnit
from bench.contracts import Task
from bench.errors import BenchError, DeviceError
from bench.events import TERMINAL, Event, Failed
from bench.executors._in_worker import carry_out, rehearse
from bench.executors._place import Place
from bench.executors._worker import Worker, begin_server, end, wait_for_any
from bench.measure.environment import cores

# Importing these in the server is what makes a worker cheap; the first optimizer step imports torch._dynamo.
_PRELOAD = [
    "torch",
    "torch._dynamo",
    "scipy.stats.qmc",
    "bench.measure.task",
    "bench.measure.environment",
    "bench.measure.timing",
]


def local(devices: Sequence[str], stall_seconds: float) -> LocalExecutor:
    """The devices of this machine: those named, or every CUDA device, or where there is none the CPU."""
    return LocalExecutor(devices, stall_seconds)


class LocalExecutor:
    """Carries out tasks in processes of this machine; see `contracts.Executor`."""

    def __init__(
        self, devices: Sequence[str] = (), stall_seconds: float = math.inf, modules: Sequence[str] = ()
    ) -> None:
        """stall_seconds: a worker that says nothing for so long, not even of an evaluation, hangs, and is ended.
        modules: what workers find imported, beside what the units rehearsed need.
        """
        self._asked = list(devices)
        self._stall_seconds = stall_seconds
        self._modules = modules
        self._devices: list[str] = []

    def rehearse(self, units: Sequence[PlanUnit], folder: Path) -> list[str]:
        """Everything that would stop the units, found before any is begun; chooses the devices.

        Raises DeviceError where a device asked for is not there.
        """
        problems = self.try_out(units, folder)
        lacking = {each.workload.name: self._lacking(each) for each in units if not self._enough(each)}
        return [*problems, *lacking.values()]

    def try_out(self, units: Sequence[PlanUnit], folder: Path) -> list[str]:
        """The same, but for how many devices a unit asks for: what a worker finds, wherever units are to run."""
        preload = [*_PRELOAD, *self._modules, *modules_of(units)]
        begin_server(preload)
        worker = Worker(rehearse, (self._asked, list(units), folder))
        try:
            while not (answered := worker.answers_within(self._stall_seconds)):
                if not _written_since(folder, time.time() - self._stall_seconds):
                    break  # no download either
            answer = worker.receive() if answered else None
        finally:
            worker.end()
        if not answered:
            raise DeviceError(
                "the worker that tries out the suite's models and data was ended: no answer for "
                f"{self._stall_seconds:g} seconds; give it more with --stall-seconds"
            )
        match answer:
            case BenchError():
                raise answer
            case (devices, problems):
                self._devices = devices
                return list(problems)
            case _:
                raise DeviceError(
                    f"the worker that tries out the suite's models and data ended early: {worker.how_it_ended()[1]}; "
                    "'bench doctor' says what this machine offers"
                )

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        places = self._places()
        running: list[Place] = []
        try:
            while tasks or running:
                if tasks and not self._enough(tasks[0].unit):
                    task = tasks.popleft()
                    yield task, {}, Failed(self._lacking(task.unit))
                    continue
                while tasks and not (alone and running) and (devices := _taken(places, tasks[0])):
                    task = tasks.popleft()
                    # One thread a worker, whatever the machine: the number of threads can change the last digits of a
                    # sum.
                    threads = max(1, cores() // len(devices)) if alone else 1
                    worker = Worker(carry_out, (task, devices, threads))
                    running.append(Place(task, devices, worker, self._stall_seconds))
                wait_for_any((place.worker for place in running), min(place.seconds_left() for place in running))
                for place in list(running):
                    event = place.news()
                    if isinstance(event, TERMINAL):
                        place.worker.end()
                        running.remove(place)
                        places += place.devices
                    if event is not None:
                        yield place.task, place.environment, event
        finally:
            end(place.worker for place in running)

    def _enough(self, unit: PlanUnit) -> bool:
        """Whether this machine has the devices of a unit; a CPU is as many as it has cores."""
        kinds = Counter(place.partition(":")[0] for place in self._places())
        return unit.workload.devices <= max(kinds.values())

    def _lacking(self, unit: PlanUnit) -> str:
        places = self._places()
        there = f"{len(places)}, {', '.join(dict.fromkeys(places))}"
        return f"{unit.workload.name}: found devices: {unit.workload.devices}; this machine has {there}"

    def _places(self) -> list[str]:
        return [device for device in self._devices for _ in range(cores() if device == "cpu" else 1)]


def _taken(places: list[str], task: Task) -> list[str]:
    """Takes as many places as a task has devices, of one kind; none where too few are free."""
    count = task.unit.workload.devices
    for kind in dict.fromkeys(place.partition(":")[0] for place in places):
        found = [place for place in places if place.partition(":")[0] == kind][:count]
        if len(found) == count:
            for place in found:
                places.remove(place)
            return found
    return []


def _written_since(folder: Path, moment: float) -> bool:
    """Whether anything under a folder was written to after a moment, in seconds of the system's clock."""
    for place in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a download's half, renamed meanwhile
            if place.stat().st_mtime > moment:
                return True
    return False


def modules_of(units: Sequence[PlanUnit]) -> list[str]:
    """The modules of the units' components: workers of a server that has imported them find sklearn and torchvision
    loaded, and so take the same memory wherever they run.
    """
    used = {(f"{key}s", getattr(unit.workload, key).name) for unit in units for key in ("dataset", "model")}
    return [f"bench.{kind}.{name}" for kind, name in sorted(used) if name in components.names(kind)]
