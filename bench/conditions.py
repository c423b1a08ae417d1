"""What else the machine did while something was timed: what could have spoilt it."""

from __future__ import annotations

import os
import time
import warnings
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
        self._energy = self._gpu.energy_joules() if self._gpu else None
        self._clock = self._gpu.clock_mhz() if self._gpu else None
        self._own, self._all, self._begun = _own_seconds(), _busy_seconds(), time.perf_counter()

    def readings(self) -> dict[str, float]:
        own, busy = _own_seconds() - self._own, _busy_seconds() - self._all
        passed = (time.perf_counter() - self._begun) * (psutil.cpu_count() or 1)
        seen = {"others_share": min(1.0, max(0.0, busy - own) / passed)}
        if self._gpu is not None:
            seen |= {"gpu_processes": self._gpu.other_processes(), "throttling": self._gpu.throttling()}
            seen |= {"clock_before_mhz": self._clock or 0.0, "clock_after_mhz": self._gpu.clock_mhz()}
            after = self._gpu.energy_joules()
            if after is not None and self._energy is not None:
                seen["energy_joules"] = after - self._energy
        return seen


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


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

    def other_processes(self) -> float:
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return float(sum(process.pid != os.getpid() for process in running))

    def clock_mhz(self) -> float:
        return float(self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM))

    def throttling(self) -> float:
        reasons = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        return float(reasons & ~_HARMLESS_THROTTLING)

    def energy_joules(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._nvml.NVMLError_NotSupported:
            return None
