"""What would stop studies from being carried out, found before any of them is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from bench.ask.plan import PlanUnit, Study, Workload
from bench.ask.search import Dimension, Value
from bench.errors import ComponentError, sentence
from bench.examples import Data
from bench.measure import augment, build, precision, probing
from bench.measure.losses import LOSSES, of_training

# What a component raises that was given what it does not take.
_UNFIT = (IndexError, RuntimeError, TypeError, ValueError)


def rehearse(units: Sequence[PlanUnit], folder: Path) -> list[str]:
    """Everything that would stop units from being carried out, found before any of them is: one sentence each.

    Loads (and where it must, downloads) each dataset, and takes one step of each workload on the CPU with two examples.
    """
    problems: dict[str, None] = {}
    loaded: dict[str, Data | Exception] = {}
    of_workload: dict[str, list[PlanUnit]] = {}
    for each in sorted(units, key=lambda each: each.batch_size):
        of_workload.setdefault(each.workload.name, []).append(each)
    for its in of_workload.values():
        each = its[-1]
        try:
            _rehearse(each, folder, loaded, next(filter(None, map(_alone, its)), None))
        except Exception as error:  # a user's component may raise anything
            problems[f"{each.workload.name}: {sentence(error)}"] = None
    return list(problems)


def _alone(unit: PlanUnit) -> str | None:
    """What has a model in training mode see one example alone: a batch, a device's share or what micro-batches leave of
    it, or a probe; None where nothing does.
    """
    if unit.measure == "inference":
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
    largest: PlanUnit,
    folder: Path,
    loaded: dict[str, Data | Exception],
    alone: str | None,
) -> None:
    """largest: a workload's unit of the largest batch size.  alone: what has its model see one example alone."""
    workload = largest.workload
    data = _loaded(workload, folder, loaded).to(torch.device("cpu"), precision.dtype(workload.entry.precision))
    size = largest.largest_batch if isinstance(largest, Study) else largest.batch_size
    if size > len(data.train) and not workload.open_ended:
        message = f"{workload.dataset} has {len(data.train):,} training examples"
        raise ComponentError(f"found the batch size {size:,}; {message}")
    model, outputs = _tried(workload, data, alone)
    stated = next(iter(workload.entry.target), "validation_loss")
    if LOSSES[data.loss].error is None and not stated.endswith("validation_loss"):
        message = "knows no right and wrong answers; make the target one of validation_loss"
        raise ComponentError(f"{workload.dataset} {message}")
    if workload.entry.augment and data.loss == "reconstruction":
        raise ComponentError("augment: a task of reconstruction cannot know what was done to an image; leave it out")
    augment.draws(workload.entry.augment, data.example_shape)
    probing.build_probes(workload)
    _take_step(largest, model, data, outputs)
    if workload.devices > 1:
        _rehearse_shared(workload, model)


def _loaded(workload: Workload, folder: Path, loaded: dict[str, Data | Exception]) -> Data:
    """The workload's dataset, tried once: where it cannot be loaded, that is said of every workload that needs it."""
    key = str(workload.dataset)
    if key not in loaded:
        try:
            loaded[key] = build.dataset(workload, folder)
        except Exception as error:
            loaded[key] = error
    found = loaded[key]
    if isinstance(found, Exception):
        raise found
    return found


def _tried(workload: Workload, data: Data, alone: str | None) -> tuple[nn.Module, torch.Tensor]:
    """The model and its outputs for two examples; raises ComponentError where it does not take them, or gives what is
    not for their loss.

    alone: what has it see one example alone, if anything does.
    """
    few = data.train.first(2)
    try:
        model = build.model(workload, data, torch.device("cpu"), seed=0)
        outputs = model(few.inputs)
    except _UNFIT as error:
        message = f"cannot take examples of shape {list(data.example_shape)} from {workload.dataset}"
        raise ComponentError(f"{workload.model} {message}: {sentence(error)}") from error
    if alone:
        try:
            model(data.train.first(1).inputs)
        except _UNFIT as error:
            message = f"cannot train on one example alone, as {alone} has it"
            raise ComponentError(f"{workload.model} {message}: {sentence(error)}") from error
    shapes = LOSSES[data.loss].output_shapes(tuple(few.targets.shape), data.classes)
    takes = " or ".join(map(str, shapes))
    if not isinstance(outputs, torch.Tensor):
        gave = f"gave a {type(outputs).__name__} for 2 examples of {workload.dataset}"
        raise ComponentError(f"{workload.model} {gave}; it takes one tensor, {takes}")
    if tuple(outputs.shape) not in shapes:
        gave = f"gave {tuple(outputs.shape)} for 2 examples of {workload.dataset}"
        raise ComponentError(f"{workload.model} {gave}; it takes {takes}")
    return model, outputs


def _take_step(unit: PlanUnit, model: nn.Module, data: Data, outputs: torch.Tensor) -> None:
    """One step on two examples, whose outputs these are; raises ComponentError where the optimizer cannot be made."""
    workload, point, few = unit.workload, _any_point(unit), data.train.first(2)
    try:
        optimizer = build.optimizer(workload, model, data.classes, point)
    except _UNFIT as error:
        given = ", ".join(f"{name} {value}" for name, value in point.items())
        raise ComponentError(f"{workload.optimizer} cannot be made with {given}: {sentence(error)}") from error
    build.schedule(workload, point, unit.batch_size)(0)
    lowered = of_training(data.loss, point)

    def gradient() -> torch.Tensor:
        optimizer.zero_grad()
        loss = lowered(model(few.inputs), few.targets)
        loss.backward()
        return loss

    if build.gradients(optimizer) > 1:
        optimizer.step(gradient)  # type: ignore[arg-type]
    else:
        lowered(outputs, few.targets).backward()
        optimizer.step()


def _rehearse_shared(workload: Workload, model: nn.Module) -> None:
    """Raises ComponentError where devices cannot train a model together, of which each has a gradient."""
    if any(each.requires_grad and each.grad is None for each in model.parameters()):
        raise ComponentError(f"{workload.model} has a parameter that gets no gradient; train it on one device")
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise ComponentError(
            f"{workload.model} has torch's SyncBatchNorm, whose copy in a probe would wait for the other devices; "
            "make it bench.measure.parallel.SyncNorm"
        )


def _any_point(unit: PlanUnit) -> dict[str, Value]:
    return {
        name: dimension.extremes()[0] if isinstance(dimension, Dimension) else dimension
        for name, dimension in unit.workload.space_at(unit.batch_size).items()
    }
