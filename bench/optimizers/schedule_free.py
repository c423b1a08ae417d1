"""Schedule-free SGD and AdamW: an average of the path in place of a schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import Optimizer

from bench.optimizers._each import EachWeight
from bench.options import Momentum


def schedule_free(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    base: Literal["sgd", "adamw"] = "adamw",
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """Gradients at y = (1 - beta1) z + beta1 x;  z -= learning_rate (u + weight_decay y);  x is the average of z.

    Defazio et al. 2024, arXiv 2405.15682, u being g for sgd, and for adamw (algorithm 1) g / (sqrt(v_hat) + eps). The
    average is weighted by the squares of the learning rates, so that a warm-up counts little. Evaluated is x, with the
    running statistics that batch norm has gathered at y. Written here from the paper, under this project's licence:
    z and x are both kept, at the cost of one more copy of the weights, so that looking at x leaves y as it was.
    """
    defaults = {"lr": learning_rate, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
    return _ScheduleFree(parameters, {**defaults, "adaptive": base == "adamw", "step": 0, "rates": 0.0})


class _ScheduleFree(EachWeight):
    """The parameters are y, but between `eval()` and `train()` x."""

    def take(self, groups: list[dict[str, Any]]) -> None:
        for group in groups:
            group["step"] += 1
            group["rates"] += group["lr"] ** 2
        super().take(groups)

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(z=weight.clone(), x=weight.clone())
            if group["adaptive"]:
                state["square"] = torch.zeros_like(weight)
        if group["adaptive"]:
            square = state["square"].lerp_(gradient.square(), 1 - group["beta2"])
            gradient = gradient / ((square / (1 - group["beta2"] ** group["step"])).sqrt_() + group["eps"])
        state["z"].sub_(gradient + group["weight_decay"] * weight, alpha=group["lr"])
        state["x"].lerp_(state["z"], group["lr"] ** 2 / group["rates"] if group["rates"] else 0.0)
        weight.copy_(_trained(state, group))

    @torch.no_grad()
    def eval(self) -> None:
        """Makes the parameters x, the average."""
        for weight, state, _ in self._stepped():
            weight.copy_(state["x"])

    @torch.no_grad()
    def train(self) -> None:
        """Makes the parameters y again, to the last bit."""
        for weight, state, group in self._stepped():
            weight.copy_(_trained(state, group))

    def _stepped(self) -> list[tuple[Tensor, dict[str, Tensor], dict[str, Any]]]:
        every = ((weight, group) for group in self.param_groups for weight in group["params"])
        return [(weight, self.state[weight], group) for weight, group in every if weight in self.state]


def _trained(state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    return state["z"].lerp(state["x"], group["beta1"])
