"""A fully connected network with ReLU."""

from __future__ import annotations

import math
from itertools import pairwise

from pydantic import PositiveInt
from torch import nn

from bench.models._norms import Norms
from bench.options import Norm


def mlp(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: list[PositiveInt] = [256, 256],  # noqa: B006
    norm: Norm = "none",
    ghost_batch: PositiveInt | None = None,
) -> nn.Module:
    """Fully connected layers with ReLU; `hidden` gives the width of each hidden layer.

    Shallue et al.'s FC-1024 is `hidden: [1024]`, their FC-64x3 `hidden: [64, 64, 64]`. `norm` stands before each ReLU.
    """
    norms = Norms(norm, ghost_batch)
    widths = [math.prod(example_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [*norms.normed(nn.Linear(before, after)), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
