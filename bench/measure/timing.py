"""Times one ordinary training step, or a forward pass alone, in a process that does nothing else.

Warmed up until steady (the first step, in which things are compiled and chosen, is kept apart), then window after
window of steps, the device synchronised at both edges of each, until the median of the windows is known well enough.

Ranks that train together time together: each window begins when all are there and lasts until the last is done, and so
does the clock that says when time is up, so that all take the same steps.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bench.ask.plan import Timing, Trial
from bench.ask.suite import Augment
from bench.contracts import OutOfMemory
from bench.events import Ended, Evaluated, Started, StudyEvent
from bench.examples import Data, Examples, Split
from bench.measure import augment, build, limits, parallel
from bench.measure.clock import seconds_of
from bench.measure.conditions import Watch
from bench.measure.feeds import Streamed, reading
from bench.measure.memory import Peak, out_of_memory_named, process_peak_bytes
from bench.measure.order import Order, order_of
from bench.measure.step import Step
from bench.stats import median_interval

# A window is long against what reading a clock and synchronising take, and a step may be shorter.
WINDOW_SECONDS = 0.02
# Fewer windows say nothing of their median, and a precision is not believed of fewer than these.
_FEWEST_WINDOWS = 3
_FEWEST_PRECISE = 10
# Two windows in a row within this share of each other are steady.
_STEADY = 0.05


def run(timing: Timing, trial: Trial, folder: Path, device: torch.device) -> Iterator[StudyEvent]:
    """Times a step in this process, which should be fresh, as the trial of a timing. Out of memory is its outcome.

    Readings at step 0 are of the whole, those at step 1, 2, ... of one window each. The outcome is `reached` where the
    asked precision was, `exhausted` where time was up before.
    """
    yield Started((trial,))
    peak = Peak(device)
    options = timing.workload.entry.timing
    try:
        with out_of_memory_named():
            data = build.data(timing.workload, folder, device)
            with reading(data), closing(_Work(timing, trial, data, device)) as work:
                peak.restart()
                warm = warm_up(work, device, options.seconds)
                watch = Watch(device)
                taken = list(windows(work, warm.steps_a_window, device, options.precision, options.seconds))
                once = {**warm.readings(), **watch.readings(), "peak_memory_bytes": float(peak.bytes())}
                once["process_peak_bytes"] = float(process_peak_bytes())
    except OutOfMemory:
        yield Evaluated(0, {trial.id: {"peak_memory_bytes": float(peak.bytes())}})
        yield Ended(trial, "infeasible", 0, 0.0)
        return
    with suppress(OutOfMemory), out_of_memory_named(awaited=False):  # what has been timed stands without it
        once |= work.readings(warm.steps_a_window)
    yield Evaluated(0, {trial.id: once})
    for number, window in enumerate(taken, start=1):
        yield Evaluated(number, {trial.id: window.readings()})
    precise = relative_precision([window.step_seconds for window in taken]) <= options.precision
    seconds = sum(window.step_seconds * window.steps for window in taken)
    yield Ended(trial, "reached" if precise else "exhausted", len(taken), seconds)


# ---- the clock ------------------------------------------------------------------------------------------------------


class Timeable(Protocol):
    """Work that can be timed, so many steps at a time."""

    def prepare(self, steps: int) -> None:
        """Makes ready, off the clock, what so many steps need."""

    def run(self, steps: int) -> None:
        """Carries out so many steps."""


class Window(NamedTuple):
    """So many steps, timed together."""

    steps: int
    step_seconds: float

    def readings(self) -> dict[str, float]:
        return {"step_seconds": self.step_seconds}


class WarmUp(NamedTuple):
    """The steps before the first window."""

    first_step_seconds: float
    seconds: float
    steps: int
    steps_a_window: int
    steady: bool

    def readings(self) -> dict[str, float]:
        return {
            "steady": float(self.steady),
            "first_step_seconds": self.first_step_seconds,
            "warm_up_seconds": self.seconds,
            "warm_up_steps": float(self.steps),
            "window_steps": float(self.steps_a_window),
        }


def warm_up(work: Timeable, device: torch.device, most_seconds: float) -> WarmUp:
    """Takes steps until a window takes as long as the one before, both long enough to be timed.

    Where they never do, the first that are long enough after `most_seconds` end it, and it is not `steady`.
    """
    first = _window(work, 1, device)
    steps, taken, begun = 1, 1, time.perf_counter()
    before = math.inf
    while True:
        window = _window(work, steps, device)
        taken += steps
        length = window.step_seconds * steps
        if length < WINDOW_SECONDS:
            wanted = round(1.5 * WINDOW_SECONDS / max(window.step_seconds, 1e-9))
            steps, before = min(10 * steps, max(steps + 1, wanted)), math.inf
            continue
        steady = abs(window.step_seconds / before - 1) <= _STEADY
        elapsed = parallel.largest(time.perf_counter() - begun)
        if steady or (before < math.inf and elapsed >= most_seconds):
            seconds = elapsed + first.step_seconds
            return WarmUp(first.step_seconds, seconds, taken, steps, steady)
        before = window.step_seconds


def windows(work: Timeable, steps: int, device: torch.device, wanted: float, most_seconds: float) -> Iterator[Window]:
    """Times windows of so many steps until the share of it that is wanted bounds their median, or time is up."""
    seen: list[float] = []
    begun = time.perf_counter()
    looked = 0
    while True:
        window = _window(work, steps, device)
        seen.append(window.step_seconds)
        yield window
        if len(seen) >= 1.1 * looked:  # seldom, where there are many: the device is kept busy
            looked = len(seen)
            if relative_precision(seen) <= wanted:
                return
        elapsed = parallel.largest(time.perf_counter() - begun)
        if len(seen) >= _FEWEST_WINDOWS and elapsed >= most_seconds:
            return


def relative_precision(step_seconds: list[float]) -> float:
    """How far the median's interval reaches from it, as a share of it; infinite for few windows."""
    if len(step_seconds) < _FEWEST_PRECISE:
        return float("inf")
    known = median_interval(step_seconds)
    return max(known.high - known.median, known.median - known.low) / known.median


