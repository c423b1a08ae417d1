"""The length of the gradient."""

from __future__ import annotations

from pydantic import PositiveInt

from bench.contracts import Moment, Probe
from bench.probes._gradients import gradient


def gradient_norm(*, examples: PositiveInt = 1024) -> Probe:
    """The Euclidean norm of the gradient of the mean loss of `examples` training examples."""

    def probe(moment: Moment) -> dict[str, float]:
        return {"norm": float(gradient(moment, moment.draw(examples), create_graph=False).double().norm())}

    return probe
