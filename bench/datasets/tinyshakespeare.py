"""Tiny Shakespeare: 1.1 million characters of plays."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import PositiveInt

from bench.datasets._text import bytes_of, cut_in_three, data
from bench.examples import Data

FILE = "tinyshakespeare/input.txt"
TOKENS = "characters"


def tinyshakespeare(folder: Path, *, length: PositiveInt = 64) -> Data:
    """The next character of tinyshakespeare/input.txt (Karpathy 2015): 65 characters; the last 5 % test, 5 % validate.

    `length` characters of context an example.
    """
    text = bytes_of(folder / FILE, what="input.txt of char-rnn's tinyshakespeare")
    characters, tokens = text.unique(return_inverse=True)  # all of it is ASCII: a byte is a character
    return data(cut_in_three(tokens.to(torch.uint8)), length, len(characters))
