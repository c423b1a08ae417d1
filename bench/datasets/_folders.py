"""Images in folders named by class, read as they are asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor
from torchvision import datasets, transforms

from bench.errors import DataError, first_line
from bench.examples import Pixels
from bench.measure.feeds import Streamed

# Of ImageNet's pixels, 0 .. 1: what torchvision's models expect.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def opened(folder: Path, size: int) -> tuple[Streamed, list[str]]:
    """Colour images [3, size, size], the shorter side scaled to `size` and the middle cut out, and the names of their
    classes; raises DataError where the folder does not hold a folder of images for each class.
    """
    try:
        found = datasets.ImageFolder(folder)
    except (FileNotFoundError, RuntimeError) as error:
        what = "cannot be read as folders of images, one for each class"
        raise DataError(f"{folder}: {what}: {first_line(error)}") from error
    mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (_MEAN, _DEVIATION))
    images = Streamed(
        _Images(found, size), torch.arange(len(found)), torch.tensor(found.targets), Pixels(mean, deviation)
    )
    return images, found.classes


class _Images:
    """Reads images by their numbers: uint8 [n, 3, size, size]."""

    def __init__(self, found: Any, size: int) -> None:
        # An array, and no list: that would be copied by every process that looks at its strings.
        self._paths = numpy.array([os.fsencode(path) for path, _ in found.samples])
        self._read = found.loader
        self._look = transforms.Compose(
            [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
        )

    def __getitem__(self, numbers: Tensor) -> Tensor:
        return torch.stack([self._image(os.fsdecode(path)) for path in self._paths[numbers.numpy()].tolist()])

    def _image(self, path: str) -> Tensor:
        try:
            image: Tensor = self._look(self._read(path))
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder raises of what is no image
            raise DataError(f"{path}: cannot be read as an image: {first_line(error)}") from error
        return image
