"""Data parallelism (Li et al. 2020, arXiv 2006.15704): the ranks, a process a device, that train each trial together.

Every rank draws the same batches and takes its share of each; gradients are averaged in the backward pass. Shares are
equal and a loss is the mean over examples, so that the mean over ranks is that over the batch. The first rank leads:
it evaluates, decides and speaks, and the others follow. A process that was never joined to others is the one rank that
there is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bench.ask.search import seed_of
from bench.errors import ComponentError
from bench.measure.state import Part

# Ranks wait for the first while it evaluates. Whether anything hangs is for the executor to say.
_PATIENCE = timedelta(days=365)


def join(device: torch.device) -> None:
    """Joins the ranks that this one was started with; what is sent lies on the device, or on the CPU.

    Tried with gloo alone: no machine with several GPUs was to be had.
    """
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)


def size() -> int:
    """How many ranks there are."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Which of them this is, counted from 0."""
    return distributed.get_rank() if _joined() else 0


def share(rows: Tensor) -> Tensor:
    """This rank's part of rows of example numbers: [steps, batch_size, ...] -> [steps, batch_size / ranks, ...]."""
    return rows.chunk(size(), dim=1)[rank()] if size() > 1 else rows


def averaged(losses: list[Tensor]) -> list[Tensor]:
    """The mean over ranks of each loss."""
    if size() == 1 or not losses:
        return losses
    together = torch.stack(losses) / size()
    distributed.all_reduce(together)
    return list(together.unbind())


def largest(number: float) -> float:
    """The largest of the numbers that the ranks have."""
    return float(max(of_all(number)))


def of_all(own: Any) -> list[Any]:
    """What each rank has, in their order; none goes on before all were asked."""
    found = [own] * size()
    if size() > 1:
        distributed.all_gather_object(found, own)
    return found


def tell(said: Any) -> None:
    """Says something to the ranks that follow this one, if any do."""
    if size() > 1:
        distributed.broadcast_object_list([said])


def hear() -> Any:
    """Waits for what the first rank says next."""
    heard = [None]
    distributed.broadcast_object_list(heard)
    return heard[0]


def seed(shared: int) -> int:
    """What this rank draws from where each draws for its own examples, as dropout does."""
    return seed_of("rank", shared, rank())


def of_each_rank(part: Part) -> Part:
    """A part of a trial's state of which every rank has its own."""
    return _OfEachRank(part) if size() > 1 else part


def replicated(model: nn.Module) -> DistributedDataParallel | None:
    """The model as all ranks train it; None where this is the only one."""
    if size() == 1:
        return None
    for module in model.modules():
        if isinstance(module, SyncNorm):
            module.together = True
    return DistributedDataParallel(model)


def averaging(replicas: DistributedDataParallel | None, *, now: bool) -> AbstractContextManager[None]:
    """Inside, gradients are added up; they are averaged over the ranks with those of the last part of a batch."""
    return nullcontext() if replicas is None or now else replicas.no_sync()


class SyncNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the whole batch of a model that ranks train together; of any other, batch norm.

    torch's own takes tensors on GPUs alone, and would wait for the other ranks where a probe looks at a copy in one.
    """

    together = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes [n, channels] and [n, channels, height, width] alike."""

    def forward(self, input: Tensor) -> Tensor:
        """[n, channels, ...] -> the same shape."""
        if not (self.training and self.together):
            return super().forward(input)
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        over = (0, *range(2, x.ndim))
        count = size() * x[:, 0].numel()
        mean: Tensor = _Sum.apply(x.sum(over, keepdim=True)) / count
        centred = x - mean
        variance: Tensor = _Sum.apply(centred.square().sum(over, keepdim=True)) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance.flatten() * (count / max(1, count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        shape = (-1, *[1] * (x.ndim - 2))
        normed: Tensor = centred * (variance + self.eps).rsqrt()
        return (normed * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


class _Sum(torch.autograd.Function):
    """The sum over ranks; what each rank's loss asks of it is summed likewise."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        return _summed(own)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(own: Tensor) -> Tensor:
    whole = own.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(whole)
    return whole


class _OfEachRank:
    """Gathers a part's state from every rank, and gives every rank its own back."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def state_dict(self) -> dict[str, Any]:
        """Raises ComponentError in every rank where one has no state to give, so that none waits for another."""
        own: dict[str, Any] | ComponentError
        try:
            own = self._part.state_dict()
        except ComponentError as error:
            own = error
        found = of_all(own)
        for each in found:
            if isinstance(each, ComponentError):
                raise each
        return {"ranks": found}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self._part.load_state_dict(state_dict["ranks"][rank()])


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