def _window(work: Timeable, steps: int, device: torch.device) -> Window:
    work.prepare(steps)
    parallel.of_all(None)  # none begins before all are here
    return Window(steps, parallel.largest(seconds_of(work.run, steps, device)) / steps)


# ---- the work -------------------------------------------------------------------------------------------------------


class _Work:
    """The step, or the forward pass, of a workload, on batches as its trials see them."""

    def __init__(self, timing: Timing, trial: Trial, data: Data, device: torch.device) -> None:
        workload = timing.workload
        if timing.measure == "inference":  # the batch that a forward pass answers is whole, and as it is
            workload = replace(workload, entry=workload.entry.model_copy(update={"micro_batch": None, "augment": None}))
        self._timing, self._entry = timing, workload.entry
        self._data, self._device = data, device
        self._few = data.train.first(2)
        order = order_of(workload.entry, data, timing.batch_size, trial.order_seed)
        self._feed: _DeviceFeed | _LoaderFeed
        if isinstance(data.train, Streamed):
            self._feed = _LoaderFeed(data.train, order, workload.entry.augment)
        else:
            self._feed = _DeviceFeed(data.train, order, workload.entry.augment)
        self._step = Step(workload, data, device, trial.init_seed, trial.metaparameters, timing.batch_size)
        self._act: Callable[[Tensor, Tensor], object] = self._step.take
        if timing.measure == "inference":
            self._step.model.eval()
            self._act = self._forward

    def prepare(self, steps: int) -> None:
        self._feed.prepare(steps)

    def run(self, steps: int) -> None:
        act = self._act
        for inputs, targets in self._feed.batches(steps):
            act(inputs, targets)

    def close(self) -> None:
        """Nothing is read for it any more."""
        self._feed.close()

    def readings(self, steps: int) -> dict[str, float]:
        """What can be said of the step off the clock, once it has been timed, and of what the device can do."""
        held = limits.held_bytes(self._step)
        counted = limits.operations(
            self._step, self._few.inputs, self._few.targets, training=self._timing.measure == "throughput"
        )
        seen = {
            "operations": counted * self._timing.batch_size / parallel.size(),  # of each device
            "micro_batch": float(self._step.micro_batch),
            **held,
            **limits.ceilings(self._device, self._timing.workload.entry.precision),
        }
        if isinstance(self._data.train, Streamed):
            seen["resident_step_seconds"] = self._resident_step_seconds(steps)
        return seen

    def _resident_step_seconds(self, steps: int) -> float:
        """Seconds of a step whose examples lie on the device: what a loader makes it wait for comes on top."""
        with reading(self._data):
            train = self._data.train.first(self._timing.batch_size)
        order = order_of(self._entry, replace(self._data, train=train), len(train), seed=0)
        self._feed = _DeviceFeed(train, order, self._entry.augment)
        return statistics.median(_window(self, steps, self._device).step_seconds for _ in range(_FEWEST_WINDOWS))

    def _forward(self, inputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002 (a step's arguments)
        with torch.no_grad():
            return self._step.forward(inputs)


class _DeviceFeed:
    """Batches gathered from examples that lie on the device, as the trials of a study see them."""

    def __init__(self, train: Examples, order: Order, change: Augment | None) -> None:
        self._train, self._order, self._augment = train, order, change
        self._pieces: list[tuple[Split, Tensor]] = []

    def prepare(self, steps: int) -> None:
        self._pieces = list(augment.pieces(self._train, parallel.share(self._order.take(steps)), self._augment))

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        for examples, rows in self._pieces:
            for row in rows[:steps].unbind():
                yield augment.gathered(examples, row, self._augment)

    def close(self) -> None:
        self._pieces = []


class _LoaderFeed:
    """Batches that are read ahead of the steps that take them."""

    def __init__(self, train: Streamed, order: Order, change: Augment | None) -> None:
        self._augment = change
        self._asked = asked = deque[Tensor]()

        def numbers() -> Iterator[Tensor]:
            while True:
                (row,) = order.take(1)
                asked.append(row)
                yield row if change is None else row[:, 0]

        self._batches = train.batches(numbers())

    def prepare(self, steps: int) -> None:
        """Nothing: they are read ahead whatever is timed."""

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in itertools.islice(self._batches, steps):
            yield augment.changed(batch.whole(), self._asked.popleft(), self._augment)

    def close(self) -> None:
        self._batches.close()
