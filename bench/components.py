"""Finds a component by name and describes it, without importing it.

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
import hashlib
import importlib
import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Mapping
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
from bench.offers import offers, offers_of

KINDS = ("models", "datasets", "optimizers", "schedules", "probes", "analyses", "executors")

Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["batch", "ghost", "layer", "group", "weight", "none"]

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
    "Norm": Norm,
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


_SCALE = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# What every schedule takes beside its own options: one of them.
WARM_UPS = ("warmup_steps", "warmup_examples")
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
# How a step is carried out is the harness's business.
_TORCH_OPTIM_HIDDEN = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
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
_TORCH_OPTIM_UNFIT = {
    "LBFGS": "it takes several steps at once, with one learning rate for all trials; name another, such as Adam",
    "SparseAdam": "it needs sparse gradients, which an ordinary step does not give; name another, such as Adam",
    "Muon": "it takes matrices alone; name muon, which gives the other parameters to AdamW",
}
# A parameter of an optimizer that the harness gives: the role of each parameter of the model (`roles.py`).
ROLES = "roles"


@dataclass(frozen=True)
class Option:
    """A keyword that a suite may set; `type` is what pydantic validates it against.

    harness: the component is not given it: the harness does what it says.
    """

    name: str
    required: bool
    type: Any = Any
    harness: bool = False

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
    Of code from outside bench, `source` is a hash of its file and `origin` says where that lies.
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
    origin: str = ""

    def option(self, name: str) -> Option | None:
        """The option of that name; an open component has every option."""
        known = next((option for option in self.options if option.name == name), None)
        return known or (Option(name, required=False) if self.open and name not in self.hidden else None)

    def train_examples(self, options: Mapping[str, Any]) -> int | None:
        """How many training examples a dataset has with those options; None where its source does not say."""
        known, subset = self.sizes.get("train"), options.get("subset")
        if not isinstance(subset, int) or subset < 1 or not self.done_by_harness({"subset": subset}):
            return known
        return subset if known is None else min(known, subset)

    def done_by_harness(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the options that the component is not given."""
        known = {option.name for option in self.options if option.harness}
        return {name: value for name, value in options.items() if name in known}

    def load(self) -> Callable[..., Any]:
        """Imports the component's module, which runs it, and returns the function or class."""
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(self.module), self.attribute)
        except (ImportError, AttributeError) as error:
            raise ComponentError(f"{self.name}: found, but importing it failed: {error}") from error
        return found


# What a suite may search of a training step, whatever the optimizer: a bound on the norm of the gradient, and the share
# that an average of the weights keeps at each step.
STEP = Component(
    "steps",
    "the step",
    "bench.step",
    "Step",
    "One ordinary training step.",
    (Option("clip", required=False, type=PositiveFloat), Option("ema", required=False, type=Momentum)),
    {},
)


def names(kind: str) -> list[str]:
    """The names of the files in `bench/<kind>/`."""
    return sorted(path.stem for path in _folder(kind).glob("*.py") if not path.stem.startswith("_"))


def builtin(kind: str) -> list[str]:
    """Every name that is bench's own: its files, and the classes of `torch.optim`."""
    return [*names(kind), *([*torch_optimizers(), *_TORCH_OPTIM_UNFIT] if kind == "optimizers" else [])]


def known(kind: str) -> list[str]:
    """Every name that needs no module before it: bench's own files, and what packages offer."""
    return sorted({*names(kind), *(offer.name for offer in offers(kind))})


