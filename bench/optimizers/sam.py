"""Sharpness-aware minimisation around another optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.optim import Optimizer

from bench.errors import ComponentError
from bench.optimizers.adam import adam
from bench.optimizers.adamw import adamw
from bench.optimizers.momentum import momentum as heavy_ball
from bench.optimizers.nesterov import nesterov
from bench.optimizers.sgd import sgd
from bench.options import Momentum

_BASES: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "momentum": heavy_ball,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adamw,
}


def sam(
    parameters: Iterable[Tensor],
    *,
    learning_rate: PositiveFloat,
    rho: NonNegativeFloat = 0.05,
    base: Literal["sgd", "momentum", "nesterov", "adam", "adamw"] = "momentum",
    momentum: Momentum | None = None,
    beta1: Momentum | None = None,
    beta2: Momentum | None = None,
    eps: PositiveFloat | None = None,
    weight_decay: NonNegativeFloat | None = None,
) -> Optimizer:
    """The base's step at w, with the gradient that the same batch has at w + rho g / |g|: two gradients a step.

    Foret et al. 2021, arXiv 2010.01412, algorithm 1, the norm over all parameters together; written here from the
    paper, under this project's licence. What is not given of the base is as it has it. Raises ComponentError for what
    it does not take.
    """
    given = {"momentum": momentum, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
    chosen = {name: value for name, value in given.items() if value is not None}
    if unknown := chosen.keys() - inspect.signature(_BASES[base]).parameters.keys():
        raise ComponentError(f"sam around {base} was given {min(unknown)}, which {base} does not take; leave it out")
    return _Sam(_BASES[base](parameters, learning_rate=learning_rate, **chosen), base, rho)


class _Sam(Optimizer):
    """Lends each group for the step to its base, trials having different ones; groups of one `trial` have one norm."""

    gradients = 2

    def __init__(self, base: Optimizer, name: str, rho: float) -> None:
        super().__init__(base.param_groups, {"rho": rho, "base": name})
        # Trials that are stacked with this one may have others, whose settings are in their groups.
        weights = [each for group in base.param_groups for each in group["params"]]
        self._bases = {}
        for each, make in _BASES.items():
            self._bases[each] = base if each == name else make(weights, learning_rate=1.0)
            self._bases[each].param_groups = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        weights = [each for group in self.param_groups for each in group["params"] if each.grad is not None]
        before = [weight.clone() for weight in weights]
        self._climb()
        with torch.enable_grad():
            closure()
        torch._foreach_copy_(weights, before)
        for name in dict.fromkeys(group["base"] for group in self.param_groups):
            base = self._bases[name]
            base.param_groups = [group for group in self.param_groups if group["base"] == name]
            base.state = self.state
            base.step()
        return loss

    def _climb(self) -> None:
        """w += rho g / |g|; where the gradient is 0 it stays."""
        trials: dict[int, list[dict[str, Any]]] = {}
        for group in self.param_groups:
            trials.setdefault(group.get("trial", 0), []).append(group)
        for groups in trials.values():
            weights = [each for group in groups for each in group["params"] if each.grad is not None]
            gradients = [each.grad for each in weights if each.grad is not None]
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            scale = groups[0]["rho"] / norm.clamp(min=torch.finfo(norm.dtype).tiny)
            torch._foreach_add_(weights, torch._foreach_mul(gradients, scale))
