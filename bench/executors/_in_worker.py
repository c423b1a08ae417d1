"""What a worker does, in its own process: it tries out studies, or carries out a task."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.ask.plan import PlanUnit
from bench.contracts import Task
from bench.errors import BenchError, DeviceError
from bench.events import Event


def rehearse(connection: Connection, asked: list[str], units: list[PlanUnit], folder: Path) -> None:
    """Says which devices there are and what would stop the units, or what keeps it from finding out."""
    try:
        from bench.measure import environment
        from bench.measure.rehearsal import rehearse

        connection.send((environment.devices(asked), rehearse(units, folder)))
    except BenchError as error:
        connection.send(error)
    except (ImportError, OSError) as error:
        connection.send(
            DeviceError(f"a worker cannot import what it needs: {error}; 'bench doctor' says what to install")
        )


def carry_out(connection: Connection, task: Task, devices: Sequence[str], threads: int) -> None:
    """Says what becomes of a task: the environment it runs in, then its events."""
    if len(devices) > 1:
        from bench.executors import _ranks

        _ranks.launch(connection, [functools.partial(_said, task, device, threads) for device in devices])
        return
    for said in _said(task, devices[0], threads):
        connection.send(said)


def _said(task: Task, device: str, threads: int) -> Iterator[dict[str, Any] | Event]:
    """What this process says of a task: the environment, then events."""
    import torch

    from bench.measure import environment, memory, parallel
    from bench.measure.task import carry_out, prepare

    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # streams and graphs are made on the current device
    else:
        memory.stop_at_what_is_free()
    if task.unit.workload.devices > 1:
        parallel.join(torch.device(device))
    prepare(task)
    yield environment.describe(torch.device(device))
    yield from carry_out(task, torch.device(device))
