"""This machine: a fresh process for each study, one at a time per CUDA device, on a CPU one per core.

Processes are forked from a server that has imported torch, so that a fresh one costs milliseconds, not seconds.
The parent never imports torch and alone holds the archive; workers send it events between timed stretches.
"""

from __future__ import annotations

import faulthandler
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
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
from bench.contracts import TERMINAL, Ended, Event, Lost, Outcome, Started, Task
from bench.errors import BenchError, DeviceError
from bench.plan import Study, Timing, Trial

# Importing these in the server is what makes a worker cheap; the first optimizer step imports torch._dynamo.
_PRELOAD = ["torch", "torch._dynamo", "scipy.stats.qmc", "bench.measure", "bench.environment", "bench.timing"]
# A worker that is asked to end has so many seconds for it.
_GRACE_SECONDS = 1.0
# Of what a worker wrote to stderr, the end is kept.
_LAST_WORDS_BYTES = 4096
_STDERR = 2


def local(devices: Sequence[str], stall_seconds: float) -> LocalExecutor:
    """The devices of this machine: those named, or every CUDA device, or where there is none the CPU."""
    return LocalExecutor(devices, stall_seconds)


class LocalExecutor:
    """Carries out tasks in processes of this machine; see `contracts.Executor`."""

    def __init__(
        self, devices: Sequence[str] = (), stall_seconds: float = math.inf, modules: Sequence[str] = ()
    ) -> None:
        """stall_seconds: a worker that says nothing for so long, not even of an evaluation, hangs, and is ended.
        modules: what workers find imported, beside what the studies rehearsed need.
        """
        self._asked = list(devices)
        self._stall_seconds = stall_seconds
        self._modules = modules
        self._devices: list[str] = []

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        """Everything that would stop the studies, found in a worker before any is begun; chooses the devices.

        Raises DeviceError where a device asked for is not there.
        """
        preload = [*_PRELOAD, *self._modules, *modules_of(studies)]
        multiprocessing.get_context("forkserver").set_forkserver_preload(preload)
        with _interrupts_held():
            forkserver.ensure_running()
        worker = _Worker(_rehearse, (self._asked, list(studies), folder))
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
        places = deque(self._devices[:1] if alone else self._places())
        # One thread a worker, whatever the machine: the number of threads can change the last digits of a sum.
        threads = cores() if alone else 1
        running: list[_Place] = []
        try:
            while tasks or running:
                while tasks and places:
                    device = places.popleft()
                    task = tasks.popleft()
                    worker = _Worker(_carry_out, (task, device, threads))
                    running.append(_Place(task, device, worker, self._stall_seconds))
                _wait_for_any((place.worker for place in running), min(place.seconds_left() for place in running))
                for place in list(running):
                    event = place.news()
                    if isinstance(event, TERMINAL):
                        place.worker.end()
                        running.remove(place)
                        places.append(place.device)
                    if event is not None:
                        yield place.task, place.environment, event
        finally:
            _end(place.worker for place in running)

    def _places(self) -> list[str]:
        return [device for device in self._devices for _ in range(cores() if device == "cpu" else 1)]


@dataclass
class _Place:
    """A device, and what runs there."""

    task: Task
    device: str
    worker: _Worker
    stall_seconds: float
    environment: dict[str, Any] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    training: set[Trial] = field(default_factory=set)
    # When the first of those that are training took its seat.
    seated: float = 0.0

    def news(self) -> Event | None:
        """What the worker says next, or what is to be said of it; None if that is nothing for now."""
        if self.worker.has_news():
            self.heard = time.monotonic()
            said: Event | dict[str, Any] | None = self.worker.receive()
            if said is None:
                signal_name, how = self.worker.how_it_ended()
                return self._lost(f"ended early: {how}", signal_name)
            if isinstance(said, dict):
                self.environment = said
                return None
            self._follow(said)
            return said
        if self.seconds_left() > 0:
            return None
        timed_out = time.monotonic() - self.heard < self._allowance()
        self.worker.end()
        if timed_out:
            most = self.task.study.workload.entry.max_seconds
            return self._lost(f"was ended: its trials trained for more than max_seconds, {most:g}", None, "timed out")
        return self._lost(f"was ended: no evaluation for {self._allowance():g} seconds", "SIGTERM")

    def _follow(self, said: Event) -> None:
        """Those that begin while others train replace one; that which begins anew begins the cohort anew."""
        match said:
            case Started(trials, seated_seconds):
                if self.training.isdisjoint(trials) and self.training:
                    self.training.update(trials)
                else:
                    self.training, self.seated = set(trials), self.heard - seated_seconds
            case Ended(trial):
                self.training.discard(trial)

    def _allowance(self) -> float:
        """How long it may say nothing. A timing says that it has begun, and no more until its end."""
        study = self.task.study
        return self.stall_seconds + (2 * study.workload.entry.timing.seconds if isinstance(study, Timing) else 0)

    def seconds_left(self) -> float:
        """Until the worker hangs, or its trials have trained for longer than they may."""
        study = self.task.study
        most = study.workload.entry.max_seconds if isinstance(study, Study) and self.training else None
        deadline = math.inf if most is None else self.seated + most
        return min(self.heard + self._allowance(), deadline) - time.monotonic()

    def _lost(self, how: str, signal_name: str | None, outcome: Outcome = "crashed") -> Lost:
        study = self.task.study
        where = f"{study.workload.name} at batch size {study.batch_size:,}: the worker on {self.device}"
        return Lost(f"{where} {how}", outcome, signal_name, self.worker.last_words())


