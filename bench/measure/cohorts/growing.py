"""Trials whose batches grow: one by one, each with a batch and a data order of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch

from bench.ask.plan import Study, Trial
from bench.ask.search import seed_of
from bench.ask.suite import Adaptive
from bench.contracts import Observation
from bench.events import Way
from bench.examples import Data, Examples
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.evaluation import observation, spread
from bench.measure.growth import Batch
from bench.measure.memory import out_of_memory_named
from bench.measure.order import Order, blocks, order_of
from bench.measure.probing import Copies
from bench.measure.state import Fields, Parts
from bench.probes.noise_scale import noise_scale

# A look is at this many micro-batches, together as many examples as a step takes, or as these where that is fewer.
_MICRO_BATCHES = 16
_FEWEST_EXAMPLES = 256


@dataclass
class _Place:
    """Where a trial stands: the units it has seen, in how many steps of the optimizer, the units of the last of these,
    and where those since the last evaluation ended.
    """

    batch: Batch
    order: Order
    seen: int = 0
    steps: int = 0
    units: int = 1
    ends: list[int] = field(default_factory=list)

    def parts(self) -> Parts:
        """What decides how training goes on from an evaluation; nothing has ended since it."""
        batch = Fields(self.batch, "looks", "measured")
        return Parts(order=self.order, batch=batch, progress=Fields(self, "seen", "steps", "units"))


class Growing(OneByOne):
    """Keeps the contract of `contracts.Cohort` in units of the starting batch B: at step s a trial has seen s B
    examples, but for those that its next, larger step still waits for, in the order of a trial that does not grow.

    It also reads the `batch_size` of its last step, and `optimizer_steps` so far; and where the batch adapts, what it
    adapts to: `gradient_squared` and `noise_trace`, of examples that are drawn for it. A look is off the clock.
    """

    def __init__(self, study: Study, data: Data, device: torch.device, trials: Sequence[Trial], way: Way) -> None:
        super().__init__(study, data, device, trials, way)
        growth = study.workload.entry.growth
        assert growth is not None  # other studies have other cohorts
        self._adapts = isinstance(growth, Adaptive)
        self._copies = Copies(study, data, device)
        self._places = {
            trial: _Place(
                Batch(growth, study.batch_size),
                order_of(study.workload.entry, data, study.batch_size, trial.order_seed),
            )
            for trial in trials
        }

    @out_of_memory_named()
    def train(self, step: int) -> None:
        for trial in self._runs:
            place = self._places[trial]
            for units, steps in place.batch.stretches(place.seen, step):
                for some in blocks(steps, units * self._batch_size, place.order.numbers):
                    rows = place.order.take(some * units).flatten(0, 1).unflatten(0, (some, -1))
                    self._train([trial], rows, units)
                    place.ends += [place.seen + units * taken for taken in range(1, some + 1)]
                    place.seen += units * some
                    place.steps += some
                    place.units = units

    @out_of_memory_named()
    def advance(self, step: int, examples: int | None = None) -> dict[Trial, Observation]:
        self.train(step)
        validation = spread(self._data.validation, examples)
        seen = {trial: self._observe(trial, step, validation) for trial in self._runs}
        self.drop([trial for trial, found in seen.items() if found.diverged_at is not None])
        return seen

    def part(self, trials: Sequence[Trial]) -> Self:
        places = self._places
        apart = super().part(trials)
        apart._places = {trial: places[trial] for trial in trials}
        return apart

    def drop(self, trials: Sequence[Trial]) -> None:
        super().drop(trials)
        self._places = {trial: self._places[trial] for trial in self._runs}

    def _parts(self) -> Parts:
        return Parts(**super()._parts(), places=Parts({trial.id: each.parts() for trial, each in self._places.items()}))

    def _observe(self, trial: Trial, step: int, validation: Examples) -> Observation:
        place, losses = self._places[trial], self._losses[trial.id]
        readings = self._runs[trial].evaluate("validation", validation)
        if losses:  # or else the next step waits for more examples than there were since the last evaluation
            found = observation(len(losses), torch.stack(losses).cpu(), readings)
            if found.diverged_at is not None:
                return Observation(diverged_at=place.ends[found.diverged_at - 1])
            readings = found.readings
        self._losses[trial.id], place.ends = [], []
        looked = self._look(trial, step, place) if self._adapts else {}
        batch_size = place.units * self._batch_size
        return Observation({**readings, **looked, "batch_size": batch_size, "optimizer_steps": place.steps})

    def _look(self, trial: Trial, step: int, place: _Place) -> dict[str, float]:
        micro = max(_FEWEST_EXAMPLES, place.batch.units(place.seen) * self._batch_size) // _MICRO_BATCHES
        probe = noise_scale(small=micro, large=_MICRO_BATCHES * micro)
        weights = self.weights(trial)
        looked = self._copies.show(probe, trial, weights, seed_of("growth", trial.init_seed, step))
        if looked.keys() == {"gradient_squared", "noise_trace"}:
            place.batch.look(**looked)
        return looked
