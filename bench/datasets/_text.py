"""What texts have in common: reading a file, splitting it, and cutting it into examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import DataError
from bench.examples import Data, Split

# Bytes are their own tokens.
BYTES = 256


def bytes_of(path: Path, *, what: str = "text") -> Tensor:
    """A file as uint8 tokens [bytes]; raises DataError where there is none, or it is empty."""
    try:
        read = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); put the {what} there, or name another folder with --data or "
            "BENCH_DATA"
        ) from error
    if not read:
        raise DataError(f"{path}: is empty; put the {what} there")
    return torch.frombuffer(bytearray(read), dtype=torch.uint8)


def data(texts: Sequence[Tensor], length: int, classes: int) -> Data:
    """The training, validation and test text, each as tokens [n], cut into examples of `length` tokens."""
    train, validation, test = (_examples(text, length) for text in texts)
    return Data(train, validation, test, classes)


def cut_in_three(tokens: Tensor) -> list[Tensor]:
    """The first 90 % of a text to train on, the next 5 % to validate, the last 5 % to test."""
    count = len(tokens)
    return list(tokens.tensor_split([count * 90 // 100, count * 95 // 100]))


def _examples(tokens: Tensor, length: int) -> Split:
    """A text cut into pieces of `length` tokens, one behind the other; targets are the token after each.

    Every token but the first is asked for once; what is left over at the end, less than a piece, is left out. Inputs
    and targets share their memory, one byte a token where tokens are bytes.
    """
    count = (len(tokens) - 1) // length
    if count < 1:
        raise DataError(f"a part of the text has {len(tokens):,} tokens; it takes more than length, {length:,}")
    whole = tokens[: count * length + 1]
    return Split(whole[:-1].view(count, length), whole[1:].view(count, length))
