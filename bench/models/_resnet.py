"""Residual networks of torchvision's blocks, for small images and for large."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from bench.models._norms import Norms

# A side of so many pixels is large.
_LARGE = 96


def resnet(
    example_shape: tuple[int, ...],
    classes: int,
    block: type[BasicBlock | Bottleneck],
    blocks: list[int],
    stem: Literal["small", "large"] | None,
    norms: Norms,
) -> nn.Module:
    """torchvision's network (He et al. 2016; the stride of a bottleneck in its 3x3 convolution) with so many blocks.

    stem: `large`, torchvision's own, a 7x7 convolution and pooling that quarter the side; `small`, as is usual for
    CIFAR, a 3x3 convolution that leaves it; None goes by the images.
    """
    channels, height, width = example_shape
    model = ResNet(block, blocks, num_classes=classes, norm_layer=norms.after)
    if stem == "small" or (stem is None and min(height, width) < _LARGE):
        model.conv1 = _first(nn.Conv2d(channels, 64, 3, padding=1, bias=False))
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = _first(nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False))
    return norms.reparametrise(model)


def _first(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution, drawn as torchvision draws those of a residual network."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
