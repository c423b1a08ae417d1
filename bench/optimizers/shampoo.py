"""Shampoo: a preconditioner for each side of a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.optim import Optimizer

from bench.optimizers._each import EachWeight
from bench.options import Momentum


def shampoo(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    momentum: Momentum = 0.0,
    eps: PositiveFloat = 1e-4,
    every: PositiveInt = 10,
    largest: PositiveInt = 1024,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """L += g g^T, R += g^T g, v = momentum v + L^(-1/4) g R^(-1/4), w -= learning_rate v; L and R begin as eps times 1.

    Gupta et al. 2018, arXiv 1802.09568, algorithm 1, without grafting; written here from the paper, under this
    project's licence. The roots are taken anew at each of the first `every` steps, and then at one of so many.
    Convolutions are matrices with a row for each channel made; a side of more than `largest` has no preconditioner, and
    the other keeps its power; what has fewer than two dimensions has diagonal AdaGrad's g / sqrt(eps + sum of g^2).
    weight_decay w is added to g.
    """
    defaults = {"lr": learning_rate, "momentum": momentum, "eps": eps, "every": every, "largest": largest}
    return _Shampoo(parameters, {**defaults, "weight_decay": weight_decay})


class _Shampoo(EachWeight):
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, velocity=torch.zeros_like(weight))
        gradient = gradient + group["weight_decay"] * weight
        precondition = _both_sides if weight.ndim > 1 else _diagonal
        state["velocity"].mul_(group["momentum"]).add_(precondition(gradient, state, group))
        weight.sub_(state["velocity"], alpha=group["lr"])
        state["step"] += 1


def _both_sides(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    matrix = gradient.flatten(1)
    for side in range(2):
        size = matrix.shape[side]
        if size > group["largest"]:
            continue
        if state["step"] == 0:
            state[f"sum{side}"] = group["eps"] * torch.eye(size, dtype=matrix.dtype, device=matrix.device)
        flat = gradient.flatten(1)
        state[f"sum{side}"] += flat @ flat.T if side == 0 else flat.T @ flat
        # At first at each step: one gradient says nothing of most directions, and a root of it makes them large.
        if state["step"] <= group["every"] or state["step"] % group["every"] == 0:
            state[f"root{side}"] = _inverse_fourth_root(state[f"sum{side}"], group["eps"])
        matrix = state[f"root{side}"] @ matrix if side == 0 else matrix @ state[f"root{side}"]
    return matrix.view_as(gradient)


def _diagonal(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if state["step"] == 0:
        state["sum"] = torch.full_like(gradient, group["eps"])
    state["sum"] += gradient.square()
    scaled: Tensor = gradient / state["sum"].sqrt()
    return scaled


def _inverse_fourth_root(matrix: Tensor, least: float) -> Tensor:
    """Of a symmetric matrix whose eigenvalues are at least so much, but for rounding; NaN where one is not finite: the
    trial has diverged, and its loss will say so.
    """
    if not matrix.isfinite().all():
        return torch.full_like(matrix, torch.nan)
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors * values.clamp(min=least) ** -0.25 @ vectors.T
    return root
