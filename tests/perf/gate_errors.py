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
from numpy.typing import ArrayLike, NDArray

from bench.ask.plan import CONTENDS, confirmation_budget
from bench.conclude import evidence
from bench.conclude.censored import model_p, stopped
from bench.conclude.evidence import Seeds, Stratum
from bench.crossing import SETTLE

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


def crossed(world: World, rng: numpy.random.Generator, true: Floats, budget: ArrayLike = MOST_STEPS) -> Seeds:
    """A noisy seed of each, and between which evaluations, the last of them at its budget, it crossed; a miss of one
    that did not.
    """
    spread = math.sqrt(math.log1p(world.noise**2))
    steps = numpy.clip(true * numpy.exp(spread * rng.standard_normal(true.shape)), 1, MOST_STEPS)
    grid = evaluated(world.grid)
    place = numpy.searchsorted(grid, steps)
    missed = steps > budget
    after = numpy.where(missed, budget, grid[place - 1])
    return Seeds(after, after + 1, numpy.where(missed, numpy.inf, numpy.minimum(grid[place], budget)))


def confirm(world: World, rng: numpy.random.Generator, true: Floats, budget: Floats) -> list[Seeds]:
    """The seeds [P, 7, n] of each of the trials with so many true steps [P, 7, top].

    Some are overtaken, as `measure.study` has it: once every seed of one of the trials is settled, those that are not
    of another one whose median is larger by then.
    """
    until = budget[..., None, None]
    seeds = crossed(world, rng, numpy.repeat(true[..., None], world.seeds, axis=-1), until)
    never = rng.random(seeds.most.shape) < world.missing
    most, after = numpy.where(never, numpy.inf, seeds.most), numpy.where(never, until, seeds.after)
    grid = evaluated(world.grid)
    # Evaluations at which a trial's last seed is settled, the first of them first.
    settled = numpy.minimum(SETTLE["isotonic"] * most, numpy.where(numpy.isfinite(most), until, numpy.inf))
    whole = settled.max(axis=-1)
    over = numpy.full(most.shape, False)
    for place in numpy.moveaxis(numpy.argsort(whole, axis=-1), -1, 0):
        at = numpy.take_along_axis(whole, place[..., None], axis=-1)
        step = numpy.minimum(grid[numpy.minimum(numpy.searchsorted(grid, at), len(grid) - 1)], until[..., 0])[..., None]
        by_now = (settled <= step) & ~over
        middles = _middle(numpy.where(by_now, most, numpy.inf))
        best = numpy.where(by_now.all(axis=-1), middles, numpy.inf).min(axis=-1)[..., None]
        beaten = (middles > best) & ~by_now.all(axis=-1) & numpy.isfinite(at)
        fresh = beaten[..., None] & ~by_now & ~over
        over |= fresh
        after = numpy.where(fresh, numpy.where(most <= step, after, step), after)
        most = numpy.where(fresh, numpy.inf, most)
    return [Seeds(after[..., each, :], after[..., each, :] + 1, most[..., each, :]) for each in range(true.shape[-1])]


