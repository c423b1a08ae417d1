"""A Ray cluster: an actor on each device keeps a local executor there, and carries out a study at a time through it.

What a study does to its process is answered on its node, as on a single machine; Ray brings tasks there and events
back, and tells of nodes that are lost. Nodes may join and leave while a run goes on.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contracts import Event, Lost, Task
from bench.errors import DeviceError
from bench.executors.local import LocalExecutor, modules_of
from bench.plan import Study, Timing

try:
    import ray as engine
except ImportError as error:
    raise DeviceError(f"--executor ray: {error}; install it with: pip install 'bench[ray]'") from error

if TYPE_CHECKING:
    from ray import ObjectRefGenerator
    from ray.actor import ActorHandle

# How often it is looked whether nodes have joined.
_LOOK_SECONDS = 5.0


def ray(devices: Sequence[str], stall_seconds: float, *, address: str = "auto") -> RayExecutor:
    """The cluster at `address`, as `ray start` names it; `auto` is the one this machine belongs to."""
    return RayExecutor(devices, stall_seconds, address)


class RayExecutor:
    """Carries out tasks on a Ray cluster; see `contracts.Executor`."""

    def __init__(self, devices: Sequence[str], stall_seconds: float, address: str) -> None:
        if devices:
            raise DeviceError(
                f"--device: found {', '.join(devices)}; a cluster has the devices that its nodes were started with"
            )
        self._stall_seconds = stall_seconds
        self._modules: list[str] = []
        try:
            if address != "auto":  # Ray would look for one that is not there for ten minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=_LOOK_SECONDS).close()
            engine.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            raise DeviceError(
                f"no Ray cluster at '{address}' ({_line(error)}); start one with 'ray start --head' and give the "
                "host:port that it says"
            ) from error

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        """Everything that would stop the studies, as one node of the cluster finds it."""
        self._modules = modules_of(studies)
        node = self._node()
        try:
            problems: list[str] = engine.get(node.rehearse.remote(list(studies), folder.resolve()))
        except engine.exceptions.RayActorError as error:
            raise DeviceError(f"the node that tries out the suite's models and data was lost: {_line(error)}") from None
        finally:
            engine.kill(node)
        return problems

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        idle: list[ActorHandle[_Node]] = []
        running: list[_Place] = []
        try:
            while tasks or running:
                most = 1 if alone else self._devices()
                if not most and not running:
                    raise DeviceError("the Ray cluster has no node left; start one with 'ray start' and run again")
                while tasks and len(running) < most:
                    node = idle.pop() if idle else self._node()
                    task = tasks.popleft()
                    running.append(_Place(task, node, node.carry_out.remote(task, alone)))
                ready, _ = engine.wait([place.events for place in running], timeout=_LOOK_SECONDS)
                for place in [place for place in running if place.events in ready]:
                    try:
                        place.environment, event = engine.get(next(place.events))
                    except StopIteration:
                        idle.append(place.node)
                        running.remove(place)
                        continue
                    except engine.exceptions.RayActorError as error:
                        running.remove(place)
                        event = place.lost(error)
                    yield place.task, place.environment, event
        finally:
            for node in [*idle, *(place.node for place in running)]:
                engine.kill(node)

    def _devices(self) -> int:
        """How many devices the nodes have that are there now: GPUs, or, where there are none, CPU cores."""
        there: dict[str, float] = engine.cluster_resources()
        return int(there.get("GPU", 0) or there.get("CPU", 0))

    def _node(self) -> ActorHandle[_Node]:
        needs = {"num_gpus": 1} if engine.cluster_resources().get("GPU") else {"num_cpus": 1}
        return engine.remote(_Node).options(**needs).remote(self._stall_seconds, self._modules, sys.path)


@dataclass
class _Place:
    """A device of the cluster, and what runs there."""

    task: Task
    node: ActorHandle[_Node]
    events: ObjectRefGenerator
    environment: dict[str, Any] = field(default_factory=dict)

    def lost(self, error: Exception) -> Lost:
        """A node that is gone is not a trial's fault."""
        study = self.task.study
        where = f"{study.workload.name} at batch size {study.batch_size:,}"
        return Lost(f"{where}: its node was lost: {_line(error)}", "interrupted")


class _Node:
    """On the cluster: a device, and the local executor that uses it."""

    def __init__(self, stall_seconds: float, modules: Sequence[str], path: list[str]) -> None:
        sys.path[:] = path  # where one's own components lie
        self._executor = LocalExecutor((), stall_seconds, modules)
        self._problems = self._executor.rehearse([], Path())

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        return self._executor.rehearse(studies, folder)

    def carry_out(self, task: Task, alone: bool) -> Iterator[tuple[dict[str, Any], Event]]:
        for _, environment, event in self._executor.run(deque([task]), alone=alone):
            yield environment, event


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
