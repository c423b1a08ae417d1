"""Images in folders named by class, as torchvision.datasets.ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from bench.contracts import Data
from bench.datasets._folders import data, opened
from bench.errors import DataError


def image_folder(folder: Path, *, path: str, size: PositiveInt = 224, held: bool = True) -> Data:
    """Colour images from `path` in the data folder: train/, validation/ and test/, each with a folder for each class.

    The shorter side is scaled to `size` and the middle cut out. All images are held in memory to be trained on, [n, 3,
    size, size]; with `input: loader` a step is timed reading them from disk, and with `held: false` that is all that
    can be done. Raises DataError where a folder is missing or the three do not have the same classes.
    """
    parts = {name: opened(folder / path / name, size) for name in ("train", "validation", "test")}
    classes = parts["train"].classes
    for name, part in parts.items():
        if part.classes != classes:
            raise DataError(f"{folder / path / name}: has the classes {part.classes}; train has {classes}")
    return data(list(parts.values()), len(classes), held=held)
