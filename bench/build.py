"""Names -> the real things: a workload's data, model, optimizer and schedule."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from bench import components, precision
from bench.contracts import Data, Schedule
from bench.errors import ComponentError
from bench.evaluation import random_state_kept
from bench.plan import Workload
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
    workload: Workload, parameters: Iterable[Tensor], metaparameters: Mapping[str, Value]
) -> torch.optim.Optimizer:
    """The workload's optimizer over the parameters, with those metaparameters that it takes."""
    component = components.find("optimizers", workload.optimizer.name)
    options: dict[str, Any] = {**workload.optimizer.options}
    options.update({key: value for key, value in metaparameters.items() if component.option(key)})
    create = component.load()
    if inspect.isclass(create) and "lr" in inspect.signature(create).parameters:
        options["lr"] = options.pop("learning_rate")
    built: torch.optim.Optimizer = create(parameters, **options)
    return built


def schedule(workload: Workload, metaparameters: Mapping[str, Value], batch_size: int) -> Schedule:
    """The workload's schedule; a warm-up multiplies it, at step t counted from 0, by (t + 1)/w for one of w steps, and
    by the share of e examples seen by the end of the step for one of e examples.
    """
    component = components.find("schedules", workload.schedule.name)
    options: dict[str, Any] = {**workload.schedule.options}
    options.update({key: value for key, value in metaparameters.items() if component.option(key)})
    steps, examples = options.pop("warmup_steps", 0), options.pop("warmup_examples", 0)
    factor: Schedule = component.load()(workload.entry.max_steps, **options)
    if not (steps or examples):
        return factor
    warmup_steps = steps or examples / batch_size
    return lambda step: factor(step) * min(1.0, (step + 1) / warmup_steps)
