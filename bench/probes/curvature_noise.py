"""The noise scale with curvature, as the two numbers it is a ratio of."""

from __future__ import annotations

import torch
from pydantic import PositiveInt

from bench.contracts import Moment, Probe
from bench.errors import ComponentError
from bench.probes._gradients import gradient_and_hessian, micro_batch_gradients
from bench.stats import two_batch_estimate


def curvature_noise(*, small: PositiveInt = 8, large: PositiveInt = 128, examples: PositiveInt = 512) -> Probe:
    """G^T H G and tr(H Sigma): B_noise is the ratio of their averages (McCandlish et al. 2018, eq. 2.8).

    Estimated as `noise_scale` does it, with g^T H g in place of |g|^2, from one batch of `large` examples and its
    micro-batches of `small`. H is that of `examples` others, so that its error is not the gradients' own. Costs a
    Hessian-vector product for every micro-batch.
    """
    count = large // small
    if count < 2:
        raise ComponentError(
            f"curvature_noise: found small {small} and large {large}; large should be twice small or more"
        )

    def probe(moment: Moment) -> dict[str, float]:
        _, product = gradient_and_hessian(moment, moment.draw(examples))
        rows = torch.cat(list(micro_batch_gradients(moment, moment.draw(count * small), small)))

        def curvature(vector: torch.Tensor) -> float:
            return float(vector.double() @ product(vector).double())

        of_small = sum(curvature(row) for row in rows) / count
        gradient, noise = two_batch_estimate(of_small, curvature(rows.mean(0)), small, count * small)
        return {"gradient_curvature": gradient, "noise_curvature": noise}

    return probe
