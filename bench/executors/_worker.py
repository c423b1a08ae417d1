"""A worker: a process that is forked from a server which has imported torch, and what becomes of it.

A fresh one costs milliseconds, not seconds. It sends what it has to say between timed stretches.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

# A worker that is asked to end has so many seconds for it.
_GRACE_SECONDS = 1.0
# Of what a worker wrote to stderr, the end is kept.
_LAST_WORDS_BYTES = 4096
_STDERR = 2


def begin_server(modules: list[str]) -> None:
    """Begins the server, which imports so many modules before the first worker is forked from it."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with _interrupts_held():
        forkserver.ensure_running()


class Worker:
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
            wait_for_any([self], left)
        return self.has_news()

    def receive(self) -> Any:
        """The next thing it says; None once it has ended."""
        while not self.has_news():
            wait_for_any([self])
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

    def exit_code(self) -> int | None:
        """That of a process that has ended, or less than zero the signal that ended it."""
        self._process.join(5)
        return self._process.exitcode

    def how_it_ended(self) -> tuple[str | None, str]:
        """The name of the signal that ended it, if one did, and the end of a sentence."""
        code = self.exit_code()
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


def end(workers: Iterable[Worker]) -> None:
    """Ends workers within one time of grace for all."""
    running = list(workers)
    for worker in running:
        worker.ask_to_end()
    until = time.monotonic() + _GRACE_SECONDS
    for worker in running:
        worker.end(max(0.0, until - time.monotonic()))


def wait_for_any(workers: Iterable[Worker], seconds: float = math.inf) -> None:
    """Until a worker has news, at most so long; what workers write to stderr is passed on meanwhile."""
    running = list(workers)
    places = [place for worker in running for place in (worker.connection, worker.sentinel)]
    errors = [worker.stderr for worker in running if not worker.stderr.closed]
    wait([*places, *errors], None if seconds == math.inf else max(0.0, seconds))
    for worker in running:
        worker.pass_on()


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
