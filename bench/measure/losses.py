"""What training lowers and what evaluation reads, by the name a dataset gives in `Data.loss`.

Outputs and targets have the examples first; what lies behind them (the positions of a text, say) is averaged, so that
an example counts once whatever its size. Positions whose target is -100, as torch has it, are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bench.ask.search import Value
from bench.errors import ComponentError
from bench.examples import NOT_COUNTED, LossName

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Loss:
    """A loss over a batch.

    mean: (outputs, targets) -> [], what training lowers.  each: (outputs, targets) -> [n], the same by example.
    output_shapes: (the targets' shape, classes) -> the shapes that outputs may have.
    error: (outputs, targets) -> [n], the share of an example recognised wrongly; None where nothing is wrong or
    right.
    smoothed: (outputs, targets, share) -> [], the mean with smoothed labels; None where there are no labels.
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    each: Callable[[Tensor, Tensor], Tensor]
    output_shapes: Callable[[Shape, int], list[Shape]]
    error: Callable[[Tensor, Tensor], Tensor] | None = None
    smoothed: Callable[[Tensor, Tensor, Tensor | float], Tensor] | None = None


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.ndim == 2:  # as it is: this is the inside of a timed step
        return functional.cross_entropy(outputs, targets)
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _smoothed_cross_entropy(outputs: Tensor, targets: Tensor, share: Tensor | float) -> Tensor:
    """(1 - share) x the cross-entropy with the targets + share x its mean over all classes (Szegedy et al. 2016, arXiv
    1512.00567, section 7). torch has the same for one number alone; here `share` may be a tensor, one for each trial.
    """
    logs = functional.log_softmax(outputs.flatten(0, -2), -1)
    flat = targets.flatten()
    counted = flat != NOT_COUNTED
    alike = -(logs.mean(-1) * counted).sum() / counted.sum()
    share = share.to(logs.dtype) if isinstance(share, Tensor) else share
    return (1 - share) * functional.nll_loss(logs, flat) + share * alike


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(len(targets), -1).sum(1) / _counted(targets)


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    wrong = (outputs.argmax(-1) != targets) & (targets != NOT_COUNTED)
    return wrong.view(len(targets), -1).double().sum(1) / _counted(targets)


def _counted(targets: Tensor) -> Tensor:
    return (targets != NOT_COUNTED).view(len(targets), -1).sum(1)


def _half_squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().view(len(targets), -1).sum(1)


def _reconstruction_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of a model that gives one number for each example, that number: a loss of its own, such as a bound."""
    return outputs if outputs.ndim == 1 else _half_squared_errors(outputs, targets)


def _outputs(outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001 (there is nothing to compare)
    return outputs


LOSSES: dict[LossName, Loss] = {
    "cross_entropy": Loss(
        _cross_entropy,
        _cross_entropies,
        lambda targets, classes: [(*targets, classes)],
        _errors,
        _smoothed_cross_entropy,
    ),
    "half_squared_error": Loss(
        lambda outputs, targets: _half_squared_errors(outputs, targets).mean(),
        _half_squared_errors,
        lambda targets, classes: [targets],  # noqa: ARG005 (there are none)
    ),
    "reconstruction": Loss(
        lambda outputs, targets: _reconstruction_errors(outputs, targets).mean(),
        _reconstruction_errors,
        lambda targets, classes: [targets, targets[:1]],  # noqa: ARG005
    ),
    "output": Loss(
        lambda outputs, targets: torch.mean(_outputs(outputs, targets)),
        _outputs,
        lambda targets, classes: [targets[:1]],  # noqa: ARG005
    ),
}


def of_training(name: LossName, metaparameters: Mapping[str, Value]) -> Callable[[Tensor, Tensor], Tensor]:
    """(outputs, targets) -> [], what a trial's training lowers: the mean loss, its labels smoothed where
    `label_smoothing` is given; raises ComponentError where it is given and there are no labels.
    """
    loss = LOSSES[name]
    if "label_smoothing" not in metaparameters:
        return loss.mean
    smoothed, share = loss.smoothed, float(metaparameters["label_smoothing"])
    if smoothed is None:
        raise ComponentError("label_smoothing is for datasets whose targets are classes; this one's are not")
    return lambda outputs, targets: smoothed(outputs, targets, share)
