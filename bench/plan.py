"""Suite -> workloads, studies, trials: what would be measured, each with an id that says what it is.

An id is a hash of content and a seed comes from names, so that adding a workload, a batch size or a trial leaves
every other trial as it was, and a run can find in the archive what it need not do again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from bench import components
from bench.search import Dimension, Value, draw, seed_of
from bench.suite import Entry, Race, Spec, Suite, Threshold

CONFIRM_BUDGET = 3
MOST_DRAWS = 2

Phase = Literal["search", "confirm"]


@dataclass(frozen=True)
class Trial:
    """One training run: a draw of metaparameters, two seeds and a budget. `number` counts within study and phase."""

    id: str
    phase: Phase
    number: int
    metaparameters: dict[str, Value] = field(hash=False)
    init_seed: int
    order_seed: int
    max_steps: int


@dataclass(frozen=True)
class Workload:
    """One model, dataset, optimizer and schedule, with a target: what a study measures at each batch size."""

    name: str
    entry: Entry
    model: Spec
    dataset: Spec
    optimizer: Spec
    schedule: Spec

    @property
    def reading(self) -> str:
        """The name of the reading the target is about."""
        return next(iter(self.entry.target))

    @property
    def threshold(self) -> Threshold:
        return next(iter(self.entry.target.values()))

    @property
    def slack(self) -> float | None:
        """How many times the best step trials may go; None where each goes on to its budget."""
        race = self.entry.race
        return race.slack if isinstance(race, Race) else 1.0 if race else None

    @cached_property
    def probes(self) -> dict[str, dict[str, Any]]:
        """The options of each probe, without `every`, which is the harness's."""
        return {
            name: {key: value for key, value in options.items() if key != "every"}
            for name, options in self.entry.probes.items()
        }

    @cached_property
    def space(self) -> dict[str, Dimension | Value]:
        """The part of the search space that this workload's optimizer and schedule take."""
        takers = [components.find("optimizers", self.optimizer.name), components.find("schedules", self.schedule.name)]
        space = self.entry.search.space
        return {key: space[key] for key in space if any(taker.option(key) for taker in takers)}

    def identity(self) -> dict[str, Any]:
        """What makes a trial's readings what they are, but for its draw, its seeds and its budget."""
        entry = self.entry
        return {
            "name": entry.name,
            **{key: getattr(self, key).model_dump() for key in ("model", "dataset", "optimizer", "schedule")},
            "target": {self.reading: self.threshold.model_dump(exclude_none=True)},
            "evaluate": entry.evaluate.model_dump(),
            "slack": self.slack,
            "sources": [
                components.find(f"{key}s", getattr(self, key).name).source
                for key in ("model", "dataset", "optimizer", "schedule")
            ],
            "precision": entry.precision,
            "training": entry.training,
            # Only where it is asked for: what was measured without it keeps its ids.
            **({"deterministic": True} if entry.deterministic else {}),
        }


