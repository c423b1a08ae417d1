"""An average of the weights over the steps of a training, read beside them and never fed back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """a = rho a + (1 - rho) w after each step, from the initial weights: an exponential moving average.

    weights: the tensors that are trained.  rho: one number, or for weights that carry a leading trial axis [trials].
    Buffers, such as the running statistics of batch norm, are not averaged: the average is read with the model's own.
    """

    def __init__(self, weights: Sequence[Tensor], rho: float | Tensor) -> None:
        self._weights = list(weights)
        self.values = [weight.detach().clone() for weight in weights]
        self._shares = [_along_first(1 - rho, weight) for weight in weights]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights in as they stand after a step."""
        for value, weight, share in zip(self.values, self._weights, self._shares, strict=True):
            value.lerp_(weight, share)

    def by_place(self) -> dict[str, Tensor]:
        """The averages by the places of their weights."""
        return {str(place): value for place, value in enumerate(self.values)}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the weights are the average; afterwards they are, to the last bit, what they were."""
        kept = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self.values)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, kept)


def _along_first(values: float | Tensor, like: Tensor) -> float | Tensor:
    """Numbers [trials] such that each multiplies its part of a tensor [trials, ...]; one number as it is."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1)) if isinstance(values, Tensor) else values
