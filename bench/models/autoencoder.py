"""A deep autoencoder of fully connected layers."""

from __future__ import annotations

import math
from itertools import pairwise

from pydantic import PositiveInt
from torch import nn


def autoencoder(
    example_shape: tuple[int, ...],
    classes: int,  # noqa: ARG001 (an example is given back, not recognised)
    *,
    hidden: list[PositiveInt] = [1000, 500, 250],  # noqa: B006
    code: PositiveInt = 30,
) -> nn.Module:
    """A deep autoencoder: layers that narrow to a code and widen again, [n, *example_shape] -> the same shape.

    The widths are Hinton & Salakhutdinov 2006's for MNIST, long a trial for optimizers (Martens 2010). Their logistic
    units, which want pretraining, are tanh here; the code is linear, as theirs is, and so is the output, of normalised
    pixels.
    """
    widths = [math.prod(example_shape), *hidden, code]
    return nn.Sequential(nn.Flatten(), *_layers(widths), *_layers(widths[::-1]), nn.Unflatten(1, example_shape))


def _layers(widths: list[int]) -> list[nn.Module]:
    """Fully connected layers with tanh between them, and none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return layers[:-1]
