"""The trials of a cohort as one program: parameters, buffers and optimizer state carry a leading trial axis.

The forward pass is vmapped over trials, and one ordinary backward of the summed loss gives every trial its gradient:
trials share no parameter, so the gradient of the sum is each one's own. The optimizer is the real one: a trial's
parameters are views into the stacked tensors and make parameter groups of their own, with their own learning rate and
momentum, so what works one by one works stacked and no optimizer is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bench.ask.plan import Study, Trial
from bench.contracts import Observation
from bench.events import Way
from bench.examples import Data, Examples, Split
from bench.measure import augment, build, precision
from bench.measure.clock import now
from bench.measure.cohorts.cuda_graph import GraphedStep, capturable
from bench.measure.ema import Average
from bench.measure.evaluation import RandomStream, averages, evaluate, finite, observation, observing, spread, together
from bench.measure.losses import LOSSES
from bench.measure.memory import out_of_memory_named
from bench.measure.order import blocks, order_of
from bench.measure.state import Fields, NothingElse, OfOptimizer, Parts, Tensors
from bench.measure.step import repeatable


class Stacked:
    """Keeps the contract of `contracts.Cohort`, all trials at once.

    Dropout draws apart for each trial, from one stream for the cohort: it is the one thing that differs from training
    the trials one by one, but for rounding.
    """

    @out_of_memory_named()
    def __init__(self, study: Study, data: Data, device: torch.device, trials: Sequence[Trial], way: Way) -> None:
        workload = study.workload
        self.way = way
        self._made_of = study, data, device
        self._data = data
        self._loss = LOSSES[data.loss]
        self._device = device
        self._batch_size = study.batch_size
        self._precision = workload.entry.precision
        self._trials = list(trials)
        self._step = 0
        self._graphed: GraphedStep | None = None
        # What a step gathers its batch from.
        self._examples: Split | None = None
        self._seconds = dict.fromkeys((trial.id for trial in trials), 0.0)
        # [trials], of each step since the last evaluation, still on the device.
        self._losses: list[Tensor] = []
        self._augment = workload.entry.augment
        self._orders = {
            trial.order_seed: order_of(study.workload.entry, data, study.batch_size, trial.order_seed)
            for trial in trials
        }
        self._schedules = [build.schedule(workload, trial.metaparameters, study.batch_size) for trial in trials]
        self._stream = RandomStream(trials[0].init_seed, device)
        models = [build.model(workload, data, torch.device("cpu"), trial.init_seed) for trial in trials]
        parameters, buffers = stack_module_state(models)
        # Called with the stacked tensors in place of its own.
        self._template = models[0].to(device)
        self._buffers = {name: buffer.to(device) for name, buffer in buffers.items()}
        views = self._hold({name: parameter.to(device) for name, parameter in parameters.items()})
        optimizers = [
            build.optimizer(workload, self._template, data.classes, trial.metaparameters, own)
            for own, trial in zip(views, trials, strict=True)
        ]
        # One optimizer with the groups of all: each trial's are those its own would have had.
        self._optimizer = optimizers[0]
        for other in optimizers[1:]:
            self._optimizer.state.update(other.state)
        self._groups = [optimizer.param_groups for optimizer in optimizers]
        for place, groups in enumerate(self._groups):
            for group in groups:  # what an optimizer takes of all its parameters together, it takes of one trial's
                group["trial"] = place
        self._optimizer.param_groups = [group for groups in self._groups for group in groups]
        self._rates = [[group["lr"] for group in groups] for groups in self._groups]
        # [trials]: the bound on each trial's gradient, and by how much its labels are smoothed.
        self._clip, self._smoothing = self._of_each("clip"), self._of_each("label_smoothing")
        ema = self._of_each("ema")
        self._average = None if ema is None else Average(list(self._parameters.values()), ema)
        self._nothing_else = NothingElse(self._template, self._optimizer)

    @out_of_memory_named()
    def train(self, step: int) -> None:
        for steps in blocks(step - self._step, self._batch_size, sum(order.numbers for order in self._orders.values())):
            started = now(self._device)
            for examples, rows in augment.pieces(self._data.train, self._rows(steps), self._augment):
                self._gather_from(examples)
                self._losses += self._train(rows)
            spent = (now(self._device) - started) / len(self._trials)
            for trial in self._trials:
                self._seconds[trial.id] += spent

    @out_of_memory_named()
    def advance(self, step: int, examples: int | None = None) -> dict[Trial, Observation]:
        self.train(step)
        validation = spread(self._data.validation, examples)
        stretch = together(self._losses) if self._losses else torch.empty(len(self._trials), 0)
        self._losses = []
        seen = {
            trial: observation(step, own, readings)
            for trial, own, readings in zip(
                self._trials,
                stretch,
                self._evaluate("validation", validation),
                strict=True,
            )
        }
        self.drop([trial for trial, found in seen.items() if found.diverged_at is not None])
        return seen

    @out_of_memory_named()
    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        read = dict(zip(self._trials, self._evaluate("test", self._data.test), strict=True))
        return {trial: finite(read[trial]) for trial in trials}

    @out_of_memory_named()
    def part(self, trials: Sequence[Trial]) -> Stacked:
        """Made anew from this one's state: for as long as that takes, both are in memory."""
        apart = Stacked(*self._made_of, list(self._trials), self.way)
        apart.restore(self.state())
        apart.drop([trial for trial in self._trials if trial not in trials])
        self.drop(trials)
        return apart

    def drop(self, trials: Sequence[Trial]) -> None:
        """Compacts the stacked tensors to the trials that are left; each takes its optimizer state along."""
        kept = [place for place, trial in enumerate(self._trials) if trial not in trials]
        if len(kept) == len(self._trials):
            return
        self._trials = [self._trials[place] for place in kept]
        self._schedules = [self._schedules[place] for place in kept]
        self._rates = [self._rates[place] for place in kept]
        self._groups = [self._groups[place] for place in kept]
        self._orders = {trial.order_seed: self._orders[trial.order_seed] for trial in self._trials}
        index = torch.tensor(kept, dtype=torch.int64, device=self._device)
        self._buffers = {name: buffer.index_select(0, index) for name, buffer in self._buffers.items()}
        self._clip, self._smoothing = self._of_each("clip"), self._of_each("label_smoothing")
        ema = self._of_each("ema")
        old = [own for place, own in enumerate(self._views) if place in kept]
        stacked = {name: parameter.detach().index_select(0, index) for name, parameter in self._parameters.items()}
        new = self._hold(stacked)
        if self._average is not None and ema is not None:
            before = [value.index_select(0, index) for value in self._average.values]
            self._average = Average(list(self._parameters.values()), ema)
            self._average.values = before
        state = self._optimizer.state
        moved = {
            id(before): now
            for befores, nows in zip(old, new, strict=True)
            for before, now in zip(befores, nows, strict=True)
        }
        kept_state = {moved[id(before)]: state[before] for befores in old for before in befores if before in state}
        for groups in self._groups:
            for group in groups:
                group["params"] = [moved[id(before)] for before in group["params"]]
        state.clear()
        state.update(kept_state)
        self._optimizer.param_groups = [group for groups in self._groups for group in groups]
        self._graphed = None

    def train_seconds(self, trial: Trial) -> float:
        return self._seconds[trial.id]

    def modules(self) -> list[nn.Module]:
        """The modules that are called."""
        return [self._template]

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        place = self._trials.index(trial)
        with averages(self._optimizer):
            both = {**self._parameters, **self._buffers}
            return {name: value[place].detach().clone() for name, value in both.items()}

    def _of_each(self, name: str) -> Tensor | None:
        """A metaparameter of the step, [trials] on the device; None where the suite gives none."""
        values = [trial.metaparameters[name] for trial in self._trials if name in trial.metaparameters]
        return torch.tensor(values, dtype=torch.float64, device=self._device) if values else None

    def state(self) -> dict[str, Any]:
        return self._parts().state_dict()

    @out_of_memory_named()
    def restore(self, state: dict[str, Any]) -> None:
        self._parts().load_state_dict(state)
        self._graphed = None

    def _parts(self) -> Parts:
        """What decides how training goes on from here; whatever the cohort keeps from one step to the next is named."""
        return Parts(
            weights=Tensors({**self._parameters, **self._buffers}),
            optimizer=OfOptimizer(self._optimizer),
            orders=Parts({str(seed): order for seed, order in self._orders.items()}),
            stream=self._stream,
            average=Tensors({} if self._average is None else self._average.by_place()),
            progress=Fields(self, "_step", "_seconds"),
            nothing_else=self._nothing_else,
        )

    def _rows(self, steps: int) -> Tensor:
        """Example numbers [steps, batch_size, ...] where the trials share an order, else [steps, trials, batch_size,
        ...], with an augmentation's own behind each.
        """
        rows = {seed: order.take(steps) for seed, order in self._orders.items()}
        if len(rows) == 1:
            return next(iter(rows.values()))
        return torch.stack([rows[trial.order_seed] for trial in self._trials], dim=1)

    def _hold(self, parameters: dict[str, Tensor]) -> list[list[Tensor]]:
        """Takes stacked parameters [trials, ...] to train; each trial's views of them, gradients included.

        Gradients live in tensors that stay, so that a trial's views of them do too: backward adds to them in place.
        """
        frozen = {name for name, parameter in self._template.named_parameters() if not parameter.requires_grad}
        self._parameters = {
            name: parameter.detach().requires_grad_(name not in frozen) for name, parameter in parameters.items()
        }
        for parameter in self._parameters.values():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        self._gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        self._views = []
        for place in range(len(self._trials)):
            own = []
            for parameter in self._parameters.values():
                view = parameter.detach()[place]
                view.grad = None if parameter.grad is None else parameter.grad[place]
                own.append(view)
            self._views.append(own)
        return self._views

    def _gather_from(self, examples: Split) -> None:
        """Has steps gather from these examples; a captured step keeps reading where its examples lay, so new ones are
        copied there.
        """
        before = self._examples
        if self._graphed is None or before is None or len(before) < len(examples):
            self._examples, self._graphed = examples, None
        elif examples is not before:
            before.inputs[: len(examples)].copy_(examples.inputs)
            before.targets[: len(examples)].copy_(examples.targets)

    def _train(self, rows: Tensor) -> list[Tensor]:
        """Takes a step for each row of example numbers; each one's losses [trials], still on the device."""
        with self._stream.drawn_from():
            if self._device.type == "cuda" and capturable(self._optimizer):
                return self._train_graphed(rows)
            losses = []
            groups = self._optimizer.param_groups
            for row in rows.unbind():
                for group, rate in zip(groups, self._rates_at(self._step), strict=True):
                    group["lr"] = rate
                losses.append(self._take_step(row))
                self._step += 1
            return losses

    def _train_graphed(self, rows: Tensor) -> list[Tensor]:
        if self._graphed is None:
            self._graphed = GraphedStep(self._take_step, self._optimizer, self._device)
        # The whole stretch's rates are sent at once: nothing is copied from the host, or waited for, between steps.
        rates = torch.tensor([self._rates_at(self._step + ahead) for ahead in range(len(rows))]).to(self._device)
        self._step += len(rows)
        return [self._graphed.take(row, now) for row, now in zip(rows.unbind(), rates.unbind(), strict=True)]

    def _rates_at(self, step: int) -> list[float]:
        """The learning rate of every parameter group at a step, trial after trial."""
        return [
            rate * factor
            for schedule, rates in zip(self._schedules, self._rates, strict=True)
            for factor in (schedule(step),)
            for rate in rates
        ]

    def _take_step(self, row: Tensor) -> Tensor:
        assert self._examples is not None
        own = len(self._orders) > 1
        inputs, targets = augment.gathered(self._examples, row.flatten(0, 1) if own else row, self._augment)
        if own:
            inputs, targets = (each.unflatten(0, row.shape[:2]) for each in (inputs, targets))

        def gradient() -> Tensor:
            torch._foreach_zero_(self._gradients)
            outputs = self._forward(inputs, own=own)
            losses = self._lowered(outputs, targets, own=own)
            losses.sum().backward()
            if self._clip is not None:
                self._clip_gradients(self._clip)
            return losses.detach()

        if build.gradients(self._optimizer) > 1:
            losses: Tensor = self._optimizer.step(repeatable(gradient, self._buffers.values()))  # type: ignore[arg-type, assignment]
        else:
            losses = gradient()
            self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return losses

    def _lowered(self, outputs: Tensor, targets: Tensor, *, own: bool) -> Tensor:
        """The mean loss of each trial [trials], which training lowers: see `losses.of_training`."""
        along = 0 if own else None
        if self._smoothing is None:
            return vmap(self._loss.mean, in_dims=(0, along))(outputs, targets)
        assert self._loss.smoothed is not None  # or the rehearsal has refused it
        return vmap(self._loss.smoothed, in_dims=(0, along, 0))(outputs, targets, self._smoothing)

    def _clip_gradients(self, most: Tensor) -> None:
        """Scales each trial's gradient down to a norm of at most `most` [trials], as torch's clip_grad_norm_ does."""
        norms = [torch.linalg.vector_norm(each.flatten(1), dim=1) for each in self._gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        scale = (most.to(norm.dtype) / (norm + 1e-6)).clamp(max=1.0)
        for each in self._gradients:
            each.mul_(scale.view(-1, *[1] * (each.ndim - 1)))

    def _forward(self, inputs: Tensor, *, own: bool) -> Tensor:
        """[n, *example_shape] that the trials share, or [trials, n, *example_shape] -> [trials, n, classes]."""

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
            outputs: Tensor = functional_call(self._template, (parameters, buffers), (inputs,))
            return outputs

        stacked = vmap(call, in_dims=(0, 0, 0 if own else None), randomness="different")
        return precision.products(self._precision, self._device, stacked)(self._parameters, self._buffers, inputs)

    def _evaluate(self, name: str, split: Examples) -> list[dict[str, float]]:
        def forward(inputs: Tensor) -> Tensor:
            return self._forward(inputs, own=False)

        with observing(self._template, self._device), averages(self._optimizer):
            outputs = self._data.outputs_an_example
            return evaluate(forward, self._loss, split, name, len(self._trials), outputs, self._average)
