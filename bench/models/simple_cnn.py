"""Shallue et al.'s Simple CNN: two convolutions with pooling and one hidden layer."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from bench.models._norms import Norms
from bench.options import Norm

_WIDTHS = {"narrow": (8, 16, 256), "base": (32, 64, 1024), "wide": (64, 128, 2048)}


def simple_cnn(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    variant: Literal["narrow", "base", "wide"] = "base",
    norm: Norm = "none",
    ghost_batch: PositiveInt | None = None,
) -> nn.Module:
    """Two 5x5 convolutions, each with ReLU and 2x2 max pooling, then one hidden layer.

    `base` has 32 and 64 filters and 1,024 hidden units (Shallue et al. 2019, appendix B); `narrow` and `wide`
    have a quarter and twice as many. Padding keeps the image's size, so sides of 4 pixels or more work. `norm` stands
    before each ReLU; theirs has none.
    """
    channels, height, width = example_shape
    first, second, hidden = _WIDTHS[variant]
    norms = Norms(norm, ghost_batch)
    return nn.Sequential(
        *norms.normed(nn.Conv2d(channels, first, kernel_size=5, padding=2)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *norms.normed(nn.Conv2d(first, second, kernel_size=5, padding=2)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *norms.normed(nn.Linear(second * (height // 4) * (width // 4), hidden)),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
