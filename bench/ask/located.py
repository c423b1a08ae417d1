"""Where a problem of a suite stands in its file, and a value as a sentence has it."""

from __future__ import annotations

import json
from typing import Any

from bench.ask.document import Document, KeyPath, dotted
from bench.errors import Problem

# What `defaults` and a workload may both say parts of.
SECTIONS = ("search", "confirm", "evaluate", "probes", "timing")


def as_list(raw: Any) -> list[Any]:
    """A list as it is, and nothing for what is none: that is told of elsewhere."""
    return raw if isinstance(raw, list) else []


def place_of(source: Document, path: KeyPath) -> KeyPath:
    """Where a value stands in the file: in the workload, or in the defaults it was taken from."""
    if path[:1] != ("workloads",) or len(path) < 3:
        return path
    own = path[: 4 if path[2] in SECTIONS else 3]
    taken = own not in source.lines and ("defaults", *own[2:]) in source.lines
    return ("defaults", *path[2:]) if taken else path


def at(source: Document, path: KeyPath, message: str) -> Problem:
    """A problem of the value at a path, which was checked with its defaults."""
    place = place_of(source, path)
    return Problem(source.line(place), dotted(place), message)


def shown(value: Any) -> str:
    """A value as the suite might have it, in short."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
