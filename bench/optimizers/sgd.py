"""Stochastic gradient descent without momentum."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import SGD, Optimizer


def sgd(
    parameters: Iterable[Tensor], *, learning_rate: PositiveFloat, weight_decay: NonNegativeFloat = 0.0
) -> Optimizer:
    """w -= learning_rate (g + weight_decay w)."""
    return SGD(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
