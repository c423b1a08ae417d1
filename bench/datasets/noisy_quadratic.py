"""The noisy quadratic model's data: none, for the noise is drawn by the model."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.examples import Data, Split

SIZES = {"train": 1_048_576, "validation": 1, "test": 1}


def noisy_quadratic(folder: Path) -> Data:  # noqa: ARG001 (there is nothing to read)
    """Examples that say nothing but how many they are; to be trained with the model `noisy_quadratic`."""
    train, validation, test = (Split(torch.zeros(size, 1), torch.zeros(size)) for size in SIZES.values())
    return Data(train, validation, test, classes=1, loss="output")
