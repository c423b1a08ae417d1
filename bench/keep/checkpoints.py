"""The checkpoints beside an archive, as files: what is in one is `measure/checkpoint.py`'s."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


def place(path: Path, study: str) -> Path:
    """Where a study of an archive is kept while it goes on."""
    return _folder(path) / f"{study}.pt"


def _folder(path: Path) -> Path:
    return path.with_suffix(".checkpoints")


def of_others(path: Path, studies: Collection[str]) -> str | None:
    """What is kept beside an archive of other studies than these, in a sentence: their suite may ask for them again."""
    left = [file for file in _folder(path).glob("*") if file.name.partition(".")[0] not in studies]
    if not left:
        return None
    size = sum(file.stat().st_size for file in left)
    return (
        f"{_folder(path)}: keeps {size:,} bytes of studies that were cut off and that the suite does not ask for "
        "any more; remove it, or ask for them again"
    )


def files(checkpoint: Path) -> tuple[Path, Path, Path]:
    """A checkpoint's files: the newest, the one before, and the one that is being written."""
    return checkpoint, checkpoint.with_suffix(".previous.pt"), checkpoint.with_suffix(".begun")


def bring(here: Path, there: Path) -> None:
    """Copies a checkpoint, where there is one, to be gone on from with another archive."""
    for file, copied in zip(files(here)[:2], files(there)[:2], strict=True):
        if file.exists():
            copied.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copied)


def forget(checkpoint: Path) -> None:
    """Removes a checkpoint, and the folder when it was the last."""
    for file in files(checkpoint):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # there are others, or there never was a folder
        checkpoint.parent.rmdir()
