"""A transformer's block, for images and for text."""

from __future__ import annotations

from torch import Tensor, nn

from bench.errors import ComponentError


class Block(nn.Module):
    """Attention and two layers, each normalised first and added to what it was given.

    Raises ComponentError where the heads cannot share the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ComponentError(f"found width {width} and {heads} heads; the width should be a multiple of the heads")
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, unseen: Tensor | None = None) -> Tensor:
        """[n, positions, width] -> the same shape; unseen: [positions, positions], where row does not see column."""
        tokens = tokens + self.mix(self._attend(self.first_norm(tokens), unseen))
        result: Tensor = tokens + self.layers(self.second_norm(tokens))
        return result

    def _attend(self, tokens: Tensor, unseen: Tensor | None) -> Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.queries_keys_values(tokens).chunk(3, dim=-1)
        )
        # Written out, since torch's own kernels do not vmap. On a CPU, forward and backward, it takes as long as they
        # do at 64 positions and 2.5 times as long at 128, where what it is a part of hides that.
        scores = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
        if unseen is not None:
            scores = scores.masked_fill(unseen, float("-inf"))
        mixed: Tensor = scores.softmax(-1) @ values
        return mixed.transpose(1, 2).flatten(2)
