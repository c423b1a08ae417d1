"""A model of one's own, beside the suite that measures it: `model: suites.your_model:residual_net`."""

from __future__ import annotations

from math import prod

from pydantic import PositiveInt
from torch import Tensor, nn


class Block(nn.Module):
    """x + W2 relu(W1 norm(x)), which starts as x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.inner(x)
        return x + change


def residual_net(
    example_shape: tuple[int, ...], classes: int, *, width: PositiveInt = 64, blocks: PositiveInt = 2
) -> nn.Module:
    """Residual blocks of fully connected layers between two linear maps; `width` and `blocks` may stand in a suite."""
    first, last = nn.Linear(prod(example_shape), width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(), first, *(Block(width) for _ in range(blocks)), last)
