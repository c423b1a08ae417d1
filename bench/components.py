"""Finds a component by name and describes it, without importing it.

A component is a function with a contract (`contracts.py`): its positional parameters are given by the harness,
its keyword-only parameters are what a suite may set. Names and options are read from the source text, so checking
a suite imports no torch and runs nobody's code. A name is one of

- a file of `bench/<kind>/`, holding a function of the same name: `mlp`
- `package.module:name`: anybody's own
- `torchvision:name`: a model of torchvision
- a class of `torch.optim`: `RMSprop`
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from bench.errors import ComponentError, expected, nearest

KINDS = ("models", "datasets", "optimizers", "schedules", "probes", "analyses", "executors")

Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]

# The words a component may use to annotate an option.
_TYPES: dict[str, Any] = {
    "bool": bool,
    "float": float,
    "int": int,
    "str": str,
    "Fraction": Fraction,
    "Momentum": Momentum,
    "NonNegativeFloat": NonNegativeFloat,
    "NonNegativeInt": NonNegativeInt,
    "PositiveFloat": PositiveFloat,
    "PositiveInt": PositiveInt,
}


def _factor(text: str) -> str:
    try:
        fine = text.endswith("x") and 1 < float(text[:-1]) < math.inf
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("should be a factor above 1 between the steps looked at, such as 1.3x")
    return text


EVERY = "1.3x"
_EVERY = Annotated[str, AfterValidator(_factor)]
# torch.optim's constructors are annotated loosely (`lr: float | Tensor`, or not at all): their names carry the meaning.
_TORCH_OPTIM_TYPES: dict[str, Any] = {
    "lr": PositiveFloat,
    "weight_decay": NonNegativeFloat,
    "momentum": Momentum,
    "alpha": Fraction,
    "eps": PositiveFloat,
    "betas": Annotated[list[Momentum], Field(min_length=2, max_length=2)],
}
# How a step is carried out is the harness's business, and a closure or sparse gradients are not ordinary training.
_TORCH_OPTIM_HIDDEN = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
_TORCH_OPTIM_UNFIT = {"LBFGS": "a closure", "SparseAdam": "sparse gradients"}
# What the harness decides of a model of torchvision.
_TORCHVISION_HIDDEN = {"weights", "progress", "num_classes"}
_TORCHVISION_MODEL = re.compile(r"^@register_model\(.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """A keyword that a suite may set; `type` is what pydantic validates it against."""

    name: str
    required: bool
    type: Any = Any

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, as the end of a sentence; None if nothing is."""
        try:
            TypeAdapter(self.type).validate_python(value, strict=True)
        except ValidationError as error:
            return expected(error.errors()[0])
        return None


@dataclass(frozen=True)
class Component:
    """What the source of a component says of it.

    `open` components take keywords that their source does not list, but for those the harness gives (`hidden`).
    """

    kind: str
    name: str
    module: str
    attribute: str
    summary: str
    options: tuple[Option, ...]
    sizes: dict[str, int]
    open: bool = False
    hidden: frozenset[str] = frozenset()
    source: str | None = None

    def option(self, name: str) -> Option | None:
        """The option of that name; an open component has every option."""
        known = next((option for option in self.options if option.name == name), None)
        return known or (Option(name, required=False) if self.open and name not in self.hidden else None)

    def load(self) -> Callable[..., Any]:
        """Imports the component's module, which runs it, and returns the function or class."""
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(self.module), self.attribute)
        except (ImportError, AttributeError) as error:
            raise ComponentError(f"{self.name}: found, but importing it failed: {error}") from error
        return found


def names(kind: str) -> list[str]:
    """The names of the files in `bench/<kind>/`."""
    return sorted(path.stem for path in _folder(kind).glob("*.py") if not path.stem.startswith("_"))


