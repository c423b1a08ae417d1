"""What a run shows while it goes on: one live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.ask.plan import Phase, Plan, PlanUnit, Timing, Trial
from bench.crossing import Crossing
from bench.events import TERMINAL, Ended, Evaluated, Event, Failed, Finished, Lost, Outcome, Recalled, Retried, Started


@dataclass
class _State:
    """What is to be said of one study."""

    unit: PlanUnit
    word: str = "waiting"
    phase: Phase = "search"
    training: dict[str, Crossing] = field(default_factory=dict)
    step: int = 0
    budget: int = 0
    # Steps to target, None for a miss, by id: a fresh worker says of some trials again how they ended.
    searched: dict[str, int | None] = field(default_factory=dict)
    confirmed: dict[str, int | None] = field(default_factory=dict)
    process: int = 0
    begun: float = 0.0
    took: float = 0.0

    def apply(self, event: Event) -> None:
        match event:
            case Started(trials):
                if self.word == "waiting":
                    self.word, self.begun = "training", time.monotonic()
                if isinstance(self.unit, Timing):
                    self.word, self.process = "timing", trials[0].number + 1
                if trials[0].phase != self.phase:
                    self.phase, self.step, self.training = trials[0].phase, 0, {}
                self.training |= {trial.id: self._followed() for trial in trials}
                self.budget = trials[0].max_steps
            case Recalled(known):
                for trial, what in known.items():
                    self._end(trial, what.outcome, what.reached_at)
            case Evaluated(step, readings):
                self.step = max(self.step, step)
                if isinstance(self.unit, Timing):
                    return
                reading = self.unit.workload.reading
                for name, seen in readings.items():
                    if reading in seen:
                        self.training[name].read(step, seen[reading])
            case Ended(trial, outcome):
                crossing = self.training.pop(trial.id, None)
                self._end(trial, outcome, crossing.at if crossing else None)
                if outcome == "infeasible":
                    self.word = "out of memory"
            case Finished():
                self.word = "done" if self.word != "out of memory" else self.word
            case Retried():
                # What ended is in hand; what was training is begun again.
                self.training, self.step = {}, 0
            case Failed() | Lost():
                self.word = "failed"
        if isinstance(event, TERMINAL) and self.begun:
            self.took = time.monotonic() - self.begun

    @property
    def over(self) -> bool:
        return self.word in ("done", "failed", "out of memory") and not self.training

    @property
    def best(self) -> int | None:
        """The fewest steps to target of a trial of the search that is settled."""
        return min((steps for steps in self.searched.values() if steps is not None), default=None)

    def _followed(self) -> Crossing:
        target = None if isinstance(self.unit, Timing) else self.unit.workload.threshold
        return Crossing(target.met, target.rule) if target else Crossing(lambda _: False)

    def _end(self, trial: Trial, outcome: Outcome, crossed: int | None) -> None:
        if outcome != "overtaken":  # it neither met its target nor missed it
            ended = self.confirmed if trial.phase == "confirm" else self.searched
            ended[trial.id] = crossed if outcome == "reached" else None

    def line(self) -> str:
        """The study in a few words, for a log."""
        name = f"{self.unit.workload.name}, batch size {self.unit.batch_size:,}"
        if isinstance(self.unit, Timing):
            name += f", {self.unit.measure}"
        if self.word != "done" or isinstance(self.unit, Timing):
            return f"{name}: {self.word} ({self.took:.1f} s)"
        found = "no trial met the target" if self.best is None else f"{self.best:,} steps to target"
        if self.unit.given:
            found = "with what the base confirmed"
        met = sum(steps is not None for steps in self.confirmed.values())
        confirmed = f", {met} of {len(self.confirmed)} seeds confirm" if self.confirmed else ""
        return f"{name}: done, {found}{confirmed} ({self.took:.1f} s)"


class Progress:
    """Follows the studies of a run."""

    def __init__(self, plan: Plan, missing: Sequence[PlanUnit]) -> None:
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._name = plan.suite.name
        self._kept = len(plan.units) - len(missing)
        self._states = {unit.id: _State(unit) for unit in missing}
        self._begun = time.monotonic()

    def apply(self, unit: PlanUnit, event: Event) -> None:
        state = self._states[unit.id]
        state.apply(event)
        if isinstance(event, Retried):
            self._console.print(event.message, highlight=False, soft_wrap=True, markup=False)
        if self._live is None and isinstance(event, TERMINAL):
            self._console.print(state.line(), highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def shown(self) -> Iterator[Progress]:
        """Shows the display while inside, on a terminal; afterwards it is gone, for the tables say more."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(
            get_renderable=self._render, console=self._console, transient=True, refresh_per_second=4
        ) as self._live:
            yield self
        self._live = None

    def _render(self) -> Group:
        states = list(self._states.values())
        ended = [state for state in states if state.over]
        training = [state for state in states if state.word in ("training", "timing")]
        head = f"{self._name}: {len(ended)} of {len(states)} studies done, {len(training)} running{self._time_left()}"
        if not ended and not training:
            head = f"{self._name}: trying out models and data"
        if self._kept:
            head += f"; {self._kept} more were measured before"
        table = Table(box=None, pad_edge=False)
        table.add_column("workload", no_wrap=True)
        table.add_column("batch size", no_wrap=True, justify="right")
        table.add_column("now", no_wrap=True)
        table.add_column("best", no_wrap=True, justify="right")
        # A long suite would not fit: what trains now, what came last, what comes next.
        waiting = [state for state in states if state.word == "waiting"]
        for state in [*ended[-8:], *training[:16], *waiting[:4]]:
            table.add_row(state.unit.workload.name, f"{state.unit.batch_size:,}", self._now(state), self._best(state))
        return Group(Text(head, style="bold"), table)

    def _now(self, state: _State) -> str:
        if state.word == "timing":
            of = state.unit.workload.entry.timing.processes
            return f"timing {state.unit.measure}, process {state.process}/{of}"
        if state.word != "training":
            return f"{state.word} ({state.took:.1f} s)" if state.took else state.word
        return f"{state.phase} {len(state.training)} x {state.step:,}/{state.budget:,}"

    def _best(self, state: _State) -> str:
        return "" if state.best is None else f"{state.best:,}"

    def _time_left(self) -> str:
        """From the pace so far, a study counting as a study: a guess, and said to be one."""
        ended = sum(state.over for state in self._states.values())
        if not ended:
            return ""
        left = (time.monotonic() - self._begun) * (len(self._states) - ended) / ended
        return f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
