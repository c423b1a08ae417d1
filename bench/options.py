"""What a suite may set of a component: keywords with their types, as the source declares them."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
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

from bench.errors import expected

Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["batch", "sync", "ghost", "layer", "group", "weight", "none"]

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

# What the harness gives a component of each kind, by position.
GIVEN = {
    "models": ("example_shape", "classes"),
    "datasets": ("folder",),
    "optimizers": ("parameters",),
    "schedules": ("horizon",),
    "probes": (),
    "analyses": ("summaries",),
    "executors": ("devices", "stall_seconds"),
}
# What the harness gives a component that names it too, by keyword: an optimizer the role of each parameter of the model
# (`roles.py`), a schedule the steps of its warm-up.
ROLES, WARMUP_STEPS = "roles", "warmup_steps"
_ASKED_FOR = {"optimizers": ROLES, "schedules": WARMUP_STEPS}


def positional(arguments: ast.arguments) -> list[ast.arg]:
    """The parameters that may be given by position, but for self."""
    positional = [*arguments.posonlyargs, *arguments.args]
    return positional[1:] if positional and positional[0].arg == "self" else positional


def _factor(text: str) -> str:
    try:
        fine = text.endswith("x") and 1 < float(text[:-1]) < math.inf
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("should be a factor above 1 between the steps looked at, such as 1.3x")
    return text


_SCALE = Annotated[float, Field(gt=0, allow_inf_nan=False)]
EVERY = "1.3x"
_EVERY = Annotated[str, AfterValidator(_factor)]


@dataclass(frozen=True)
class Option:
    """A keyword that a suite may set; `type` is what pydantic validates it against.

    harness: the component is not given it: the harness does what it says.  default: what it is if not set, as YAML;
    empty where that is nothing.
    """

    name: str
    required: bool
    type: Any = Any
    harness: bool = False
    default: str = ""

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, as the end of a sentence; None if nothing is."""
        try:
            TypeAdapter(self.type).validate_python(value, strict=True)
        except ValidationError as error:
            return expected(error.errors()[0])
        return None


# What any component of a kind may be asked for, which the harness does itself.
DONE_BY_HARNESS = {
    "models": (Option("init_scale", required=False, type=_SCALE, harness=True),),
    "datasets": (
        Option("subset", required=False, type=PositiveInt, harness=True),
        Option("label_noise", required=False, type=Fraction, harness=True),
        Option("task", required=False, type=Literal["reconstruction"], harness=True),
    ),
    "schedules": (Option(WARMUP_STEPS, required=False, type=NonNegativeInt, harness=True),),
    "probes": (Option("every", required=False, type=_EVERY, harness=True),),
}


def units(name: str) -> tuple[str, ...]:
    """The names under which a suite may give an option of a schedule that is a number of steps: `decay_steps`,
    `decay_examples` or `decay_epochs`. Any other option has its own name alone.
    """
    stem = name.removesuffix("_steps")
    return (name,) if stem == name else (name, f"{stem}_examples", f"{stem}_epochs")


def in_other_units(option: Option) -> tuple[Option, ...]:
    """A number of steps as options in examples and in epochs, which the harness turns into steps; none for others."""
    accepted = NonNegativeFloat if option.type is NonNegativeInt else PositiveFloat
    return tuple(Option(name, required=False, type=accepted, harness=True) for name in units(option.name)[1:])


def declared(kind: str, arguments: ast.arguments) -> Iterator[Option]:
    """Everything after what the harness gives (`contracts.py` says what that is for each kind)."""
    given_or_set = positional(arguments)
    lacking = [None] * (len(given_or_set) - len(arguments.defaults))
    by_position = list(zip(given_or_set, [*lacking, *arguments.defaults], strict=True))[len(GIVEN[kind]) :]
    asked_for = _ASKED_FOR.get(kind)
    for argument, default in [*by_position, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        if argument.arg != asked_for:
            yield Option(argument.arg, default is None, _type(argument.annotation), default=_shown(default))


def _shown(default: ast.expr | None) -> str:
    try:
        value = default and ast.literal_eval(default)
        return "" if value is None else json.dumps(value)
    except (ValueError, TypeError):  # it is computed, or nothing that YAML has
        return ast.unparse(default) if default else ""


def _type(annotation: ast.expr | None) -> Any:
    """The type an annotation names, of the few kinds a YAML value can have; Any where it is another."""
    match annotation:
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Subscript(value=ast.Name(id="dict")):
            return dict[str, Any]
        case ast.Constant(value=None):
            return None
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list[_type(item)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=items)):
            return Literal[tuple(item.value for item in items if isinstance(item, ast.Constant))]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type(left), _type(right)]  # noqa: UP007
    return Any
