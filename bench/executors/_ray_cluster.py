"""What there is of a Ray cluster: its nodes with their devices, and actors, each with the devices of a task."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.ask.plan import PlanUnit
from bench.contracts import Task
from bench.errors import DeviceError, first_line, lines
from bench.events import Event
from bench.executors._node import NodeExecutor, RemoteTask

try:
    import ray
except ImportError as error:
    raise DeviceError(f"--executor ray: {error}; install it with: pip install 'bench[ray]'") from error

if TYPE_CHECKING:
    from ray import ObjectRefGenerator
    from ray.actor import ActorHandle
    from ray.exceptions import RayError

# How often it is looked whether nodes have joined, and whether the head is there.
LOOK_SECONDS = 5.0


class Cluster:
    """The cluster at an address, to which this process is connected."""

    def __init__(self, address: str) -> None:
        try:
            if address != "auto":  # Ray would look for one that is not there for ten minutes
                _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DeviceError(
                f"no Ray cluster to use at '{address}' ({reason}); start one with 'ray start --head' and give the "
                "host:port that it says"
            ) from error
        self.kind = "CPU"

    def choose_kind(self) -> None:
        """Where a node has a GPU now, tasks are carried out on GPUs and nowhere else, whatever nodes are left later."""
        self.kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"

    def sizes(self) -> list[int]:
        """How many devices each node there is has; raises DeviceError where none has any, or the head is gone."""
        head = ray.get_runtime_context().gcs_address
        try:
            _knock(head)  # Ray would try for a minute, and then end this process
        except OSError as error:
            raise DeviceError(
                f"the head of the Ray cluster at {head} is gone ({error}); start one and run again"
            ) from error
        there = [int(node["Resources"].get(self.kind, 0)) for node in ray.nodes() if node["Alive"]]
        if not any(there):
            raise DeviceError(f"the Ray cluster has no {self.kind} left; start a node with 'ray start' and run again")
        return there

    def actor(self, devices: int, stall_seconds: float, modules: Sequence[str]) -> Actor:
        """One with so many devices of one node, once they are free."""
        needs = {"num_gpus": devices} if self.kind == "GPU" else {"num_cpus": devices}
        return Actor(ray.remote(NodeExecutor).options(**needs).remote(stall_seconds, modules, sys.path))


class Actor:
    """A local executor on a node, and the task that it carries out, if it has one."""

    def __init__(self, handle: ActorHandle[NodeExecutor]) -> None:
        self._handle = handle

    def rehearse(self, units: Sequence[PlanUnit], folder: Path, cluster: Cluster) -> list[str]:
        answer = self._handle.rehearse.remote(units, folder)
        try:
            while not ray.wait([answer], timeout=LOOK_SECONDS)[0]:
                cluster.sizes()  # is anybody left to answer?
            problems: list[str] = ray.get(answer)
            return problems
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise _unfit(error) from None

    def begin(self, task: Task, alone: bool) -> None:
        self.carried, self.devices = RemoteTask(task), task.unit.workload.devices
        self.events: ObjectRefGenerator = self._handle.carry_out.remote(task, alone)

    def news(self) -> Event:
        """What it says next of its task; raises DeviceError where its node cannot carry out any."""
        try:
            return self.carried.told(ray.get(next(self.events)))
        except ray.exceptions.OutOfMemoryError as error:
            # Ray ends what was begun last, which need not be what took the memory: as one that the system killed.
            return self.carried.lose(f"Ray ended it: {first_line(error)}", "crashed")
        except ray.exceptions.RayError as error:
            if _could_not_begin(error):
                raise _unfit(error) from None
            return self.carried.lose(f"its node was lost: {first_line(error)}")

    def end(self) -> None:
        ray.kill(self._handle)


def with_news(actors: Sequence[Actor]) -> list[Actor]:
    """Those that have something to say, as soon as any has; none after a while, or where there are no actors."""
    ready = ray.wait([actor.events for actor in actors], timeout=LOOK_SECONDS)[0] if actors else []
    return [actor for actor in actors if actor.events in ready]


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody answers at host:port."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=LOOK_SECONDS).close()


def _unfit(error: RayError) -> DeviceError:
    """Of an actor that could not begin, the last line that Ray says is why; of one that was lost, the first."""
    if not _could_not_begin(error):
        return DeviceError(f"the node that tries out the suite's models and data was lost: {first_line(error)}")
    node = str(error).partition("ip=")[2].partition(",")[0]
    return DeviceError(f"the node {node} of the Ray cluster cannot carry out studies: {lines(error)[-1]}")


def _could_not_begin(error: RayError) -> bool:
    return isinstance(error, ray.exceptions.RayActorError) and error.actor_init_failed
