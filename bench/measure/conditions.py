"""What else the machine did while something was timed: what could have spoilt it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import torch

# NVML's reasons for a lower clock that are no sign of trouble: the GPU is idle, or clocks were set by an application.
_HARMLESS_THROTTLING = 0x1 | 0x2


class Watch:
    """Looks at the machine when it is made and again when it is read.

    `others_share`: of the machine's processor time in between, the share that other processes used. On a CUDA device,
    where NVML is there: `gpu_processes` of others on it, `clock_before_mhz` and `clock_after_mhz` of its processors,
    `throttling` (NVML's bits, the harmless ones left out) and `energy_joules` in between.
    """

    def __init__(self, device: torch.device) -> None:
        self._gpu = _gpu(device)
        self._before = self._gpu.readings() if self._gpu else {}
        self._own, self._all, self._begun = _own_seconds(), _busy_seconds(), time.perf_counter()

    def readings(self) -> dict[str, float]:
        own, busy = _own_seconds() - self._own, _busy_seconds() - self._all
        passed = (time.perf_counter() - self._begun) * (psutil.cpu_count() or 1)
        seen = {"others_share": min(1.0, max(0.0, busy - own) / passed)}
        before, after = self._before, self._gpu.readings() if self._gpu else {}
        seen |= {name: after[name] for name in ("gpu_processes", "throttling") if name in after}
        if "clock_mhz" in before and "clock_mhz" in after:
            seen |= {"clock_before_mhz": before["clock_mhz"], "clock_after_mhz": after["clock_mhz"]}
        if "energy_joules" in before and "energy_joules" in after:
            seen["energy_joules"] = after["energy_joules"] - before["energy_joules"]
        return seen


def _own_seconds() -> float:
    """Processor seconds of this process's group, as far as it still runs: whoever trains or times leads one, in which
    are the ranks that do it together, and what they started, such as a loader's workers.
    """
    group, seconds = os.getpgrp(), 0.0
    for number in psutil.pids():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # any may end meanwhile
            if os.getpgid(number) == group:
                times = psutil.Process(number).cpu_times()
                seconds += times.user + times.system
    return seconds


def _busy_seconds() -> float:
    """Processor seconds that any process has used since the machine started."""
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal")))


def _gpu(device: torch.device) -> _Gpu | None:
    """The device through NVML; None for a CPU, and where NVML or its library is not there."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an older package of the same name warns on import
        try:
            import pynvml
        except ImportError:
            return None
    try:
        pynvml.nvmlInit()
        # NVML numbers devices without regard to CUDA_VISIBLE_DEVICES; the identifier is the same in both.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:
        return None
    return _Gpu(pynvml, handle)


class _Gpu:
    """A CUDA device as NVML sees it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def readings(self) -> dict[str, float]:
        """What the device tells; it need not tell everything."""
        wanted: dict[str, Callable[[], float]] = {
            # One of them is this one, whatever its number is outside a container.
            "gpu_processes": lambda: max(0, len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) - 1),
            "clock_mhz": lambda: self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM),
            "throttling": lambda: (
                self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle) & ~_HARMLESS_THROTTLING
            ),
            "energy_joules": lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000,
        }
        seen = {}
        for name, read in wanted.items():
            with suppress(self._nvml.NVMLError):
                seen[name] = float(read())
        return seen
