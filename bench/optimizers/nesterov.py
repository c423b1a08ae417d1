"""Stochastic gradient descent with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import SGD, Optimizer

from bench.options import Momentum


def nesterov(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """v = momentum v + g;  w -= learning_rate (g + momentum v), g with weight_decay w added (Sutskever et al. 2013).

    A momentum of 0, which torch refuses under this name, is plain SGD.
    """
    return SGD(
        parameters,
        lr=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=momentum > 0,
        fused=True,
    )
