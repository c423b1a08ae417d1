"""What a worker that carries out a task says, and what is to be said of it where it hangs, falls or takes too long."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.ask.plan import Study, Timing, Trial
from bench.contracts import OUT_OF_MEMORY, Task
from bench.events import Ended, Evaluated, Event, Finished, Lost, Outcome, Started
from bench.executors._worker import Worker


@dataclass
class Place:
    """The devices of a task, and what runs there."""

    task: Task
    devices: Sequence[str]
    worker: Worker
    stall_seconds: float
    environment: dict[str, Any] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    training: set[Trial] = field(default_factory=set)
    # When the first of those that are training took its seat, and the step that was evaluated last.
    seated: float = 0.0
    step: int = 0

    def news(self) -> Event | None:
        """What the worker says next, or what is to be said of it; None if that is nothing for now."""
        if self.worker.has_news():
            self.heard = time.monotonic()
            said: Event | dict[str, Any] | None = self.worker.receive()
            if said is None:
                return self._fallen()
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
            most = self.task.unit.workload.entry.max_seconds
            return self._lost(f"was ended: its trials trained for more than max_seconds, {most:g}", None, "timed out")
        return self._lost(f"was ended: no evaluation for {self._allowance():g} seconds", "SIGTERM")

    def _fallen(self) -> Event:
        """What is to be said of a worker that ended early.

        One of several ranks that runs out of memory ends it. With less in it the trials may fit; one alone does not.
        """
        signal_name, how = self.worker.how_it_ended()
        if len(self.devices) == 1 or self.worker.exit_code() != OUT_OF_MEMORY:
            return self._lost(f"ended early: {how}", signal_name)
        if len(self.training) > 1:
            return self._lost(f"ran out of memory with {len(self.training)} trials", None, "infeasible")
        return Ended(self.training.pop(), "infeasible", self.step, 0.0) if self.training else Finished()

    def _follow(self, said: Event) -> None:
        """Those that begin while others train replace one; that which begins anew begins the cohort anew."""
        match said:
            case Started(trials, seated_seconds):
                if self.training.isdisjoint(trials) and self.training:
                    self.training.update(trials)
                else:
                    self.training, self.seated, self.step = set(trials), self.heard - seated_seconds, 0
            case Evaluated(step):
                self.step = step
            case Ended(trial):
                self.training.discard(trial)

    def _allowance(self) -> float:
        """How long it may say nothing. A timing says that it has begun, and no more until its end."""
        unit = self.task.unit
        return self.stall_seconds + (2 * unit.workload.entry.timing.seconds if isinstance(unit, Timing) else 0)

    def seconds_left(self) -> float:
        """Until the worker hangs, or its trials have trained for longer than they may."""
        unit = self.task.unit
        most = unit.workload.entry.max_seconds if isinstance(unit, Study) and self.training else None
        deadline = math.inf if most is None else self.seated + most
        return min(self.heard + self._allowance(), deadline) - time.monotonic()

    def _lost(self, how: str, signal_name: str | None, outcome: Outcome = "crashed") -> Lost:
        where = f"{self.task.unit}: the worker on {', '.join(self.devices)}"
        return Lost(f"{where} {how}", outcome, signal_name, self.worker.last_words())
