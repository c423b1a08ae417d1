"""A Ray cluster: an actor with the devices of one task keeps a local executor on its node, and carries out task after
task through it.

What a study does to its process is answered on its node, as on a single machine; Ray brings tasks there and events
back, and tells of nodes that are lost. Nodes may join and leave while a run goes on.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from bench.ask.plan import PlanUnit
from bench.contracts import Task
from bench.errors import DeviceError
from bench.events import TERMINAL, Event, Failed
from bench.executors._node import Suspects
from bench.executors._ray_cluster import LOOK_SECONDS, Actor, Cluster, with_news
from bench.executors.local import modules_of


def ray(devices: Sequence[str], stall_seconds: float, *, address: str = "auto") -> RayExecutor:
    """The cluster at `address`, as `ray start` names it; `auto` is the one this machine belongs to."""
    if devices:
        raise DeviceError(f"--device: found {', '.join(devices)}; a cluster has those that its nodes were started with")
    return RayExecutor(Cluster(address), stall_seconds)


class RayExecutor:
    """Carries out tasks on a cluster; see `contracts.Executor`."""

    def __init__(self, cluster: Cluster, stall_seconds: float) -> None:
        self._cluster, self._stall_seconds = cluster, stall_seconds
        self._modules: list[str] = []

    def rehearse(self, units: Sequence[PlanUnit], folder: Path) -> list[str]:
        """Everything that would stop the units, as one node of the cluster finds it."""
        self._modules = modules_of(units)
        self._cluster.choose_kind()
        most = max(self._cluster.sizes())
        too_many = dict.fromkeys(self._too_many(unit, most) for unit in units if unit.workload.devices > most)
        fit = [unit for unit in units if unit.workload.devices <= most]
        actor = self._actor(max((unit.workload.devices for unit in fit), default=1))
        try:
            return [*too_many, *actor.rehearse(fit, folder.resolve(), self._cluster)]
        finally:
            actor.end()

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        running: list[Actor] = []
        suspects: Suspects[Actor] = Suspects()
        looked = -math.inf
        try:
            while tasks or running:
                if time.monotonic() > looked + LOOK_SECONDS:
                    sizes, looked = self._cluster.sizes(), time.monotonic()
                lacking = [actor for actor in running if actor.devices > max(sizes) and not actor.carried.environment]
                for actor in lacking:  # the node that had so many is gone
                    running.remove(actor)
                    actor.end()
                    tasks.appendleft(actor.carried.task)
                while tasks and not (alone and running):
                    devices = tasks[0].unit.workload.devices
                    if devices > max(sizes):
                        task = tasks.popleft()
                        yield task, {}, Failed(self._too_many(task.unit, max(sizes)))
                    elif devices <= sum(sizes) - sum(actor.devices for actor in [*running, *suspects]):
                        running.append(self._actor(devices))
                        running[-1].begin(tasks.popleft(), alone)
                    elif not running and suspects:
                        for actor in suspects.let_go():
                            actor.end()
                    else:
                        break
                for actor in with_news(running):
                    event = actor.news()
                    yield actor.carried.task, actor.carried.environment, event
                    if not isinstance(event, TERMINAL):
                        continue
                    running.remove(actor)
                    for free in suspects.free_after(actor, actor.carried.task.unit, event):
                        as_many = tasks and tasks[0].unit.workload.devices == free.devices and not free.carried.lost
                        if as_many and not (alone and running):
                            free.begin(tasks.popleft(), alone)
                            running.append(free)
                        else:
                            free.end()
        finally:
            for actor in [*running, *suspects]:
                actor.end()

    def _actor(self, devices: int) -> Actor:
        return self._cluster.actor(devices, self._stall_seconds, self._modules)

    def _too_many(self, unit: PlanUnit, most: int) -> str:
        found, kind = f"{unit.workload.name}: found devices: {unit.workload.devices}", self._cluster.kind
        return f"{found}; the Ray cluster has no node with more than {most} {kind}{'s' * (most > 1)}"
