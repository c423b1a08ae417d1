"""Augments images on the device, by numbers that were drawn with the order of the examples.

Where every trial, stacked or one by one, is given the same numbers, it sees the same images to the last bit; and a
captured CUDA graph sees new ones at each step, for the numbers are among its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench.ask.suite import Augment
from bench.errors import ComponentError
from bench.examples import Examples, Split


def draws(augment: Augment | None, example_shape: Sequence[int]) -> list[int]:
    """How many values each number has that is drawn for an example: a crop's two offsets, whether it is flipped, and
    the centre of what is cut out. Raises ComponentError where the examples are no images, or are too small.
    """
    if augment is None:
        return []
    if len(example_shape) != 3:
        raise ComponentError(
            f"augment is for images, [channels, height, width]; the examples have the shape {list(example_shape)}"
        )
    _, height, width = example_shape
    for name in ("crop", "cutout"):
        size = getattr(augment, name) or 0
        if size > min(height, width):
            raise ComponentError(f"augment: found {name}: {size}; the images have {height} x {width} pixels")
    crops = [2 * augment.crop + 1] * 2 if augment.crop else []
    return [*crops, *([2] if augment.flip else []), *([height, width] if augment.cutout else [])]


def gathered(split: Split, rows: Tensor, augment: Augment | None) -> tuple[Tensor, Tensor]:
    """The (inputs, targets) of examples: [n] their numbers, or, with an augmentation, [n, 1 + k] these and its own.

    Targets are as they were.
    """
    return changed(split.take(rows if augment is None else rows[:, 0]), rows, augment)


def changed(batch: Split, rows: Tensor, augment: Augment | None) -> tuple[Tensor, Tensor]:
    """The (inputs, targets) of a batch that was taken by these rows."""
    if augment is None:
        return batch.inputs, batch.targets
    return augmented(batch.inputs, rows[:, 1:].to(batch.inputs.device), augment), batch.targets


def pieces(examples: Examples, rows: Tensor, augment: Augment | None) -> Iterator[tuple[Split, Tensor]]:
    """What steps need, [steps, ...] as `Order.take` gives them, piece after piece: see `Examples.pieces`."""
    if augment is None:
        yield from examples.pieces(rows)
        return
    begun = 0
    for split, numbers in examples.pieces(rows[..., 0]):
        drawn = rows[begun : begun + len(numbers), ..., 1:].to(numbers.device)
        begun += len(numbers)
        yield split, torch.cat([numbers.unsqueeze(-1), drawn], dim=-1)


def augmented(images: Tensor, drawn: Tensor, augment: Augment) -> Tensor:
    """Images [n, channels, height, width], each cropped, flipped and cut out by its row of numbers [n, k].

    `crop` pads every side by so many zeros (pixels are normalised: zero is their mean) and cuts the image out at an
    offset (He et al. 2016, section 4.2); `flip` mirrors left and right; `cutout` sets a square of that side, about a
    centre anywhere in the image, to zero (DeVries and Taylor 2017).
    """
    count, _, height, width = images.shape
    columns = iter(drawn.unbind(1))
    down, across = (torch.arange(size, device=images.device).expand(count, -1) for size in (height, width))
    if augment.crop:
        down = down + (next(columns) - augment.crop).unsqueeze(1)
        across = across + (next(columns) - augment.crop).unsqueeze(1)
    if augment.flip:
        across = torch.where(next(columns).bool().unsqueeze(1), across.flip(1), across)
    inside = ((down >= 0) & (down < height)).unsqueeze(2) & ((across >= 0) & (across < width)).unsqueeze(1)
    if augment.cutout:
        rows, places = (_beside(next(columns), size, augment.cutout) for size in (height, width))
        inside = inside & ~(rows.unsqueeze(2) & places.unsqueeze(1))
    sources = down.clamp(0, height - 1).unsqueeze(2) * width + across.clamp(0, width - 1).unsqueeze(1)
    taken = images.flatten(2).gather(2, sources.view(count, 1, -1).expand(-1, images.shape[1], -1)).view_as(images)
    return torch.where(inside.unsqueeze(1), taken, torch.zeros((), dtype=images.dtype, device=images.device))


def _beside(centres: Tensor, size: int, side: int) -> Tensor:
    """Which of so many pixels in a row lie in a square of that side about each centre: [n, size]."""
    away = torch.arange(size, device=centres.device) - centres.unsqueeze(1) + side // 2
    return (away >= 0) & (away < side)
