"""What an archive keeps of a study, a trial and a reading, in Python's types and in those that SQLite has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NotRequired, cast, get_args

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from bench.ask.plan import Given, Phase, PlanUnit, TimedMeasure, Timing, Trial, titled
from bench.ask.search import Space, Value, as_plain
from bench.ask.suite import UNITS, Growth, OneThreshold, Target, TimingOptions
from bench.events import Outcome
from bench.keep import shape

# A trial with one of these is not measured again; any other is as good as not begun.
SETTLED = ("reached", "overtaken", "exhausted", "diverged")


@dataclass(frozen=True)
class TrialRecord:
    """What the archive holds of a trial; outcome, step and seconds are None while it has not ended."""

    key: int
    id: str
    phase: Phase
    number: int
    metaparameters: dict[str, Value]
    max_steps: int
    environment: str
    outcome: Outcome | None
    step: int | None
    train_seconds: float | None


@dataclass(frozen=True)
class StudyRecord:
    """What the archive holds of a study.

    content: what the suite says of it, as `described` gives it; of a study to be imported plain, as `content_of` does.
    fault: where it is not finished, what its worker last said that ended early, through no fault of the machine.
    """

    id: str
    workload: str
    batch_size: int
    content: dict[str, Any]
    finished: bool
    trials: tuple[TrialRecord, ...]
    fault: str | None = None

    @property
    def measure(self) -> str:
        """What it measures, of the measures a suite may ask for."""
        return str(self.content.get("measure", "steps_to_target"))

    @property
    def devices(self) -> int:
        """On how many devices each trial trains."""
        return int(self.content.get("devices", 1))

    @property
    def title(self) -> str:
        """What a person is told it is of: its workload, and the devices where they are several."""
        return titled(self.workload, self.devices)


@dataclass(frozen=True)
class ImportedTrial:
    """A trial that another program trained, how it ended, and its readings as (step, name, value)."""

    trial: Trial
    outcome: Outcome
    step: int
    readings: Sequence[tuple[int, str, float]]


_Count = Annotated[int, Field(strict=True, ge=0)]


class _Content(TypedDict):
    """What a reader relies on in any study's content."""

    model: str
    dataset: str
    optimizer: str
    schedule: str
    devices: NotRequired[Annotated[int, Field(strict=True, gt=0)]]
    open_ended: NotRequired[Annotated[bool, Field(strict=True)]]


class _TimedContent(_Content):
    measure: TimedMeasure
    precision: str
    compile: bool
    channels_last: bool
    micro_batch: int | str | None
    input: str
    timing: TimingOptions


class _TrainedContent(_Content):
    measure: NotRequired[Literal["steps_to_target"]]
    precision: NotRequired[str]
    target: NotRequired[Target]
    reading: str
    threshold: OneThreshold
    max_steps: _Count
    trials: _Count
    seeds: _Count
    top: NotRequired[_Count]
    slack: Annotated[float, Field(strict=True)] | None
    probes: dict[str, dict[str, Any]]
    space: dict[str, Space]
    growth: NotRequired[Growth]
    given: NotRequired[list[Given]]


_TIMED = TypeAdapter(_TimedContent)
_TRAINED = TypeAdapter(_TrainedContent)


def content_of(study: PlanUnit) -> dict[str, Any]:
    """What a reader needs of a study without its suite, as plain data."""
    workload = study.workload
    entry = workload.entry
    of_either = {
        "measure": study.measure,
        "open_ended": workload.open_ended,
        **{key: str(getattr(workload, key)) for key in ("model", "dataset", "optimizer", "schedule")},
        "precision": entry.precision,
        **({"devices": workload.devices} if workload.devices > 1 else {}),
    }
    if isinstance(study, Timing):
        settings = {key: getattr(entry, key) for key in ("compile", "channels_last", "micro_batch", "input")}
        return {**of_either, **settings, "timing": entry.timing.model_dump()}
    # The target as the suite gives it, where that is in another unit than the reading's.
    target = {name: each.model_dump(exclude_none=True) for name, each in entry.target.items() if name in UNITS}
    return {
        **of_either,
        **({"target": target} if target else {}),
        "reading": workload.reading,
        "threshold": workload.threshold.model_dump(exclude_none=True),
        "max_steps": entry.max_steps,
        "trials": entry.search.trials,
        "seeds": entry.confirm.seeds,
        "top": entry.confirm.top,
        "slack": workload.slack,
        "probes": entry.probes,
        "space": as_plain(workload.ranges_at(study.batch_size)),
        **({"growth": entry.growth.model_dump(exclude_none=True)} if entry.growth else {}),
        **({"given": [asdict(each) for each in study.given]} if study.given else {}),
    }


def described(content: str) -> dict[str, Any]:
    """What is said of a study, its target, space, growth and timing as the types that a suite has for them; raises
    ValueError where it is not what bench writes.
    """
    said = shape.parsed(content)
    timed = isinstance(said, dict) and said.get("measure") in get_args(TimedMeasure)
    return dict((_TIMED if timed else _TRAINED).validate_python(said))


def kept(value: float) -> tuple[float | None, str | None]:
    """A reading as SQLite can hold it, and beside it the name of what it cannot: NaN, an infinity, a negative zero."""
    value = float(value)
    if math.isnan(value):
        return None, "nan"
    if math.isinf(value):
        return value, "inf" if value > 0 else "-inf"
    return value, "-0" if value == 0 and math.copysign(1, value) < 0 else None


def found(value: float | None, status: str | None) -> float:
    """The reading that was kept."""
    return float(status) if status else cast("float", value)
