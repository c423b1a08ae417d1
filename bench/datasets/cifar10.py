"""CIFAR-10: 32x32 colour photographs of ten kinds of things."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import images
from bench.examples import Data

DOWNLOADED_FILE = "cifar-10-batches-py/data_batch_1"
SIZES = {"train": 45_000, "validation": 5_000, "test": 10_000}


def cifar10(folder: Path) -> Data:
    """50,000 + 10,000 images of 10 classes; the last 5,000 of the 50,000 validate (Shallue et al. 2019)."""
    return images(
        datasets.CIFAR10, folder, SIZES["validation"], mean=[0.4914, 0.4822, 0.4465], deviation=[0.2470, 0.2435, 0.2616]
    )
