"""ImageNet: 1.3 million colour photographs of a thousand kinds of things."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import PositiveInt
from torch.utils.data import Subset

from bench.contracts import Data
from bench.datasets._folders import data, opened
from bench.errors import DataError

SIZES = {"train": 1_231_167, "validation": 50_000, "test": 50_000}


def imagenet(folder: Path, *, size: PositiveInt = 224, held: bool = False) -> Data:
    """imagenet/train and imagenet/val, a folder for each of 1,000 classes (Russakovsky et al. 2015); read from disk.

    50,000 of the 1,281,167 in train, drawn with a fixed seed, validate, and val tests. With `held: true` all images lie
    in memory, [n, 3, size, size], to be trained on: 16 GB at a size of 32. Raises DataError where a folder is missing
    or is not all of it.
    """
    whole, test = (opened(folder / "imagenet" / name, size) for name in ("train", "val"))
    for part, wanted in ((whole, SIZES["train"] + SIZES["validation"]), (test, SIZES["test"])):
        if len(part) != wanted:
            raise DataError(f"{part.root}: has {len(part):,} images; ImageNet has {wanted:,}")
    if whole.classes != test.classes:
        raise DataError(f"{test.root}: has other classes than {whole.root}")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).tolist()
    train, validation = Subset(whole, order[: SIZES["train"]]), Subset(whole, order[SIZES["train"] :])
    return data([train, validation, test], len(whole.classes), held=held)
