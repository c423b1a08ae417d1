"""The noisy quadratic model: a loss whose expected path is known exactly."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn


def noisy_quadratic(example_shape: tuple[int, ...], classes: int, *, dimensions: PositiveInt = 10_000) -> nn.Module:  # noqa: ARG001
    """L(x) = 1/2 sum_i h_i x_i^2 with h_i = 1/i, its gradient with noise of variance h_i/B at batch size B.

    Zhang et al. 2019, arXiv 1907.04164. `exact.py` holds the expected loss at every step.
    """
    return _NoisyQuadratic(dimensions)


class _NoisyQuadratic(nn.Module):
    curvatures: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("curvatures", 1 / torch.arange(1, dimensions + 1))
        self.point = nn.Parameter(torch.randn(dimensions))

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, 1] -> [n]: the loss, the same for each; in training plus a term whose gradient is the batch's noise."""
        loss = 0.5 * (self.curvatures * self.point.square()).sum()
        if self.training:
            deviations = (self.curvatures / len(inputs)).sqrt()
            loss = loss + (torch.randn_like(self.point) * deviations * self.point).sum()
        return loss.expand(len(inputs))