def torch_optimizers() -> list[str]:
    """The classes of `torch.optim` that take an ordinary step, read from its source."""
    return sorted(
        alias.name
        for node in _tree(_require(_locate("torch.optim"), "torch.optim")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.optim.")
        for alias in node.names
        if alias.name[0].isupper() and alias.name not in {"Optimizer", *_TORCH_OPTIM_UNFIT}
    )


@cache
def find(kind: str, name: str) -> Component:
    """Describes the component of that name; raises ComponentError with the nearest known name."""
    if name in names(kind):
        return _describe(kind, name, f"bench.{kind}.{name}", _folder(kind) / f"{name}.py", name)
    if kind == "models" and name.startswith("torchvision:"):
        return _find_torchvision(name)
    if ":" in name:
        module, _, attribute = name.partition(":")
        path = _locate(module)
        if path is None:
            message = (
                f"no module {module!r} written in Python is installed or in this folder; write package.module:name"
            )
            raise ComponentError(f"found {name!r}; {message}")
        component = _describe(kind, name, module, path, attribute)
        own = replace(component, source=hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        return _with_learning_rate(own) if kind == "optimizers" else own
    if kind == "optimizers":
        return _find_torch_optimizer(name)
    raise ComponentError(f"found {name!r}; {nearest(name, names(kind))}")


def _find_torchvision(name: str) -> Component:
    function = name.partition(":")[2]
    folder = _require(_locate("torchvision.models"), "torchvision.models").parent
    files = {
        model: path
        for path in sorted(folder.glob("*.py"))
        for model in _TORCHVISION_MODEL.findall(path.read_text(encoding="utf-8"))
    }
    if function not in files:
        raise ComponentError(f"found {name!r}; of torchvision's models, {nearest(function, list(files))}")
    written = _describe("models", name, "torchvision.models", files[function], function)
    options = tuple(option for option in written.options if option.name not in _TORCHVISION_HIDDEN)
    return replace(written, options=options, open=True, hidden=frozenset(_TORCHVISION_HIDDEN))


def _find_torch_optimizer(name: str) -> Component:
    known = torch_optimizers()
    if name in _TORCH_OPTIM_UNFIT:
        message = (
            f"it needs {_TORCH_OPTIM_UNFIT[name]}, which an ordinary step does not give; name another, such as Adam"
        )
        raise ComponentError(f"found {name!r}; {message}")
    if name not in known:
        raise ComponentError(f"found {name!r}; {nearest(name, [*known, *names('optimizers')])}")
    folder = _require(_locate("torch.optim"), "torch.optim").parent
    path = next(path for path in sorted(folder.glob("*.py")) if f"class {name}(" in path.read_text())
    written = _describe("optimizers", name, "torch.optim", path, name)
    options = tuple(
        replace(option, type=_TORCH_OPTIM_TYPES.get(option.name, option.type))
        for option in written.options
        if option.name not in _TORCH_OPTIM_HIDDEN
    )
    return _with_learning_rate(replace(written, options=options, summary=f"torch.optim.{name}"))


def _with_learning_rate(written: Component) -> Component:
    """An optimizer takes `learning_rate`; a class in torch's style, whose constructor calls it `lr`, is given that."""
    options = tuple(
        Option("learning_rate", required=True, type=PositiveFloat) if option.name == "lr" else option
        for option in written.options
    )
    if not any(option.name == "learning_rate" for option in options):
        message = "an optimizer names its learning_rate (or lr) in its own signature"
        raise ComponentError(f"found {written.name!r}, which takes no learning_rate; {message}")
    return replace(written, options=options)


def _describe(kind: str, name: str, module: str, path: Path, attribute: str) -> Component:
    tree = _tree(path)
    definition = next(
        (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute),
        None,
    )
    if definition is None:
        message = f"{module!r} defines no function or class {attribute!r} at its top level; name the module that does"
        raise ComponentError(f"found {name!r}; {message}")
    signature = _signature(definition)
    options = tuple(_options(kind, signature)) if signature else ()
    given = _HARNESS_ARGUMENTS.get(kind, ())
    # torchvision's models are given their number of classes by keyword, and shape themselves.
    if (
        signature
        and not signature.vararg
        and len(_positional(signature)) < len(given)
        and module != "torchvision.models"
    ):
        raise ComponentError(f"found {name!r}; {attribute} cannot be called with ({', '.join(given)}), as {kind} are")
    if kind == "schedules":
        options = (*options, Option("warmup_steps", required=False, type=NonNegativeInt))
    if kind == "probes":
        options = (*options, Option("every", required=False, type=_EVERY))
    summary = (ast.get_docstring(definition) or ast.get_docstring(tree) or "").partition("\n")[0]
    # What a class without a constructor of its own takes is written elsewhere.
    takes_any = signature is None or signature.kwarg is not None
    # An optimizer and a schedule divide a search's metaparameters between them: they must name those they take.
    return Component(
        kind,
        name,
        module,
        attribute,
        summary,
        options,
        _sizes(path, tree),
        open=takes_any and kind in ("models", "datasets"),
    )


_HARNESS_ARGUMENTS = {
    "models": ("example_shape", "classes"),
    "datasets": ("folder",),
    "optimizers": ("parameters",),
    "schedules": ("horizon",),
    "executors": ("devices", "stall_seconds"),
}


def _signature(definition: ast.FunctionDef | ast.ClassDef) -> ast.arguments | None:
    if isinstance(definition, ast.FunctionDef):
        return definition.args
    methods = (node.args for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return next(methods, None)


def _positional(arguments: ast.arguments) -> list[ast.arg]:
    positional = [*arguments.posonlyargs, *arguments.args]
    return positional[1:] if positional and positional[0].arg == "self" else positional


def _options(kind: str, arguments: ast.arguments) -> Iterator[Option]:
    """Everything after what the harness gives (`contracts.py` says what that is for each kind)."""
    positional = _positional(arguments)
    first_default = len(positional) - len(arguments.defaults)
    for index, argument in enumerate(positional):
        if index >= len(_HARNESS_ARGUMENTS.get(kind, ())):
            yield Option(argument.arg, index < first_default, _type(argument.annotation))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield Option(argument.arg, default is None, _type(argument.annotation))


def _type(annotation: ast.expr | None) -> Any:
    """The type an annotation names, of the few kinds a YAML value can have; Any where it is another."""
    match annotation:
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Constant(value=None):
            return None
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list[_type(item)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=items)):
            return Literal[tuple(item.value for item in items if isinstance(item, ast.Constant))]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type(left), _type(right)]  # noqa: UP007
    return Any


def _sizes(path: Path, tree: ast.Module) -> dict[str, int]:
    """A dataset's constant `SIZES`: how many examples each split holds, so that a check needs no data."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="SIZES")], value=ast.expr() as value):
                pass
            case ast.AnnAssign(target=ast.Name(id="SIZES"), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            return TypeAdapter(dict[str, int]).validate_python(ast.literal_eval(value), strict=True)
        except (ValueError, TypeError):
            raise ComponentError(
                f"{path.name}: found a SIZES that is not written out; write it as "
                "{'train': 1000, 'validation': 100, 'test': 100}"
            ) from None
    return {}


def _folder(kind: str) -> Path:
    return Path(__file__).parent / kind


@cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise ComponentError(f"{path.name} cannot be read as Python: {error}") from error


def _locate(module: str) -> Path | None:
    """The file of a module, found as the import system finds it but importing none of its parents."""
    top, *parts = module.split(".")
    if not all(part.isidentifier() for part in (top, *parts)):
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not parts:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = [Path(place, *parts[:-1]) for place in spec.submodule_search_locations or ()]
    files = (file for folder in folders for file in (folder / parts[-1] / "__init__.py", folder / f"{parts[-1]}.py"))
    return next((file for file in files if file.is_file()), None)


def _require(path: Path | None, module: str) -> Path:
    if path is None:
        raise ComponentError(f"{module} is not installed beside bench")
    return path
