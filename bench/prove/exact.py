"""Workloads whose answers are known exactly: what measurements are held to. Needs numpy alone.

A study of one of them is concluded like any other: `measures` knows no workload, and takes steps to target from the
loss that was read. What it finds is held to the exact expected loss here by `bench calibrate` and tests/test_exact.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from statistics import NormalDist

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]

# The learning rates among which `best_learning_rate` looks; those of 2 and above are unstable.
LEARNING_RATES: Floats = numpy.logspace(-5, 0.5, 100)


@dataclass(frozen=True)
class NoisyQuadratic:
    """The noisy quadratic model (Zhang et al. 2019, arXiv 1907.04164), trained by SGD or by heavy-ball momentum.

    L(x) = 1/2 sum_i h_i x_i^2 with h_i = 1/i for i = 1..dimensions; the gradient of dimension i is h_i x_i plus
    Gaussian noise of variance h_i/batch_size; x_i(0) ~ N(0, 1). Every x_i stays Gaussian with mean 0, so its variance
    s_i = E x_i^2 says all: E L = 1/2 sum h_i s_i, and Var L = 1/2 sum h_i^2 s_i^2.
    """

    dimensions: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0

    @cached_property
    def curvatures(self) -> Floats:
        """h: [dimensions]."""
        return 1 / numpy.arange(1, self.dimensions + 1)

    @property
    def noise_trace(self) -> float:
        """tr(Sigma), of the gradient of one example: the sum of h."""
        return float(self.curvatures.sum())

    @property
    def stable(self) -> bool:
        """Whether no variance grows without end: a h < 2 (1 + momentum) for the largest h, which is 1."""
        return self.learning_rate < 2 * (1 + self.momentum)

    def path(self) -> Iterator[tuple[float, float]]:
        """The mean and the standard deviation of the loss at step 0, 1, 2 and so on, without end."""
        h = self.curvatures
        for variances in self._variances():
            weighted = h * variances
            yield 0.5 * float(weighted.sum()), float(numpy.sqrt(0.5 * (weighted**2).sum()))

    def _variances(self) -> Iterator[Floats]:
        """s(0), s(1), ...: [dimensions] each.

        v' = momentum v - a (h x + noise) and x' = x + v' give the moments E x^2, E v^2 and E x v of the next step.
        """
        h, a, beta = self.curvatures, self.learning_rate, self.momentum
        noise = a**2 * h / self.batch_size
        xx, vv, xv = numpy.ones_like(h), numpy.zeros_like(h), numpy.zeros_like(h)
        while True:
            yield xx
            vv = beta**2 * vv - 2 * beta * a * h * xv + (a * h) ** 2 * xx + noise
            crossed = beta * xv - a * h * xx  # E x v', of the old x and the new v
            xx, xv = xx + 2 * crossed + vv, crossed + vv

    def loss(self, step: int) -> float:
        """E L at a step; of plain SGD in closed form, s = s_inf + (1 - s_inf) q^step with q = (1 - a h)^2."""
        if self.momentum:
            return next(islice(self.path(), step, None))[0]
        return self._settled + self._moving(self._falling, step) + self._moving(~self._falling, step)

    def steps_to_target(self, target: float, most_steps: int = 10_000_000) -> int | None:
        """The first step at which E L < target; None where the learning rate is unstable or no step to `most_steps` is.

        Plain SGD is not stepped through, so that `most_steps` costs it nothing; with momentum a step costs an update of
        all dimensions.
        """
        if not self.stable:
            return None
        if self.momentum:
            means = (mean for mean, _ in islice(self.path(), most_steps + 1))
            return next((step for step, mean in enumerate(means) if mean < target), None)
        return 0 if self.loss(0) < target else self._first_below(target, 0, most_steps)

    def evaluated_between(self, target: float, evaluated: Sequence[int], seeds: int) -> tuple[int, int]:
        """The earliest and the latest of the evaluated steps that the median of steps to target over seeds may be.

        At one evaluation a run, whose loss is a sum over dimensions and so about Gaussian, is below the target with a
        probability p. It has met the target by then, in one reading, at most as often as the p of all evaluations so
        far together, and an isotonic crossing is never earlier than that. It has crossed unless this reading, or its
        mean with those that follow, lies above the target: at most 3 (1 - p) as the loss falls on and these means are
        nearly one another's. The median has where more than half of the seeds have. It lies outside by chance once in
        15,000 times at each end; `seeds` should be odd.
        """
        seldom = 1 / 15_000
        together, low = 0.0, evaluated[-1]
        steps = set(evaluated)
        for step, (mean, deviation) in enumerate(islice(self.path(), evaluated[-1] + 1)):
            if step in steps:
                below = NormalDist(mean, deviation).cdf(target)
                together += below
                if _more_than_half(seeds, min(1.0, together)) > seldom:
                    low = min(low, step)
                if _more_than_half(seeds, max(0.0, 1 - 3 * (1 - below))) > 1 - seldom:
                    return low, step
        return low, evaluated[-1]

    # ---- the closed form, of plain SGD -------------------------------------------------------------------------------

    @cached_property
    def _limit(self) -> Floats:
        """s_inf: [dimensions]."""
        return self.learning_rate / (self.batch_size * (2 - self.learning_rate * self.curvatures))

    @cached_property
    def _falling(self) -> NDArray[numpy.bool_]:
        """Which variances fall from 1 to their limit; the others rise to it."""
        return self._limit <= 1

    @cached_property
    def _settled(self) -> float:
        return 0.5 * float((self.curvatures * self._limit).sum())

    def _moving(self, which: NDArray[numpy.bool_], step: int) -> float:
        """What is left at a step of the way that some of the dimensions have to go."""
        h = self.curvatures[which]
        left = (1 - self.learning_rate * h) ** 2
        return 0.5 * float((h * (1 - self._limit[which]) * left**step).sum())

    def _first_below(self, target: float, after: int, until: int) -> int | None:
        """The first step in (after, until] with E L < target, by bisection.

        Between two steps E L is no lower than the falling part at the later and the rising part at the earlier. Where
        nothing rises that is E L at the later step, and this is bisection as usual.
        """
        lowest = self._settled + self._moving(self._falling, until) + self._moving(~self._falling, after)
        if after >= until or lowest >= target:
            return None
        if until - after == 1:
            return until if self.loss(until) < target else None
        middle = (after + until) // 2
        found = self._first_below(target, after, middle)
        return found if found is not None else self._first_below(target, middle, until)


def tuned_steps(dimensions: int, batch_size: int, target: float, rates: Floats, momentum: float = 0.0) -> int:
    """The fewest steps to the target, of the expected loss of the noisy quadratic, over learning rates; raises
    ValueError where none of them meets it.
    """
    fewest: int | None = None
    for rate in rates:
        model = NoisyQuadratic(dimensions, batch_size, float(rate), momentum)
        found = model.steps_to_target(target, 10_000_000 if fewest is None else fewest)
        fewest = found if fewest is None or (found is not None and found < fewest) else fewest
    if fewest is None:
        raise ValueError("no learning rate meets the target")
    return fewest


def _more_than_half(count: int, probability: float) -> float:
    """P(Binomial(count, probability) > count/2)."""
    return sum(
        math.comb(count, hits) * probability**hits * (1 - probability) ** (count - hits)
        for hits in range(count // 2 + 1, count + 1)
    )


def best_learning_rate(
    dimensions: int, batch_size: int, target: float, most_steps: int = 10_000_000
) -> tuple[float, int] | None:
    """(learning rate, steps to target): of a grid, the rate with which plain SGD needs the fewest steps.

    Over batch sizes this is the optimal curve T(B). None where no rate of the grid reaches the target.
    """
    best = None
    for rate in map(float, LEARNING_RATES):
        within = best[1] - 1 if best else most_steps
        steps = NoisyQuadratic(dimensions, batch_size, rate).steps_to_target(target, within)
        best = best if steps is None else (rate, steps)
    return best


@dataclass(frozen=True)
class LinearTeacher:
    """Half the squared error of a linear student at a `distance` D from its teacher, in d `dimensions`.

    y = w x + noise e with x ~ N(0, I), e ~ N(0, 1). With u the student's weights less the teacher's, the gradient of an
    example is g = x (x u - noise e), and E g = u. Of |x|^2 the direction of u gives 3 D^2 and each other D^2, so
    that E |g|^2 = E |x|^2 (x u)^2 + noise^2 E |x|^2 = (d + 2) D^2 + d noise^2.
    """

    dimensions: int
    noise: float = 1.0
    distance: float = 1.0

    @property
    def gradient_squared(self) -> float:
        """|G|^2 = D^2."""
        return self.distance**2

    @property
    def noise_trace(self) -> float:
        """tr(Sigma) = E |g|^2 - |E g|^2 = (d + 1) D^2 + d noise^2."""
        return (self.dimensions + 1) * self.distance**2 + self.dimensions * self.noise**2

    @property
    def noise_scale(self) -> float:
        """B_simple = tr(Sigma)/|G|^2, in examples (McCandlish et al. 2018, eq. 2.9)."""
        return self.noise_trace / self.gradient_squared
