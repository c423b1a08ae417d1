"""Kuzushiji-MNIST: 28x28 grey images of cursive Japanese characters."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import drawn_images, opened
from bench.examples import Data

DOWNLOADED_FILE = "KMNIST/raw/train-images-idx3-ubyte"
SIZES = {"train": 55_000, "validation": 5_000, "test": 10_000}


def kmnist(folder: Path) -> Data:
    """60,000 + 10,000 images of 10 characters (Clanuwat et al. 2018); 5,000 of the 60,000, drawn once, validate."""
    whole, test = (opened(datasets.KMNIST, folder, train=train) for train in (True, False))
    return drawn_images(whole, test, SIZES["validation"], classes=10)
