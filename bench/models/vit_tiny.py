"""A small vision transformer."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn


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
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits


class _Block(nn.Module):
    """Attention and two layers, each added to what it was given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.mix(self._attend(self.first_norm(tokens)))
        result: Tensor = tokens + self.layers(self.second_norm(tokens))
        return result

    def _attend(self, tokens: Tensor) -> Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.queries_keys_values(tokens).chunk(3, dim=-1)
        )
        # Written out, since torch's own kernels do not vmap; of the few patches of an image it is no slower.
        scores = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
        mixed: Tensor = scores.softmax(-1) @ values
        return mixed.transpose(1, 2).flatten(2)
