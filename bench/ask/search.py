"""Metaparameter spaces, and quasi-random draws from them.

A space maps each metaparameter to a constant, to a dimension, or to a rule that gives either for each batch size; a
dimension maps a coordinate of the unit interval to a value. Draws are points of a scrambled Sobol sequence, so that N
of them cover the space evenly for every N, and the first N stay what they were when N grows.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from bench.errors import expected

Value = float | int | str | bool
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _constant(raw: Any) -> Any:
    if not isinstance(raw, Value):
        raise ValueError("should be a number, a word, true or false")
    return raw


def _ascending(bounds: tuple[Any, Any]) -> tuple[Any, Any]:
    low, high = bounds
    if not low < high:
        raise ValueError("should be [low, high] with low < high")
    # A float holds neither their difference nor, for a logarithmic scale, their ratio.
    if math.isinf(high - low) or (low > 0 and math.isinf(high / low)):
        raise ValueError("should be two numbers closer to one another")
    return bounds


Constant = Annotated[Value, BeforeValidator(_constant)]
Bounds = Annotated[tuple[Finite, Finite], AfterValidator(_ascending)]
PositiveBounds = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
BelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
BelowOneBounds = Annotated[tuple[BelowOne, BelowOne], AfterValidator(_ascending)]
IntegerBounds = Annotated[tuple[int, int], AfterValidator(_ascending)]


class Dimension(BaseModel, ABC):
    """One searched metaparameter."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @abstractmethod
    def value(self, position: float) -> Value:
        """The value at a position of [0, 1)."""

    @abstractmethod
    def position(self, value: Any) -> float | None:
        """The inverse of `value`; None where the values have no order, and so no edge."""

    @abstractmethod
    def extremes(self) -> list[Value]:
        """Values such that, if each of them is allowed, every value is."""

    @classmethod
    def key(cls) -> str:
        """The word that a suite has for it."""
        return next(iter(cls.model_fields))


class Uniform(Dimension):
    """Every value of an interval is as likely."""

    uniform: Annotated[Bounds, Field(strict=False)]

    def value(self, position: float) -> float:
        low, high = self.uniform
        return low + position * (high - low)

    def position(self, value: float) -> float:
        low, high = self.uniform
        return (value - low) / (high - low)

    def extremes(self) -> list[Value]:
        return list(self.uniform)


class LogUniform(Dimension):
    """Every ratio is as likely: for learning rates."""

    log_uniform: Annotated[PositiveBounds, Field(strict=False)]

    def value(self, position: float) -> float:
        low, high = self.log_uniform
        return float(low * (high / low) ** position)

    def position(self, value: float) -> float:
        low, high = self.log_uniform
        return math.log(value / low) / math.log(high / low)

    def extremes(self) -> list[Value]:
        return list(self.log_uniform)


class ReverseLogUniform(Dimension):
    """1 - x is log-uniform: for momentum, whose distance from one is what acts (Shallue et al. 2019)."""

    reverse_log_uniform: Annotated[BelowOneBounds, Field(strict=False)]

    def value(self, position: float) -> float:
        low, high = self.reverse_log_uniform
        return float(1 - (1 - low) * ((1 - high) / (1 - low)) ** position)

    def position(self, value: float) -> float:
        low, high = self.reverse_log_uniform
        return math.log((1 - value) / (1 - low)) / math.log((1 - high) / (1 - low))

    def extremes(self) -> list[Value]:
        return list(self.reverse_log_uniform)


class Integer(Dimension):
    """Every whole number from the first to the last, both included, is as likely."""

    integer: Annotated[IntegerBounds, Field(strict=False)]

    def value(self, position: float) -> int:
        low, high = self.integer
        return low + math.floor(position * (high - low + 1))

    def position(self, value: int) -> float:
        low, high = self.integer
        return (value - low) / (high - low)

    def extremes(self) -> list[Value]:
        return list(self.integer)


class Choice(Dimension):
    """One of a list, each as likely."""

    choice: Annotated[list[Constant], Field(min_length=1)]

    def value(self, position: float) -> Value:
        return self.choice[math.floor(position * len(self.choice))]

    def position(self, value: Any) -> None:  # noqa: ARG002
        return None

    def extremes(self) -> list[Value]:
        return self.choice


