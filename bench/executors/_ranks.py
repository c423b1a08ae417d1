"""A task on several devices: torchrun's agent in the worker forks a process a device, and ends all where one falls.

None is started again: what is tried next is for who asked. As the first of them fell, so the worker ends.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bench.events import Failed, Lost

# What the agent logs of a fall is told by the end of the worker.
_LOGS = ("torch.distributed.elastic", "torch.multiprocessing")
# A rank that cannot go on waits so long before it says so: that another fell may be why, which the agent sees sooner.
# Where all have the same fault, the first tells it before one of the others ends them.
_BEFORE_FIRST_SPEAKS, _BEFORE_OTHERS_END = 1.0, 5.0


def launch(connection: Connection, ranks: Sequence[Callable[[], Iterator[Any]]]) -> None:
    """Carries out what each rank does, in a process of its own, which finds the others by torch's variables of the
    environment; what the first says is sent. Where one falls, this process ends likewise.
    """
    for name in _LOGS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(ranks),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        run_id="ranks",
        max_restarts=0,
        start_method="fork",
        signals_to_handle="SIGHUP",  # SIGTERM is sent to all of the worker's processes, and is for each to die of
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    try:
        elastic_launch(config, _carry_out)(connection, ranks)
    except ChildFailedError as error:
        _, fall = error.get_first_failure()
        _end_by(fall.exitcode)


def _end_by(code: int) -> NoReturn:
    """Ends this process by an exit code, or where that is negative by a signal."""
    faulthandler.disable()  # the stack that tells something is the rank's
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _carry_out(connection: Connection, ranks: Sequence[Callable[[], Iterator[Any]]]) -> None:
    number = int(os.environ["RANK"])
    first = number == 0
    if not first:
        connection.close()
    for said in ranks[number]():
        if isinstance(said, Failed | Lost):
            time.sleep(_BEFORE_FIRST_SPEAKS if first else _BEFORE_OTHERS_END)
            if not first:
                raise SystemExit(said.trace or said.message)
        if first:
            connection.send(said)
