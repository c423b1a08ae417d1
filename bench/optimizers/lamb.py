"""LAMB: Adam whose step is as long, for each layer, as its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import Optimizer

from bench.optimizers._each import EachWeight, divided, ratio
from bench.options import Momentum


def lamb(
    parameters: Iterable[Tensor],
    roles: Sequence[str],
    *,
    learning_rate: PositiveFloat,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    eps: PositiveFloat = 1e-6,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """u = m_hat / (sqrt(v_hat) + eps) + weight_decay w, then w -= learning_rate (|w| / |u|) u.

    You et al. 2020, arXiv 1904.00962, algorithm 2 with phi(z) = z, both moments corrected for their start, and no
    clipping; written here from the paper, under this project's licence. Where a norm is 0, the ratio is 1. Biases,
    norms and gains have neither the ratio nor decay, as in the authors' own runs: theirs is plain Adam.
    """
    plain = {"weight_decay": 0.0, "adapted": False}
    groups = divided(parameters, roles, "vector", plain, {"weight_decay": weight_decay, "adapted": True})
    return _Lamb(groups, {"lr": learning_rate, "betas": (beta1, beta2), "eps": eps})


class _Lamb(EachWeight):
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["step"])
        square = state["square"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2 ** state["step"])
        update = mean / (square.sqrt_() + group["eps"]) + group["weight_decay"] * weight
        if group["adapted"]:
            update.mul_(ratio(torch.linalg.vector_norm(weight), torch.linalg.vector_norm(update)))
        weight.sub_(update, alpha=group["lr"])
