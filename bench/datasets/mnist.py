"""MNIST: 28x28 grey images of handwritten digits."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import images
from bench.examples import Data

DOWNLOADED_FILE = "MNIST/raw/train-images-idx3-ubyte"
SIZES = {"train": 55_000, "validation": 5_000, "test": 10_000}


def mnist(folder: Path) -> Data:
    """60,000 + 10,000 images of 10 digits; the last 5,000 of the 60,000 validate (Shallue et al. 2019)."""
    return images(datasets.MNIST, folder, SIZES["validation"], mean=[0.1307], deviation=[0.3081])
