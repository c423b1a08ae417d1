"""How far from the hardware's limit: a step's operations and bytes, and what the device can do of either in a second.

The ceilings are measured on the device, in the process and at the precision of the step, and not taken from a data
sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import precision
from bench.clock import seconds_of
from bench.step import Step
from bench.suite import Precision

# Side of the square matrices whose product is timed, and bytes of the tensor whose copy is.
_SIDE = {"cuda": 8192, "cpu": 1024}
_COPIED_BYTES = {"cuda": 2**30, "cpu": 2**27}
_REPEATS = 5


def operations(step: Step, inputs: Tensor, targets: Tensor, *, training: bool) -> float:
    """Floating-point operations, a product and a sum being two, that a step, or a forward pass alone, takes an example.

    Counted on a few examples [n, ...]. torch's counter does not see recurrent layers, which are counted by their sizes,
    nor every kernel of attention, which is taken as the products it is made of; and it is wrong about the backward pass
    of grouped convolutions: with these, a step is taken as three forward passes.
    """
    recurrent: list[float] = []
    hooks = [
        module.register_forward_hook(lambda module, given, _: recurrent.append(_recurrent(module, given[0])))
        for module in step.model.modules()
        if isinstance(module, nn.RNNBase)
    ]
    with FlopCounterMode(display=False) as forward, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        step.model(inputs)
    for hook in hooks:
        hook.remove()
    counted = float(forward.get_total_flops())
    if training:
        grouped = any(getattr(module, "groups", 1) > 1 for module in step.model.modules())
        with FlopCounterMode(display=False) as whole, sdpa_kernel(SDPBackend.MATH):
            step.loss(step.model(inputs), targets).backward()
        step.optimizer.zero_grad()
        counted = 3 * counted if grouped else float(whole.get_total_flops())
    return (counted + sum(recurrent) * (3 if training else 1)) / len(targets)


def _recurrent(module: nn.RNNBase, inputs: Tensor) -> float:
    """Operations of a recurrent layer's forward pass: each gate of a cell multiplies its input and its state."""
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    directions = 2 if module.bidirectional else 1
    width, total = module.input_size, 0.0
    for _ in range(module.num_layers):
        total += 2.0 * directions * gates * module.hidden_size * (width + module.hidden_size)
        width = module.hidden_size * directions
    return total * inputs.numel() / module.input_size  # for each position of each example


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
    left, right = (torch.ones(side, side, device=device, dtype=precision.product_dtype(wanted)) for _ in range(2))
    product = torch.empty_like(left)
    source, target = (torch.empty(copied, device=device, dtype=torch.uint8).fill_(1) for _ in range(2))
    multiply = _best_seconds(lambda: torch.mm(left, right, out=product), device)
    copy = _best_seconds(lambda: target.copy_(source), device)
    # A byte that is copied is read and written.
    return {"product_operations_per_second": 2.0 * side**3 / multiply, "copy_bytes_per_second": 2.0 * copied / copy}


def _best_seconds(work: Callable[[], Any], device: torch.device) -> float:
    return min(seconds_of(lambda _: work(), 1, device) for _ in range(_REPEATS))
