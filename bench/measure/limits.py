"""How far from the hardware's limit: a step's operations and bytes, and what the device can do of either in a second.

The ceilings are measured on the device, in the process and at the precision of the step, and not taken from a data
sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import PackedSequence
from torch.utils.flop_counter import FlopCounterMode

from bench.ask.suite import Precision
from bench.measure import precision
from bench.measure.clock import seconds_of
from bench.measure.step import Step

# Side of the square matrices whose product is timed, and bytes of the tensor whose copy is.
_SIDE = {"cuda": 8192, "cpu": 1024}
_COPIED_BYTES = {"cuda": 2**30, "cpu": 2**27}
_REPEATS = 5


def operations(step: Step, inputs: Tensor, targets: Tensor, *, training: bool) -> float:
    """Floating-point operations, a product and a sum being two, that a step, or a forward pass alone, takes an example.

    Counted on a few examples [n, ...]. torch's counter does not see recurrent layers, which are counted by their sizes,
    nor every kernel of attention, which is taken as the products it is made of; and it is wrong about the backward pass
    of grouped convolutions: with these, a gradient is taken as three forward passes. What the optimizer computes is not
    counted.
    """
    with _countable():
        with FlopCounterMode(display=False) as forward, torch.no_grad(), _recurrent_layers(step, forward) as unseen:
            step.model(inputs)
        counted = float(forward.get_total_flops())
        if training:
            grouped = any(getattr(module, "groups", 1) > 1 for module in step.model.modules())
            with FlopCounterMode(display=False) as whole:
                step.loss(step.model(inputs), targets).backward()
            step.optimizer.zero_grad()
            counted = step.gradients * (3 * counted if grouped else float(whole.get_total_flops()))
    return (counted + sum(unseen) * (3 * step.gradients if training else 1)) / len(targets)


@contextmanager
def _countable() -> Iterator[None]:
    """Attention and encoders as the products they are made of, and not in kernels of their own."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _recurrent_layers(step: Step, counter: FlopCounterMode) -> Iterator[list[float]]:
    """The operations of each recurrent layer that is called meanwhile and of which the counter sees nothing."""
    unseen: list[float] = []
    before: dict[nn.Module, int] = {}

    def begin(module: nn.Module, _: Any) -> None:
        before[module] = counter.get_total_flops()

    def end(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.RNNBase) and counter.get_total_flops() == before[module]:
            unseen.append(_recurrent(module, output[0]))

    layers = [module for module in step.model.modules() if isinstance(module, nn.RNNBase)]
    hooks = [
        hook for each in layers for hook in (each.register_forward_pre_hook(begin), each.register_forward_hook(end))
    ]
    try:
        yield unseen
    finally:
        for hook in hooks:
            hook.remove()


def _recurrent(module: nn.RNNBase, outputs: Tensor | PackedSequence) -> float:
    """Operations of a recurrent layer's forward pass: each gate of a cell multiplies its input and its state."""
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    directions = 2 if module.bidirectional else 1
    width, total = module.input_size, 0.0
    for _ in range(module.num_layers):
        total += 2.0 * directions * gates * module.hidden_size * (width + module.hidden_size)
        width = module.hidden_size * directions
    given = outputs.data if isinstance(outputs, PackedSequence) else outputs
    return total * given.numel() / given.shape[-1]  # for each position of each example


def held_bytes(step: Step) -> dict[str, float]:
    """Bytes of parameters, of their gradients and of the optimizer's state, after a step."""
    parameters = list(step.model.parameters())
    states = [value for state in step.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return {
        "parameter_bytes": float(sum(map(_bytes, parameters))),
        "gradient_bytes": float(sum(_bytes(parameter) for parameter in parameters if parameter.requires_grad)),
        "state_bytes": float(sum(map(_bytes, states))),
    }


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def ceilings(device: torch.device, wanted: Precision) -> dict[str, float]:
    """The most operations and bytes moved in a second that a large matrix product and a large copy reach here."""
    side, copied = _SIDE[device.type], _COPIED_BYTES[device.type]
    # At random: a GPU multiplies ones with less power, and so faster, than what a model holds.
    left, right = (torch.randn(side, side, device=device).to(precision.product_dtype(wanted)) for _ in range(2))
    product = torch.empty_like(left)
    source, target = (torch.empty(copied, device=device, dtype=torch.uint8).fill_(1) for _ in range(2))
    multiply = _best_seconds(lambda: torch.mm(left, right, out=product), device)
    copy = _best_seconds(lambda: target.copy_(source), device)
    # A byte that is copied is read and written.
    return {"product_operations_per_second": 2.0 * side**3 / multiply, "copy_bytes_per_second": 2.0 * copied / copy}


def _best_seconds(work: Callable[[], Any], device: torch.device) -> float:
    return min(seconds_of(lambda _: work(), 1, device) for _ in range(_REPEATS))
