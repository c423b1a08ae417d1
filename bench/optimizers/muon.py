"""Muon: an orthogonalised momentum for the matrices inside a network, and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import AdamW, Optimizer

from bench.optimizers._each import EachWeight, divided
from bench.options import Momentum

# The polynomial a x + b x^3 + c x^5 takes singular values between 0 and 1 to about 1, five times over.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def muon(
    parameters: Iterable[Tensor],
    roles: Sequence[str],
    *,
    learning_rate: PositiveFloat,
    momentum: Momentum = 0.95,
    weight_decay: NonNegativeFloat = 0.0,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    eps: PositiveFloat = 1e-8,
) -> Optimizer:
    """w -= learning_rate (0.2 sqrt(max(rows, columns)) orthogonal(momentum) + weight_decay w) inside; AdamW elsewhere.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the scale of Liu et al. 2025, arXiv 2502.16982,
    by which one learning rate serves both parts. The momentum is Nesterov's: m = momentum m + (1 - momentum) g, and
    orthogonalised is momentum m + (1 - momentum) g. Convolutions are matrices with a row for each channel made.
    Embeddings, the head, biases, norms and gains are AdamW's. Written here, under this project's licence, because
    torch.optim.Muon rounds the five Newton-Schulz steps to bfloat16: here they are computed as the weights are kept.
    """
    adamw = AdamW([torch.zeros(())], betas=(beta1, beta2), eps=eps, fused=True)
    shared = {"lr": learning_rate, "weight_decay": weight_decay}
    groups = divided(parameters, roles, "hidden", {"momentum": momentum, **shared}, {**adamw.defaults, **shared})
    return _Muon(groups, adamw)


class _Muon(EachWeight):
    """Groups with a momentum are Muon's, and those without are lent to AdamW."""

    def __init__(self, groups: list[dict[str, Any]], adamw: AdamW) -> None:
        super().__init__(groups, {})
        self._adamw = adamw

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ARG002 (torch's signature)
        self.take([group for group in self.param_groups if "momentum" in group])
        self._adamw.param_groups = [group for group in self.param_groups if "momentum" not in group]
        self._adamw.state = self.state
        self._adamw.step()

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(momentum, group["momentum"]).flatten(1))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(update.view_as(weight), alpha=group["lr"] * 0.2 * max(update.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """[rows, columns] = U S V^T -> about U V^T: five Newton-Schulz steps from the matrix over its norm."""
    a, b, c = _COEFFICIENTS
    wide: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
