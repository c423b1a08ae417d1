"""USPS: 16x16 grey images of digits from envelopes."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from bench.datasets._torchvision import drawn_images, opened
from bench.examples import Data

DOWNLOADED_FILE = "usps.bz2"
SIZES = {"train": 6_291, "validation": 1_000, "test": 2_007}


def usps(folder: Path) -> Data:
    """7,291 + 2,007 images of 10 digits (Hull 1994); 1,000 of the 7,291, drawn with a fixed seed, validate."""
    whole, test = (opened(datasets.USPS, folder, train=train) for train in (True, False))
    return drawn_images(whole, test, SIZES["validation"], classes=10)