@dataclass(frozen=True)
class Study:
    """One workload at one batch size."""

    workload: Workload
    batch_size: int

    @cached_property
    def id(self) -> str:
        entry = self.workload.entry
        space = {
            key: value.model_dump() if isinstance(value, Dimension) else value
            for key, value in self.workload.space.items()
        }
        extent = {
            "trials": entry.search.trials,
            "seeds": entry.confirm.seeds,
            "max_steps": entry.max_steps,
            "probes": self._probes(),
        }
        return _hash([self.workload.identity(), self.batch_size, space, extent])

    @property
    def most_steps(self) -> int:
        """The steps the study takes if every trial diverges or goes to the end, and every confirmation too."""
        entry = self.workload.entry
        return entry.max_steps * (MOST_DRAWS * entry.search.trials + CONFIRM_BUDGET * entry.confirm.seeds)

    @property
    def expected_cost(self) -> float:
        """A guess, in no unit, from the batch size B alone, so that the longest studies can be begun first.

        Steps fall as 1/B down to a floor, here as if the critical batch size were 256; a step costs its examples, and
        an overhead, here of 64 more.
        """
        entry = self.workload.entry
        steps, step = 1 / self.batch_size + 1 / 256, self.batch_size + 64
        return steps * step * (entry.search.trials + CONFIRM_BUDGET * entry.confirm.seeds)

    def draws(self) -> list[Trial]:
        """The trials of the search in order, and after them as many replacements for those that diverge."""
        entry = self.workload.entry
        values = draw(self.workload.space, self._seed("space"), MOST_DRAWS * entry.search.trials)
        order = self._seed("order")
        return [
            self._trial("search", number, point, self._seed("init", number), order, entry.max_steps)
            for number, point in enumerate(values)
        ]

    def confirmations(self, winner: Trial, steps: int) -> list[Trial]:
        """The winner again, with seeds and data orders of their own, for at most three times its steps to target."""
        return [
            self._trial(
                "confirm",
                number,
                winner.metaparameters,
                self._seed("confirm", "init", number),
                self._seed("confirm", "order", number),
                CONFIRM_BUDGET * steps,
            )
            for number in range(self.workload.entry.confirm.seeds)
        ]

    def evaluation_steps(self, validation_examples: int, until: int) -> Iterator[int]:
        """The steps at which a trial is evaluated, the last of them `until`.

        Gaps grow in proportion to the step, so that the relative resolution is alike at every batch size, and are
        never so small that more examples are evaluated than `cost` times those trained on.
        """
        evaluate = self.workload.entry.evaluate
        least = max(1, math.ceil(validation_examples / (evaluate.cost * self.batch_size)))
        step = 0
        while step < until:
            step = min(until, step + max(least, math.floor(evaluate.resolution * step)))
            yield step

    def probe_steps(self, until: int) -> dict[int, list[str]]:
        """The steps before `until` at which probes look, and which: 0, 1, f, f^2 .., f being a probe's `every`."""
        due: dict[int, list[str]] = {}
        for name, options in self.workload.entry.probes.items():
            factor = float(options.get("every", components.EVERY).removesuffix("x"))
            step, power = 0, 1.0
            while step < until:
                due.setdefault(step, []).append(name)
                while step >= power:
                    power *= factor
                step = math.ceil(power)
        return dict(sorted(due.items()))

    def _probes(self) -> dict[str, Any]:
        probes = self.workload.entry.probes
        return {name: [options, components.find("probes", name).source] for name, options in probes.items()}

    def _seed(self, *names: object) -> int:
        workload = self.workload
        parts = (workload.model, workload.dataset, workload.optimizer, workload.schedule)
        return seed_of(workload.entry.name, *parts, self.batch_size, *names)

    def _trial(
        self, phase: Phase, number: int, values: dict[str, Value], init_seed: int, order_seed: int, max_steps: int
    ) -> Trial:
        what = [self.workload.identity(), self.batch_size, phase, number, values, init_seed, order_seed, max_steps]
        if phase == "confirm":  # where probes look: one that looked at nothing has nothing to tell
            what.append(self._probes())
        return Trial(_hash(what), phase, number, values, init_seed, order_seed, max_steps)


@dataclass(frozen=True)
class Plan:
    """Everything a suite asks for."""

    suite: Suite
    workloads: tuple[Workload, ...]
    studies: tuple[Study, ...]

    def outside(self) -> list[str]:
        """The components that are anybody's own code, as `package.module:name`: what a run would run of it."""
        named = [
            spec.name
            for workload in self.workloads
            for spec in (workload.model, workload.dataset, workload.optimizer, workload.schedule)
        ]
        probes = [name for workload in self.workloads for name in workload.entry.probes]
        return sorted({name for name in (*named, *probes) if ":" in name and not name.startswith("torchvision:")})


def make(suite: Suite) -> Plan:
    """Spreads a suite's lists out into workloads and studies, in the suite's order."""
    workloads = tuple(
        Workload(name, entry, *specs) for entry in suite.content.workloads for name, *specs in entry.combinations()
    )
    studies = tuple(Study(workload, size) for workload in workloads for size in workload.entry.batch_sizes)
    return Plan(suite, workloads, studies)


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
