"""WikiText-103: a hundred million words of Wikipedia, by bytes."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from bench.datasets._text import BYTES, bytes_of, data
from bench.examples import Data

FILE = "wikitext-103/train.txt"
TOKENS = "bytes"


def wikitext103(folder: Path, *, length: PositiveInt = 256) -> Data:
    """The next byte of wikitext-103/train.txt, valid.txt and test.txt (Merity et al. 2016); `length` bytes an example.

    It takes a byte of memory a byte of text, some 550 MB, and twice that on a GPU.
    """
    parts = ("train", "valid", "test")
    texts = [bytes_of(folder / "wikitext-103" / f"{part}.txt", what="text of WikiText-103") for part in parts]
    return data(texts, length, BYTES)
