"""scikit-learn's handwritten digits: 1,797 real images of 8x8 pixels inside the package, no download."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from bench.examples import Data, Split

SIZES = {"train": 1_197, "validation": 300, "test": 300}


def digits(folder: Path) -> Data:  # noqa: ARG001 (they lie inside scikit-learn)
    """8x8 grey images of 10 digits, shuffled once with a fixed seed and split 1,197 / 300 / 300.

    The file is ordered by writer, so that splitting it unshuffled would test on writers never trained on.
    Pixels of 0 .. 16 become 0 .. 1, less their mean of 0.3053 over their deviation of 0.3760.
    """
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    inputs = ((torch.from_numpy(images).reshape(-1, 1, 8, 8) / 16 - 0.3053) / 0.3760)[order]
    targets = torch.from_numpy(labels).long()[order]
    sizes = list(SIZES.values())
    train, validation, test = map(Split, inputs.split(sizes), targets.split(sizes))
    return Data(train, validation, test, classes=10)
