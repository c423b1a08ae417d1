"""Arithmetic modulo a prime: small, and learned from part of its table (grokking)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from bench.errors import DataError
from bench.examples import NOT_COUNTED, Data, Split

_LARGEST = 1_009


def modular_arithmetic(
    folder: Path,  # noqa: ARG001 (there is nothing to read)
    *,
    operation: Literal["add", "subtract", "multiply", "divide"] = "add",
    prime: PositiveInt = 97,
    train: PositiveFloat = 0.5,
    form: Literal["tokens", "one_hot"] = "tokens",
) -> Data:
    """a o b mod `prime` for all pairs (b above 0 to divide), a share `train` of them; the rest validates and tests.

    form: `tokens`, for a language model (Power et al. 2022): [3], a, b and =, and the answer is asked for after the
    last alone, of prime + 1 tokens; `one_hot`, for mlp and softmax (Gromov 2023): [2 x prime] values, one of each half
    is 1, and there are `prime` classes. Raises DataError where `prime` is none, or a split would be empty.
    """
    if prime < 2 or any(prime % factor == 0 for factor in range(2, int(prime**0.5) + 1)):
        raise DataError(f"found prime: {prime}; should be a prime number, such as 97")
    if prime > _LARGEST:
        raise DataError(f"found prime: {prime:,}; should be at most {_LARGEST:,}, whose table has a million pairs")
    pairs, answers = table(operation, prime)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    trained = round(train * len(pairs))
    validated = (len(pairs) - trained) // 2
    if trained < 1 or validated < 1:
        raise DataError(f"found train: {train:g}; of {len(pairs):,} pairs that leaves a split without any")
    rows = order.split([trained, validated, len(pairs) - trained - validated])
    known, validation, test = (_split(pairs[each], answers[each], prime, form) for each in rows)
    return Data(known, validation, test, classes=prime + 1 if form == "tokens" else prime)


def table(operation: str, prime: int) -> tuple[Tensor, Tensor]:
    """Every pair (a, b) [n, 2], and a o b mod prime [n]; of a division a = b x answer."""
    every = torch.arange(prime)
    first, second = torch.cartesian_prod(every, every[1:] if operation == "divide" else every).unbind(1)
    if operation == "divide":
        return torch.stack([first * second % prime, second], dim=1), first
    answers = {"add": first + second, "subtract": first - second, "multiply": first * second}[operation]
    return torch.stack([first, second], dim=1), answers % prime


def _split(pairs: Tensor, answers: Tensor, prime: int, form: str) -> Split:
    if form == "one_hot":
        return Split(functional.one_hot(pairs, prime).flatten(1).float(), answers)
    unasked = torch.full_like(pairs, NOT_COUNTED)
    equals = torch.full_like(answers, prime)
    return Split(torch.column_stack([pairs, equals]), torch.column_stack([unasked, answers]))
