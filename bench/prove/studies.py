"""Measures a suite given as text in this process, one study after another, to be held to what is known of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.ask import check, document, plan
from bench.ask.plan import Plan, PlanUnit
from bench.conclude import measures
from bench.conclude.measures import Summary
from bench.contracts import Task
from bench.errors import IncompleteError
from bench.events import Event, Failed
from bench.keep.archive import Archive
from bench.measure import environment
from bench.measure.rehearsal import rehearse
from bench.measure.task import carry_out
from bench.run import runner

CPU = torch.device("cpu")


def planned(text: str) -> Plan:
    """The plan of a suite; raises SuiteError where it is not one."""
    return plan.make(check.check(document.parse(text)))


def measured(of: Plan, device: torch.device = CPU, path: Path | None = None) -> list[Summary]:
    """What an archive shows of a plan's studies, which is kept at a path where one is given.

    Raises IncompleteError where a study could not be carried out.
    """
    with TemporaryDirectory() as folder, Archive.writing(path or Path(folder) / "measured.sqlite") as archive:
        missing: list[PlanUnit] = [study for study in of.studies if study in runner.missing(of, archive)]
        for _, event in runner.run(of, missing, archive, _InThisProcess(device), Path(folder)):
            if isinstance(event, Failed):
                raise IncompleteError(event.message)
        return measures.summaries(archive)


class _InThisProcess:
    """Carries out tasks here, one after another; see `contracts.Executor`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def rehearse(self, studies: Sequence[PlanUnit], folder: Path) -> list[str]:
        return rehearse(studies, folder)

    def run(
        self,
        tasks: deque[Task],
        *,
        alone: bool = False,  # noqa: ARG002 (so are all)
    ) -> Generator[tuple[Task, dict[str, Any], Event]]:
        where: dict[str, Any] = {**environment.describe(self._device)}
        while tasks:
            task = tasks.popleft()
            for event in carry_out(task, self._device):
                yield task, where, event
