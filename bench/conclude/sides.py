"""What a comparison reads of each side: an archive, or a file that was written of one, as samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, WrapValidator

from bench.ask.plan import Given
from bench.conclude.measures import Candidate, Found, Status, Summary, stated_target, summaries
from bench.crossing import CrossingRule
from bench.keep.archive import Archive

Key = tuple[str, int]


def _or_missed(value: Any, steps: Callable[[Any], float]) -> float:
    return math.inf if value is None else steps(value)


# What may stand in a file. Within these bounds no ratio, product or logarithm leaves what a float can hold.
Count = Annotated[int, Field(ge=0, le=10**15)]
_Size = Annotated[int, Field(gt=0, le=10**15)]
Steps = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False), WrapValidator(_or_missed)]
_Error = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=1e-15, le=1e18, allow_inf_nan=False)]


def plain(value: Any) -> Any:
    """What may stand for a value in a file; raises ValueError for anything else."""
    if not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("should be text or a finite number")
    return value


Plain = Annotated[Any, AfterValidator(plain)]


def _in_order(crossed: tuple[float, float]) -> tuple[float, float]:
    if not crossed[0] < crossed[1]:
        raise ValueError("should be [after, by] with after < by")
    return crossed


@dataclass(frozen=True)
class Contender:
    """Metaparameters that were confirmed, and the steps to target of each seed, known to lie in (after, by].

    each: by is math.inf for a miss.  metaparameters, number, searched: the trial of the search that they were first
    drawn for, and the steps it took; None where that was not kept (baselines of version 1).
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    metaparameters: dict[str, Plain] | None
    number: Count | None
    searched: _Size | None
    each: Annotated[tuple[Annotated[tuple[Count, Steps], AfterValidator(_in_order)], ...], Field(min_length=1)]

    @property
    def steps(self) -> tuple[float, ...]:
        """Of each seed, math.inf for a miss."""
        return tuple(by for _, by in self.each)


@dataclass(frozen=True)
class Sample:
    """A study, as raw values.

    study: its id, a hash of all that makes it what it is.  target: dataset, reading and threshold, in words.
    seeds: how many confirmations were asked for.  found: the search's steps to target, None where no trial of it met
    the target in `max_steps`.  contenders: what was confirmed, that with the smallest median first; a miss lies beyond
    `budget`.  test_errors: of the seeds of the first that met it.  trajectory: a hash of every reading of every seed.
    step_seconds and peak_memory_bytes: a value for each process, in their order.  timed_in: the environments of these
    processes, each once; training may have another, since it may share the processor with other trainings.  timing: the
    id of what was timed.  infeasible: whether it did not fit in memory.  devices: on how many each trial trains.
    rule: how steps to target were read (`crossing.py`).  given: whether the metaparameters were those of another study,
    and not searched for.
    """

    workload: str
    batch_size: _Size
    study: str
    status: Status
    target: str
    precision: str | None
    seeds: Count
    found: _Size | None
    max_steps: Count
    contenders: tuple[Contender, ...]
    budget: Count
    test_errors: tuple[_Error, ...]
    trajectory: str
    step_seconds: tuple[_Amount, ...]
    peak_memory_bytes: tuple[_Amount, ...]
    timed_in: tuple[dict[str, Any], ...] = ()
    timing: str | None = None
    infeasible: bool = False
    devices: _Size = 1
    rule: CrossingRule = "isotonic"
    given: bool = False

    @property
    def steps(self) -> tuple[float, ...]:
        """Every seed's steps to target of the smallest median, math.inf for a miss; none of what was not confirmed."""
        return self.contenders[0].steps if self.contenders else ()

    @property
    def key(self) -> Key:
        return self.workload, self.batch_size

    @property
    def training(self) -> Status:
        """What became of the training; the status of what was only timed is that of its clock."""
        return self.status if self.target else "not measured"

    @property
    def fits(self) -> bool:
        return not self.infeasible and self.status != "infeasible"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: where it came from, its environments, and its samples by workload and batch size."""

    name: str
    suite: str
    environments: tuple[dict[str, Any], ...]
    samples: dict[Key, Sample]


def of_archive(archive: Archive) -> Side:
    """Everything a comparison may ask of an archive."""
    samples = map(sample_of, summaries(archive))
    environments = tuple(archive.environments().values())
    return Side(str(archive.path), archive.suite_name(), environments, {sample.key: sample for sample in samples})


def sample_of(summary: Summary) -> Sample:
    """A study's raw values."""
    content, confirmed, timed = summary.study.content, summary.confirmed, summary.timed
    return Sample(
        workload=summary.study.workload,
        batch_size=summary.study.batch_size,
        study=summary.study.id,
        status=summary.status,
        # What is only timed has none of these.
        target=_target(content) if "threshold" in content else "",
        precision=timed.study.content["precision"] if timed else content.get("precision"),
        seeds=content.get("seeds", 0),
        found=summary.found.steps if summary.found else None,
        max_steps=content.get("max_steps", 0),
        contenders=tuple(_contender(each, summary.found) for each in confirmed.candidates) if confirmed else (),
        budget=confirmed.budget if confirmed else 0,
        test_errors=confirmed.tested if confirmed else (),
        trajectory=confirmed.digest if confirmed else "",
        step_seconds=timed.step_seconds if timed else (),
        peak_memory_bytes=timed.peak_memory_bytes if timed else (),
        timed_in=each_once(process.environment for process in timed.processes) if timed else (),
        timing=timed.study.id if timed else None,
        infeasible=bool(timed and timed.infeasible),
        devices=summary.study.devices,
        rule=summary.rule,
        given="given" in content,
    )


