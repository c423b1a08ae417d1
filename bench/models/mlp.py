"""A fully connected network with ReLU."""

from __future__ import annotations

import math
from itertools import pairwise

from pydantic import PositiveInt
from torch import nn


def mlp(example_shape: tuple[int, ...], classes: int, *, hidden: list[PositiveInt] = [256, 256]) -> nn.Module:  # noqa: B006
    """Fully connected layers with ReLU; `hidden` gives the width of each hidden layer."""
    widths = [math.prod(example_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
