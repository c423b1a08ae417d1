"""STL-10: 96x96 colour photographs of ten kinds of things, few of them labelled."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import drawn_images, opened
from bench.examples import Data

DOWNLOADED_FILE = "stl10_binary/train_X.bin"
SIZES = {"train": 4_500, "validation": 500, "test": 8_000}


def stl10(folder: Path) -> Data:
    """5,000 + 8,000 labelled images of 10 classes (Coates et al. 2011); 500 of the 5,000, drawn once, validate."""
    whole, test = (opened(datasets.STL10, folder, split=split) for split in ("train", "test"))
    return drawn_images(whole, test, SIZES["validation"], classes=10)
