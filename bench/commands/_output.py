"""How a command answers: an archive in the format asked for, a file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands._options import Format
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.keep.archive import Archive


def render(archive: Archive, output: Format, analysis: str | None = None) -> str:
    from bench.show import report

    if output == "json":
        return report.as_json(archive, analysis)
    if output == "csv" and analysis is None:
        return report.as_csv(archive)
    return report.rendered(report.tables(archive, analysis), output, width())


def width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}; choose another place") from error
