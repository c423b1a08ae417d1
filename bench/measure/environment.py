"""Where a reading was taken: device, versions, commit. Importable where torch is not, for the doctor's sake."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bench import __version__
from bench.errors import DeviceError

if TYPE_CHECKING:
    import torch

Environment = dict[str, str | int | None]


def describe(device: torch.device) -> Environment:
    """What may change a number: the same dictionary, the same conditions."""
    import torch

    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "governor": None if cuda else _governor(),
        "cuda": torch.version.cuda if cuda else None,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG") if cuda else None,
        "bench": __version__,
        "python": platform.python_version(),
        # A plain string: torch's own class would have the parent import torch to read it.
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "platform": platform.platform(),
        "commit": _commit(),
    }


def devices(asked: list[str]) -> list[str]:
    """The devices asked for, or every CUDA device, or the CPU; raises DeviceError naming what is there instead."""
    import torch

    there = [*(f"cuda:{index}" for index in range(torch.cuda.device_count())), "cpu"]
    chosen = ["cuda:0" if name == "cuda" else name for name in asked]
    unknown = [name for name in chosen if name not in there]
    if unknown:
        raise DeviceError(f"found the device '{unknown[0]}'; this machine has {', '.join(there)}")
    return list(dict.fromkeys(chosen)) or there[:-1] or there


def version(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _governor() -> str | None:
    """How the system chooses the processor's clock; None where it does not tell."""
    place = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return place.read_text().strip() if place.exists() else None


def _commit() -> str | None:
    """The commit of the folder bench is run from, where a user's own models lie; `+` marks uncommitted changes."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        if head.returncode:
            return None
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip()[:12] + ("+" if dirty.stdout.strip() else "")


def cores() -> int:
    """The CPU cores this process may use; in a job of Slurm, which need not bind it to any, as many as it asked for."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(there, int(asked)) if asked.isdigit() else there
