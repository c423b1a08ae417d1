"""The order in which a trial sees the training set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Rows of example numbers are made this many numbers at a time, however long a stretch is.
_BLOCK = 1_000_000


class Order:
    """Shuffled epochs laid end to end, cut into batches of one size.

    A batch may span two epochs, so every batch is full and every example is seen equally often. The order depends on
    the seed alone, not on the device or on how it is asked for.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._left = torch.empty(0, dtype=torch.int64)

    def take(self, steps: int) -> Tensor:
        """The next rows of example numbers: [steps, batch_size], int64, on the CPU."""
        wanted = steps * self._batch_size
        parts, have = [self._left], len(self._left)
        while have < wanted:
            parts.append(torch.randperm(self._examples, generator=self._generator))
            have += self._examples
        whole = torch.cat(parts)
        self._left = whole[wanted:]
        return whole[:wanted].view(steps, self._batch_size)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the order stands; `load_state_dict` takes it back."""
        return {"generator": self._generator.get_state(), "left": self._left.clone()}

    def load_state_dict(self, state_dict: dict[str, Tensor], /) -> None:
        self._generator.set_state(state_dict["generator"].cpu())
        self._left = state_dict["left"].clone()


def blocks(steps: int, batch_size: int, orders: int = 1) -> Iterator[int]:
    """A stretch of steps in pieces, so that the example numbers of a piece, for that many orders, stay few."""
    most = max(1, _BLOCK // (batch_size * orders))
    for start in range(0, steps, most):
        yield min(most, steps - start)