def torch_optimizers() -> list[str]:
    """The classes of `torch.optim` that take an ordinary step, read from its source."""
    return sorted(
        alias.name
        for node in _tree(_require(locate("torch.optim"), "torch.optim")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.optim.")
        for alias in node.names
        if alias.name[0].isupper() and alias.name not in {"Optimizer", *_TORCH_OPTIM_UNFIT}
    )


@cache
def find(kind: str, name: str) -> Component:
    """Describes the component of that name; raises ComponentError with the nearest known name."""
    if name in names(kind):
        return _describe(kind, name, f"bench.{kind}.{name}", _folder(kind) / f"{name}.py", name)
    if kind == "models" and of_library(name):
        return _find_in_library(name)
    if kind == "datasets" and name.startswith("torchvision:"):
        return _find_torchvision_dataset(name)
    if ":" in name:
        return _find_own(kind, name, name)
    if name in builtin(kind):
        return _find_torch_optimizer(name)
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
    given = list(_HARNESS_ARGUMENTS[kind])
    return [
        f"{module}:{node.name}"
        for node in _tree(_require(locate(module), module)).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and [argument.arg for argument in _positional(node.args)] == given
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
    component = _describe(kind, name, module, path, attribute)
    own = replace(component, source=hashlib.sha256(path.read_bytes()).hexdigest()[:16], origin=_from_here(path))
    return _with_learning_rate(own) if kind == "optimizers" else own


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def of_library(name: str) -> str | None:
    """The library whose model the name is; None where it is none's."""
    library, colon, _ = name.partition(":")
    return library if colon and library in LIBRARIES else None


def _find_in_library(name: str) -> Component:
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
    written = _describe("models", name, f"{library}.models", files[function], function)
    hidden = LIBRARIES[library]
    options = tuple(option for option in written.options if option.name not in hidden)
    return replace(written, options=options, open=True, hidden=hidden)


def _find_torchvision_dataset(name: str) -> Component:
    wanted = name.partition(":")[2]
    listing = _require(locate("torchvision.datasets"), "torchvision.datasets")
    files = {
        alias.name: listing.parent / f"{node.module}.py"
        for node in _tree(listing).body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    if wanted not in files:
        raise ComponentError(f"found {name!r}; of torchvision's datasets, {nearest(wanted, list(files))}")
    constructors = list(_constructors(_tree(files[wanted]), wanted))
    taken = [option for arguments in constructors for option in _options("datasets", arguments)]
    if len({option.name for option in taken} & {"train", "split"}) != 1:  # EMNIST takes both, and means another thing
        message = "its constructor takes train or split, but not both; use its own file here, or image_folder"
        raise ComponentError(f"found {name!r}; a dataset of torchvision fits where {message}")
    own = {option.name: option for option in reversed(taken) if option.name not in _TORCHVISION_DATASET_HIDDEN}
    size = Option("size", required=True, type=PositiveInt)
    described = _describe("datasets", name, "torchvision.datasets", files[wanted], wanted)
    summary = f"torchvision.datasets.{wanted}, its images scaled to a size"
    return replace(described, options=(size, *own.values(), *_HARNESS_OPTIONS["datasets"]), summary=summary, open=False)


def _constructors(tree: ast.Module, name: str) -> Iterator[ast.arguments]:
    """The constructors of a class and of its bases in the same file, for one may hand on to the next."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            if signature := _signature(node):
                yield signature
            for base in node.bases:
                if isinstance(base, ast.Name):
                    yield from _constructors(tree, base.id)


def _find_torch_optimizer(name: str) -> Component:
    if name in _TORCH_OPTIM_UNFIT:
        raise ComponentError(f"found {name!r}; {_TORCH_OPTIM_UNFIT[name]}")
    folder = _require(locate("torch.optim"), "torch.optim").parent
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
    given = _HARNESS_ARGUMENTS[kind]
    # A library's models are given their number of classes by keyword.
    if signature and not signature.vararg and len(_positional(signature)) < len(given) and not of_library(name):
        raise ComponentError(f"found {name!r}; {attribute} cannot be called with ({', '.join(given)}), as {kind} are")
    # What the harness does itself, unless a component has another use for the word.
    own = {option.name for option in options}
    options = (*options, *(option for option in _HARNESS_OPTIONS.get(kind, ()) if option.name not in own))
    if kind in ("optimizers", "schedules"):
        for name_of_step in {option.name for option in options} & {option.name for option in STEP.options}:
            message = f"an option {name_of_step!r}, which is of every training step; call it otherwise"
            raise ComponentError(f"found {name!r} with {message}")
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


_HARNESS_OPTIONS = {
    "models": (Option("init_scale", required=False, type=_SCALE, harness=True),),
    "datasets": (
        Option("subset", required=False, type=PositiveInt, harness=True),
        Option("label_noise", required=False, type=Fraction, harness=True),
        Option("task", required=False, type=Literal["reconstruction"], harness=True),
    ),
    "schedules": tuple(Option(name, required=False, type=NonNegativeInt, harness=True) for name in WARM_UPS),
    "probes": (Option("every", required=False, type=_EVERY, harness=True),),
}

_HARNESS_ARGUMENTS = {
    "models": ("example_shape", "classes"),
    "datasets": ("folder",),
    "optimizers": ("parameters",),
    "schedules": ("horizon",),
    "probes": (),
    "analyses": ("summaries",),
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
    given = (ROLES,) if kind == "optimizers" else ()
    for index, argument in enumerate(positional):
        if index >= len(_HARNESS_ARGUMENTS[kind]) and argument.arg not in given:
            yield Option(argument.arg, index < first_default, _type(argument.annotation))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg not in given:
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


def locate(module: str) -> Path | None:
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
