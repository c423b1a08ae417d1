"""An LSTM that predicts the next token of a text."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

# Width, depth.
_SIZES = {"narrow": (64, 2), "shallow": (128, 1), "base": (128, 2), "wide": (256, 2)}


def lstm(
    example_shape: tuple[int, ...],
    classes: int,
    *,
    variant: Literal["narrow", "shallow", "base", "wide"] = "base",
    width: PositiveInt | None = None,
    depth: PositiveInt | None = None,
    tied: bool = True,
) -> nn.Module:
    """Layers of LSTM cells over an embedding of their width, from a state of zeros at each example's first token.

    Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000), drawn as torch.nn.LSTM's are. Width x depth:
    `narrow` 64 x 2, `shallow` 128 x 1, `base` 128 x 2, `wide` 256 x 2, or those given in their place. tied: the output
    layer is the embedding (Press & Wolf 2017).
    """
    (_,) = example_shape
    usual_width, usual_depth = _SIZES[variant]
    return _LanguageModel(classes, width or usual_width, depth or usual_depth, tied=tied)


class _LanguageModel(nn.Module):
    def __init__(self, classes: int, width: int, depth: int, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, width)
        self.layers = nn.Sequential(*(_Layer(width) for _ in range(depth)))
        self.head = nn.Linear(width, classes)
        if tied:
            # As an output layer is drawn: an embedding's numbers of size 1 would make its logits too large.
            self.embedding.weight = self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """[n, length], whole numbers -> [n, length, classes], of each position from itself and those before it."""
        logits: Tensor = self.head(self.layers(self.embedding(tokens)))
        return logits


class _Layer(nn.Module):
    """torch.nn.LSTM's layer, with one bias where that has two, written out: that one does not vmap, has no second
    derivative on a GPU, and hides its products from torch's counter. On a CPU it takes 1 to 2.5 times as long.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(width, 4 * width)
        self.of_state = nn.Linear(width, 4 * width, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, length, width] -> the same shape."""
        state = cell = torch.zeros_like(inputs[:, 0])
        states: list[Tensor] = []
        for given in self.of_input(inputs).unbind(1):
            gates = given if not states else given + self.of_state(state)
            enter, forget, new, leave = gates.chunk(4, dim=-1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            state = leave.sigmoid() * cell.tanh()
            states.append(state)
        return torch.stack(states, dim=1)
