"""CIFAR-100: 32x32 colour photographs of a hundred kinds of things."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import drawn_images, opened
from bench.examples import Data

DOWNLOADED_FILE = "cifar-100-python/train"
SIZES = {"train": 45_000, "validation": 5_000, "test": 10_000}


def cifar100(folder: Path) -> Data:
    """50,000 + 10,000 images of 100 classes; 5,000 of the 50,000, drawn with a fixed seed, validate."""
    whole, test = (opened(datasets.CIFAR100, folder, train=train) for train in (True, False))
    return drawn_images(whole, test, SIZES["validation"], classes=100)
