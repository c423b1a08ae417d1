"""What the image sets of torchvision have in common: finding or fetching the files, splitting, normalising."""

from __future__ import annotations

import contextlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import transforms

from bench.errors import DataError, first_line
from bench.examples import Data, Split

# How torchvision's classes that take `split` call their parts, what is to be trained on first.
_TRAIN, _TEST = ("train", "trainval", "train-standard"), ("test", "val", "valid")


def images(dataset: type[Any], folder: Path, validation: int, *, mean: list[float], deviation: list[float]) -> Data:
    """The whole of a torchvision image set with a train and a test part: [n, channels, height, width], normalised.

    mean, deviation: of each channel over the training images, for pixels scaled to 0 .. 1. The last `validation`
    training images become the validation split. Raises DataError where the files are absent and cannot be fetched.
    """
    whole, test = (opened(dataset, folder, train=train) for train in (True, False))
    pixels, targets = _held(whole)
    inputs = _normalised(pixels, torch.tensor(mean), torch.tensor(deviation))
    cut = len(targets) - validation
    test_pixels, test_targets = _held(test)
    return Data(
        train=Split(inputs[:cut], targets[:cut]),
        validation=Split(inputs[cut:], targets[cut:]),
        test=Split(_normalised(test_pixels, torch.tensor(mean), torch.tensor(deviation)), test_targets),
        classes=len(whole.classes),
    )


def drawn_images(whole: Any, test: Any, validation: int, classes: int, *, first_class: int = 0) -> Data:
    """Two parts of an image set whose images torchvision holds: [n, channels, height, width].

    Normalised by each channel's mean and deviation over all of `whole`, computed here. The validation split is drawn
    from `whole` with a fixed seed, for files may be sorted.
    """
    return _drawn(_held(whole), _held(test), validation, classes, first_class)


def any_images(dataset: type[Any], folder: Path, *, size: int, **options: Any) -> Data:
    """Any image set of torchvision with a train and a test part and class numbers as targets: [n, 3, size, size].

    The shorter side is scaled to `size` and the middle cut out. A tenth of the training images validates. Where there
    is no test part, its validation part is one. Raises DataError where the set does not fit that, or is not there.
    """
    look = transforms.Compose(
        [
            transforms.Lambda(lambda image: image.convert("RGB")),
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.PILToTensor(),
        ]
    )
    if "train" in parameters(dataset):
        whole, test = (opened(dataset, folder, train=train, transform=look, **options) for train in (True, False))
    else:
        whole, test = (_first_part(dataset, folder, names, transform=look, **options) for names in (_TRAIN, _TEST))
    (pixels, targets), (test_pixels, test_targets) = (_read(part) for part in (whole, test))
    classes = int(max(targets.max(), test_targets.max())) + 1
    return _drawn((pixels, targets), (test_pixels, test_targets), max(1, len(targets) // 10), classes, 0)


def opened(dataset: type[Any], folder: Path, **options: Any) -> Any:
    """A part of an image set, downloaded if it is absent and can be; raises DataError where it cannot."""
    name = dataset.__name__
    try:
        return dataset(folder, **options)
    except (OSError, RuntimeError):
        pass  # not in the folder: torchvision says so with one of these
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return dataset(folder, **options, **({"download": True} if "download" in parameters(dataset) else {}))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} is not in '{folder}' and could not be downloaded ({first_line(error)}); put the files that "
            f"torchvision.datasets.{name} reads into that folder, or name another with --data or BENCH_DATA"
        ) from error


def parameters(dataset: type[Any]) -> set[str]:
    """What a class's constructor takes, its own or one that it hands on to."""
    constructors = (vars(each).get("__init__") for each in dataset.__mro__ if each is not object)
    return {name for constructor in constructors if constructor for name in inspect.signature(constructor).parameters}


def _first_part(dataset: type[Any], folder: Path, names: tuple[str, ...], **options: Any) -> Any:
    for name in names:
        try:
            return opened(dataset, folder, split=name, **options)
        except ValueError as error:  # torchvision's word for a part that there is not
            reason = error
    raise DataError(f"torchvision.datasets.{dataset.__name__} has no part called {' or '.join(names)}: {reason}")


def _drawn(
    whole: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], validation: int, classes: int, first_class: int
) -> Data:
    mean, deviation = _statistics(whole[0])
    order = torch.randperm(len(whole[1]), generator=torch.Generator().manual_seed(0))
    train, held_out = order.split([len(order) - validation, validation])

    def split(part: tuple[Tensor, Tensor], rows: Tensor) -> Split:
        return Split(_normalised(part[0][rows], mean, deviation), part[1][rows] - first_class)

    everything = torch.arange(len(test[1]))
    return Data(split(whole, train), split(whole, held_out), split(test, everything), classes)


def _statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of uint8 images, as 0 .. 1; from counts, so that no sum is rounded."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in pixels.unbind(1)]).double()
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ values
    return mean.float(), (shares @ values.square() - mean.square()).sqrt().float()


def _normalised(pixels: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    channel = (1, -1, 1, 1)
    return ((pixels.float() / 255 - mean.view(channel)) / deviation.view(channel)).contiguous()


def _held(source: Any) -> tuple[Tensor, Tensor]:
    """The images that torchvision holds in memory, uint8 [n, channels, height, width], and their class numbers."""
    pixels = torch.as_tensor(source.data)
    if pixels.ndim == 3:  # grey ones, as MNIST's
        pixels = pixels.unsqueeze(1)
    elif pixels.shape[-1] == 3:  # CIFAR's; those of SVHN and STL-10 have the channels first
        pixels = pixels.permute(0, 3, 1, 2)
    return pixels, torch.as_tensor(source.targets if hasattr(source, "targets") else source.labels).long()


def _read(part: Any) -> tuple[Tensor, Tensor]:
    """The images of a part, read one after the other, and their class numbers."""
    pixels, targets = zip(*(part[place] for place in range(len(part))), strict=True)
    if not all(isinstance(target, int) for target in targets):
        kind = type(part).__name__
        raise DataError(f"torchvision.datasets.{kind} gives {type(targets[0]).__name__}s, and not a class number each")
    return torch.stack(pixels), torch.tensor(targets)
