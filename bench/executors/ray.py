"""A Ray cluster: an actor with the devices of one task keeps a local executor on its node, and carries out task after
task through it.

What a study does to its process is answered on its node, as on a single machine; Ray brings tasks there and events
back, and tells of nodes that are lost. Nodes may join and leave while a run goes on.
"""

from __future__ import annotations

import math
import socket
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contracts import Task
from bench.errors import DeviceError
from bench.events import TERMINAL, Event, Failed
from bench.executors._node import NodeExecutor, lost
from bench.executors.local import modules_of
from bench.plan import Study, Timing

try:
    import ray as engine
except ImportError as error:
    raise DeviceError(f"--executor ray: {error}; install it with: pip install 'bench[ray]'") from error

if TYPE_CHECKING:
    from ray import ObjectRefGenerator
    from ray.actor import ActorHandle
    from ray.exceptions import RayActorError

# How often it is looked whether nodes have joined, and whether the head is there.
_LOOK_SECONDS = 5.0


def ray(devices: Sequence[str], stall_seconds: float, *, address: str = "auto") -> RayExecutor:
    """The cluster at `address`, as `ray start` names it; `auto` is the one this machine belongs to."""
    if devices:
        raise DeviceError(f"--device: found {', '.join(devices)}; a cluster has those that its nodes were started with")
    try:
        if address != "auto":  # Ray would look for one that is not there for ten minutes
            _knock(address)
        engine.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f"no Ray cluster to use at '{address}' ({reason}); start one with 'ray start --head' and give the "
            "host:port that it says"
        ) from error
    return RayExecutor(stall_seconds)


class RayExecutor:
    """Carries out tasks on the cluster that this process is connected to; see `contracts.Executor`."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._modules: list[str] = []
        self._kind = "CPU"

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        """Everything that would stop the studies, as one node of the cluster finds it.

        Where a node has a GPU now, tasks are carried out on GPUs and nowhere else, whatever nodes are left later.
        """
        self._kind = "GPU" if engine.cluster_resources().get("GPU") else "CPU"
        self._modules = modules_of(studies)
        most = max(self._sizes())
        too_many = dict.fromkeys(self._too_many(study, most) for study in studies if study.workload.devices > most)
        fit = [study for study in studies if study.workload.devices <= most]
        node = self._node(max((study.workload.devices for study in fit), default=1))
        answer = node.rehearse.remote(fit, folder.resolve())
        try:
            while not engine.wait([answer], timeout=_LOOK_SECONDS)[0]:
                self._sizes()  # is anybody left to answer?
            return [*too_many, *engine.get(answer)]
        except engine.exceptions.RayActorError as error:
            raise _unfit(error) from None
        except engine.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            engine.kill(node)

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        running: list[_Place] = []
        looked = -math.inf
        try:
            while tasks or running:
                if time.monotonic() > looked + _LOOK_SECONDS:
                    sizes, looked = self._sizes(), time.monotonic()
                for place in [place for place in running if not place.environment and place.devices > max(sizes)]:
                    running.remove(place)  # the node that had so many is gone
                    engine.kill(place.node)
                    tasks.appendleft(place.task)
                while tasks and not (alone and running):
                    devices = tasks[0].study.workload.devices
                    if devices > max(sizes):
                        task = tasks.popleft()
                        yield task, {}, Failed(self._too_many(task.study, max(sizes)))
                    elif devices <= sum(sizes) - sum(place.devices for place in running):
                        running.append(_Place(tasks.popleft(), self._node(devices), alone))
                    else:
                        break
                ready = engine.wait([place.events for place in running], timeout=_LOOK_SECONDS)[0] if running else []
                for place in [place for place in running if place.events in ready]:
                    event = place.news()
                    yield place.task, place.environment, event
                    if isinstance(event, TERMINAL):
                        running.remove(place)
                        if tasks and tasks[0].study.workload.devices == place.devices and not place.lost:
                            running.append(_Place(tasks.popleft(), place.node, alone))
                        else:
                            engine.kill(place.node)
        finally:
            for place in running:
                engine.kill(place.node)

    def _sizes(self) -> list[int]:
        """How many devices each node there is has; raises DeviceError where none has any, or the head is gone."""
        head = engine.get_runtime_context().gcs_address
        try:
            _knock(head)  # Ray would try for a minute, and then end this process
        except OSError as error:
            raise DeviceError(
                f"the head of the Ray cluster at {head} is gone ({error}); start one and run again"
            ) from error
        there = [int(node["Resources"].get(self._kind, 0)) for node in engine.nodes() if node["Alive"]]
        if not any(there):
            raise DeviceError(f"the Ray cluster has no {self._kind} left; start a node with 'ray start' and run again")
        return there

    def _node(self, devices: int) -> ActorHandle[NodeExecutor]:
        needs = {"num_gpus": devices} if self._kind == "GPU" else {"num_cpus": devices}
        return engine.remote(NodeExecutor).options(**needs).remote(self._stall_seconds, self._modules, sys.path)

    def _too_many(self, study: Study | Timing, most: int) -> str:
        found = f"{study.workload.name}: found devices: {study.workload.devices}"
        return f"{found}; the Ray cluster has no node with more than {most} {self._kind}{'s' * (most > 1)}"


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody answers at host:port."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=_LOOK_SECONDS).close()


class _Place:
    """A task, and the actor that carries it out once the devices for it are free."""

    def __init__(self, task: Task, node: ActorHandle[NodeExecutor], alone: bool) -> None:
        self.task, self.node, self.devices = task, node, task.study.workload.devices
        self.events: ObjectRefGenerator = node.carry_out.remote(task, alone)
        self.environment: dict[str, Any] = {}  # until something is heard
        self.lost = False

    def news(self) -> Event:
        try:
            said: tuple[dict[str, Any], Event] = engine.get(next(self.events))
        except engine.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise _unfit(error) from None
            self.lost = True
            return lost(self.task, f"its node was lost: {str(error).splitlines()[0]}")
        self.environment, event = said
        return event


def _unfit(error: RayActorError) -> DeviceError:
    """Of an actor that could not begin, the last line that Ray says is why; of one that was lost, the first."""
    said = str(error).strip().splitlines()
    if not error.actor_init_failed:
        return DeviceError(f"the node that tries out the suite's models and data was lost: {said[0]}")
    node = str(error).partition("ip=")[2].partition(",")[0]
    return DeviceError(f"the node {node} of the Ray cluster cannot carry out studies: {said[-1]}")
