"""How far the weights have come."""

from __future__ import annotations

import math

from bench.contracts import Moment, Probe


def weight_distance() -> Probe:
    """The Euclidean distance of the parameters from where they started.

    It grows with the logarithm of the step in the first phase of training, by Hoffer et al. 2017, section 4.
    """

    def probe(moment: Moment) -> dict[str, float]:
        parameters = moment.model.named_parameters()
        squares = ((value.detach().double() - moment.start[name].double()).square().sum() for name, value in parameters)
        return {"distance": math.sqrt(sum(float(square) for square in squares))}

    return probe
