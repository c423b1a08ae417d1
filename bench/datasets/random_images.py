"""Images of noise with labels at random: as large as wanted, with nothing to learn, for timing."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import PositiveInt

from bench.examples import Data, Split

_VALIDATION = 100


def random_images(
    folder: Path,  # noqa: ARG001 (there is nothing to read)
    *,
    shape: list[PositiveInt] = [3, 32, 32],  # noqa: B006 (never changed)
    classes: PositiveInt = 10,
    examples: PositiveInt = 4096,
) -> Data:
    """Standard Gaussian pixels and uniform labels, from a fixed seed; the time of a step does not depend on them.

    shape: channels, height, width.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples + 2 * _VALIDATION, *shape, generator=generator)
    targets = torch.randint(classes, (len(inputs),), generator=generator)
    sizes = [examples, _VALIDATION, _VALIDATION]
    train, validation, test = map(Split, inputs.split(sizes), targets.split(sizes))
    return Data(train, validation, test, classes)
