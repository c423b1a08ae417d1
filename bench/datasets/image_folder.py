"""Images in folders named by class, as torchvision.datasets.ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from bench.contracts import Data, Split
from bench.errors import DataError

# Of ImageNet's pixels, 0 .. 1: what torchvision's models expect.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_folder(folder: Path, *, path: str, size: PositiveInt = 224) -> Data:
    """Colour images from `path` in the data folder: train/, validation/ and test/, each with a folder for each class.

    The shorter side is scaled to `size` and the middle cut out. All images are held in memory to be trained on, [n, 3,
    size, size]; with `input: loader` a step is timed reading them from disk. Raises DataError where a folder is missing
    or the three do not have the same classes.
    """
    look = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _DEVIATION),
        ]
    )
    parts = {name: _open(folder / path / name, look) for name in ("train", "validation", "test")}
    classes = parts["train"].classes
    for name, part in parts.items():
        if part.classes != classes:
            raise DataError(f"{folder / path / name}: has the classes {part.classes}; train has {classes}")
    train, validation, test = map(_held, parts.values())
    return Data(train, validation, test, len(classes), stream=parts["train"])


def _open(folder: Path, look: Any) -> Any:
    try:
        return datasets.ImageFolder(folder, look)
    except (FileNotFoundError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{folder}: cannot be read as folders of images, one for each class: {reason}") from error


def _held(part: Any) -> Split:
    inputs, targets = zip(*DataLoader(part, batch_size=256), strict=True)
    return Split(torch.cat(inputs), torch.cat(targets))
