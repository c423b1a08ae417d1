"""The trials of a cohort, each advanced in turn by an ordinary loop.

The loop does what a tight hand-written one does and nothing else: gather, forward, loss, backward, step. Whether a
loss was finite is asked once a stretch, so that a GPU is never waited for between evaluations.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from bench.ask.plan import Study, Trial
from bench.contracts import Observation
from bench.events import Way
from bench.examples import Data, Examples, Split
from bench.measure import augment, build, parallel
from bench.measure.clock import now
from bench.measure.evaluation import RandomStream, averages, evaluate, finite, observation, observing, spread, together
from bench.measure.losses import LOSSES
from bench.measure.memory import out_of_memory_named
from bench.measure.order import blocks, order_of
from bench.measure.state import Fields, Parts
from bench.measure.step import Step


class OneByOne:
    """Keeps the contract of `contracts.Cohort`, a trial after the other."""

    @out_of_memory_named()
    def __init__(self, study: Study, data: Data, device: torch.device, trials: Sequence[Trial], way: Way) -> None:
        self.way = way
        self._data = data
        self._device = device
        self._batch_size = study.batch_size
        self._augment = study.workload.entry.augment
        self._runs = {trial: _Run(study, data, device, trial) for trial in trials}
        self._orders = {
            trial.order_seed: order_of(study.workload.entry, data, study.batch_size, trial.order_seed)
            for trial in trials
        }
        self._step = 0
        # By the ids of trials; losses are those of each step since the last evaluation, still on the device.
        self._seconds = dict.fromkeys((trial.id for trial in trials), 0.0)
        self._losses: dict[str, list[Tensor]] = {trial.id: [] for trial in trials}

    @out_of_memory_named()
    def train(self, step: int) -> None:
        for steps in blocks(step - self._step, self._batch_size, next(iter(self._orders.values())).numbers):
            for seed, order in self._orders.items():
                sharing = [trial for trial in self._runs if trial.order_seed == seed]
                self._train(sharing, parallel.share(order.take(steps)))
        self._step = step

    def _train(self, trials: Sequence[Trial], rows: Tensor, units: int = 1) -> None:
        """Takes a step of each trial for each row of example numbers: [steps, batch_size, ...] that they share."""
        waiting = now(self._device)
        for examples, own in augment.pieces(self._data.train, rows, self._augment):
            waited = (now(self._device) - waiting) / len(trials)
            for trial in trials:
                started = now(self._device) - waited
                self._losses[trial.id] += self._runs[trial].train(examples, own, units)
                self._seconds[trial.id] += now(self._device) - started
            waiting = now(self._device)

    @out_of_memory_named()
    def advance(self, step: int, examples: int | None = None) -> dict[Trial, Observation]:
        self.train(step)
        validation = spread(self._data.validation, examples)
        seen = {
            trial: observation(step, together(self._losses[trial.id]), run.evaluate("validation", validation))
            for trial, run in self._runs.items()
        }
        self._losses = {trial.id: [] for trial in self._runs}
        self.drop([trial for trial, found in seen.items() if found.diverged_at is not None])
        return seen

    @out_of_memory_named()
    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        return {trial: finite(self._runs[trial].evaluate("test", self._data.test)) for trial in trials}

    def part(self, trials: Sequence[Trial]) -> Self:
        apart = copy.copy(self)
        apart.keep(trials)
        self.drop(trials)
        return apart

    def keep(self, trials: Sequence[Trial]) -> None:
        """Trains these trials alone from here on, with orders of its own: what is left of a copy of a cohort."""
        self._runs = {trial: self._runs[trial] for trial in trials}
        self._losses = {trial.id: [] for trial in trials}
        self._seconds = dict(self._seconds)
        self._orders = {trial.order_seed: self._orders[trial.order_seed].copy() for trial in trials}

    def drop(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            del self._runs[trial]
        self._orders = {trial.order_seed: self._orders[trial.order_seed] for trial in self._runs}

    def train_seconds(self, trial: Trial) -> float:
        return self._seconds[trial.id]

    def modules(self) -> list[nn.Module]:
        """The modules that are called."""
        return [run.model for run in self._runs.values()]

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        run = self._runs[trial]
        with averages(run.optimizer):
            return {name: value.clone() for name, value in run.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        return self._parts().state_dict()

    @out_of_memory_named()
    def restore(self, state: dict[str, Any]) -> None:
        self._parts().load_state_dict(state)

    def _parts(self) -> Parts:
        """What decides how training goes on from here; what the cohort keeps of a trial is named in its run."""
        return Parts(
            runs=Parts({trial.id: run.parts() for trial, run in self._runs.items()}),
            orders=Parts({str(seed): order for seed, order in self._orders.items()}),
            progress=Fields(self, "_step", "_seconds"),
        )


class _Run:
    """One trial's step, schedule and random numbers."""

    def __init__(self, study: Study, data: Data, device: torch.device, trial: Trial) -> None:
        workload = study.workload
        self._augment = workload.entry.augment
        self._outputs_an_example = data.outputs_an_example
        self._loss = LOSSES[data.loss]
        self._device = device
        self._ordinary = Step(workload, data, device, trial.init_seed, trial.metaparameters, study.largest_batch)
        self.model = self._ordinary.model
        self.optimizer = self._ordinary.optimizer
        self._groups = self.optimizer.param_groups
        self._schedule = build.schedule(workload, trial.metaparameters, study.batch_size)
        self._rates = [group["lr"] for group in self._groups]
        self._stream = RandomStream(trial.init_seed, device)
        self._factor = 1.0
        self._step = 0

    def train(self, examples: Split, rows: Tensor, units: int) -> list[Tensor]:
        """Takes a step for each row of the numbers of examples [steps, batch_size, ...]; its loss, still on the device.

        A step counts as so many units of the schedule's: more than one where the batch has grown.
        """
        losses = []
        with self._stream.drawn_from():
            for row in rows.unbind():
                self._set_rates(self._schedule(self._step))
                losses.append(self._ordinary.take(*augment.gathered(examples, row, self._augment)))
                self._step += units
        return parallel.averaged(losses)

    def _set_rates(self, factor: float) -> None:
        if factor != self._factor:
            self._factor = factor
            for group, rate in zip(self._groups, self._rates, strict=True):
                group["lr"] = rate * factor

    def parts(self) -> Parts:
        progress = Fields(self, "_step", "_factor")
        return Parts(ordinary=self._ordinary.parts(), stream=self._stream, progress=progress)

    def evaluate(self, name: str, split: Examples) -> dict[str, float]:
        def forward(inputs: Tensor) -> Tensor:
            return self._ordinary.forward(inputs).unsqueeze(0)

        with observing(self.model, self._device), averages(self.optimizer):
            average = self._ordinary.average
            return evaluate(forward, self._loss, split, name, 1, self._outputs_an_example, average)[0]
