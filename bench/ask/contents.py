"""Which files of one's own a trial is trained on: what lies at the paths that a suite gives its dataset."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def contents(options: Mapping[str, Any], folder: Path) -> str | None:
    """A hash of what lies in the data folder at a dataset's options `path` and `.._path`; None where it has none.

    The same wherever the folder lies; where there is nothing, the hash of an empty folder.
    """
    paths = [options[name] for name in sorted(options) if name == "path" or name.endswith("_path")]
    found = [_digest(folder / path) for path in paths if isinstance(path, str)]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] if found else None


def _digest(place: Path) -> str:
    """Of a file all that it holds. Of a folder, which may hold millions of images, the names and sizes of its files."""
    try:
        if place.is_file():
            with place.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(b"".join(sorted(_files(place)))).hexdigest()
    except (OSError, ValueError):  # it may not be read, or is no path: the dataset says so
        return "unreadable"


def _files(place: Path) -> Iterator[bytes]:
    """The name and size of every file in a folder, as datasets find them: through links too."""
    for within, _, names in os.walk(place, followlinks=True):
        for name in names:
            file = Path(within, name)
            size = file.stat().st_size if file.exists() else 0  # a link may lead nowhere
            yield os.fsencode(file.relative_to(place)) + b"\0%d\n" % size
