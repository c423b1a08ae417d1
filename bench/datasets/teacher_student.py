"""A linear teacher with Gaussian inputs: a workload whose gradient noise scale is known."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import NonNegativeFloat, PositiveInt

from bench.examples import Data, Split

SIZES = {"train": 65_536, "validation": 4_096, "test": 4_096}


def teacher_student(folder: Path, *, dimensions: PositiveInt = 32, noise: NonNegativeFloat = 1.0) -> Data:  # noqa: ARG001
    """y = w x + noise e, with inputs x ~ N(0, I) of `dimensions` numbers, |w| = 1, e ~ N(0, 1); half the squared error.

    At a distance D from w, |G|^2 = D^2 and tr(Sigma) = (dimensions + 1) D^2 + dimensions noise^2 (`exact.py`).
    """
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(dimensions, 1, generator=generator, dtype=torch.float64)
    teacher /= teacher.norm()
    splits: list[Split] = []
    for size in SIZES.values():
        inputs = torch.randn(size, dimensions, generator=generator, dtype=torch.float64)
        targets = inputs @ teacher + noise * torch.randn(size, 1, generator=generator, dtype=torch.float64)
        splits.append(Split(inputs.float(), targets.float()))
    train, validation, test = splits
    return Data(train, validation, test, classes=1, loss="half_squared_error")
