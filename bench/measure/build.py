"""Names -> the real things: a workload's data, model, optimizer and schedule."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from torch import Tensor, nn

from bench.ask.description import Component
from bench.ask.libraries import of_library
from bench.ask.plan import Workload
from bench.ask.search import Value
from bench.ask.suite import Spec
from bench.contracts import Schedule
from bench.errors import ComponentError, DataError
from bench.examples import Data
from bench.measure import feeds, precision
from bench.measure.alter import altered
from bench.measure.evaluation import random_state_kept
from bench.measure.roles import roles
from bench.options import ROLES, WARMUP_STEPS


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
    component, options = workload.component("dataset"), workload.dataset.options
    if workload.contents and workload.contents != workload.files_of_own(folder):
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
    component, options = workload.component("model"), workload.model.options
    mine = component.done_by_harness(options)
    create = component.load()
    given, known = _given(component.name, create, data)
    with random_state_kept(torch.device("cpu")):
        # A model of one's own may draw its weights from any of the three.
        torch.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        built = create(*given, **{**known, **{name: options[name] for name in options.keys() - mine.keys()}})
    if not isinstance(built, nn.Module):
        raise ComponentError(f"{component.name} made a {type(built).__name__}; a model is a torch.nn.Module")
    if lazy := [name for name, own in built.named_parameters() if isinstance(own, nn.UninitializedParameter)]:
        message = f"has no shape for {lazy[0]} before it sees an example; give it one: nn.Linear, not LazyLinear"
        raise ComponentError(f"{component.name} {message}")
    if "init_scale" in mine:
        _scale_weights(built, mine["init_scale"], component.name)
    return built.to(device, precision.dtype(workload.entry.precision))


def _given(name: str, create: Callable[..., Any], data: Data) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the harness calls a model with: by position, or, in a library's own words, by keyword."""
    library = of_library(name)
    if library == "torchvision":
        made = inspect.signature(create).return_annotation
        # Unless the suite says: no outputs beside the classes; weights as ever, which torchvision warns will change.
        usual = {"aux_logits": False, "init_weights": True}
        taken = {key: value for key, value in usual.items() if key in inspect.signature(made).parameters}
        return (), {"weights": None, "num_classes": data.classes, **taken}
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
    classes: int,
    metaparameters: Mapping[str, Value],
    parameters: Sequence[Tensor] | None = None,
) -> torch.optim.Optimizer:
    """The workload's optimizer, with those metaparameters that it takes, over the model's parameters, or over those
    that stand for them in the same order.

    Raises ComponentError where its step calls for gradients of its own and float16's scale would have to follow it.
    """
    component = workload.component("optimizer")
    options = _options(component, workload.optimizer, metaparameters)
    create = component.load()
    named = inspect.signature(create).parameters
    if inspect.isclass(create) and "lr" in named:
        options["lr"] = options.pop("learning_rate")
    own, known = list(parameters or model.parameters()), roles(model, classes)
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
    """The workload's schedule, of which a step has so many examples; a warm-up of w steps multiplies it, at step t
    counted from 0, by (t + 1)/w, which is at most 1.
    """
    component = workload.component("schedule")
    given = _options(component, workload.schedule, metaparameters)
    mine = component.done_by_harness(given)
    steps = _in_steps(workload, mine, batch_size)
    warmup_steps = steps.pop(WARMUP_STEPS, 0)
    # A warm-up may end within a step; a schedule takes whole steps.
    options = {name: value for name, value in given.items() if name not in mine}
    options |= {name: max(1, round(number)) for name, number in steps.items()}
    create = component.load()
    if WARMUP_STEPS in inspect.signature(create).parameters:
        options[WARMUP_STEPS] = warmup_steps
    factor: Schedule = create(workload.entry.max_steps, **options)
    if not warmup_steps:
        return factor
    return lambda step: factor(step) * min(1.0, (step + 1) / warmup_steps)


def _in_steps(workload: Workload, given: Mapping[str, Any], batch_size: int) -> dict[str, float]:
    """What is given in steps, examples or epochs, such as `decay_epochs`, as steps of so many examples: `decay_steps`.

    Raises ComponentError where epochs are given and the dataset does not say how many training examples it has.
    """
    train_examples = workload.component("dataset").train_examples(workload.dataset.options)
    steps = {}
    for name, number in given.items():
        stem, unit = name.rsplit("_", maxsplit=1)
        if unit == "epochs" and train_examples is None:
            message = f"does not say how many training examples it has; give {stem}_examples and not {name}"
            raise ComponentError(f"{workload.dataset} {message}")
        examples = {"steps": batch_size, "examples": 1, "epochs": train_examples}[unit]
        steps[f"{stem}_steps"] = number * examples / batch_size
    return steps


def _options(component: Component, spec: Spec, metaparameters: Mapping[str, Value]) -> dict[str, Any]:
    """What a component is given: what the suite sets of it, and those metaparameters that it takes."""
    return {**spec.options, **{key: value for key, value in metaparameters.items() if component.option(key)}}
