"""The order in which a trial sees the training set, and the numbers that its augmentation draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench.ask.search import seed_of
from bench.ask.suite import Entry, OrderName
from bench.examples import Data
from bench.measure import augment

# Rows of example numbers are made this many numbers at a time, however long a stretch is.
_BLOCK = 1_000_000


class Order:
    """Example numbers cut into batches of one size: shuffled epochs laid end to end, or as `name` says.

    A batch may span two epochs, so every batch is full and every example is seen equally often; `single` shuffles once
    and goes through that epoch again and again; `with_replacement` draws each example from all of them. The order
    depends on the seed alone, not on the device or on how it is asked for, and not on what is drawn beside it.

    draws: for each number that an augmentation draws for an example, how many values it has, from 0 on.
    """

    def __init__(
        self, examples: int, batch_size: int, seed: int, name: OrderName = "reshuffle", draws: Sequence[int] = ()
    ) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._name = name
        self._generator = torch.Generator().manual_seed(seed)
        self._left = torch.empty(0, dtype=torch.int64)
        self._epoch: Tensor | None = None
        self._draws = torch.tensor(draws, dtype=torch.int64)
        self._draw_generator = torch.Generator().manual_seed(seed_of("augment", seed))

    @property
    def numbers(self) -> int:
        """How many numbers it gives for an example: its own, and those of an augmentation."""
        return 1 + len(self._draws)

    def take(self, steps: int) -> Tensor:
        """The next rows of example numbers: [steps, batch_size], int64, on the CPU.

        Where an augmentation draws k numbers for an example these follow its number: [steps, batch_size, 1 + k].
        """
        rows = self._numbers(steps * self._batch_size).view(steps, self._batch_size)
        if not len(self._draws):
            return rows
        shares = torch.rand(*rows.shape, len(self._draws), generator=self._draw_generator, dtype=torch.float64)
        return torch.cat([rows.unsqueeze(-1), (shares * self._draws).long()], dim=-1)

    def _numbers(self, wanted: int) -> Tensor:
        if self._name == "with_replacement":
            return torch.randint(self._examples, (wanted,), generator=self._generator)
        parts, have = [self._left], len(self._left)
        while have < wanted:
            parts.append(self._next_epoch())
            have += self._examples
        whole = torch.cat(parts)
        self._left = whole[wanted:]
        return whole[:wanted]

    def _next_epoch(self) -> Tensor:
        if self._epoch is None or self._name == "reshuffle":
            self._epoch = torch.randperm(self._examples, generator=self._generator)
        return self._epoch

    def copy(self) -> Order:
        """Another that gives from here on what this one would."""
        other = Order(self._examples, self._batch_size, 0, self._name, self._draws.tolist())
        other.load_state_dict(self.state_dict())
        return other

    def state_dict(self) -> dict[str, Tensor]:
        """Where the order stands; `load_state_dict` takes it back."""
        return {
            "generator": self._generator.get_state(),
            "draw_generator": self._draw_generator.get_state(),
            "left": self._left.clone(),
            # Of epochs drawn afresh the last is not looked at again.
            "epoch": torch.empty(0) if self._epoch is None or self._name == "reshuffle" else self._epoch.clone(),
        }

    def load_state_dict(self, state_dict: dict[str, Tensor], /) -> None:
        self._generator.set_state(state_dict["generator"].cpu())
        self._draw_generator.set_state(state_dict["draw_generator"].cpu())
        self._left = state_dict["left"].clone()
        self._epoch = state_dict["epoch"].clone() if len(state_dict["epoch"]) else None


def order_of(entry: Entry, data: Data, batch_size: int, seed: int) -> Order:
    """The order of the data's training set that the suite asks for, with what its augmentation draws for each example.

    Raises ComponentError where the examples cannot be augmented.
    """
    draws = augment.draws(entry.augment, data.example_shape)
    return Order(len(data.train), batch_size, seed, entry.order, draws)


def blocks(steps: int, batch_size: int, numbers: int = 1) -> Iterator[int]:
    """A stretch of steps in pieces, so that the numbers of a piece, so many for each example, stay few."""
    most = max(1, _BLOCK // (batch_size * numbers))
    for start in range(0, steps, most):
        yield min(most, steps - start)
