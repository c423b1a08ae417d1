"""What lies in the public archive of Shallue et al. 2019, folder by folder, each file checked as it is read.

DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json                the space searched, and train_steps
DATASET/MODEL/OPTIMIZER/BATCH_SIZE/TRIAL/metadata.json       parameters, status, steps
DATASET/MODEL/OPTIMIZER/BATCH_SIZE/TRIAL/measurements.csv    an evaluation a row: step, val/classification_error, ..
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.ask.search import Value
from bench.errors import ArchiveError

_LAYOUT = "DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json"
_STATUSES = ("COMPLETE", "INCOMPLETE", "INFEASIBLE")
_SPLITS = {"val": "validation"}
_METRICS = {"cross_entropy_error": "loss", "classification_error": "error"}
# The largest whole number an archive holds.
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Source:
    """A study's folder. `names` are those of the folders above it: groups, if any, then dataset, model, optimizer."""

    folder: Path
    names: tuple[str, ...]
    batch_size: int
    described: dict[str, Any]
    trial_count: int

    @property
    def workload(self) -> str:
        return "-".join(self.names)

    @property
    def task(self) -> str:
        """What goals are about: the dataset and the model."""
        return "/".join(self.names[:-1])


@dataclass(frozen=True)
class TrialFolder:
    """What a trial's metadata.json says."""

    folder: Path
    number: int
    parameters: dict[str, Value]
    status: str
    steps: int


def sources_in(folder: Path) -> list[Source]:
    """Every study below a folder, by name and batch size; raises ArchiveError where anything is not as it should be."""
    if not folder.is_dir():
        raise ArchiveError(f"{folder}: no such folder; one that holds {_LAYOUT} would be right")
    sources = [_source(folder, place) for place in _study_folders(folder)]
    if not sources:
        raise ArchiveError(f"{folder}: holds no study; a folder with {_LAYOUT} in it would be right")
    sources.sort(key=lambda source: (source.names, source.batch_size))
    for before, after in pairwise(sources):
        if (before.workload, before.batch_size) == (after.workload, after.batch_size):
            raise ArchiveError(
                f"{after.folder}: has the workload and the batch size of {before.folder}; a study has its own"
            )
    return sources


def _study_folders(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ArchiveError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        if "study.json" in files:
            folders.clear()  # trials, of which there are many
            yield Path(place)
        elif "metadata.json" in files:
            raise ArchiveError(f"{Path(place).parent}: holds trials and no study.json; {_LAYOUT} would be right")


def _source(root: Path, folder: Path) -> Source:
    path = folder / "study.json"
    described = _object(path)
    for key in ("train_steps", "batch_size"):
        _count(path, described, key)
    if not described["batch_size"]:
        raise ArchiveError(f"{path}: batch_size is 0; a whole number of at least 1 would be right")
    names = folder.relative_to(root).parts[:-1]
    if len(names) < 3:  # a part of the archive: the folders that would name it lie above
        names = tuple(_text(path, described, key) for key in ("dataset", "model", "optimizer"))
    trial_count = len(trial_folders(folder))
    if not trial_count:
        raise ArchiveError(f"{folder}: holds no trial; a folder for each, named by its number, would be right")
    return Source(folder, names, int(described["batch_size"]), described, trial_count)


def trial_folders(folder: Path) -> list[Path]:
    """The folders of a study's trials, by number."""
    numbered = (path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    return sorted(numbered, key=lambda path: int(path.name))


def trial_in(folder: Path) -> TrialFolder:
    """A trial, but for its readings."""
    path = folder / "metadata.json"
    content = _object(path)
    status = _text(path, content, "status")
    if status not in _STATUSES:
        raise ArchiveError(f"{path}: found the status '{status}'; {', '.join(_STATUSES)} are known")
    parameters = mapping(path, content, "parameters")
    for name, value in parameters.items():
        if not isinstance(value, Value) or (isinstance(value, float) and not math.isfinite(value)):
            raise ArchiveError(f"{path}: the parameter '{name}' is {json.dumps(value)}; a number would be right")
    return TrialFolder(folder, _count(path, content, "trial_id"), parameters, status, _count(path, content, "steps"))


def readings_in(path: Path, needed: str | None) -> list[tuple[int, str, float]]:
    """Every finite cell as (step, name, value), in the archive's order; an empty cell or NaN is no reading.

    needed: a reading that has to be there. A trial that did not complete may have been evaluated never.
    """
    found: dict[str, dict[int, float]] = {}
    steps: set[int] = set()
    line = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if not header and needed is None:
                return []
            at, columns = _columns(path, header, needed)
            found = {name: {} for _, name in columns}
            for row in rows:
                line = rows.line_num
                if not row:
                    continue
                if len(row) != len(header):
                    raise ArchiveError(f"{path}:{line}: found {len(row)} cells; the header has {len(header)}")
                step = _step(row[at])
                if step in steps:
                    raise ArchiveError(f"{path}:{line}: found the step {step} again; one row a step would be right")
                steps.add(step)
                for index, name in columns:
                    value = float(row[index] or "nan")
                    if math.isfinite(value):
                        found[name][step] = value
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}; each trial has a {path.name}") from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path}: is not text: {error.reason}; a CSV file would be right") from error
    except (csv.Error, ValueError) as error:
        raise ArchiveError(f"{path}:{line}: {error}; a row of numbers would be right") from error
    return [(step, name, value) for name in sorted(found) for step, value in sorted(found[name].items())]


