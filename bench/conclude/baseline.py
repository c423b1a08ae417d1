"""Baselines: one side of a comparison as a small JSON file, to be committed and reviewed like code.

It holds raw values and no conclusions: the metaparameters that were confirmed, between which evaluations each of their
seeds met the target, times of every process, the environment they were measured in, and the hashes that tell a study
and its training apart from others. Version 1 held the steps of the best metaparameters alone. What `bench show --format
json` prints has the same beside its conclusions, and may stand for a side too.
"""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from bench.conclude.sides import Contender, Count, Plain, Sample, Side, Steps, record
from bench.errors import BaselineError, BenchError, IncompleteError, expected

SCHEMA = 2
# Of a suite of a thousand studies either kind of file has a few million.
MAX_BYTES = 100_000_000


_Environment = dict[str, Plain]


_STRICT = ConfigDict(extra="forbid", strict=True)


@pydantic_dataclass(frozen=True, config=_STRICT, kw_only=True)
class _Study(Sample):
    """A Sample as JSON has it: a miss is null, and an environment its place among the file's.

    steps: of version 1, in the place of `contenders`.
    """

    contenders: tuple[Contender, ...] = ()
    timed_in: tuple[Count, ...] = ()  # type: ignore[assignment]
    steps: tuple[Steps, ...] | None = None  # type: ignore[assignment]


class _Strict(BaseModel):
    model_config = _STRICT


class _Accepted(_Strict):
    """When the baseline was saved or replaced, and why."""

    date: str
    reason: str


class _File(_Strict):
    schema_version: int
    suite: str
    environments: tuple[_Environment, ...]
    history: tuple[_Accepted, ...]
    studies: tuple[_Study, ...]

    def raw(self, _: Path) -> tuple[_Study, ...]:
        return self.studies


class _ShownStudy(BaseModel):
    raw: _Study | None = None


class _ShownWorkload(BaseModel):
    name: str
    studies: tuple[_ShownStudy, ...]


def _listed(found: Any) -> Any:
    """One environment stands alone, and none is null."""
    return found if isinstance(found, list) else [] if found is None else [found]


class _Shown(BaseModel):
    """What `bench show --format json` prints. Its conclusions are left alone: they follow from the raw values."""

    suite: str
    environments: Annotated[tuple[_Environment, ...], BeforeValidator(_listed), Field(alias="environment")]
    workloads: tuple[_ShownWorkload, ...]

    def raw(self, path: Path) -> tuple[_Study, ...]:
        found = []
        for workload in self.workloads:
            for study in workload.studies:
                if study.raw is None:
                    raise BaselineError(
                        f"{path}: {workload.name}: holds conclusions without raw values; "
                        "print it again with 'bench show --format json' of this version"
                    )
                found.append(study.raw)
        return tuple(found)


def _kind(content: Any) -> Literal["saved", "shown"] | None:
    known = isinstance(content, dict) and "suite" in content
    return ("shown" if "workloads" in content else "saved" if "studies" in content else None) if known else None


_EITHER = TypeAdapter[_File | _Shown](
    Annotated[
        Annotated[_File, Tag("saved")] | Annotated[_Shown, Tag("shown")],
        Discriminator(
            _kind,
            custom_error_type="neither",
            custom_error_message="should be a baseline, or what 'bench show --format json' prints",
        ),
    ]
)


def read(path: Path) -> Side:
    """A baseline, or what `bench show --format json` printed, as a side; raises BaselineError where it is neither, or
    lacks the raw values.
    """
    content = _read(path)
    studies, environments = content.raw(path), content.environments
    places = {place for study in studies for place in study.timed_in}
    if places - set(range(len(environments))):
        raise BaselineError(f"{path}: a study was timed in an environment it does not hold; write it anew")
    samples = [_sample(study, environments) for study in studies]
    found = {sample.key: sample for sample in samples}
    if len(found) < len(samples):
        raise BaselineError(f"{path}: holds a workload at one batch size twice; write it anew")
    return Side(str(path), content.suite, environments, found)


def _read(path: Path) -> _File | _Shown:
    try:
        with path.open("rb") as stream:
            whole = stream.read(MAX_BYTES + 1)
        text = whole.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BaselineError(
            f"{path}: cannot be read ({reason}); 'bench baseline save ARCHIVE -o {path}' writes one"
        ) from error
    if len(whole) > MAX_BYTES:
        raise BaselineError(f"{path}: holds more than {MAX_BYTES:,} bytes; no baseline is so large")
    try:
        content = _EITHER.validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        # The first part of a place says which of the two kinds of file it is.
        place = ".".join(map(str, detail["loc"][1:]))
        raise BaselineError(f"{path}: {place + ': ' if place else ''}{expected(detail)}") from error
    if isinstance(content, _File) and content.schema_version not in (1, SCHEMA):
        version = content.schema_version
        raise BaselineError(f"{path}: has schema version {version}; this bench reads versions 1 and {SCHEMA}")
    return content


def _sample(study: _Study, environments: tuple[dict[str, Any], ...]) -> Sample:
    held = {**vars(study), "timed_in": tuple(environments[place] for place in study.timed_in)}
    steps = held.pop("steps")
    if steps:
        # They were read by the first passage, to the step as far as anybody can know.
        each = tuple((max(value - 1, 0), value) if math.isfinite(value) else (study.budget, value) for value in steps)
        held |= {"contenders": (Contender(None, None, None, each),), "rule": "first"}
    return Sample(**held)


def save(side: Side, path: Path) -> None:
    """Writes a side as a new baseline; raises BenchError where there is one, IncompleteError where it is not whole."""
    if path.exists():
        raise BenchError(f"{path}: is there already; 'bench baseline accept' replaces it, with a reason")
    _write(side, path, (), "saved")


def accept(side: Side, path: Path, reason: str) -> None:
    """Replaces a baseline by a side, and adds the reason to its history.

    Raises BaselineError where there is none, BenchError where no reason is given, IncompleteError as `save` does.
    """
    if not reason.strip():
        raise BenchError("--reason: found nothing; say why the new numbers are right")
    replaced = _read(path)
    if not isinstance(replaced, _File):
        raise BaselineError(f"{path}: is what 'bench show' printed, and no baseline; choose another place, or 'save'")
    _write(side, path, replaced.history, reason.strip())


def _write(side: Side, path: Path, history: tuple[_Accepted, ...], reason: str) -> None:
    for sample in side.samples.values():
        if sample.status == "not measured":
            raise IncompleteError(
                f"{side.name}: {sample.workload} at batch size {sample.batch_size:,} was not measured; run the suite"
            )
    environments = sorted(side.environments, key=_text)
    content = {
        "schema_version": SCHEMA,
        "suite": side.suite,
        "environments": environments,
        "history": [*map(dict, history), {"date": datetime.date.today().isoformat(), "reason": reason}],
        "studies": [record(side.samples[key], environments) for key in sorted(side.samples)],
    }
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    half = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(f"{text}\n", encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def _text(environment: dict[str, Any]) -> str:
    return json.dumps(environment, sort_keys=True)
