"""This machine: a fresh process for each study, one at a time per CUDA device, on a CPU one per core.

Processes are forked from a server that has imported torch, so that a fresh one costs milliseconds, not seconds.
The parent never imports torch and alone holds the archive; workers send it events between timed stretches.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from bench import components
from bench.contracts import TERMINAL, Event, Lost, Task
from bench.errors import BenchError, DeviceError
from bench.plan import Study, Timing

# Importing these in the server is what makes a worker cheap; the first optimizer step imports torch._dynamo.
_PRELOAD = ["torch", "torch._dynamo", "scipy.stats.qmc", "bench.measure", "bench.environment", "bench.timing"]


class LocalExecutor:
    """Carries out tasks in processes of this machine; see `contracts.Executor`."""

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self._asked = list(devices)
        self._devices: list[str] = []

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        """Everything that would stop the studies, found in a worker before any is begun; chooses the devices.

        Raises DeviceError where a device asked for is not there.
        """
        # A server started later has its components imported: the workers find sklearn and torchvision loaded.
        used = {(f"{key}s", getattr(study.workload, key).name) for study in studies for key in ("dataset", "model")}
        preload = [f"bench.{kind}.{name}" for kind, name in sorted(used) if name in components.names(kind)]
        multiprocessing.get_context("forkserver").set_forkserver_preload([*_PRELOAD, *preload])
        with _interrupts_held():
            forkserver.ensure_running()
        worker = _Worker(_rehearse, (self._asked, list(studies), folder))
        try:
            answer = worker.receive()
        finally:
            worker.end()
        match answer:
            case BenchError():
                raise answer
            case (devices, problems):
                self._devices = devices
                return list(problems)
            case _:
                raise DeviceError(
                    f"the worker that tries out the suite's models and data ended early: {worker.how_it_ended()}; "
                    "'bench doctor' says what this machine offers"
                )

    def run(self, tasks: Iterator[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        places = deque(self._devices[:1] if alone else self._places())
        # One thread a worker, whatever the machine: the number of threads can change the last digits of a sum.
        threads = cores() if alone else 1
        running: list[_Place] = []
        try:
            while True:
                while places and (task := next(tasks, None)):
                    device = places.popleft()
                    running.append(_Place(task, device, _Worker(_carry_out, (task, device, threads))))
                if not running:
                    return
                _wait_for_any(place.worker for place in running)
                for place in list(running):
                    if not place.worker.has_news():
                        continue
                    event = place.worker.receive()
                    if isinstance(event, dict):
                        place.environment = event
                        continue
                    if event is None:
                        event = Lost(f"the worker on {place.device} ended early: {place.worker.how_it_ended()}")
                    if isinstance(event, TERMINAL):
                        place.worker.end()
                        running.remove(place)
                        places.append(place.device)
                    yield place.task, place.environment, event
        finally:
            for place in running:
                place.worker.end()

    def _places(self) -> list[str]:
        return [device for device in self._devices for _ in range(cores() if device == "cpu" else 1)]


@dataclass
class _Place:
    """A device, and what runs there."""

    task: Task
    device: str
    worker: _Worker
    environment: dict[str, Any] = field(default_factory=dict)


class _Worker:
    """A process that runs one function and sends what it has to say; at the end of its words it is gone."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("forkserver")
        self.connection, theirs = context.Pipe()
        self._process: ForkServerProcess = context.Process(target=_main, args=(target, theirs, arguments))
        with _blank_main():
            self._process.start()
        self.sentinel = self._process.sentinel
        theirs.close()

    def has_news(self) -> bool:
        """Whether `receive` would answer at once."""
        return self.connection.poll() or not self._process.is_alive()

    def receive(self) -> Any:
        """The next thing it says; None once it has ended."""
        _wait_for_any([self])
        # The process is watched beside its pipe: what it started may outlive it and hold the pipe open.
        if not self.connection.poll():
            return None
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None

    def how_it_ended(self) -> str:
        self._process.join(5)
        code = self._process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"

    def end(self) -> None:
        """Ends the process and everything it started."""
        self._process.join(0.05)
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self.connection.close()


def _wait_for_any(workers: Iterable[_Worker]) -> None:
    wait([place for worker in workers for place in (worker.connection, worker.sentinel)])


def cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """The server ignores Ctrl-C only once it has imported everything; what it inherits covers the time before."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _blank_main() -> Iterator[None]:
    """A child imports its parent's main module anew; ours has nothing that a worker needs."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# ---- in the worker ------------------------------------------------------------------------------------------------


def _main(target: Callable[..., None], connection: Connection, arguments: tuple[Any, ...]) -> None:
    os.setsid()  # a group of its own, so that whatever it starts can be ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # stdout is for results, whatever a component prints
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    # The server made fork's choices for its children; a DataLoader in one must not start a server of its own.
    multiprocessing.set_start_method("fork", force=True)
    target(connection, *arguments)


def _end_with_parent(connection: Connection) -> None:
    """The parent never speaks: what arrives is the end of the pipe, when the parent is gone."""
    wait([connection])
    os.killpg(os.getpid(), signal.SIGKILL)


def _rehearse(connection: Connection, asked: list[str], studies: list[Study | Timing], folder: Path) -> None:
    try:
        from bench import environment, measure

        connection.send((environment.devices(asked), measure.rehearse(studies, folder)))
    except BenchError as error:
        connection.send(error)
    except (ImportError, OSError) as error:
        connection.send(
            DeviceError(f"a worker cannot import what it needs: {error}; 'bench doctor' says what to install")
        )


def _carry_out(connection: Connection, task: Task, device: str, threads: int) -> None:
    import torch

    from bench import environment, measure, memory

    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # streams and graphs are made on the current device
    else:
        memory.stop_at_what_is_free()
    connection.send(environment.describe(torch.device(device)))
    for event in measure.carry_out(task, torch.device(device)):
        connection.send(event)
