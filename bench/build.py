"""Names -> the real things: a workload's data, model, optimizer and schedule."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from bench import components, precision
from bench.components import ROLES
from bench.contracts import Data, Schedule
from bench.errors import ComponentError
from bench.evaluation import random_state_kept
from bench.plan import Workload
from bench.roles import roles
from bench.search import Value


def data(workload: Workload, folder: Path, device: torch.device) -> Data:
    """The workload's dataset on the device, in its precision; raises DataError if its files are missing."""
    load = components.find("datasets", workload.dataset.name).load()
    loaded: Data = load(folder, **workload.dataset.options)
    return loaded.to(device, precision.dtype(workload.entry.precision))


def model(workload: Workload, data: Data, device: torch.device, seed: int) -> nn.Module:
    """The workload's model for the data, initialised on the CPU in float32 from the seed, so that it starts alike on
    every device and in every precision.
    """
    component = components.find("models", workload.model.name)
    create = component.load()
    with random_state_kept(torch.device("cpu")):
        # A model of one's own may draw its weights from any of the three.
        torch.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        if component.name.startswith("torchvision:"):
            built = create(weights=None, num_classes=data.classes, **workload.model.options)
        else:
            built = create(data.example_shape, data.classes, **workload.model.options)
    if not isinstance(built, nn.Module):
        raise ComponentError(f"{component.name} made a {type(built).__name__}; a model is a torch.nn.Module")
    return built.to(device, precision.dtype(workload.entry.precision))


def optimizer(
    workload: Workload,
    model: nn.Module,
    metaparameters: Mapping[str, Value],
    parameters: Sequence[Tensor] | None = None,
) -> torch.optim.Optimizer:
    """The workload's optimizer, with those metaparameters that it takes, over the model's parameters, or over those
    that stand for them in the same order.

    Raises ComponentError where its step calls for gradients of its own and float16's scale would have to follow it.
    """
    component = components.find("optimizers", workload.optimizer.name)
    options: dict[str, Any] = {**workload.optimizer.options}
    options.update({key: value for key, value in metaparameters.items() if component.option(key)})
    create = component.load()
    named = inspect.signature(create).parameters
    if inspect.isclass(create) and "lr" in named:
        options["lr"] = options.pop("learning_rate")
    own, known = list(parameters or model.parameters()), roles(model)
    if ROLES in named:
        options[ROLES] = known
    built: torch.optim.Optimizer = create(own, **options)
    if workload.entry.decay == "matrices":
        _decay_no_vector(built, {id(each) for each, role in zip(own, known, strict=True) if role == "vector"})
    if gradients(built) > 1 and workload.entry.precision == "fp16":
        raise ComponentError(f"{component.name} takes several gradients a step; fp16 scales that of one: use bf16")
    return built


def gradients(optimizer: torch.optim.Optimizer) -> int:
    """How many gradients its step takes. More than one it asks for itself, by calling a closure: torch's protocol."""
    return getattr(optimizer, "gradients", 1)


def _decay_no_vector(optimizer: torch.optim.Optimizer, vectors: set[int]) -> None:
    """Puts the vectors of every group that decays in a group of their own, which does not."""
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        exempt = [each for each in group["params"] if id(each) in vectors]
        if exempt and group.get("weight_decay"):
            groups.append({**group, "params": [each for each in group["params"] if id(each) not in vectors]})
            groups.append({**group, "params": exempt, "weight_decay": 0.0})
        else:
            groups.append(group)
    optimizer.param_groups = [group for group in groups if group["params"]]


def schedule(workload: Workload, metaparameters: Mapping[str, Value]) -> Schedule:
    """The workload's schedule; a warm-up of w steps multiplies it by (t + 1)/w at step t, counted from 0."""
    component = components.find("schedules", workload.schedule.name)
    options: dict[str, Any] = {**workload.schedule.options}
    options.update({key: value for key, value in metaparameters.items() if component.option(key)})
    warmup_steps = options.pop("warmup_steps", 0)
    factor: Schedule = component.load()(workload.entry.max_steps, **options)
    if not warmup_steps:
        return factor
    return lambda step: factor(step) * min(1.0, (step + 1) / warmup_steps)
