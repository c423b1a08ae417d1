"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import AdamW, Optimizer

from bench.options import Momentum


def adamw(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
) -> Optimizer:
    """Adam's step, and w -= learning_rate weight_decay w beside it (Loshchilov and Hutter 2019)."""
    return AdamW(parameters, lr=learning_rate, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)
