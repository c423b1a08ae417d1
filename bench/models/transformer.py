"""A transformer that predicts the next token of a text."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bench.models._attention import Block

# Width, heads, depth.
_SIZES = {"narrow": (64, 2, 4), "shallow": (128, 4, 1), "base": (128, 4, 4), "wide": (256, 8, 4)}


def transformer(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    variant: Literal["narrow", "shallow", "base", "wide"] = "base",
    width: PositiveInt | None = None,
    heads: PositiveInt | None = None,
    depth: PositiveInt | None = None,
    tied: bool = True,
) -> nn.Module:
    """A decoder-only language model: learned positions, causal attention, norms before each part and at the end.

    Radford et al. 2019 (GPT-2), without dropout, weights drawn as theirs. Width x heads x depth: `narrow` 64 x 2 x 4,
    `shallow` 128 x 4 x 1, `base` 128 x 4 x 4, `wide` 256 x 8 x 4, or those given in their place. Shallue et al. 2019
    compare such variants; these are smaller than theirs. tied: the output layer is the embedding.
    """
    (length,) = example_shape
    sizes = zip((width, heads, depth), _SIZES[variant], strict=True)
    return _Transformer(length, classes, *(given or usual for given, usual in sizes), tied=tied)


class _Transformer(nn.Module):
    def __init__(self, length: int, classes: int, width: int, heads: int, depth: int, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, width)
        self.positions = nn.Parameter(0.01 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith(("mix.weight", "layers.2.weight")):
                # What the blocks add together then does not grow with their number.
                nn.init.normal_(parameter, std=0.02 / (2 * depth) ** 0.5)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """[n, length], whole numbers -> [n, length, classes], of each position from itself and those before it."""
        length = tokens.shape[1]
        states = self.embedding(tokens) + self.positions[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        for block in self.blocks:
            states = block(states, later)
        logits: Tensor = self.head(self.norm(states))
        return logits
