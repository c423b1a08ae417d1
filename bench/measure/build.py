"""Names -> the real things: a workload's data, model, optimizer and schedule."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from torch import Tensor, nn

from bench.ask import components
from bench.ask.contents import contents
from bench.ask.libraries import of_library
from bench.ask.plan import Workload
from bench.ask.search import Value
from bench.contracts import Schedule
from bench.errors import ComponentError, DataError
from bench.examples import Data
from bench.measure import feeds, precision
from bench.measure.alter import altered
from bench.measure.evaluation import random_state_kept
from bench.measure.roles import roles
from bench.options import ROLES


def data(workload: Workload, folder: Path, device: torch.device) -> Data:
    """The workload's dataset for the device, in its precision: held there, or read as it is needed, as the suite says.

    Raises DataError where its files are missing, or do not fit.
    """
    loaded, dtype = dataset(workload, folder), precision.dtype(workload.entry.precision)
    if workload.entry.input == "loader":
        return loaded.each(feeds.streamed).to(device, dtype)
    return loaded.to(device, dtype).each(feeds.held)


def dataset(workload: Workload, folder: Path) -> Data:
    """The workload's dataset as it lies; raises DataError where its files are missing, or not those of the plan."""
    component, options = components.find("datasets", workload.dataset.name), workload.dataset.options
    if workload.contents and workload.contents != contents(options, folder):
        raise DataError(
            f"{workload.dataset} in {folder} is not what lay there when the run began; run the suite again, with the "
            "same files on every machine"
        )
    mine = component.done_by_harness(options)
    load = component.load()
    if component.name.startswith("torchvision:"):
        from bench.datasets._torchvision import any_images  # torchvision takes seconds to import

        load = functools.partial(any_images, cast("type[Any]", load))
    loaded: Data = load(folder, **{name: options[name] for name in options.keys() - mine.keys()})
    return altered(loaded, mine)


def model(workload: Workload, data: Data, device: torch.device, seed: int) -> nn.Module:
    """The workload's model for the data, initialised on the CPU in float32 from the seed, so that it starts alike on
    every device and in every precision; `init_scale` multiplies its weights as they were drawn.
    """
    component, options = components.find("models", workload.model.name), workload.model.options
    mine = component.done_by_harness(options)
    create = component.load()
    given, known = _given(component.name, data)
    with random_state_kept(torch.device("cpu")):
        # A model of one's own may draw its weights from any of the three.
        torch.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        built = create(*given, **known, **{name: options[name] for name in options.keys() - mine.keys()})
    if not isinstance(built, nn.Module):
        raise ComponentError(f"{component.name} made a {type(built).__name__}; a model is a torch.nn.Module")
    if "init_scale" in mine:
        _scale_weights(built, mine["init_scale"], component.name)
    return built.to(device, precision.dtype(workload.entry.precision))


def _given(name: str, data: Data) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the harness calls a model with: by position, or, in a library's own words, by keyword."""
    library = of_library(name)
    if library == "torchvision":
        return (), {"weights": None, "num_classes": data.classes}
    if library == "timm":
        from timm.models import get_pretrained_cfg

        known: dict[str, Any] = {"num_classes": data.classes, "in_chans": data.example_shape[0]}
        described = get_pretrained_cfg(name.partition(":")[2])
        # Those that take images of any size are not told one.
        if described is not None and described.fixed_input_size:
            known["img_size"] = data.example_shape[1:]
        return (), known
    return (data.example_shape, data.classes), {}


# What has a `weight` of two dimensions or more and is neither matrix nor convolution.
_NO_MATRICES = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)


@torch.no_grad()
def _scale_weights(model: nn.Module, scale: float, name: str) -> None:
    """Multiplies every weight matrix and convolution: parameters of two dimensions or more that are called a weight.

    Biases, norms, embeddings (and an output layer tied to one) and positions stay as they were drawn; raises
    ComponentError where nothing is left.
    """
    kept = {id(own) for module in model.modules() if isinstance(module, _NO_MATRICES) for own in module.parameters()}
    weights: list[Tensor] = [
        own for key, own in model.named_parameters() if own.ndim > 1 and "weight" in key and id(own) not in kept
    ]
    if not weights:
        raise ComponentError(f"found init_scale for {name}, which has no weight matrix and no convolution to scale")
    torch._foreach_mul_(weights, scale)


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
