"""A training step as one CUDA graph: the host launches it once instead of each of its kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from bench.errors import first_line

# A capture must find every buffer made and every kernel chosen: so many steps are taken as usual first.
_EAGER_STEPS = 3


def capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's step reads its learning rate and step count from the device, and not from the host."""
    return all(group.get("fused") or "capturable" in group for group in optimizer.param_groups)


class GraphedStep:
    """Takes steps whose inputs are always in the same places: example numbers in one tensor, learning rates in another.

    step: reads `row` and the optimizer's rates, takes one step, gives its losses [trials]. The first steps are taken
    eagerly on a side stream; then one is captured and replayed. Where a step cannot be captured (it waits for the
    device, say) all are eager, and a warning says why.
    """

    def __init__(
        self, step: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, device: torch.device
    ) -> None:
        self._step = step
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_steps = 0
        self._row: Tensor | None = None
        self._losses: Tensor | None = None
        self._rates = torch.zeros(len(optimizer.param_groups), device=device)
        self._capturable = True
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            # In a graph a number is a constant: the rate must be read from the device, and Adam's step count be there.
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True

    def take(self, row: Tensor, rates: Tensor) -> Tensor:
        """One step on the examples of `row`, at learning rates [groups], both on the device; its losses."""
        if self._row is None:
            self._row = row.clone()
        self._row.copy_(row)
        self._rates.copy_(rates)
        if self._graph is None and self._eager_steps >= _EAGER_STEPS and self._capturable:
            self._capture()
        if self._graph is None or self._losses is None:
            self._eager_steps += 1
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                losses = self._step(self._row)
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            return losses
        self._graph.replay()
        return self._losses.clone()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._losses = self._step(self._row) if self._row is not None else None
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._capturable = False
            warnings.warn(f"training without a CUDA graph: {first_line(error)}", stacklevel=2)
            return
        self._graph = graph
