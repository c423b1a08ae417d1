"""Baselines: one side of a comparison as a small JSON file, to be committed and reviewed like code.

It holds raw values and no conclusions: steps to target of every seed, times of every process, the environment they
were measured in, and the hashes that tell a study and its training apart from others.
"""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from bench.errors import BaselineError, BenchError, IncompleteError, expected
from bench.measures import Status
from bench.sides import Sample, Side

SCHEMA = 1

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Study(_Strict):
    """A Sample as JSON has it: a miss is null, and an environment its place among the file's."""

    workload: str
    batch_size: PositiveInt
    study: str
    status: Status
    target: str
    precision: str | None
    seeds: Annotated[int, Field(ge=0)]
    found: PositiveInt | None
    max_steps: Annotated[int, Field(ge=0)]
    steps: tuple[_Positive | None, ...]
    budget: Annotated[int, Field(ge=0)]
    test_errors: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
    trajectory: str
    step_seconds: tuple[_Positive, ...]
    peak_memory_bytes: tuple[_Positive, ...]
    timed_in: tuple[Annotated[int, Field(ge=0)], ...] = ()
    timing: str | None = None
    infeasible: bool = False


class _Accepted(_Strict):
    """When the baseline was saved or replaced, and why."""

    date: str
    reason: str


class _File(_Strict):
    schema_version: int
    suite: str
    environments: tuple[dict[str, Any], ...]
    history: tuple[_Accepted, ...]
    studies: tuple[_Study, ...]


def read(path: Path) -> Side:
    """A baseline as a side; raises BaselineError where it is missing, or not one of ours."""
    content = _read(path)
    places = {place for study in content.studies for place in study.timed_in}
    if places - set(range(len(content.environments))):
        raise BaselineError(f"{path}: a study was timed in an environment it does not hold; save it again")
    samples = [_sample(study, content.environments) for study in content.studies]
    found = {sample.key: sample for sample in samples}
    if len(found) < len(samples):
        raise BaselineError(f"{path}: holds a workload at one batch size twice; save it again with 'bench baseline'")
    return Side(str(path), content.suite, content.environments, found)


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BaselineError(
            f"{path}: cannot be read ({reason}); 'bench baseline save ARCHIVE -o {path}' writes one"
        ) from error
    try:
        content = _File.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(map(str, detail["loc"]))
        raise BaselineError(f"{path}: {place + ': ' if place else ''}{expected(detail)}") from error
    if content.schema_version != SCHEMA:
        raise BaselineError(f"{path}: has schema version {content.schema_version}; this bench reads version {SCHEMA}")
    return content


def _sample(study: _Study, environments: tuple[dict[str, Any], ...]) -> Sample:
    steps = tuple(math.inf if value is None else value for value in study.steps)
    timed_in = tuple(environments[place] for place in study.timed_in)
    return Sample(**{**dict(study), "steps": steps, "timed_in": timed_in})


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
    _write(side, path, _read(path).history, reason.strip())


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
        "studies": [_raw(side.samples[key], environments) for key in sorted(side.samples)],
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


def _raw(sample: Sample, environments: list[dict[str, Any]]) -> dict[str, Any]:
    steps = [value if math.isfinite(value) else None for value in sample.steps]
    timed_in = sorted(environments.index(environment) for environment in sample.timed_in)
    return {**asdict(sample), "steps": steps, "timed_in": timed_in}
