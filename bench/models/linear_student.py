"""A linear map that starts at zero, to learn from the linear teacher."""

from __future__ import annotations

import math

from torch import nn


def linear_student(example_shape: tuple[int, ...], classes: int) -> nn.Module:
    """One linear layer without bias, all zeros at first, so that its distance from a teacher of length 1 is 1."""
    layer = nn.Linear(math.prod(example_shape), classes, bias=False)
    nn.init.zeros_(layer.weight)
    return nn.Sequential(nn.Flatten(), layer)