DIMENSIONS = ("uniform", "log_uniform", "reverse_log_uniform", "integer", "choice")


class ScalingRule(BaseModel, ABC):
    """A metaparameter whose value, or whose range, follows from the batch size."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @abstractmethod
    def resolve(self, batch_size: int) -> Dimension | float:
        """What it is at a batch size; raises ValueError where the rule gives nothing there."""


Scale = Literal["linear", "sqrt", "inverse_sqrt", "complement", "power"]
# Ranges whose ends can be scaled, and the scales of each: a factor for what has a size, the others for shares.
_FACTORS: tuple[Scale, ...] = ("linear", "sqrt", "inverse_sqrt")
_SHARES: tuple[Scale, ...] = ("complement", "power")
RANGES: dict[str, tuple[Scale, ...]] = {
    "uniform": (*_FACTORS, *_SHARES),
    "log_uniform": (*_FACTORS, *_SHARES),
    "reverse_log_uniform": _SHARES,
    "integer": _FACTORS,
}


class Scaled(ScalingRule):
    """A `value`, or a range, that is right `at` one batch size B, scaled to k B. Of a range both ends are scaled.

    linear: value x k, for the learning rate of SGD (Goyal et al. 2017).  sqrt: value x sqrt(k), for that of Adam.
    complement: 1 - (1 - value) k, for Adam's betas, and inverse_sqrt: value/sqrt(k), for its eps (Malladi et al. 2022,
    arXiv 2205.10287).  power: value^k, which keeps the half-life in examples, for beta2 (Marek et al. 2025, arXiv
    2507.07101) or the average of the weights (Busbridge et al. 2023, arXiv 2307.13813).
    """

    at: PositiveInt
    scale: Scale
    value: Finite | None = None
    uniform: Annotated[Bounds, Field(strict=False)] | None = None
    log_uniform: Annotated[PositiveBounds, Field(strict=False)] | None = None
    reverse_log_uniform: Annotated[BelowOneBounds, Field(strict=False)] | None = None
    integer: Annotated[IntegerBounds, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _is_one_thing_that_scales(self) -> Scaled:
        given = [name for name in ("value", *RANGES) if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"should have one of value, {', '.join(RANGES)} beside at and scale, and has {found}")
        (kind,) = given
        if self.scale not in RANGES.get(kind, (self.scale,)):
            raise ValueError(f"should have one of the scales {', '.join(RANGES[kind])} for {kind}, not {self.scale}")
        if self.scale in _SHARES and not all(0 <= end <= 1 for end in self._ends()):
            what = "a value" if kind == "value" else "a range"
            raise ValueError(f"should have {what} from 0 to 1 for the scale {self.scale}")
        return self

    def resolve(self, batch_size: int) -> Dimension | float:
        scaled = [self._scaled(end, batch_size) for end in self._ends()]
        if self.value is not None:
            return scaled[0]
        kind = self._range()
        assert kind is not None  # or it has a value
        ends = [round(end) for end in scaled] if kind is Integer else scaled
        try:
            return kind.model_validate({kind.key(): ends})
        except ValidationError as error:
            problem = expected(error.errors()[0])
            found = f"[{ends[0]:.7g}, {ends[1]:.7g}]"
            raise ValueError(f"gives {found} at batch size {batch_size:,}; {problem} there") from error

    def _range(self) -> type[Dimension] | None:
        kinds = (Uniform, LogUniform, ReverseLogUniform, Integer)
        return next((kind for kind in kinds if getattr(self, kind.key()) is not None), None)

    def _ends(self) -> tuple[float, ...]:
        """The value, or both ends of the range."""
        kind = self._range()
        return (self.value or 0.0,) if kind is None else getattr(self, kind.key())

    def _scaled(self, value: float, batch_size: int) -> float:
        k = batch_size / self.at
        if self.scale == "complement":
            scaled = value - (1 - value) * (k - 1)  # at k = 1 the value itself, to the last bit
        elif self.scale == "power":
            scaled = value**k
        else:
            scaled = value * {"linear": k, "sqrt": math.sqrt(k), "inverse_sqrt": 1 / math.sqrt(k)}[self.scale]
        if math.isinf(scaled) or (self.scale == "complement" and scaled < 1e-12):  # 0 but for rounding
            wanted = "a number above 0" if self.scale == "complement" else "finite"
            raise ValueError(f"gives {scaled:g} at batch size {batch_size:,}; should be {wanted} there")
        return scaled


class HalfLife(ScalingRule):
    """The decay of a running average that halves in so many examples, or tokens: 0.5^(those of a step/half-life).

    Marek et al. 2025, arXiv 2507.07101.
    """

    half_life: PositiveFloat
    tokens_per_example: PositiveInt = 1

    def resolve(self, batch_size: int) -> float:
        return float(0.5 ** (batch_size * self.tokens_per_example / self.half_life))


def _tag(raw: Any) -> str:
    if isinstance(raw, Dimension):
        return raw.key()
    if isinstance(raw, HalfLife) or (isinstance(raw, Mapping) and "half_life" in raw):
        return "a half-life"
    if isinstance(raw, Scaled) or (isinstance(raw, Mapping) and not raw.keys().isdisjoint({"at", "scale"})):
        return "a scaled value"
    if isinstance(raw, Mapping):
        return str(next(iter(raw))) if len(raw) == 1 else "not one key"
    return "constant" if isinstance(raw, Value) else "neither"


Space = Annotated[
    Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[ReverseLogUniform, Tag("reverse_log_uniform")]
    | Annotated[Integer, Tag("integer")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Scaled, Tag("a scaled value")]
    | Annotated[HalfLife, Tag("a half-life")]
    | Annotated[Value, Tag("constant")],
    Discriminator(
        _tag,
        custom_error_type="space",
        custom_error_message=f"should be a constant, or one of {', '.join(DIMENSIONS)}, as in {{uniform: [0, 1]}}, "
        "or a scaling rule, as in {at: 256, value: 0.1, scale: linear}, of a value or a range",
    ),
]


def as_plain(space: Mapping[str, Dimension | ScalingRule | Value]) -> dict[str, Any]:
    """The space as a suite would write it."""
    return {
        name: value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
        for name, value in space.items()
    }


def searched(space: Mapping[str, Any]) -> bool:
    """Whether the points of a space differ from one another."""
    return any(
        isinstance(value, Dimension) or (isinstance(value, Scaled) and value.value is None) for value in space.values()
    )


# Of dimensions, the part of [0, 1] that is drawn from.
Region = Mapping[str, tuple[float, float]]


def region_of(space: Mapping[str, Dimension | Value], points: Sequence[Mapping[str, Any]], drawn: int) -> Region:
    """The part of the space that some points span, and the distance between `drawn` points of it on every side: where
    the best of these is, the best of all lies no further than its neighbours. A choice has no order, and is drawn from
    whole.
    """
    searched = {name: dimension for name, dimension in space.items() if isinstance(dimension, Dimension)}
    beside = drawn ** (-1 / max(1, len(searched)))
    region = {}
    for name, dimension in searched.items():
        places = [place for point in points if (place := dimension.position(point[name])) is not None]
        if places:
            region[name] = max(0.0, min(places) - beside), min(1.0, max(places) + beside)
    return region


def draw(
    space: Mapping[str, Dimension | Value], seed: int, count: int, region: Region | None = None
) -> list[dict[str, Value]]:
    """The first `count` points of the space, or of a region of it, each a value for every metaparameter.

    `seed` scrambles the sequence. Whatever `count` is, the n-th point is the same.
    """
    # SciPy takes most of a second to import, and a run with nothing missing draws nothing.
    from scipy.stats.qmc import Sobol

    searched = {name: dimension for name, dimension in sorted(space.items()) if isinstance(dimension, Dimension)}
    fixed = {name: value for name, value in space.items() if not isinstance(value, Dimension)}
    if not searched or not count:
        return [dict(fixed) for _ in range(count)]
    points = Sobol(d=len(searched), scramble=True, rng=seed).random_base2(max(count - 1, 1).bit_length())
    ends = [(region or {}).get(name, (0.0, 1.0)) for name in searched]
    return [
        {
            **fixed,
            **{
                name: dimension.value(low + float(x) * (high - low))
                for (name, dimension), (low, high), x in zip(searched.items(), ends, point, strict=True)
            },
        }
        for point in points[:count]
    ]


def seed_of(*names: object) -> int:
    """A seed that depends on names alone, never on a position in a list; 0 <= seed < 2^63."""
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