class _Worker:
    """A process that runs one function and sends what it has to say; at the end of its words it is gone."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("forkserver")
        self.connection, theirs = context.Pipe()
        self.stderr, their_stderr = context.Pipe(duplex=False)
        self._stack, their_stack = context.Pipe(duplex=False)
        self._last_words = b""
        pipes = (theirs, their_stderr, their_stack)
        self._process: ForkServerProcess = context.Process(target=_main, args=(target, *pipes, arguments))
        with _blank_main():
            self._process.start()
        self.sentinel = self._process.sentinel
        for pipe in pipes:
            pipe.close()

    def has_news(self) -> bool:
        """Whether `receive` would answer at once."""
        return self.connection.poll() or not self._process.is_alive()

    def answers_within(self, seconds: float) -> bool:
        """Waits until `receive` would answer at once, at most so long; whether it would."""
        until = time.monotonic() + seconds
        while not self.has_news() and (left := until - time.monotonic()) > 0:
            _wait_for_any([self], left)
        return self.has_news()

    def receive(self) -> Any:
        """The next thing it says; None once it has ended."""
        while not self.has_news():
            _wait_for_any([self])
        # The process is watched beside its pipe: what it started may outlive it and hold the pipe open.
        if not self.connection.poll():
            return None
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None

    def pass_on(self) -> None:
        """Writes what it wrote to stderr to ours, and keeps the end of it."""
        while not self.stderr.closed and self.stderr.poll():
            written = os.read(self.stderr.fileno(), 2**16)
            if not written:
                self.stderr.close()
            self._last_words = (self._last_words + written)[-_LAST_WORDS_BYTES:]
            while written:
                written = written[os.write(_STDERR, written) :]

    def last_words(self) -> str:
        """The end of what it wrote to stderr, and where it stood when it fell or was asked to end, if it could say."""
        self.pass_on()
        stack = os.read(self._stack.fileno(), 2**16) if self._stack.poll() else b""
        # After the stack comes a list of everything that is loaded.
        return (self._last_words + stack.partition(b"Extension modules:")[0]).decode(errors="replace").strip()

    def how_it_ended(self) -> tuple[str | None, str]:
        """The name of the signal that ended it, if one did, and the end of a sentence."""
        self._process.join(5)
        code = self._process.exitcode
        if code is None or code >= 0:
            return None, f"exit code {code}"
        name = signal.Signals(-code).name
        return name, f"killed by {name}"

    def ask_to_end(self) -> None:
        """Sends SIGTERM to the process and everything it started."""
        self._signal(signal.SIGTERM)

    def end(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Ends the process and everything it started; what does not end when asked to is killed."""
        self._process.join(0.05)
        if self._process.is_alive():
            self.ask_to_end()
            self._process.join(grace_seconds)
        self._signal(signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _written_since(folder: Path, moment: float) -> bool:
    """Whether anything under a folder was written to after a moment, in seconds of the system's clock."""
    for place in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a download's half, renamed meanwhile
            if place.stat().st_mtime > moment:
                return True
    return False


def _end(workers: Iterable[_Worker]) -> None:
    """Ends workers within one time of grace for all."""
    running = list(workers)
    for worker in running:
        worker.ask_to_end()
    until = time.monotonic() + _GRACE_SECONDS
    for worker in running:
        worker.end(max(0.0, until - time.monotonic()))


def _wait_for_any(workers: Iterable[_Worker], seconds: float = math.inf) -> None:
    """Until a worker has news, at most so long; what workers write to stderr is passed on meanwhile."""
    running = list(workers)
    places = [place for worker in running for place in (worker.connection, worker.sentinel)]
    errors = [worker.stderr for worker in running if not worker.stderr.closed]
    wait([*places, *errors], None if seconds == math.inf else max(0.0, seconds))
    for worker in running:
        worker.pass_on()


def modules_of(studies: Sequence[Study | Timing]) -> list[str]:
    """The modules of the studies' components: workers of a server that has imported them find sklearn and torchvision
    loaded, and so take the same memory wherever they run.
    """
    used = {(f"{key}s", getattr(study.workload, key).name) for study in studies for key in ("dataset", "model")}
    return [f"bench.{kind}.{name}" for kind, name in sorted(used) if name in components.names(kind)]


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


def _main(
    target: Callable[..., None],
    connection: Connection,
    stderr: Connection,
    stack: Connection,
    arguments: tuple[Any, ...],
) -> None:
    os.setsid()  # a group of its own, so that whatever it starts can be ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    # stdout is for results, whatever a component prints.
    for stream in (sys.stderr, sys.stdout):
        os.dup2(stderr.fileno(), stream.fileno())
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    stderr.close()
    # Where it stood is among its last words, whether it fell or hung and was asked to end.
    faulthandler.enable(stack.fileno(), all_threads=False)
    faulthandler.register(signal.SIGTERM, stack.fileno(), all_threads=False, chain=True)
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
    measure.prepare(task)
    connection.send(environment.describe(torch.device(device)))
    for event in measure.carry_out(task, torch.device(device)):
        connection.send(event)
