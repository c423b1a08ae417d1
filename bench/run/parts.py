"""The parts of a detached run: which job measures what, and the archive that each writes for itself.

Beside an archive `main.sqlite` they lie in `main.parts`: of part 0 the archive `0.sqlite`, which nobody but its job
opens while that lives, for SQLite lets no other machine read what is being written, and `0.copy.sqlite`, the last whole
copy of it, which is for all others.
"""

from __future__ import annotations

import heapq
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bench.ask import check, document, plan
from bench.ask.plan import Plan, PlanUnit, Study, Timing
from bench.contracts import Executor
from bench.errors import ComponentError
from bench.keep import archive, checkpoints
from bench.keep.archive import Archive
from bench.run import runner
from bench.run.live import Progress

# So often a part shows how far it is, where it has anything to say. Each time the whole of it is copied, so it is not
# at the end of every study, of which it may have thousands.
_COPY_SECONDS = 20.0


def folder_of(path: Path) -> Path:
    """The folder of an archive's parts."""
    return path.with_suffix(".parts")


@dataclass(frozen=True)
class PartFiles:
    """Where a part lies."""

    folder: Path
    number: int

    @property
    def archive(self) -> Path:
        return self.folder / f"{self.number}.sqlite"

    @property
    def copy(self) -> Path:
        return self.folder / f"{self.number}.copy.sqlite"


def shared_out(units: Sequence[PlanUnit], most: int) -> list[list[PlanUnit]]:
    """At most so many parts, about equally long, each in the order of the plan.

    What is timed stays together, since the times of two machines make no curve; so do the studies of `to: max`, of
    which those above one that does not fit are left out.
    """
    blocks: dict[str, list[PlanUnit]] = {}
    for unit in units:
        alone = unit.id if not unit.workload.open_ended else unit.workload.name
        blocks.setdefault("timed" if isinstance(unit, Timing) else alone, []).append(unit)
    loads = [(0.0, number) for number in range(min(most, len(blocks)))]
    parts: dict[str, int] = {}
    for block in sorted(blocks.values(), key=_cost, reverse=True):
        load, number = loads[0]
        parts |= {unit.id: number for unit in block}
        heapq.heapreplace(loads, (load + _cost(block), number))
    return [[unit for unit in units if parts[unit.id] == number] for number in range(len(loads))]


def _cost(block: Iterable[PlanUnit]) -> float:
    return sum(unit.expected_cost for unit in block if isinstance(unit, Study))


def begin(whole: Archive, units: Sequence[PlanUnit], files: PartFiles) -> None:
    """Makes a part: these units of an archive's plan, and what it knows already, for their trials may be among it."""
    ids, sizes = [unit.id for unit in units], {unit.batch_size for unit in units}
    studies = [row for row in whole.rows("studies") if row[2] in sizes]
    names = {row[0] for row in studies}
    members = [row for row in whole.rows("members") if row[0] in names]
    keys = {trial for _, trial in members}
    trials = [row for row in whole.rows("trials") if row[0] in keys]
    archive.restore(
        files.archive,
        {
            "suites": [(1, whole.suite_name(), whole.suite_text(), json.dumps(ids))],
            "environments": whole.rows("environments"),
            "studies": studies,
            "trials": trials,
            "members": members,
            "readings": [reading for trial in trials for reading in whole.rows("readings", trial[0])],
        },
    )
    shutil.copyfile(files.archive, files.copy)
    for unit in units:
        checkpoints.bring(checkpoints.place(whole.path, unit.id), checkpoints.place(files.archive, unit.id))


@dataclass(frozen=True)
class Work:
    """What the job of a part does: it measures what its archive does not hold yet."""

    files: PartFiles
    data_folder: Path

    def __call__(self, executor: Executor) -> None:
        with Archive.writing(self.files.archive) as part:
            planned = _planned(part, self.data_folder)
            missing = runner.missing(planned, part)
            progress = Progress(planned, missing)
            copied = time.monotonic()
            with closing(runner.run(planned, missing, part, executor, self.data_folder)) as events:
                for unit, event in events:
                    progress.apply(unit, event)
                    if time.monotonic() - copied > _COPY_SECONDS:
                        part.copy(self.files.copy)
                        copied = time.monotonic()
            part.copy(self.files.copy)


def _planned(part: Archive, data_folder: Path) -> Plan:
    """What is asked of a part, of its suite as it is understood here and now."""
    asked = {study.id for study in part.studies()}
    whole = plan.make(check.check(document.parse(part.suite_text(), str(part.path))), timed=True, data=data_folder)
    planned = replace(
        whole,
        studies=tuple(study for study in whole.studies if study.id in asked),
        timings=tuple(timing for timing in whole.timings if timing.id in asked),
    )
    if len(planned.units) < len(asked):
        raise ComponentError(
            f"{part.path}: what its suite names was changed since it was submitted, so that {len(asked)} studies are "
            f"{len(planned.units)} now; run 'bench collect', and the suite again"
        )
    return planned