def _contender(candidate: Candidate, found: Found | None) -> Contender:
    tried = found.attempts if found else ()
    first = next((each for each in tried if each.metaparameters == candidate.metaparameters), None)
    return Contender(
        candidate.metaparameters,
        first.number if first else None,
        first.steps if first else None,
        tuple((int(each.after), each.by) for each in candidate.each),
    )


def given_by(sample: Sample) -> tuple[Given, ...]:
    """What a study is given to confirm the same metaparameters as this one; nothing where it confirmed none, or where
    they were not kept.
    """
    kept = [
        Given(each.number, each.searched, each.metaparameters)
        for each in sample.contenders
        if each.number is not None and each.searched is not None and each.metaparameters is not None
    ]
    whole = len(kept) == len(sample.contenders)
    return tuple(sorted(kept, key=lambda each: (each.steps, each.number))) if whole else ()


def _target(content: Mapping[str, Any]) -> str:
    reading, threshold = stated_target(content)
    return f"{reading} {threshold} of {content['dataset']}"


def record(sample: Sample, environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A sample for JSON: a miss is null, and an environment its place among those of the whole file."""
    contenders = [
        {**asdict(each), "each": [(after, by if math.isfinite(by) else None) for after, by in each.each]}
        for each in sample.contenders
    ]
    timed_in = sorted(environments.index(environment) for environment in sample.timed_in)
    return {**asdict(sample), "contenders": contenders, "timed_in": timed_in}


def each_once(environments: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Environments without repeats, in their order."""
    return tuple({repr(environment): environment for environment in environments}.values())


def other_devices(base: Sample, candidate: Sample) -> str | None:
    """Why nothing of the two is compared, as the end of a sentence; None where they train on as many devices."""
    alike = base.devices == candidate.devices
    return None if alike else f"a trial's devices were {base.devices:,} and are {candidate.devices:,}"


def other_target(base: Sample, candidate: Sample) -> str | None:
    """Why their trainings cannot be compared, as the end of a sentence; None where they can, or one was only timed."""
    if not (base.target and candidate.target):
        return None
    if base.target != candidate.target:
        return f"the target was {base.target} and is {candidate.target}"
    alike = base.rule == candidate.rule or not (base.contenders and candidate.contenders)
    return None if alike else f"steps to target were read by the rule {base.rule} and are by {candidate.rule}"


# What must be alike for one time or amount of memory to be compared with another.
TIMING_CONDITIONS = ("device_type", "device", "threads", "cuda", "torch")


def unlike(base: Sample, candidate: Sample, conditions: tuple[str, ...] = TIMING_CONDITIONS) -> str | None:
    """Why times of the two cannot be compared, as the end of a sentence; None where they can."""
    if base.precision != candidate.precision:
        return f"the precision was {base.precision} and is {candidate.precision}"
    found = [
        {tuple(environment.get(name) for name in conditions) for environment in sample.timed_in}
        for sample in (base, candidate)
    ]
    for seen, side in zip(found, ("base", "candidate"), strict=True):
        if len(seen) > 1:
            return f"the {side} was timed in {len(seen)} environments; time it in one"
    if not all((*base.timed_in, *candidate.timed_in)) or not all(found):
        return "where they were timed is not known"
    (here,), (there,) = found
    differ = [
        f"{name} {one} and {other}" for name, one, other in zip(conditions, here, there, strict=True) if one != other
    ]
    return f"timed under unlike conditions: {', '.join(differ)}" if differ else None
