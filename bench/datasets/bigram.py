"""A language whose entropy is known: the next token depends on the last alone."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from bench.errors import DataError
from bench.examples import Data, Split

# Of a larger table, or of a steeper law, the entropy rate could not be worked out.
_LARGEST, _STEEPEST = 4_096, 8.0

SIZES = {"train": 16_384, "validation": 2_048, "test": 2_048}


def bigram(
    folder: Path,  # noqa: ARG001 (there is nothing to read)
    *,
    vocabulary: PositiveInt = 64,
    exponent: PositiveFloat = 1.0,
    length: PositiveInt = 32,
) -> Data:
    """Texts of a Markov chain over `vocabulary` tokens, frequent ones by Zipf's law; no loss is below its entropy rate.

    `length` tokens an example, each example begun afresh from the chain's stationary distribution. What the lowest
    possible loss is says `entropy_rate(transitions(vocabulary, exponent))`.
    Raises DataError where either is too large for that.
    """
    if vocabulary > _LARGEST or exponent > _STEEPEST:
        raise DataError(
            f"bigram: found a vocabulary of {vocabulary:,} and the exponent {exponent:g}; they should be at most "
            f"{_LARGEST:,} and {_STEEPEST:g}"
        )
    chain = transitions(vocabulary, exponent)
    generator = torch.Generator().manual_seed(0)
    following = chain.cumsum(1)
    following[:, -1] = 1.0
    count = sum(SIZES.values())
    tokens = torch.empty(count, length + 1, dtype=torch.int64)
    tokens[:, 0] = torch.multinomial(stationary(chain), count, replacement=True, generator=generator)
    for place in range(length):
        drawn = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        tokens[:, place + 1] = torch.searchsorted(following[tokens[:, place]], drawn, right=True).squeeze(1)
    sizes = list(SIZES.values())
    train, validation, test = map(Split, tokens[:, :-1].split(sizes), tokens[:, 1:].split(sizes))
    return Data(train, validation, test, vocabulary)


def transitions(vocabulary: int, exponent: float) -> Tensor:
    """P(next | last) as [last, next], float64, rows of sum 1: Zipf's 1/rank^exponent times e^(2z), z ~ N(0, 1) drawn
    once for each pair from a fixed seed, so that what is frequent is so everywhere, and each token has its followers.
    """
    ranks = torch.arange(1, vocabulary + 1, dtype=torch.float64)
    drawn = torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = ranks**-exponent * (2 * drawn).exp()
    return weights / weights.sum(1, keepdim=True)


def stationary(chain: Tensor) -> Tensor:
    """The distribution p with p P = p of a chain P [n, n] all of whose entries are above zero."""
    count = len(chain)
    # p (P - I) = 0 has one solution up to a factor: one of the equations makes room for sum(p) = 1.
    equations = chain.T - torch.eye(count, dtype=chain.dtype)
    equations[-1] = 1.0
    wanted = torch.zeros(count, dtype=chain.dtype)
    wanted[-1] = 1.0
    solved: Tensor = torch.linalg.solve(equations, wanted)
    return solved


def entropy_rate(chain: Tensor) -> float:
    """Nats a token of a chain P [n, n]: sum_i p_i sum_j -P_ij ln P_ij (Cover and Thomas 2006, theorem 4.2.4)."""
    return float(-(stationary(chain) @ torch.special.xlogy(chain, chain).sum(1)))
