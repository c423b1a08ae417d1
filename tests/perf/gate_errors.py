"""How often a gate fails and passes, simulated from the search on: prints the README's table of error rates.

    python tests/perf/gate_errors.py --pipelines 500

A pipeline is a suite of seven batch sizes, measured twice. 16 learning rates are searched with a noisy seed each, the
best three are confirmed with five fresh seeds each, and so is the candidate: with the metaparameters of the base, or
with those of a search of its own. Seeds vary log-normally, some miss by chance, a crossing is only known between two
evaluations, and confirmations whose number cannot matter end early. Nothing is trained.
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
MOST_STEPS = 100_000
# Steps to target at the batch sizes with the best learning rate.
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


def evaluated(grid: float, until: int = 2 * MOST_STEPS) -> Floats:
    """The steps of evaluations, as `Study.evaluations` has them."""
    steps = [0]
    while steps[-1] < until:
        steps.append(steps[-1] + max(1, math.floor(grid * steps[-1])))
    return numpy.array(steps, float)


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
    budget = numpy.vectorize(lambda most: confirmation_budget([int(most)], MOST_STEPS))(best.max(axis=-1))
    return numpy.take_along_axis(true, order, axis=-1), budget


def crossed(world: World, rng: numpy.random.Generator, true: Floats) -> Seeds:
    """A noisy seed of each, and between which evaluations it crossed."""
    spread = math.sqrt(math.log1p(world.noise**2))
    steps = numpy.clip(true * numpy.exp(spread * rng.standard_normal(true.shape)), 1, MOST_STEPS)
    grid = evaluated(world.grid)
    place = numpy.searchsorted(grid, steps)
    return Seeds(grid[place - 1], grid[place - 1] + 1, grid[place])


def confirm(world: World, rng: numpy.random.Generator, true: Floats, budget: Floats) -> list[Seeds]:
    """The seeds [P, 7, n] of each of the trials with so many true steps [P, 7, top], that with the smallest median
    first; a seed of another one that takes more steps than all of the first is overtaken, if the first has no miss.
    """
    seeds = crossed(world, rng, numpy.repeat(true[..., None], world.seeds, axis=-1))
    missed = (rng.random(seeds.most.shape) < world.missing) | (seeds.most > budget[..., None, None])
    most = numpy.where(missed, numpy.inf, seeds.most)
    after = numpy.where(missed, budget[..., None, None], seeds.after)
    order = numpy.argsort(numpy.sort(most, axis=-1)[..., (world.seeds - 1) // 2], axis=-1, kind="stable")[..., None]
    most, after = numpy.take_along_axis(most, order, axis=-2), numpy.take_along_axis(after, order, axis=-2)
    last = most[..., :1, :].max(axis=-1, keepdims=True)
    overtaken = (most > last) & numpy.isfinite(last)
    most, after = numpy.where(overtaken, numpy.inf, most), numpy.where(overtaken, last, after)
    # Each keeps its place among the draws, so that the same are held against the same.
    places = numpy.argsort(order, axis=-2)
    most, after = numpy.take_along_axis(most, places, axis=-2), numpy.take_along_axis(after, places, axis=-2)
    return [Seeds(after[..., each, :], after[..., each, :] + 1, most[..., each, :]) for each in range(true.shape[-1])]


def draws_of(rng: numpy.random.Generator, pipelines: int) -> Floats:
    """Learning rates [P, 7, 16] as powers of ten about the best, even over two decades, as Sobol points are."""
    even = (numpy.arange(DRAWS) + rng.random((pipelines, SIZES, DRAWS))) / DRAWS
    return 2 * (even - rng.uniform(0.3, 0.7, (pipelines, SIZES, 1)))


@dataclass(frozen=True)
class Pipelines:
    """Bases and their candidates, [P, 7] of each.

    apart: whether a candidate was tuned by itself.  missed, overtaken [P, 7]: whether a seed of either side was.
    """

    base: list[Seeds]
    candidate: list[Seeds]
    apart: bool
    missed: NDArray[numpy.bool_]
    overtaken: NDArray[numpy.bool_]

    def p_values(self, ratio: float = 1.0) -> tuple[Floats, Floats]:
        """One-sided p-values [P, 7], as `compare.contrast` has them."""
        normal = evidence.medians_p(evidence.medians(self.candidate, self.base, apart=self.apart), ratio)
        if self.apart:
            ranks = evidence.ranks_p([(best(self.candidate), best(self.base))], ratio)
            ranks = numpy.maximum(ranks[0], normal[0]), numpy.maximum(ranks[1], normal[1])
        else:
            ranks = evidence.ranks_p(list(zip(self.candidate, self.base, strict=True)), ratio)
        by_ranks = self.missed | ~(self.overtaken | self.apart)
        more, less = (numpy.where(by_ranks, *both) for both in zip(ranks, normal, strict=True))
        return more, less

    def verdicts(self, tolerance: float) -> tuple[NDArray[numpy.bool_], NDArray[numpy.bool_]]:
        """(which rules [P, 7] fail, which pass), of a gate that holds every batch size to a tolerance."""
        more, less = map(adjusted, self.p_values(1 + tolerance))
        failed = more <= ALPHA
        return failed, (less <= ALPHA) & ~failed


def best(contenders: list[Seeds]) -> Seeds:
    """The seeds with the smallest median."""
    ends = [numpy.stack([getattr(each, end) for each in contenders], axis=-2) for end in Seeds._fields]
    middle = numpy.sort(ends[2], axis=-1)[..., (ends[2].shape[-1] - 1) // 2]
    place = numpy.argmin(middle, axis=-1)[..., None, None]
    return Seeds(*(numpy.take_along_axis(end, place, axis=-2)[..., 0, :] for end in ends))


def adjusted(p_values: Floats) -> Floats:
    """`evidence.adjusted` of each row of [P, 7]."""
    return numpy.array([evidence.adjusted(row) for row in p_values.tolist()])


def pipelines_of(world: World, count: int, factor: Floats, *, apart: bool, seed: int = 0) -> Pipelines:
    """So many pipelines whose candidates take `factor` [P, 7] times the steps of their bases."""
    rng = numpy.random.default_rng(seed)
    draws, alike = draws_of(rng, count), numpy.ones((count, SIZES))
    true, budget = search(world, rng, draws, alike)
    base = confirm(world, rng, true, budget)
    again, until = search(world, rng, draws, factor) if apart else (true * factor[..., None], budget)
    candidate = confirm(world, rng, again, until)
    ended = [
        (numpy.isinf(seeds.most), seeds.after >= most[..., None])
        for side, most in ((base, budget), (candidate, until))
        for seeds in side
    ]
    missed = numpy.any([(without & late).any(axis=-1) for without, late in ended], axis=0)
    overtaken = numpy.any([(without & ~late).any(axis=-1) for without, late in ended], axis=0)
    return Pipelines(base, candidate, apart, missed, overtaken)


def everywhere(count: int, factor: float) -> Floats:
    return numpy.full((count, SIZES), factor)


def at_one(count: int, factor: float) -> Floats:
    """A factor [P, 7] at one batch size of each pipeline, another each time."""
    return numpy.where(one_of(count), factor, 1.0)


def one_of(count: int) -> NDArray[numpy.bool_]:
    return numpy.arange(count)[:, None] % SIZES == numpy.arange(SIZES)


COLUMNS = ["CV", "grid", "misses", "tuned", "equals: any fails", "equals: each passes"]
CHANGES = (0.25, 0.5, 1.0)


def table(count: int) -> list[str]:
    """The README's, line for line: a gate of seven batch sizes with a tolerance of 25 %."""
    titles = [*COLUMNS, *(f"+{change:.0%}: fails" for change in CHANGES), "+25%: passes"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---:|' * len(titles)}"]
    fine = [World(noise, 0.05) for noise in (0.1, 0.16, 0.25)]
    alike = [*fine, *(World(world.noise, 0.25) for world in fine), World(0.16, 0.05, 0.15)]
    for apart, world in (*((False, world) for world in alike), *((True, world) for world in fine)):
        failed, passed = pipelines_of(world, count, everywhere(count, 1), apart=apart).verdicts(0.25)
        rates = [failed.any(axis=1).mean(), passed.mean()]
        one, border = one_of(count), 0.0
        for change in CHANGES:
            failed, passed = pipelines_of(world, count, at_one(count, 1 + change), apart=apart).verdicts(0.25)
            rates.append(failed[one].mean())
            border = passed[one].mean() if change == 0.25 else border
        cells = [f"{world.noise:.0%}", f"{world.grid:.0%}", f"{world.missing:.0%}", "apart" if apart else "alike"]
        lines.append(f"| {' | '.join([*cells, *(f'{rate:.0%}' for rate in (*rates, border))])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipelines", type=int, default=500)
    count = parser.parse_args().pipelines
    print("\n".join(table(count)))
    print("\n| CV | grid | tuned | tolerance | equals: any fails | all at the border: any fails | +100% at one: seen |")
    print("|---:|" + "---:|" * 6)
    for apart in (False, True):
        for noise in (0.1, 0.16, 0.25):
            for grid in (0.05, 0.25):
                world = World(noise, grid)
                equal = pipelines_of(world, count, everywhere(count, 1), apart=apart)
                worse = pipelines_of(world, count, at_one(count, 2), apart=apart)
                more, less = worse.p_values()
                seen = adjusted(numpy.minimum(1, 2 * numpy.minimum(more, less)))[one_of(count)] <= ALPHA
                for tolerance in (0.0, 0.1, 0.25, 0.5, 1.0):
                    border = pipelines_of(world, count, everywhere(count, 1 + tolerance), apart=apart)
                    rates = [each.verdicts(tolerance)[0].any(axis=1).mean() for each in (equal, border)]
                    cells = [f"{noise:.0%}", f"{grid:.0%}", "apart" if apart else "alike", f"{tolerance:.0%}"]
                    print(f"| {' | '.join([*cells, *(f'{rate:.1%}' for rate in (*rates, seen.mean()))])} |")


if __name__ == "__main__":
    main()
