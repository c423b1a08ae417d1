"""ImageNet: 1.3 million colour photographs of a thousand kinds of things."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import PositiveInt

from bench.datasets._folders import opened
from bench.errors import DataError
from bench.examples import Data

FILE = "imagenet/train"
SIZES = {"train": 1_231_167, "validation": 50_000, "test": 50_000}


def imagenet(folder: Path, *, size: PositiveInt = 224) -> Data:
    """imagenet/train and imagenet/val, with a folder a class (Russakovsky et al. 2015); read with `input: loader`.

    50,000 of the 1,281,167 in train, drawn with a fixed seed, validate, and val tests. With `input: loader` images are
    read from disk whenever a step takes them; else all lie on the device, 3 size^2 bytes each: 4 GB at a size of 32,
    200 GB at 224. Raises DataError where a folder is missing or is not all of it.
    """
    places = [folder / "imagenet" / name for name in ("train", "val")]
    (whole, classes), (test, others) = (opened(place, size) for place in places)
    wanted = SIZES["train"] + SIZES["validation"], SIZES["test"]
    for place, images, count in zip(places, (whole, test), wanted, strict=True):
        if len(images) != count:
            raise DataError(f"{place}: has {len(images):,} images; ImageNet has {count:,}")
    if classes != others:
        raise DataError(f"{places[1]}: has other classes than {places[0]}")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    train, validation = order.split([SIZES["train"], SIZES["validation"]])
    return Data(whole.select(train), whole.select(validation), test, len(classes))
