"""Where a problem of a suite stands in its file, and a value as a sentence has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.ask.document import Document, KeyPath, dotted
from bench.errors import Problem, nearest

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


# Words that stand in one section alone, and what they look like there.
_BELONGS = {
    "rule": "target: {validation_error: {below: 0.1}, rule: first}",
    "refine": "search: {refine: 8}",
    "trials": "search: {trials: 16}",
    "seeds": "confirm: {seeds: 5}",
    "top": "confirm: {top: 3}",
}


def unknown(key: str, known: Sequence[str], of: str = "") -> str:
    """A sentence on a key that is none of those known there; of: what they are of."""
    if key in _BELONGS:
        return f"unknown here; it belongs under '{_BELONGS[key].partition(':')[0]}', as in {_BELONGS[key]}"
    return f"unknown{of}; {nearest(key, known)}"


def shown(value: Any) -> str:
    """A value as the suite might have it, in short."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
