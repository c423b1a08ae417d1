"""The gradient noise scale, as the two numbers it is a ratio of."""

from __future__ import annotations

import torch
from pydantic import PositiveInt

from bench.contracts import Moment, Probe
from bench.errors import ComponentError
from bench.probes._gradients import micro_batch_gradients
from bench.stats import two_batch_estimate


def noise_scale(*, small: PositiveInt = 8, large: PositiveInt = 512) -> Probe:
    """|G|^2 and tr(Sigma), estimated from one batch of `large` examples and its micro-batches of `small`.

    McCandlish et al. 2018, appendix A.1. B_simple is the ratio of their averages, and never the average of ratios, so
    the ratio is not stored. With batch norm a micro-batch's gradient is that of another function, and the answer an
    approximation.
    """
    count = large // small
    if count < 2:
        raise ComponentError(f"noise_scale: found small {small} and large {large}; large should be twice small or more")

    def probe(moment: Moment) -> dict[str, float]:
        examples = moment.draw(count * small)
        total, squares = torch.zeros(()), 0.0
        for rows in micro_batch_gradients(moment, examples, small):
            total = total.to(rows.device) + rows.double().sum(0)
            squares += float(rows.double().square().sum())
        mean_large = float((total / count).square().sum())
        gradient_squared, noise_trace = two_batch_estimate(squares / count, mean_large, small, count * small)
        return {"gradient_squared": gradient_squared, "noise_trace": noise_trace}

    return probe
