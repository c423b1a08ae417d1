"""Memory: how much a process took at most, where it must stop, and running out of it, which torch says differently on
every device.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from bench.contracts import OUT_OF_MEMORY, OutOfMemory
from bench.measure import parallel


@contextmanager
def out_of_memory_named(*, awaited: bool = True) -> Iterator[None]:
    """Raises contracts.OutOfMemory for whatever the allocator in use raises; works as a decorator too.

    awaited: whether other ranks, if there are any, wait for what is done inside. It then ends this one, and the agent
    them.
    """
    try:
        with _named():
            yield
    except OutOfMemory:
        if awaited and parallel.size() > 1:
            raise SystemExit(OUT_OF_MEMORY) from None
        raise


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error)) from None
    except RuntimeError as error:
        # The CPU's allocator has no exception of its own, and oneDNN none that says what it lacked.
        if not any(sign in str(error) for sign in ("can't allocate memory", "could not create a memory object")):
            raise
        raise OutOfMemory(str(error)) from None


class Peak:
    """The most memory in use at once.

    On a CUDA device what torch's allocator had handed out; on a CPU what the process held resident, beyond what it held
    when this was made.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = psutil.Process().memory_info().rss

    def restart(self) -> None:
        """Forgets what was in use at once until now, such as while data was loaded; what is held still counts."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return max(0, process_peak_bytes() - self._before)


def process_peak_bytes() -> int:
    """The most that this process held resident in the machine's memory, since a `Peak` was last restarted."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes, on the one other system there is
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def stop_at_what_is_free() -> None:
    """Makes allocations beyond the machine's free memory fail in this process, which can say so, before the system
    ends some process, which cannot. A limit that is lower already stays.
    """
    if sys.platform != "linux":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + psutil.virtual_memory().available
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
