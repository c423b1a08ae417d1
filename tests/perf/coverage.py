"""How often the intervals of a fit cover, how wide they are, and how often doubts and regimes are wrong, on simulated
curves (tests/simulated.py).

Run by hand, some minutes: python tests/perf/coverage.py [CURVES OF EACH KIND, 200]
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).parent.parent))
from simulated import SIZES, WIDE, simulated

from bench.conclude.curve_fit import CurveFit, fit_curve
from bench.conclude.slopes import MAXIMAL, PERFECT, maximal_from, perfect_until, slopes

KINDS = {
    "as it is": {},
    "seeds 15 %": {"seed_noise": 0.15},
    "seeds 25 %": {"seed_noise": 0.25},
    "runs differ by 10 % too": {"run_noise": 0.1},
    "8 % of seeds miss": {"missed": 0.08},
    "smallest misses": {"missed_at": 0},
    "largest misses, rising": {"missed_at": -1},
    "one seed, not confirmed": {"seeds": 1, "candidates": 1, "tuning_noise": 0.0},
}
DOUBTS = {"rise": "steps rise", "bend": "the points bend", "off": "the fit is", "side": "only the side"}
NAMES = ("critical_batch", "minimum_steps", "minimum_examples")


def main(count: int) -> None:
    print("B_crit 100, S_min 25, E_min 2,500 (only with exponent 1); seeds 20 %, tuning 10 %, 3 candidates x 5 seeds")
    print(
        "| batch sizes | curves | exponent | B_crit | S_min | E_min | perfect until | maximal from | doubts | regimes |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|---|---|")
    for span, sizes in (("8 .. 512", SIZES), ("2 .. 4,096", WIDE)):
        for kind, changes in KINDS.items():
            if (end := changes.get("missed_at")) is not None:
                changes = {"missed_at": {sizes[end]: 3 if end else 0.7}}
            for exponent in (0.9, 1.0, 1.1):
                print(f"| {span} | {kind} | {exponent} | {_row(count, sizes, exponent, changes)} |", flush=True)


def _row(count: int, sizes: list[float], exponent: float, changes: dict) -> str:
    chance = numpy.random.default_rng(11)
    fits = [fit_curve(simulated(chance, sizes=sizes, exponent=exponent, **changes)) for _ in range(count)]
    found = [fit for fit in fits if fit]
    true = {"critical_batch": 100, "minimum_steps": 25, "minimum_examples": 2500}
    cells = [_covered([getattr(fit, name) for fit in found], true[name]) for name in NAMES]
    cells[-1] = cells[-1] if exponent == 1 else ""  # only exponent 1 has an E_min
    for of, slope in ((perfect_until, PERFECT), (maximal_from, MAXIMAL)):
        cells.append(_covered([of(fit) for fit in found], 100 * max(-exponent / slope - 1, 0) ** (1 / exponent)))
    alarms = {
        name: sum(any(doubt.startswith(start) for doubt in fit.doubts) for fit in found) / count
        for name, start in DOUBTS.items()
    }
    cells.append(", ".join(f"{name} {share:.1%}" for name, share in alarms.items()))
    tally = Counter(_named(fit, exponent) for fit in found)
    regimes = Counter(regime for named, each in tally.items() for regime in named for _ in range(each))
    whole = sum(regimes.values())
    cells.append(f"named {1 - regimes['undecided'] / whole:.0%}, wrongly {regimes['wrong'] / whole:.1%}")
    return " | ".join(cells) + (f"; {count - len(found)} without a fit" if len(found) < count else "")


def _covered(intervals: list, true: float) -> str:
    intervals = [each for each in intervals if not math.isnan(each.low)]
    share = sum(each.low <= true <= each.high for each in intervals) / len(intervals)
    width = numpy.median([each.high / each.low if each.low else math.inf for each in intervals])
    return f"{share:.0%} x{width:.2f}"


def _named(fit: CurveFit, exponent: float) -> tuple[str, ...]:
    names = []
    for slope in slopes(fit.curve):
        true = -exponent / (1 + (slope.batch_size / 100) ** exponent)
        regime = (
            "perfect scaling"
            if true <= PERFECT
            else "maximal data parallelism"
            if true >= MAXIMAL
            else "diminishing returns"
        )
        rising = slope.regime == "rising" and slope.batch_size in fit.rising
        right = slope.regime in (regime, "undecided") or (rising and math.isinf(fit.curve.points[-1].median))
        names.append("wrong" if not right else slope.regime)
    return tuple(names)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
