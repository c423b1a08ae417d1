"""VGG-11, for small images and for large."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from bench.models._norms import Norms
from bench.options import Norm

# Filters of the eight convolutions, a pooling after each group.
_GROUPS = [[64], [128], [256, 256], [512, 512], [512, 512]]
# A side of so many pixels is large.
_LARGE = 96


def vgg11(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: list[PositiveInt] | None = None,
    norm: Norm = "none",
    ghost_batch: PositiveInt | None = None,
) -> nn.Module:
    """Simonyan & Zisserman 2015's network A: eight 3x3 convolutions in five groups, each followed by 2x2 max pooling.

    `hidden` gives the widths of the fully connected layers: by itself their two of 4,096 where the images' sides are 96
    pixels or more (Shallue et al. 2019 train it on ImageNet), and none below, as is usual for CIFAR. There is no
    dropout, poolings round up so that any side works, and weights are drawn after He et al. 2015. `norm` stands before
    each ReLU; theirs has none.
    """
    channels, height, width = example_shape
    if hidden is None:
        hidden = [4096, 4096] if min(height, width) >= _LARGE else []
    norms = Norms(norm, ghost_batch)
    layers: list[nn.Module] = []
    for group in _GROUPS:
        for filters in group:
            layers += [*norms.normed(_drawn(nn.Conv2d(channels, filters, 3, padding=1))), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        height, width = (height + 1) // 2, (width + 1) // 2
    layers.append(nn.Flatten())
    before = channels * height * width
    for after in hidden:
        layers += [*norms.normed(_drawn(nn.Linear(before, after))), nn.ReLU()]
        before = after
    return nn.Sequential(*layers, nn.Linear(before, classes))


def _drawn(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
