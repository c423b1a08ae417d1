"""Steps to target against batch size as a picture of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.conclude.curve_fit import fit_curve
from bench.conclude.points import Curve
from bench.errors import BenchError

_HEIGHT, _MOST_WIDTH = 18, 100


def drawn(curve: Curve, width: int) -> str:
    """The curve on log-log axes, at most so many columns wide: o a median over seeds, ^ a miss at the budget it was
    given, the line the fit, dots the slope of perfect scaling. Raises BenchError where plotext is not installed.
    """
    try:
        import plotext
    except ImportError:
        raise BenchError("plotext is not installed; pip install 'bench[plot]'") from None
    # plotext draws on one figure, which keeps what was last drawn.
    figure = plotext.figure
    figure.clear()
    figure.plot_size(min(width, _MOST_WIDTH), _HEIGHT)

    def draw(points: Sequence[tuple[float, float]], marker: str | None = None) -> None:
        if points:
            signal = figure.signal(
                *([math.log10(place) for place in axis] for axis in zip(*points, strict=True)), marker=marker
            )
            figure.draw(signal if marker else signal.lines())

    sizes = [point.batch_size for point in curve.points]
    met = [(point.batch_size, point.median) for point in curve.points if math.isfinite(point.median)]
    missed = [(point.batch_size, point.tried) for point in curve.points if math.isinf(point.median)]
    along = [sizes[0] * (sizes[-1] / sizes[0]) ** (place / 60) for place in range(61)]
    lowest = min(steps for _, steps in met + missed) / 1.5
    if met:
        perfect = [(size, met[0][1] * met[0][0] / size) for size in along]
        draw([(size, steps) for size, steps in perfect if steps >= lowest], ".")
    if fitted := fit_curve(curve):
        draw([(size, fitted.fit.steps(size)) for size in along])
    draw(met, "o")
    draw(missed, "^")
    highest = max(steps for _, steps in met + missed)
    figure.ruler("x").ticks([math.log10(size) for size in sizes], [f"{size:,.0f}" for size in sizes])
    ticks = [digit * 10**power for power in range(-1, 12) for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if lowest <= tick <= highest * 1.05]
    figure.ruler("y").ticks([math.log10(tick) for tick in ticks], [f"{tick:,g}" for tick in ticks])
    figure.title(f"{curve.label}: steps to target")
    figure.label("batch size", "x")
    text: str = figure.build().string(colorless=True)
    return "\n".join(line.rstrip() for line in text.splitlines())
