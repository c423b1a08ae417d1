"""What would stop studies from being carried out, found before any of them is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from bench.ask.plan import Study, Timing, Workload
from bench.ask.search import Dimension, Value
from bench.errors import ComponentError, sentence
from bench.examples import Data, LossName
from bench.measure import augment, build, precision, probing
from bench.measure.losses import LOSSES


def rehearse(studies: Sequence[Study | Timing], folder: Path) -> list[str]:
    """Everything that would stop studies from being carried out, found before any of them is: one sentence each.

    Loads (and where it must, downloads) each dataset, and takes one step of each workload on the CPU with two examples.
    """
    problems: dict[str, None] = {}
    loaded: dict[str, Data | Exception] = {}
    of_workload: dict[str, list[Study | Timing]] = {}
    for each in sorted(studies, key=lambda each: each.batch_size):
        of_workload.setdefault(each.workload.name, []).append(each)
    for units in of_workload.values():
        each = units[-1]
        try:
            _rehearse(each, folder, loaded, next(filter(None, map(_alone, units)), None))
        except Exception as error:  # a user's component may raise anything
            problems[f"{each.workload.name}: {sentence(error)}"] = None
    return list(problems)


def _alone(unit: Study | Timing) -> str | None:
    """What has a model in training mode see one example alone: a batch, a device's share or what micro-batches leave of
    it, or a probe; None where nothing does.
    """
    if isinstance(unit, Timing) and unit.what == "inference":
        return None
    micro_batch, share = unit.workload.entry.micro_batch, unit.batch_size // unit.workload.devices
    if share == 1:
        return f"batch size {unit.batch_size:,}"
    if isinstance(micro_batch, int) and 1 in (micro_batch, share % micro_batch):
        return f"batch size {unit.batch_size:,} in micro-batches of {micro_batch}"
    return next(
        (f"{name} with small: 1" for name, given in unit.workload.probes.items() if given.get("small") == 1), None
    )


def _rehearse(
    largest: Study | Timing,
    folder: Path,
    loaded: dict[str, Data | Exception],
    alone: str | None,
) -> None:
    """largest: a workload's unit of the largest batch size.  alone: what has its model see one example alone."""
    workload, cpu = largest.workload, torch.device("cpu")
    key = str(workload.dataset)
    if key not in loaded:
        try:
            loaded[key] = build.dataset(workload, folder)
        except Exception as error:  # said of every workload that needs the dataset, tried once
            loaded[key] = error
    found = loaded[key]
    if isinstance(found, Exception):
        raise found
    data = found.to(cpu, precision.dtype(workload.entry.precision))
    size = largest.largest_batch if isinstance(largest, Study) else largest.batch_size
    if size > len(data.train) and not workload.open_ended:
        raise ComponentError(f"found the batch size {size:,}; {key} has {len(data.train):,} training examples")
    try:
        model = build.model(workload, data, cpu, seed=0)
        few = data.train.first(2)
        outputs = model(few.inputs)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ComponentError(
            f"{workload.model} cannot take examples of shape {list(data.example_shape)} from {key}: {sentence(error)}"
        ) from error
    if alone:
        try:
            model(data.train.first(1).inputs)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ComponentError(
                f"{workload.model} cannot train on one example alone, as {alone} has it: {sentence(error)}"
            ) from error
    targets = few.targets
    wanted: dict[LossName, list[tuple[int, ...]]] = {
        "cross_entropy": [(*targets.shape, data.classes)],
        "half_squared_error": [tuple(targets.shape)],
        "reconstruction": [tuple(targets.shape), (2,)],
        "output": [(2,)],
    }
    takes = " or ".join(map(str, wanted[data.loss]))
    if not isinstance(outputs, torch.Tensor):
        gave = f"gave a {type(outputs).__name__} for 2 examples of {key}"
        raise ComponentError(f"{workload.model} {gave}; it takes one tensor, {takes}")
    if tuple(outputs.shape) not in wanted[data.loss]:
        raise ComponentError(f"{workload.model} gave {tuple(outputs.shape)} for 2 examples of {key}; it takes {takes}")
    stated = next(iter(workload.entry.target), "validation_loss")
    if LOSSES[data.loss].error is None and not stated.endswith("validation_loss"):
        raise ComponentError(f"{key} knows no right and wrong answers; make the target one of validation_loss")
    if workload.entry.augment and data.loss == "reconstruction":
        raise ComponentError("augment: a task of reconstruction cannot know what was done to an image; leave it out")
    augment.draws(workload.entry.augment, data.example_shape)
    probing.build_probes(workload)
    point = _any_point(largest)
    try:
        optimizer = build.optimizer(workload, model, data.classes, point)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        given = ", ".join(f"{name} {value}" for name, value in point.items())
        raise ComponentError(f"{workload.optimizer} cannot be made with {given}: {sentence(error)}") from error
    build.schedule(workload, point, largest.batch_size)(0)

    def gradient() -> torch.Tensor:
        optimizer.zero_grad()
        loss = LOSSES[data.loss].mean(model(few.inputs), targets)
        loss.backward()
        return loss

    if build.gradients(optimizer) > 1:
        optimizer.step(gradient)  # type: ignore[arg-type]
    else:
        LOSSES[data.loss].mean(outputs, targets).backward()
        optimizer.step()
    if workload.devices > 1:
        _rehearse_shared(workload, model)


def _rehearse_shared(workload: Workload, model: nn.Module) -> None:
    """Raises ComponentError where devices cannot train a model together, of which each has a gradient."""
    if any(each.requires_grad and each.grad is None for each in model.parameters()):
        raise ComponentError(f"{workload.model} has a parameter that gets no gradient; train it on one device")
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise ComponentError(
            f"{workload.model} has torch's SyncBatchNorm, whose copy in a probe would wait for the other devices; "
            "make it bench.measure.parallel.SyncNorm"
        )


def _any_point(study: Study | Timing) -> dict[str, Value]:
    return {
        name: dimension.extremes()[0] if isinstance(dimension, Dimension) else dimension
        for name, dimension in study.workload.space_at(study.batch_size).items()
    }
