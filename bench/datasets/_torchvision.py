"""What the image sets of torchvision have in common: finding or fetching the files, splitting, normalising."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.contracts import Data, Split
from bench.errors import DataError


def images(dataset: type[Any], folder: Path, validation: int, *, mean: list[float], deviation: list[float]) -> Data:
    """The whole of a torchvision image set with a train and a test part: [n, channels, height, width], normalised.

    mean, deviation: of each channel over the training images, for pixels scaled to 0 .. 1. The last `validation`
    training images become the validation split. Raises DataError where the files are absent and cannot be fetched.
    """
    whole, test = (_open(dataset, folder, train=train) for train in (True, False))
    inputs, targets = _tensors(whole, mean, deviation)
    cut = len(targets) - validation
    return Data(
        train=Split(inputs[:cut], targets[:cut]),
        validation=Split(inputs[cut:], targets[cut:]),
        test=Split(*_tensors(test, mean, deviation)),
        classes=len(whole.classes),
    )


def _open(dataset: type[Any], folder: Path, *, train: bool) -> Any:
    name = dataset.__name__
    try:
        return dataset(folder, train=train, download=False)
    except RuntimeError:
        pass  # not in the folder: torchvision says so with a bare RuntimeError
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return dataset(folder, train=train, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{name} is not in '{folder}' and could not be downloaded ({reason}); put the files that "
            f"torchvision.datasets.{name} reads into that folder, or name another with --data or BENCH_DATA"
        ) from error


def _tensors(source: Any, mean: list[float], deviation: list[float]) -> tuple[Tensor, Tensor]:
    pixels = torch.as_tensor(source.data)
    # CIFAR comes as [n, height, width, channels], MNIST as [n, height, width].
    pixels = pixels.permute(0, 3, 1, 2) if pixels.ndim == 4 else pixels.unsqueeze(1)
    channel = (1, -1, 1, 1)
    inputs = (pixels.float() / 255 - torch.tensor(mean).view(channel)) / torch.tensor(deviation).view(channel)
    return inputs.contiguous(), torch.as_tensor(source.targets).long()
