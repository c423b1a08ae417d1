"""ResNet-34, for small images and for large."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn
from torchvision.models.resnet import BasicBlock

from bench.models._norms import Norms
from bench.models._resnet import resnet
from bench.options import Norm


def resnet34(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    stem: Literal["small", "large"] | None = None,
    norm: Norm = "batch",
    ghost_batch: PositiveInt | None = None,
) -> nn.Module:
    """He et al. 2016's network of 34 layers, from torchvision's blocks; for images below 96 pixels a 3x3 stem.

    21.3 million parameters with the small stem and 10 classes, 21.8 with torchvision's own (`stem: large`) and 1,000.
    """
    return resnet(example_shape, classes, BasicBlock, [3, 4, 6, 3], stem, Norms(norm, ghost_batch))
