"""Images in folders named by class, as torchvision.datasets.ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from bench.datasets._folders import opened
from bench.errors import DataError
from bench.examples import Data


def image_folder(folder: Path, *, path: str, size: PositiveInt = 224) -> Data:
    """Colour images from `path` in the data folder: train/, validation/ and test/, each with a folder for each class.

    The shorter side is scaled to `size` and the middle cut out. With `input: loader` they are read from disk whenever
    a step takes them; else all lie on the device, 3 size^2 bytes each. Raises DataError where a folder is missing or
    the three do not have the same classes.
    """
    parts = {name: opened(folder / path / name, size) for name in ("train", "validation", "test")}
    classes = parts["train"][1]
    for name, (_, own) in parts.items():
        if own != classes:
            raise DataError(f"{folder / path / name}: has the classes {own}; train has {classes}")
    train, validation, test = (images for images, _ in parts.values())
    return Data(train, validation, test, len(classes))
