"""How often a gate fails and passes, simulated from the search on: prints the README's table of error rates.

    python tests/perf/gate_errors.py --pipelines 500

A pipeline is a suite of seven batch sizes on both sides: 16 learning rates are searched with a noisy seed each, the best
three are confirmed with five fresh seeds each, and so is the candidate: with the base's metaparameters, or with those of
a search of its own. Seeds vary log-normally, some miss by chance, a crossing is only known between two evaluations, and
confirmations whose number cannot matter end early. Nothing is trained.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from bench.ask.plan import CONTENDS, confirmation_budget
from bench.conclude import evidence
from bench.conclude.evidence import Seeds

Floats = NDArray[numpy.floating]

SIZES, DRAWS = 7, 16
# Tuned steps to target at the batch sizes, and the share of the range of learning rates, a hundredfold, that is best.
TUNED = numpy.array([1000, 520, 280, 160, 100, 70, 50])
ALPHA = 0.05


@dataclass(frozen=True)
class World:
    """noise: the coefficient of variation of seeds.  grid: how far apart evaluations are.  missing: the share of seeds
    that never meet the target.
    """

    noise: float
    grid: float
    missing: float = 0.0
    top: int = 3
    seeds: int = 5


def evaluated(grid: float, until: int = 200_000) -> Floats:
    """The steps of evaluations, as `Study.evaluations` has them."""
    steps = [0]
    while steps[-1] < until:
        steps.append(steps[-1] + max(1, math.floor(grid * steps[-1])))
    return numpy.array(steps, float)


@dataclass
class Side:
    """A measured side: learning rates [P, 7, top] as places among the draws, budgets [P, 7], and its seeds."""

    places: Floats
    budget: Floats
    seeds: list[Seeds]


def search(world: World, rng: numpy.random.Generator, draws: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """(true steps [P, 7, top] of the trials to be confirmed, budgets [P, 7]); draws [P, 7, 16]: learning rates, log10.

    Where fewer than `top` trials took less than CONTENDS times the fewest steps the last stands in for them.
    """
    rate = 10.0**draws
    true = TUNED[:, None] * factor[..., None] * (rate + 1 / rate) / 2
    steps = crossed(world, rng, true).most
    order = numpy.argsort(steps, axis=-1, kind="stable")[..., : world.top]
    best = numpy.take_along_axis(steps, order, axis=-1)
    order = numpy.where(best <= CONTENDS * best[..., :1], order, order[..., :1])
    best = numpy.take_along_axis(steps, order, axis=-1)
    budget = numpy.vectorize(lambda most: confirmation_budget([int(most)], 20_000))(best.max(axis=-1))
    return numpy.take_along_axis(true, order, axis=-1), budget


def crossed(world: World, rng: numpy.random.Generator, true: Floats) -> Seeds:
    """A noisy seed of each, and between which evaluations it crossed."""
    spread = math.sqrt(math.log1p(world.noise**2))
    steps = numpy.clip(true * numpy.exp(spread * rng.standard_normal(true.shape)), 1, 1e5)
    grid = evaluated(world.grid)
    place = numpy.searchsorted(grid, steps)
    return Seeds(grid[place - 1] + 1, grid[place])


def confirm(world: World, rng: numpy.random.Generator, true: Floats, budget: Floats) -> list[Seeds]:
    """The seeds [P, 7, n] of each of the trials with so many true steps [P, 7, top]."""
    found = []
    for place in range(true.shape[-1]):
        each = numpy.repeat(true[..., place, None], world.seeds, axis=-1)
        seeds = crossed(world, rng, each)
        missed = (rng.random(each.shape) < world.missing) | (seeds.most > budget[..., None])
        found.append(
            Seeds(numpy.where(missed, budget[..., None] + 1, seeds.least), numpy.where(missed, numpy.inf, seeds.most))
        )
    return found


def draws_of(rng: numpy.random.Generator, pipelines: int) -> Floats:
    """Learning rates [P, 7, 16] as powers of ten about the best, even over two decades, as Sobol points are."""
    even = (numpy.arange(DRAWS) + rng.random((pipelines, SIZES, DRAWS))) / DRAWS
    return 2 * (even - rng.uniform(0.3, 0.7, (pipelines, SIZES, 1)))
