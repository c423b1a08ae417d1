"""Finds a component by name, without importing it.

A component is a function with a contract (`contracts.py`): its positional parameters are given by the harness,
its keyword-only parameters are what a suite may set. Names and options are read from the source text, so checking
a suite imports no torch and runs nobody's code. A name is one of

- a file of `bench/<kind>/`, holding a function of the same name: `mlp`
- `package.module:name`: anybody's own
- `torchvision:name`, `timm:name`: a model of torchvision, or of timm where it is installed, or a dataset of torchvision
- a name that an installed package offers (`offers.py`), where none of the others is
- a class of `torch.optim`: `RMSprop`
"""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path

from bench.ask.description import Component, describe, with_learning_rate
from bench.ask.libraries import (
    TORCH_OPTIM_UNFIT,
    library_model,
    of_library,
    torch_optimizer,
    torch_optimizers,
    torchvision_dataset,
)
from bench.ask.offers import offers, offers_of
from bench.ask.source import from_here, locate, require, tree_of
from bench.errors import ComponentError, nearest
from bench.options import GIVEN, positional


def names(kind: str) -> list[str]:
    """The names of the files in `bench/<kind>/`."""
    return sorted(path.stem for path in _folder(kind).glob("*.py") if not path.stem.startswith("_"))


def builtin(kind: str) -> list[str]:
    """Every name that is bench's own: its files, and the classes of `torch.optim`."""
    return [*names(kind), *([*torch_optimizers(), *TORCH_OPTIM_UNFIT] if kind == "optimizers" else [])]


def known(kind: str) -> list[str]:
    """Every name that needs no module before it: bench's own files, and what packages offer."""
    return sorted({*names(kind), *(offer.name for offer in offers(kind))})


@cache
def find(kind: str, name: str) -> Component:
    """Describes the component of that name; raises ComponentError with the nearest known name."""
    if name in names(kind):
        path = _folder(kind) / f"{name}.py"
        return replace(describe(kind, name, f"bench.{kind}.{name}", path, name), files=(path, path.parent))
    if kind == "models" and of_library(name):
        return library_model(name)
    if kind == "datasets" and name.startswith("torchvision:"):
        return torchvision_dataset(name)
    if ":" in name:
        return _find_own(kind, name, name)
    if name in builtin(kind):
        return torch_optimizer(name)
    match offers_of(kind, name):
        case [offer]:
            offered = _find_own(kind, name, offer.place)
            return replace(offered, origin=f"{offer.package}: {offered.origin}")
        case [first, second, *_]:
            message = f"{first.package} and {second.package} both offer it; name one as {first.place}"
            raise ComponentError(f"found {name!r}; {message}")
    raise ComponentError(f"found {name!r}; {nearest(name, sorted({*builtin(kind), *known(kind)}))}")


def functions(kind: str, module: str) -> list[str]:
    """`module:name` of each function of a module that takes what components of a kind are given, and is no other's."""
    given = list(GIVEN[kind])
    return [
        f"{module}:{node.name}"
        for node in tree_of(require(locate(module), module)).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and [argument.arg for argument in positional(node.args)] == given
        # A probe is given nothing: what it gives says what it is.
        and (given or getattr(node.returns, "id", "") == "Probe")
    ]


def _find_own(kind: str, name: str, place: str) -> Component:
    """A component from outside bench that lies at `place`, package.module:name."""
    module, _, attribute = place.partition(":")
    path = locate(module)
    if path is None:
        message = "is installed, in this folder or in a --plugin; write package.module:name"
        raise ComponentError(f"found {name!r}; no module {module!r} written in Python {message}")
    component = describe(kind, name, module, path, attribute)
    own = replace(component, files=(path, _own_folder(path, module)), origin=from_here(path))
    return with_learning_rate(own) if kind == "optimizers" else own


def _own_folder(path: Path, module: str) -> Path:
    """Where the files of somebody's component lie: in its package, or beside it, where it was not installed."""
    if packages := path.parents[: module.count(".") + (path.name == "__init__.py")]:
        return packages[-1]
    return path if path.parent.name in ("site-packages", "dist-packages") else path.parent


def _folder(kind: str) -> Path:
    return Path(__file__).parent.parent / kind
