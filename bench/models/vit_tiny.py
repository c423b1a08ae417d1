"""A small vision transformer."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bench.models._attention import Block


def vit_tiny(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    patch: PositiveInt = 4,
    width: PositiveInt = 192,
    heads: PositiveInt = 3,
    depth: PositiveInt = 4,
) -> nn.Module:
    """A transformer over patches of an image, normalised first, with learned positions and the mean of all patches.

    After Dosovitskiy et al. 2021 (arXiv 2010.11929), as narrow as ViT-Ti (Touvron et al. 2021: width 192, 3
    heads) and a third as deep.
    """
    return _VisionTransformer(example_shape, classes, patch, width, heads, depth)


class _VisionTransformer(nn.Module):
    def __init__(
        self, example_shape: tuple[int, ...], classes: int, patch: int, width: int, heads: int, depth: int
    ) -> None:
        super().__init__()
        channels, height, breadth = example_shape
        self.patches = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn((height // patch) * (breadth // patch), width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits
