"""What stands after a layer to normalise it: the choices of a model's option `norm`.

batch   batch norm (Ioffe & Szegedy 2015); where several devices share a batch, each over its own examples,
        and the running statistics are those of the first
sync    batch norm over the whole batch, however many devices share it
ghost   batch norm whose statistics are those of `ghost_batch` examples (Hoffer et al. 2017, arXiv 1705.08741)
layer   over all channels and positions of an example (Ba et al. 2016)
group   the same over groups of channels (Wu & He 2018): at most 32, of four channels or more
weight  weights as a direction times a length, w = g v/|v| for each output (Salimans & Kingma 2016)
none    nothing
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.errors import ComponentError
from bench.measure.parallel import SyncNorm
from bench.options import Norm

_MOST_GROUPS, _FEWEST_CHANNELS = 32, 4


@dataclass(frozen=True)
class Norms:
    """The layers of one kind; raises ComponentError where `ghost_batch` is missing, or has no use."""

    kind: Norm
    ghost_batch: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "ghost" and self.ghost_batch is None:
            raise ComponentError("norm: ghost has no 'ghost_batch'; give the number of examples normalised together")
        if self.kind != "ghost" and self.ghost_batch is not None:
            raise ComponentError(f"found ghost_batch with norm: {self.kind}; it belongs to norm: ghost")

    def normed(self, layer: nn.Linear | nn.Conv2d) -> list[nn.Module]:
        """The layer, then its norm; without its bias, which the norm would undo, where the norm shifts.

        Whatever the kind, the layer keeps the weights that it was made with.
        """
        if self.kind == "none":
            return [layer]
        if self.kind == "weight":
            return [weight_normed(layer)]
        layer.bias = None
        channels = len(layer.weight)
        if self.kind == "batch" and isinstance(layer, nn.Linear):
            return [layer, nn.BatchNorm1d(channels)]
        return [layer, self.after(channels)]

    def after(self, channels: int) -> nn.Module:
        """What follows a convolution without bias, on [n, channels, height, width]; a bias where nothing normalises."""
        if self.kind == "batch":
            return nn.BatchNorm2d(channels)
        if self.kind == "sync":
            return SyncNorm(channels)
        if self.kind == "ghost":
            return _GhostNorm(channels, self.ghost_batch or 0)
        if self.kind == "layer":
            return nn.GroupNorm(1, channels)
        if self.kind == "group":
            most = min(_MOST_GROUPS, channels // _FEWEST_CHANNELS)
            return nn.GroupNorm(max((n for n in range(1, most + 1) if channels % n == 0), default=1), channels)
        return _Bias(channels)

    def reparametrise(self, model: nn.Module) -> nn.Module:
        """The model, each of its convolutions as a length and a direction where the kind is `weight`."""
        if self.kind == "weight":
            for convolution in [module for module in model.modules() if isinstance(module, nn.Conv2d)]:
                weight_normed(convolution)
        return model


def weight_normed(layer: nn.Module) -> nn.Module:
    """The layer, whose weight is from now on a length times a direction, and at first what it was."""
    parametrize.register_parametrization(layer, "weight", _LengthAndDirection())
    return layer


class _LengthAndDirection(nn.Module):
    """torch's own weight norm, written out: its kernel does not vmap."""

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        return direction * (length / _length(direction))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _length(weight), weight


def _length(weight: Tensor) -> Tensor:
    """[outputs, ...] -> [outputs, 1, ...]"""
    length: Tensor = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    return length


class _Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class _GhostNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over virtual batches, the last of them what is left; running statistics take the mean of theirs, each
    counted by its examples.

    Hoffer et al. let each virtual batch move the running statistics in turn, which, many to a batch, forget all but
    the last batches.
    """

    def __init__(self, channels: int, ghost_batch: int) -> None:
        super().__init__(channels)
        self.ghost_batch = ghost_batch

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes [n, channels] and [n, channels, height, width] alike."""

    def forward(self, input: Tensor) -> Tensor:
        """[n, channels, ...] -> the same shape; in evaluation mode as batch norm does.

        Raises ValueError, as batch norm does, where a channel has one value alone.
        """
        if not self.training:
            return super().forward(input)
        if input[:, 0].numel() == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        # Statistics are not taken in half precision.
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        whole, rest = divmod(len(x), self.ghost_batch)
        parts = [x[: len(x) - rest].unflatten(0, (whole, self.ghost_batch))] if whole else []
        if rest:
            parts.append(x[len(x) - rest :].unsqueeze(0))
        means, variances, outputs, shares = [], [], [], []
        for part in parts:  # [virtual batches, examples, channels, ...]
            over = (1, *range(3, part.ndim))
            variance, mean = torch.var_mean(part, over, correction=0, keepdim=True)
            outputs.append(((part - mean) * (variance + self.eps).rsqrt()).flatten(0, 1))
            count = part[0, :, 0].numel()
            shares += [part.shape[1] / len(x)] * len(part)
            means.append(mean.flatten(1))
            variances.append(variance.flatten(1) * (count / max(1, count - 1)))
        weights = torch.tensor(shares, dtype=x.dtype, device=x.device)
        self._remember(weights @ torch.cat(means), weights @ torch.cat(variances))
        shape = (-1, *[1] * (x.ndim - 2))
        return (torch.cat(outputs) * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        share = self.momentum or 0.0
        self.running_mean.mul_(1 - share).add_(share * mean)
        self.running_var.mul_(1 - share).add_(share * variance)
        self.num_batches_tracked.add_(1)
