"""The curvature along a batch's own gradient."""

from __future__ import annotations

from pydantic import PositiveInt

from bench.contracts import Moment, Probe
from bench.probes._gradients import gradient_and_hessian


def batch_sharpness(*, batches: PositiveInt = 8) -> Probe:
    """The mean of g^T H g/|g|^2 over batches of the size that is trained with, g and H being the batch's own.

    At the edge of stability it settles at 2/lr for SGD (Andreyev and Beneventano 2024). One Hessian-vector product
    a batch.
    """

    def probe(moment: Moment) -> dict[str, float]:
        total = 0.0
        for _ in range(batches):
            vector, product = gradient_and_hessian(moment, moment.draw(moment.batch_size))
            total += float(vector.double() @ product(vector).double() / vector.double().square().sum())
        return {"mean": total / batches}

    return probe
