"""Adam."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import Adam, Optimizer

from bench.options import Momentum


def adam(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """w -= learning_rate m_hat / (sqrt(v_hat) + eps), weight_decay w added to the gradient (Kingma and Ba 2015)."""
    return Adam(parameters, lr=learning_rate, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)
