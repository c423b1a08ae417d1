"""Lion: the sign of a momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import Optimizer

from bench.optimizers._each import EachWeight
from bench.options import Momentum


def lion(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.99,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """w -= learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay w), then m = beta2 m + (1 - beta2) g.

    Chen et al. 2023, arXiv 2302.06675, algorithm 2; written here from the paper, under this project's licence.
    """
    return _Lion(parameters, {"lr": learning_rate, "betas": (beta1, beta2), "weight_decay": weight_decay})


class _Lion(EachWeight):
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"]
        direction = momentum.lerp(gradient, 1 - beta1).sign_()
        weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
        momentum.lerp_(gradient, 1 - beta2)
