"""Components of libraries: models and datasets of torchvision, models of timm, and the optimizers of `torch.optim`."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from bench.ask.description import Component, describe, with_learning_rate
from bench.ask.source import constructors, locate, require, tree_of
from bench.errors import ComponentError, nearest
from bench.options import DONE_BY_HARNESS, Fraction, Momentum, Option, declared

# Libraries of models, and what the harness decides of one of theirs.
LIBRARIES = {
    "torchvision": frozenset({"weights", "progress", "num_classes"}),
    "timm": frozenset({"pretrained", "num_classes", "in_chans", "img_size"}),
}
_LIBRARY_MODEL = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
# What the harness decides of an image set of torchvision; it finds the parts by `train` or `split`.
_TORCHVISION_DATASET_HIDDEN = {
    *("root", "train", "split", "transform", "target_transform", "transforms", "download", "loader"),
}
# torch.optim's constructors are annotated loosely (`lr: float | Tensor`, or not at all): their names carry the meaning.
_TORCH_OPTIM_TYPES: dict[str, Any] = {
    "lr": PositiveFloat,
    "weight_decay": NonNegativeFloat,
    "momentum": Momentum,
    "alpha": Fraction,
    "eps": PositiveFloat,
    "betas": Annotated[list[Momentum], Field(min_length=2, max_length=2)],
}
# How a step is carried out is the harness's business.
_TORCH_OPTIM_HIDDEN = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
TORCH_OPTIM_UNFIT = {
    "LBFGS": "it takes several steps at once, with one learning rate for all trials; name another, such as Adam",
    "SparseAdam": "it needs sparse gradients, which an ordinary step does not give; name another, such as Adam",
    "Rprop": "it reads its learning rate at the first step alone, and follows no schedule; name another, such as Adam",
    "Muon": "it takes matrices alone; name muon, which gives the other parameters to AdamW",
}


def of_library(name: str) -> str | None:
    """The library whose model the name is; None where it is none's."""
    library, colon, _ = name.partition(":")
    return library if colon and library in LIBRARIES else None


def library_model(name: str) -> Component:
    """A model of torchvision or timm."""
    library, _, function = name.partition(":")
    place = locate(f"{library}.models")
    if place is None:
        raise ComponentError(f"found {name!r}; {library} is not installed: pip install 'bench[{library}]'")
    files = {
        model: path
        for path in sorted(place.parent.glob("*.py"))
        for model in _LIBRARY_MODEL.findall(path.read_text(encoding="utf-8"))
    }
    if function not in files:
        raise ComponentError(f"found {name!r}; of {library}'s models, {nearest(function, list(files))}")
    written = describe("models", name, f"{library}.models", files[function], function, of_library=True)
    hidden = LIBRARIES[library]
    options = tuple(option for option in written.options if option.name not in hidden)
    return replace(written, options=options, open=True, hidden=hidden)


def torchvision_dataset(name: str) -> Component:
    """An image set of torchvision, of those that say by one word which part they are."""
    wanted = name.partition(":")[2]
    listing = require(locate("torchvision.datasets"), "torchvision.datasets")
    files = {
        alias.name: listing.parent / f"{node.module}.py"
        for node in tree_of(listing).body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    if wanted not in files:
        raise ComponentError(f"found {name!r}; of torchvision's datasets, {nearest(wanted, list(files))}")
    taken_by = list(constructors(tree_of(files[wanted]), wanted))
    taken = [option for arguments in taken_by for option in declared("datasets", arguments)]
    if len({option.name for option in taken} & {"train", "split"}) != 1:  # EMNIST takes both, and means another thing
        message = "its constructor takes train or split, but not both; use its own file here, or image_folder"
        raise ComponentError(f"found {name!r}; a dataset of torchvision fits where {message}")
    own = {option.name: option for option in reversed(taken) if option.name not in _TORCHVISION_DATASET_HIDDEN}
    size = Option("size", required=True, type=PositiveInt)
    described = describe("datasets", name, "torchvision.datasets", files[wanted], wanted, of_library=True)
    summary = f"torchvision.datasets.{wanted}, its images scaled to a size"
    return replace(described, options=(size, *own.values(), *DONE_BY_HARNESS["datasets"]), summary=summary, open=False)


def torch_optimizers() -> list[str]:
    """The classes of `torch.optim` that take an ordinary step, read from its source."""
    return sorted(
        alias.name
        for node in tree_of(require(locate("torch.optim"), "torch.optim")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.optim.")
        for alias in node.names
        if alias.name[0].isupper() and alias.name not in {"Optimizer", *TORCH_OPTIM_UNFIT}
    )


def torch_optimizer(name: str) -> Component:
    """A class of `torch.optim`, its options those that are not about how a step is carried out."""
    if name in TORCH_OPTIM_UNFIT:
        raise ComponentError(f"found {name!r}; {TORCH_OPTIM_UNFIT[name]}")
    folder = require(locate("torch.optim"), "torch.optim").parent
    path = next(path for path in sorted(folder.glob("*.py")) if f"class {name}(" in path.read_text())
    written = describe("optimizers", name, "torch.optim", path, name)
    options = tuple(
        replace(option, type=_TORCH_OPTIM_TYPES.get(option.name, option.type))
        for option in written.options
        if option.name not in _TORCH_OPTIM_HIDDEN
    )
    return with_learning_rate(replace(written, options=options, summary=f"torch.optim.{name}"))
