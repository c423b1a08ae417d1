"""Running out of memory, which torch says differently on every device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        if "can't allocate memory" not in str(error):  # the CPU's allocator has no exception of its own
            raise
        raise OutOfMemory(str(error)) from None
