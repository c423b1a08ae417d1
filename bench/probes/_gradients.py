"""Gradients and Hessian-vector products at a moment, as flat vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.contracts import Moment
from bench.examples import Split

# Gradients of several micro-batches are held at once while they are no more numbers than this together.
_MOST_NUMBERS = 1 << 26


def micro_batch_gradients(moment: Moment, examples: Split, size: int) -> Iterator[Tensor]:
    """The gradient of the mean loss of each micro-batch of `size` examples: blocks [some, parameters], in order.

    Batch norm takes its statistics from the micro-batch, as it would in training at that batch size.
    """
    count = len(examples) // size
    inputs, targets = (whole.unflatten(0, (count, size)) for whole in (examples.inputs, examples.targets))
    parameters = {name: value.detach() for name, value in moment.model.named_parameters() if value.requires_grad}
    at_once = max(1, min(count, _MOST_NUMBERS // sum(value.numel() for value in parameters.values())))
    for start in range(0, count, at_once):
        block = slice(start, start + at_once)
        yield _block(moment, parameters, inputs[block], targets[block])


def _block(moment: Moment, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    def loss(own: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        outputs: Tensor = functional_call(moment.model, (own, buffers), (inputs,))
        return moment.loss(outputs, targets)

    count = len(inputs)
    buffers = {name: value.expand(count, *value.shape).clone() for name, value in moment.model.named_buffers()}
    if count > 1:
        try:
            rows = vmap(grad(loss), in_dims=(None, 0, 0, 0), randomness="different")(
                parameters, buffers, inputs, targets
            )
            return torch.cat([row.flatten(1) for row in rows.values()], dim=1)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            # A model that does not vmap is asked for one gradient after another.
    return torch.stack(
        [gradient(moment, Split(own, its), create_graph=False) for own, its in zip(inputs, targets, strict=True)]
    )


def gradient(moment: Moment, examples: Split, *, create_graph: bool) -> Tensor:
    """The gradient of the mean loss of the examples: [parameters]; one that can be derived again where asked."""
    # The fast kernels of attention have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        loss = moment.loss(moment.model(examples.inputs), examples.targets)
        return _flat(torch.autograd.grad(loss, _trained(moment), create_graph=create_graph, materialize_grads=True))


def gradient_and_hessian(moment: Moment, examples: Split) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Of the mean loss of the examples, the gradient [parameters], and v [parameters] -> H v with its Hessian H."""
    with_graph = gradient(moment, examples, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        if not with_graph.requires_grad:  # the loss is linear
            return torch.zeros_like(vector)
        parts = torch.autograd.grad(with_graph, _trained(moment), vector, retain_graph=True, materialize_grads=True)
        return _flat(parts)

    return with_graph.detach(), product


def _trained(moment: Moment) -> list[Tensor]:
    return [value for value in moment.model.parameters() if value.requires_grad]


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])
