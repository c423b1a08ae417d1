"""Images in folders named by class: all held in memory, or read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from bench.contracts import Data, Split
from bench.errors import DataError

# Of ImageNet's pixels, 0 .. 1: what torchvision's models expect.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def opened(folder: Path, size: int) -> Any:
    """Colour images [3, size, size], the shorter side scaled to `size` and the middle cut out, read as they are asked
    for; raises DataError where the folder does not hold a folder of images for each class.
    """
    look = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _DEVIATION),
        ]
    )
    try:
        return datasets.ImageFolder(folder, look)
    except (FileNotFoundError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{folder}: cannot be read as folders of images, one for each class: {reason}") from error


def data(parts: Sequence[Any], classes: int, *, held: bool) -> Data:
    """The training, validation and test images, which lie in memory where they are `held`."""
    train, validation, test = map(_held if held else _counted, parts)
    return Data(train, validation, test, classes, stream=parts[0], held=held)


def _held(part: Any) -> Split:
    inputs, targets = zip(*DataLoader(part, batch_size=256), strict=True)
    return Split(torch.cat(inputs), torch.cat(targets))


def _counted(part: Any) -> Split:
    """So many times the first example, which is in memory once."""
    image, target = part[0]
    return Split(image.expand(len(part), *image.shape), torch.tensor(target).expand(len(part)))
