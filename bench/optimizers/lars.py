"""LARS: momentum whose rate follows the norms of each layer's weights and gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import Optimizer

from bench.optimizers._each import EachWeight, divided, ratio
from bench.options import Momentum


def lars(
    parameters: Iterable[Tensor],
    roles: Sequence[str],
    *,
    learning_rate: PositiveFloat,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
    trust: PositiveFloat = 0.001,
) -> Optimizer:
    """v = momentum v + learning_rate r (g + weight_decay w), w -= v, with r = trust |w| / (|g| + weight_decay |w|).

    You et al. 2017, arXiv 1708.03888, algorithm 1; written here from the paper, under this project's licence. Where a
    norm is 0, r is 1. Biases, norms and gains have neither r nor decay, as in the authors' own runs: theirs is plain
    momentum.
    """
    plain = {"weight_decay": 0.0, "trust": None}
    groups = divided(parameters, roles, "vector", plain, {"weight_decay": weight_decay, "trust": trust})
    return _Lars(groups, {"lr": learning_rate, "momentum": momentum})


class _Lars(EachWeight):
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        push = gradient + decay * weight
        if group["trust"] is not None:
            size = torch.linalg.vector_norm(weight)
            push.mul_(ratio(group["trust"] * size, torch.linalg.vector_norm(gradient) + decay * size))
        if not state:
            state["velocity"] = torch.zeros_like(weight)
        weight.sub_(state["velocity"].mul_(group["momentum"]).add_(push, alpha=group["lr"]))