def _columns(path: Path, header: Sequence[str], needed: str | None) -> tuple[int, list[tuple[int, str]]]:
    """Where the step stands, and the place and the name of every reading."""
    names = ["step" if title == "step" else _reading(title) for title in header]
    if len(set(names)) < len(names):
        raise ArchiveError(f"{path}:1: found a column twice in {', '.join(header)}; each once would be right")
    for name in ("step", needed):
        if name is not None and name not in names:
            known = {_reading(f"{split}/{metric}"): f"{split}/{metric}" for split in _SPLITS for metric in _METRICS}
            raise ArchiveError(
                f"{path}:1: found the columns {', '.join(header) or 'none'}; '{known.get(name, name)}' has to be there"
            )
    at = names.index("step")
    return at, [(index, name) for index, name in enumerate(names) if index != at]


def _reading(title: str) -> str:
    """Our name of a column: `val/classification_error` is the validation_error; what is not known keeps its own."""
    split, _, metric = title.rpartition("/")
    return "_".join(filter(None, (_SPLITS.get(split, split), _METRICS.get(metric, metric))))


def _step(cell: str) -> int:
    number = float(cell)
    if not number.is_integer() or not 0 <= number <= _LARGEST:
        raise ValueError(f"found the step '{cell}'")
    return int(number)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}; each trial has a metadata.json") from error
    except json.JSONDecodeError as error:
        raise ArchiveError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path}: is not JSON: {error.reason}") from error
    except (RecursionError, ValueError):  # of so many brackets, or of so many digits
        raise ArchiveError(f"{path}: cannot be read: is nested too deep, or holds a number too long") from None
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds {json.dumps(content)[:40]}; an object, {{...}}, would be right")
    return content


def _text(path: Path, content: Mapping[str, Any], key: str) -> str:
    value = _value(path, content, key)
    if not isinstance(value, str) or not value:
        raise ArchiveError(f"{path}: {key} is {json.dumps(value)}; a word would be right")
    return value


def _count(path: Path, content: Mapping[str, Any], key: str) -> int:
    value = _value(path, content, key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _LARGEST or value != math.floor(value):
        raise ArchiveError(f"{path}: {key} is {json.dumps(value)}; a whole number of at least 0 would be right")
    return int(value)


def mapping(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object that a file holds under a key."""
    value = _value(path, content, key)
    if not isinstance(value, dict):
        raise ArchiveError(f"{path}: {key} is {json.dumps(value)[:40]}; an object, {{...}}, would be right")
    return value


def _value(path: Path, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ArchiveError(f"{path}: has no {key}; it has {', '.join(content) or 'nothing'}")
    return content[key]
