"""The largest eigenvalue of the Hessian."""

from __future__ import annotations

import math

import numpy
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from bench.contracts import Moment, Probe
from bench.probes._gradients import gradient_and_hessian

# Relative, and more than sharpness is ever asked for: it differs by more from one set of examples to another.
_TOLERANCE = 1e-3
_MOST_RESTARTS = 50


def sharpness(*, examples: PositiveInt = 512) -> Probe:
    """The largest eigenvalue of the Hessian of the mean loss of `examples` training examples, by Lanczos (ARPACK).

    At the edge of stability it settles at 2/lr for SGD (Cohen et al. 2021). Not a number, and so not kept, where
    Lanczos does not converge. Holds some twenty vectors as long as the parameters.
    """

    def probe(moment: Moment) -> dict[str, float]:
        _, product = gradient_and_hessian(moment, moment.draw(examples))
        first = next(value for value in moment.model.parameters() if value.requires_grad)
        length = sum(value.numel() for value in moment.model.parameters() if value.requires_grad)
        dtype = numpy.float64 if first.dtype == torch.float64 else numpy.float32

        def multiply(vector: NDArray[numpy.floating]) -> NDArray[numpy.floating]:
            given = torch.from_numpy(numpy.ascontiguousarray(vector.ravel())).to(first.device, first.dtype)
            result: NDArray[numpy.floating] = product(given).cpu().numpy()
            return result

        start = torch.randn(length, dtype=first.dtype).numpy()
        if length == 1 or not numpy.isfinite(multiply(start)).all():
            return {"largest_eigenvalue": float(multiply(numpy.ones(1, dtype))[0]) if length == 1 else math.nan}
        operator = LinearOperator((length, length), matvec=multiply, dtype=dtype)
        try:
            (largest,) = eigsh(
                operator, k=1, which="LA", v0=start, tol=_TOLERANCE, maxiter=_MOST_RESTARTS, return_eigenvectors=False
            )
        except ArpackNoConvergence:
            return {"largest_eigenvalue": math.nan}
        return {"largest_eigenvalue": float(largest)}

    return probe
