"""Clocks that are read when the device has done all it was given."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

# Carries out so many steps.
Run = Callable[[int], None]


def now(device: torch.device) -> float:
    """Seconds, from no particular beginning."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(run: Run, steps: int, device: torch.device) -> float:
    """How long `run(steps)` takes: by the device's own events on a GPU, by the system's clock on a CPU."""
    if device.type != "cuda":
        begun = time.perf_counter_ns()
        run(steps)
        return (time.perf_counter_ns() - begun) / 1e9
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    run(steps)
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1000
