"""What a dataset is made of: examples, held in memory or read as they are needed (`feeds.py`), in three parts.

Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    import torch

# What training lowers, in `losses.py`: a class number or a value is given for each example, the example itself is to be
# given back, or it is the model's own output.
LossName = Literal["cross_entropy", "half_squared_error", "reconstruction", "output"]

# A class number that is none: a position of a text whose next token is not asked for.
NOT_COUNTED = -100


class Examples(Protocol):
    """Examples and what they should be recognised as, wherever they lie.

    What they give is given as a model takes it, on the device they were sent to: inputs [n, *example_shape], floating
    point and normalised, or int64 tokens of a text; targets [n, *target_shape], int64 class numbers (for a text [n,
    length]: the token after each, or NOT_COUNTED), or values.
    """

    @property
    def targets(self) -> torch.Tensor:
        """[n, *target_shape], as they lie."""

    @property
    def example_shape(self) -> tuple[int, ...]: ...

    @property
    def target_shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same examples for a device, what is floating point of them as `dtype`."""

    def first(self, count: int) -> Split:
        """The first of them, as a model takes them; all where there are fewer."""

    def take(self, rows: torch.Tensor) -> Split:
        """Those of the numbers [n], as a model takes them."""

    def in_order(self, at_once: int) -> Iterator[Split]:
        """All of them, as a model takes them, so many at once."""

    def select(self, rows: torch.Tensor) -> Self:
        """Those of the numbers [n] and no others, as they lie."""

    def relabelled(self, targets: torch.Tensor) -> Self:
        """The same examples with other targets [n, ...]."""

    def reconstructed(self) -> Self:
        """The same examples, each of which is what itself should be recognised as."""

    def pieces(self, rows: torch.Tensor) -> Iterator[tuple[Split, torch.Tensor]]:
        """What steps of these numbers [steps, ...] need, a few steps at a time: examples in memory, and the numbers of
        the steps' own among these, on their device.
        """


@dataclass(frozen=True)
class Pixels:
    """How whole numbers from 0 to 255 are seen: as 0 .. 1, less the mean of each channel, over its deviation.

    mean, deviation: [channels, 1, 1], float32, in which it is computed; what comes of it is of type `dtype`, if given.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    dtype: torch.dtype | None = None

    def seen(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels.float() / 255 - self.mean) / self.deviation).to(self.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> Pixels:
        return Pixels(self.mean.to(device), self.deviation.to(device), dtype)


@dataclass(frozen=True)
class Split:
    """Keeps the contract of `Examples` in memory.

    inputs, targets: [n, ...], as a model takes them; whole numbers may be held as uint8. Where `targets` is `inputs`
    each example is what itself should be recognised as.  pixels: where inputs are images of whole numbers, how a model
    sees them.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    pixels: Pixels | None = None

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[1:])

    @property
    def target_shape(self) -> tuple[int, ...]:
        return tuple(self.targets.shape[1:])

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device, dtype: torch.dtype) -> Split:
        inputs = _moved(self.inputs, device, dtype)
        targets = inputs if self.targets is self.inputs else _moved(self.targets, device, dtype)
        return Split(inputs, targets, self.pixels.to(device, dtype) if self.pixels else None)

    def whole(self) -> Split:
        """All of them, as a model takes them."""
        return self._seen(self.inputs, self.targets)

    def first(self, count: int) -> Split:
        return self._seen(self.inputs[:count], self.targets[:count])

    def take(self, rows: torch.Tensor) -> Split:
        rows = rows.to(self.inputs.device)
        return self._seen(self.inputs.index_select(0, rows), self.targets.index_select(0, rows))

    def in_order(self, at_once: int) -> Iterator[Split]:
        parts = zip(self.inputs.split(at_once), self.targets.split(at_once), strict=True)
        return (self._seen(inputs, targets) for inputs, targets in parts)

    def select(self, rows: torch.Tensor) -> Split:
        inputs = self.inputs[rows]
        return replace(self, inputs=inputs, targets=inputs if self.targets is self.inputs else self.targets[rows])

    def relabelled(self, targets: torch.Tensor) -> Split:
        return replace(self, targets=targets)

    def reconstructed(self) -> Split:
        return replace(self, targets=self.inputs)

    def pieces(self, rows: torch.Tensor) -> Iterator[tuple[Split, torch.Tensor]]:
        yield self, rows.to(self.inputs.device)

    def _seen(self, inputs: torch.Tensor, targets: torch.Tensor) -> Split:
        inputs = self.pixels.seen(inputs) if self.pixels else _whole(inputs)
        return Split(inputs, inputs if self.targets is self.inputs else _whole(targets))


def _whole(values: torch.Tensor) -> torch.Tensor:
    """Values as they are, and whole numbers as int64, which models and losses take."""
    return values if values.is_floating_point() else values.long()


def _moved(values: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return values.to(device, dtype if values.is_floating_point() else None)


@dataclass(frozen=True)
class Data:
    """A dataset: targets are met on validation; test is reported once, at the end, and chooses nothing.

    classes: how many numbers a model gives for an example, one for each class where there are classes.
    """

    train: Examples
    validation: Examples
    test: Examples
    classes: int
    loss: LossName = "cross_entropy"

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.train.example_shape

    @property
    def outputs_an_example(self) -> int:
        """How many numbers a model gives for an example, at all of its positions together."""
        positions = prod(self.train.target_shape) if self.loss == "cross_entropy" else 1
        return positions * self.classes

    def to(self, device: torch.device, dtype: torch.dtype) -> Data:
        """The same data for a device, what is floating point of it as `dtype`."""
        return self.each(lambda examples: examples.to(device, dtype))

    def each(self, change: Callable[[Examples], Examples]) -> Data:
        """The same data, a change made to each of its three parts."""
        return replace(self, train=change(self.train), validation=change(self.validation), test=change(self.test))
