"""What a suite may change of any dataset: fewer training examples, wrong labels among them, another task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bench.errors import DataError
from bench.examples import NOT_COUNTED, Data


def altered(data: Data, options: Mapping[str, Any]) -> Data:
    """The dataset as the options `subset`, `label_noise` and `task` have it; raises DataError where they do not fit.

    Labels are made noisy before the subset is taken, so that an example's label is the same in every subset.
    """
    if "label_noise" in options:
        data = _with_label_noise(data, options["label_noise"])
    if "subset" in options:
        data = _subset(data, options["subset"])
    if "task" in options:
        data = _reconstruction(data)
    return data


def _subset(data: Data, count: int) -> Data:
    """The first `count` training examples of a permutation that is the same every time: a subset holds all smaller."""
    if count > len(data.train):
        raise DataError(f"found the subset {count:,}; there are {len(data.train):,} training examples")
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:count]
    return replace(data, train=data.train.select(rows))


def _with_label_noise(data: Data, share: float) -> Data:
    """Each training label, with probability `share`, becomes another class, all others being as likely (as in Zhang et
    al. 2017, arXiv 1611.03530, but never the class itself). What is wrong at a share is wrong at every larger one.
    """
    if data.loss != "cross_entropy" or data.classes < 2:
        raise DataError("label_noise is for datasets whose targets are classes; this one's are not")
    targets = data.train.targets.long()
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(targets.shape, generator=generator, dtype=torch.float64) < share
    others = (targets + torch.randint(1, data.classes, targets.shape, generator=generator)) % data.classes
    changed = torch.where(wrong & (targets != NOT_COUNTED), others, targets).to(data.train.targets.dtype)
    return replace(data, train=data.train.relabelled(changed))


def _reconstruction(data: Data) -> Data:
    """Every example is its own target: `classes` is how many numbers it has."""
    if not data.train.first(1).inputs.is_floating_point():
        raise DataError("task: reconstruction is for inputs that are values; this dataset's are tokens")
    classes = math.prod(data.example_shape)
    return replace(data.each(lambda each: each.reconstructed()), classes=classes, loss="reconstruction")
