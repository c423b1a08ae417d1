"""SVHN: 32x32 colour photographs of house numbers, a digit each."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import drawn_images, opened
from bench.examples import Data

DOWNLOADED_FILE = "train_32x32.mat"
SIZES = {"train": 68_257, "validation": 5_000, "test": 26_032}


def svhn(folder: Path) -> Data:
    """73,257 + 26,032 images of 10 digits (Netzer et al. 2011), without the extra ones; 5,000 drawn once validate."""
    whole, test = (opened(datasets.SVHN, folder, split=split) for split in ("train", "test"))
    return drawn_images(whole, test, SIZES["validation"], classes=10)
