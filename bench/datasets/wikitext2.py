"""WikiText-2: two million words of Wikipedia, by bytes."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from bench.datasets._text import BYTES, bytes_of, data
from bench.examples import Data

FILE = "wikitext-2/train.txt"
TOKENS = "bytes"


def wikitext2(folder: Path, *, length: PositiveInt = 64) -> Data:
    """The next byte of wikitext-2/train.txt, valid.txt and test.txt (Merity et al. 2016); `length` bytes an example."""
    parts = ("train", "valid", "test")
    texts = [bytes_of(folder / "wikitext-2" / f"{part}.txt", what="text of WikiText-2") for part in parts]
    return data(texts, length, BYTES)
