"""One ordinary training step: what trials that train one by one take, and what is timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from bench.ask.plan import Workload
from bench.ask.search import Value
from bench.contracts import OutOfMemory
from bench.examples import Data
from bench.measure import build, parallel, precision
from bench.measure.ema import Average
from bench.measure.evaluation import RandomStream, random_state_kept
from bench.measure.losses import of_training
from bench.measure.memory import out_of_memory_named
from bench.measure.state import Fields, NothingElse, OfOptimizer, Parts, Tensors, of_model


class Step:
    """A model, its optimizer, and the step that trains it as the suite says: compiled, channels last, in micro-batches.

    batch_size: of all ranks together, where several train it.  model: as it was built.  forward: inputs
    [n, *example_shape] -> outputs, in the way the suite asks for, of this rank alone.
    loss: (outputs, targets) -> the mean that training lowers.  gradients: how many of them a step takes.
    average: of the weights after each step, where the suite asks for one.
    """

    def __init__(
        self,
        workload: Workload,
        data: Data,
        device: torch.device,
        seed: int,
        metaparameters: Mapping[str, Value],
        batch_size: int,
    ) -> None:
        entry = workload.entry
        self.model = build.model(workload, data, device, seed)
        if entry.channels_last:
            self.model.to(memory_format=torch.channels_last)
        as_images = len(data.example_shape) == 3

        def as_asked(model: nn.Module) -> precision.Forward:
            called: precision.Forward = torch.compile(model) if entry.compile else model
            if entry.channels_last and as_images:
                called = _with_channels_last(called)
            return precision.products(entry.precision, device, called)

        self.forward = self._trained = as_asked(self.model)
        self.optimizer = build.optimizer(workload, self.model, data.classes, metaparameters)
        self.gradients = build.gradients(self.optimizer)
        self._clip = metaparameters.get("clip")
        ema = metaparameters.get("ema")
        self.average = None if ema is None else Average(list(self.model.parameters()), float(ema))
        self.loss = of_training(data.loss, metaparameters)
        # float16 has too narrow a range for small gradients: the loss is scaled up, and the step skipped on overflow.
        self._scaler = torch.amp.GradScaler(device.type) if entry.precision == "fp16" else None
        share = batch_size // parallel.size()
        self.micro_batch = share if entry.micro_batch in (None, "auto") else min(share, int(entry.micro_batch))
        if entry.micro_batch == "auto":
            self._halve_until_it_fits(data, device)
            self.micro_batch = min(parallel.of_all(self.micro_batch))
        self._replicas = parallel.replicated(self.model)
        self._own: RandomStream | None = None
        if self._replicas is not None:
            self._trained = as_asked(self._replicas)
            # Models draw for a rank's own examples. Optimizers draw what all ranks do, or weights would part.
            self._own = RandomStream(parallel.seed(seed), device)
        self._nothing_else = NothingElse(self.model, self.optimizer)

    def take(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Lowers the mean loss of a batch by one step of the optimizer; that loss, still on the device."""

        def gradient() -> Tensor:
            self.optimizer.zero_grad()
            with nullcontext() if self._own is None else self._own.drawn_from():
                loss = self.backward(inputs, targets)
            if self._clip is not None:
                self._clip_gradient(float(self._clip))
            return loss

        if self.gradients > 1:
            loss: Tensor = self.optimizer.step(repeatable(gradient, self.model.buffers()))  # type: ignore[arg-type, assignment]
        else:
            loss = gradient()
            if self._scaler is None:
                self.optimizer.step()
            else:
                self._scaler.step(self.optimizer)
                self._scaler.update()
        if self.average is not None:
            self.average.update()
        return loss

    def _clip_gradient(self, most: float) -> None:
        """Scales the gradient of the whole batch down to a norm, over all parameters, of at most so much."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), most)

    def backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Adds the gradient of a batch's mean loss, a micro-batch at a time, to the parameters'; the loss.

        Where batch norm normalises each micro-batch by itself, the gradient is another than the full batch's.
        """
        if len(targets) <= self.micro_batch:
            loss = self.loss(self._trained(inputs), targets)
            self._scaled(loss).backward()
            return loss.detach()
        total = torch.zeros((), device=targets.device)
        parts = list(zip(inputs.split(self.micro_batch), targets.split(self.micro_batch), strict=True))
        for number, (part, wanted) in enumerate(parts, start=1):
            with parallel.averaging(self._replicas, now=number == len(parts)):
                loss = self.loss(self._trained(part), wanted) * (len(wanted) / len(targets))
                self._scaled(loss).backward()
            total = total + loss.detach()
        return total

    def parts(self) -> Parts:
        """What decides how training goes on from here; whatever a step keeps from one to the next is named here."""
        scaler = Parts() if self._scaler is None else Parts(scaler=self._scaler)
        own = Parts() if self._own is None else Parts(own=parallel.of_each_rank(self._own))
        return Parts(
            model=of_model(self.model),
            optimizer=OfOptimizer(self.optimizer),
            average=Tensors({} if self.average is None else self.average.by_place()),
            settings=Fields(self, "micro_batch"),
            nothing_else=parallel.of_each_rank(self._nothing_else),
            **scaler,
            **own,
        )

    def _scaled(self, loss: Tensor) -> Tensor:
        if self._scaler is None:
            return loss
        scaled: Tensor = self._scaler.scale(loss)
        return scaled

    def _halve_until_it_fits(self, data: Data, device: torch.device) -> None:
        """Halves the micro-batch until its gradient fits; raises OutOfMemory where that of one example does not.

        Tried on the model as it is; its buffers and the random state are put back.
        """
        buffers = copy.deepcopy(dict(self.model.named_buffers()))
        while True:
            try:
                with random_state_kept(device), out_of_memory_named(awaited=False):
                    few = data.train.first(self.micro_batch)
                    self.backward(few.inputs, few.targets)
                return
            except OutOfMemory:
                if self.micro_batch == 1:
                    raise
            finally:
                self.optimizer.zero_grad()
                with torch.no_grad():
                    for name, buffer in self.model.named_buffers():
                        buffer.copy_(buffers[name])
            self.micro_batch = (self.micro_batch + 1) // 2


def repeatable(gradient: Callable[[], Tensor], buffers: Iterable[Tensor]) -> Callable[[], Tensor]:
    """The gradient of one batch as a closure that an optimizer may call more than once in a step.

    Running statistics, as of batch norm, are those of the first call alone: they see a batch once, at the weights that
    are trained. Dropout draws anew in each call.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    called = False

    def closure() -> Tensor:
        nonlocal called
        loss = gradient()
        for buffer, value in kept:
            buffer.copy_(value)
        if not called:
            called, kept[:] = True, [(buffer, buffer.clone()) for buffer in buffers]
        return loss

    return closure


def _with_channels_last(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda inputs: forward(inputs.contiguous(memory_format=torch.channels_last))
