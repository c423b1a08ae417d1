"""What the optimizers written here share: a step that takes the weights one after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class EachWeight(Optimizer):
    """An optimizer whose step is an update of each weight by itself. State begins as an empty mapping."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ARG002 (torch's signature)
        self.take(self.param_groups)

    def take(self, groups: list[dict[str, Any]]) -> None:
        """A step of the groups' weights."""
        for group in groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.update(weight, weight.grad, self.state[weight], group)

    @abstractmethod
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Changes a weight in place."""


def divided(
    parameters: Iterable[Tensor], roles: Sequence[str], first: str, its: dict[str, Any], others: dict[str, Any]
) -> list[dict[str, Any]]:
    """Parameter groups: of those with the role `first`, with options of their own, and of the others; none empty."""
    both = list(zip(parameters, roles, strict=True))
    groups = [
        {"params": [each for each, role in both if role == first], **its},
        {"params": [each for each, role in both if role != first], **others},
    ]
    return [group for group in groups if group["params"]]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """One norm over another, both []; 1 where either is 0."""
    both = (numerator > 0) & (denominator > 0)
    return torch.where(both, numerator / denominator, torch.ones_like(numerator))
