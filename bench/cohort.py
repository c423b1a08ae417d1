"""Trains the trials of a cohort, from evaluation to evaluation, and reads them off the clock.

One by one: each trial in turn is advanced by an ordinary loop. The loop does what a tight hand-written one does and
nothing else: gather, forward, loss, backward, step. Whether a loss was finite is asked once a stretch, so that a GPU
is never waited for between evaluations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench import build
from bench.contracts import Data, Observation, Split
from bench.plan import Study, Trial

# Evaluation needs no more memory than a training step at the largest of these two.
_EVALUATION_EXAMPLES = 1_000
# Index rows are made this many numbers at a time, however long a stretch is.
_INDEX_BLOCK = 1_000_000


class Order:
    """The order in which a trial sees the training set: shuffled epochs end to end, cut into batches of one size.

    A batch may span two epochs, so every batch is full and every example is seen equally often. The order depends on
    the seed alone, not on the device or on how it is asked for.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._left = torch.empty(0, dtype=torch.int64)

    def take(self, steps: int) -> Tensor:
        """The next rows of example numbers: [steps, batch_size], int64, on the CPU."""
        wanted = steps * self._batch_size
        parts, have = [self._left], len(self._left)
        while have < wanted:
            parts.append(torch.randperm(self._examples, generator=self._generator))
            have += self._examples
        whole = torch.cat(parts)
        self._left = whole[wanted:]
        return whole[:wanted].view(steps, self._batch_size)

    def blocks(self, steps: int) -> Iterator[Tensor]:
        """The next `steps` rows, in pieces of bounded size."""
        rows = max(1, _INDEX_BLOCK // self._batch_size)
        for start in range(0, steps, rows):
            yield self.take(min(rows, steps - start))


class OneByOne:
    """A cohort whose trials are advanced in turn."""

    def __init__(self, study: Study, data: Data, device: torch.device, trials: Sequence[Trial]) -> None:
        self._data = data
        self._runs = {trial: _Run(study, data, device, trial) for trial in trials}
        examples, batch_size = len(data.train), study.batch_size
        self._orders = {trial.order_seed: Order(examples, batch_size, trial.order_seed) for trial in trials}
        self._step = 0
        self._seconds = dict.fromkeys(trials, 0.0)

    def advance(self, step: int) -> dict[Trial, Observation]:
        losses: dict[Trial, list[Tensor]] = {trial: [] for trial in self._runs}
        for seed, order in self._orders.items():
            for block in order.blocks(step - self._step):
                rows = block.to(self._data.train.targets.device)
                for trial, run in self._runs.items():
                    if trial.order_seed == seed:
                        started = run.clock()
                        losses[trial] += run.train(rows)
                        self._seconds[trial] += run.clock() - started
        before, self._step = self._step, step
        observed = {trial: self._observe(run, losses[trial], before) for trial, run in self._runs.items()}
        self.drop([trial for trial, observation in observed.items() if observation.diverged_at])
        return observed

    def _observe(self, run: _Run, losses: list[Tensor], before: int) -> Observation:
        stretch = torch.stack(losses)
        finite = stretch.isfinite()
        if not bool(finite.all()):
            return Observation(diverged_at=before + 1 + int((~finite).int().argmax()))
        readings = run.evaluate("validation", self._data.validation)
        if not all(map(math.isfinite, readings.values())):
            return Observation(diverged_at=self._step)
        return Observation({"train_loss": float(stretch.double().mean()), **readings})

    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        return {trial: self._runs[trial].evaluate("test", self._data.test) for trial in trials}

    def drop(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            del self._runs[trial]
        self._orders = {trial.order_seed: self._orders[trial.order_seed] for trial in self._runs}

    def train_seconds(self, trial: Trial) -> float:
        return self._seconds[trial]


class _Run:
    """One trial's model, optimizer, schedule and random state."""

    def __init__(self, study: Study, data: Data, device: torch.device, trial: Trial) -> None:
        workload = study.workload
        self._train = data.train
        self._device = device
        self._model = build.model(workload, data.example_shape, data.classes, device, trial.init_seed)
        self._optimizer = build.optimizer(workload, self._model.parameters(), trial.metaparameters)
        self._schedule = build.schedule(workload, trial.metaparameters)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._step = 0
        with self._random_state_kept():
            torch.manual_seed(trial.init_seed)
            self._random_state = self._get_random_state()

    def train(self, rows: Tensor) -> list[Tensor]:
        """Takes a step for each row of example numbers; the training loss of each, still on the device."""
        model, optimizer, groups = self._model, self._optimizer, self._optimizer.param_groups
        inputs, targets = self._train.inputs, self._train.targets
        losses = []
        with self._own_random_state():
            for row in rows.unbind():
                factor = self._schedule(self._step)
                for group, rate in zip(groups, self._rates, strict=True):
                    group["lr"] = rate * factor
                loss = functional.cross_entropy(model(inputs.index_select(0, row)), targets.index_select(0, row))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
                self._step += 1
        return losses

    def evaluate(self, split_name: str, split: Split) -> dict[str, float]:
        """Mean cross-entropy and share of errors over a split; changes no weight, buffer, mode or random state."""
        with observing(self._model), self._random_state_kept():
            loss, errors = torch.zeros(2, dtype=torch.float64, device=self._device)
            parts = zip(
                split.inputs.split(_EVALUATION_EXAMPLES), split.targets.split(_EVALUATION_EXAMPLES), strict=True
            )
            for inputs, targets in parts:
                outputs = self._model(inputs)
                loss += functional.cross_entropy(outputs, targets, reduction="sum")
                errors += (outputs.argmax(1) != targets).sum()
        return {f"{split_name}_loss": float(loss) / len(split), f"{split_name}_error": float(errors) / len(split)}

    def clock(self) -> float:
        """Seconds, read when the device has done all it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _get_random_state(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _set_random_state(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state, self._device)

    @contextmanager
    def _random_state_kept(self) -> Iterator[None]:
        before = self._get_random_state()
        try:
            yield
        finally:
            self._set_random_state(before)

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Dropout draws from the trial's own stream, whatever trials are advanced in between."""
        with self._random_state_kept():
            self._set_random_state(self._random_state)
            yield
            self._random_state = self._get_random_state()


@contextmanager
def observing(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