def _middle(steps: Floats) -> Floats:
    middle: Floats = numpy.sort(steps, axis=-1)[..., (steps.shape[-1] - 1) // 2]
    return middle


def draws_of(rng: numpy.random.Generator, pipelines: int) -> Floats:
    """Learning rates [P, 7, 16] as powers of ten about the best, even over two decades, as Sobol points are."""
    even = (numpy.arange(DRAWS) + rng.random((pipelines, SIZES, DRAWS))) / DRAWS
    return 2 * (even - rng.uniform(0.3, 0.7, (pipelines, SIZES, 1)))


@dataclass(frozen=True)
class Pipelines:
    """Bases and their candidates, [P, 7] of each.

    apart: whether a candidate was tuned by itself.  missed [P, 7]: whether a seed of either side did.
    budget [P, 7]: of the base's confirmations.
    """

    base: list[Seeds]
    candidate: list[Seeds]
    apart: bool
    missed: NDArray[numpy.bool_]
    budget: Floats

    def p_values(self, ratio: float = 1.0) -> tuple[Floats, Floats]:
        """One-sided p-values [P, 7], as `compare.contrast` has them."""
        if self.apart:
            strata = [(best(self.candidate), best(self.base))]
            more, less = evidence.medians_p(evidence.medians(self.candidate, self.base), ratio)
        else:
            strata = self.strata
            more, less = model_p(strata, ratio)
        ranks = [numpy.where(self.missed, p, 0.0) for p in evidence.ranks_p(strata, ratio)]
        return numpy.maximum(more, ranks[0]) if self.apart else more, numpy.maximum(less, ranks[1])

    @property
    def strata(self) -> list[Stratum]:
        """[P, 7] of each of the metaparameters."""
        sides = [
            [stopped(seeds, best(side).most.max(axis=-1), self.budget) for seeds in side]
            for side in (self.candidate, self.base)
        ]
        return list(zip(*sides, strict=True))

    def of_all_sizes(self) -> list[Stratum]:
        """The strata of all batch sizes, [P] of each."""
        return [
            (Seeds(*(end[:, size] for end in one)), Seeds(*(end[:, size] for end in other)))
            for one, other in self.strata
            for size in range(SIZES)
        ]

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
        (numpy.isinf(seeds.most) & (seeds.after >= most[..., None])).any(axis=-1)
        for side, most in ((base, budget), (candidate, until))
        for seeds in side
    ]
    return Pipelines(base, candidate, apart, numpy.any(ended, axis=0), budget)


def everywhere(count: int, factor: float) -> Floats:
    return numpy.full((count, SIZES), factor)


def at_one(count: int, factor: float) -> Floats:
    """A factor [P, 7] at one batch size of each pipeline, another each time."""
    return numpy.where(one_of(count), factor, 1.0)


def one_of(count: int) -> NDArray[numpy.bool_]:
    return numpy.arange(count)[:, None] % SIZES == numpy.arange(SIZES)


COLUMNS = [
    *("CV", "grid", "misses", "top", "tuned", "equals: any fails", "equals: each passes", "all +25%: any fails"),
    *("+25%: fails", "+25%: passes", "+50%: fails", "+100%: fails"),
]
CHANGES = (0.25, 0.5, 1.0)


_FINE = [World(noise, 0.05) for noise in (0.1, 0.16, 0.25)]
_COARSE = [World(noise, 0.25) for noise in (0.1, 0.16, 0.25)]
# Of the README's table: what is simulated, and whether the sides are tuned apart.
ROWS = [
    *((world, False) for world in (*_FINE, *_COARSE, World(0.16, 0.05, missing=0.15), World(0.16, 0.05, top=1))),
    *((world, True) for world in _FINE),
]


def row(world: World, apart: bool, count: int) -> str:
    """A row of the README's table: a gate of seven batch sizes with a tolerance of 25 %."""
    failed, passed = pipelines_of(world, count, everywhere(count, 1), apart=apart).verdicts(0.25)
    rates = [failed.any(axis=1).mean(), passed.mean()]
    border = pipelines_of(world, count, everywhere(count, 1.25), apart=apart).verdicts(0.25)
    rates.append(border[0].any(axis=1).mean())
    one = one_of(count)
    for change in CHANGES:
        failed, passed = pipelines_of(world, count, at_one(count, 1 + change), apart=apart).verdicts(0.25)
        rates.append(failed[one].mean())
        if change == 0.25:
            rates.append(passed[one].mean())
    cells = [f"{world.noise:.0%}", f"{world.grid:.0%}", f"{world.missing:.0%}", f"{world.top}"]
    return f"| {' | '.join([*cells, 'apart' if apart else 'alike', *(f'{rate:.0%}' for rate in rates)])} |"


def table(count: int) -> list[str]:
    """The README's, line for line."""
    return [f"| {' | '.join(COLUMNS)} |", f"|{'---:|' * len(COLUMNS)}", *(row(*each, count) for each in ROWS)]


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
