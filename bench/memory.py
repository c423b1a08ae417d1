"""Memory: how much a process took at most, where it must stop, and running out of it, which torch says differently on
every device.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from bench.contracts import OutOfMemory


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Raises contracts.OutOfMemory for whatever the allocator in use raises; works as a decorator too."""
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
    """The most memory that was in use at once, from here on.

    On a CUDA device what torch's allocator had handed out; on a CPU what the process held resident, beyond what it held
    when this was made.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self._before = psutil.Process().memory_info().rss

    def bytes(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return max(0, process_peak_bytes() - self._before)


def process_peak_bytes() -> int:
    """The most that this process ever held resident in the machine's memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
