"""A text of one's own, by bytes."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from bench.datasets._text import BYTES, bytes_of, cut_in_three, data
from bench.examples import Data

TOKENS = "bytes"


def text(folder: Path, *, path: str, length: PositiveInt = 64) -> Data:
    """The next byte of the file `path` in the data folder; the last 5 % test, the 5 % before validate.

    `length` bytes of context an example. Any encoding will do, for there is no tokenizer.
    """
    return data(cut_in_three(bytes_of(folder / path)), length, BYTES)
