"""Stochastic gradient descent with heavy-ball momentum."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import SGD, Optimizer

from bench.options import Momentum


def momentum(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """v = momentum v + g + weight_decay w;  w -= learning_rate v."""
    return SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=True)
