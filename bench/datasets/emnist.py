"""EMNIST: 28x28 grey images of handwritten letters and digits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torchvision import datasets

from bench.datasets._torchvision import drawn_images, opened
from bench.examples import Data

DOWNLOADED_FILE = "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte"
_CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10}


def emnist(
    folder: Path, *, split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = "balanced"
) -> Data:
    """One of the six ways in which Cohen et al. 2017 divide their images; a tenth of the training images validates.

    Images lie on their side, as in the files. The classes of `letters` are 1 .. 26 there and 0 .. 25 here.
    """
    whole, test = (opened(datasets.EMNIST, folder, split=split, train=train) for train in (True, False))
    return drawn_images(whole, test, len(whole) // 10, _CLASSES[split], first_class=int(split == "letters"))
