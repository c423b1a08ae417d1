"""A run that nobody waits for: submitted in parts (`parts.py`), looked at, and collected into the archive it is for."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import merge, storage
from bench.archive import Archive
from bench.contracts import Detachable, Executor
from bench.errors import ArchiveError, ComponentError, DeviceError
from bench.executors import _queue
from bench.executors._queue import Queued
from bench.parts import Place, Work, begin, folder_of, shared_out
from bench.plan import Plan, Study, Timing
from bench.records import StudyRecord


class PartRecord(BaseModel):
    """Which job measures a part, and how many studies that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str
    log: str
    studies: int


class Record(BaseModel):
    """What lies beside the parts as `detached.json`. submitted: when, in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    submitted: str
    parts: tuple[PartRecord, ...]


@dataclass(frozen=True)
class Part:
    """How far a part is.

    state: Slurm's word for its job, `done` where all is measured, `gone` where the job ended before, or `unknown` where
    Slurm does not answer.  problem: why its archive cannot be read, if so.
    """

    number: int
    record: PartRecord
    state: str
    node: str
    finished: int
    ended_trials: int
    problem: str = ""


@dataclass(frozen=True)
class Status:
    """How far a detached run is; unanswered: why Slurm could not be asked, if so."""

    parts: tuple[Part, ...]
    submitted: str
    unanswered: str

    @property
    def alive(self) -> int:
        """How many parts have a job that waits or runs, for all that is known."""
        return sum(part.state not in ("done", "gone") for part in self.parts)


def submit(
    plan: Plan, units: Sequence[Study | Timing], archive: Archive, executor: Executor, data_folder: Path
) -> Record:
    """Submits what is missing of a plan, in parts, after a rehearsal.

    Raises ComponentError with everything that would stop a study, DeviceError where no job can be submitted or none
    would go on by itself, and ArchiveError where parts lie there already.
    """
    if not isinstance(executor, Detachable):
        raise DeviceError("--detach: found an executor that ends with its run; give --executor slurm, whose jobs go on")
    problems = executor.rehearse(units, data_folder)
    if problems:
        raise ComponentError("\n".join(problems))
    archive.plan(plan)
    folder = folder_of(archive.path.resolve())
    try:
        folder.mkdir()
    except FileExistsError:
        raise ArchiveError(
            f"{folder}: holds parts, and no record of the jobs that may be writing them; end what is left of these "
            "with 'scancel', and remove the folder"
        ) from None
    try:
        shares = shared_out(units, executor.jobs)
        places = [Place(folder, number) for number in range(len(shares))]
        for place, share in zip(places, shares, strict=True):
            begin(archive, share, place)
        with storage.interrupts_held():  # jobs without a record would be nobody's
            jobs = executor.detach([Work(place, data_folder.resolve()) for place in places])
            submitted = datetime.now(UTC).isoformat(timespec="seconds")
            parts = [
                PartRecord(job=job.id, log=job.log, studies=len(share)) for job, share in zip(jobs, shares, strict=True)
            ]
            record = Record(submitted=submitted, parts=tuple(parts))
            _record(archive.path).write_text(record.model_dump_json(indent=1))
    except BaseException:
        shutil.rmtree(folder)
        raise
    return record


def _record(path: Path) -> Path:
    return folder_of(path) / "detached.json"


def is_detached(path: Path) -> bool:
    """Whether a detached run of an archive was not collected whole yet."""
    return _record(path).exists()


def _read(path: Path) -> Record:
    place = _record(path)
    try:
        return Record.model_validate_json(place.read_bytes())
    except (ValidationError, OSError) as error:
        raise ArchiveError(
            f"{place}: is not the record of a detached run; 'bench merge' joins the archives beside it, after which "
            "their folder can be removed"
        ) from error


def status(path: Path) -> Status:
    """How far the detached run of an archive is; raises ArchiveError where its record cannot be read."""
    record = _read(path)
    try:
        queue, unanswered = _queue.queued([part.job for part in record.parts]), ""
    except DeviceError as error:
        queue, unanswered = None, str(error)
    places = [Place(folder_of(path), number) for number in range(len(record.parts))]
    return Status(
        tuple(_look(place, part, queue) for place, part in zip(places, record.parts, strict=True)),
        record.submitted,
        unanswered,
    )


def _look(place: Place, record: PartRecord, queue: Mapping[str, Queued] | None) -> Part:
    queued = Queued("unknown", "") if queue is None else queue.get(record.job)
    file = _readable(place, gone=queued is None)
    try:
        with Archive.reading(file) as archive:
            studies = archive.studies()
            finished = len({study.id for study in studies} - {study.id for study in unmeasured(archive)})
            ended = len({trial.id for study in studies for trial in study.trials if trial.outcome})
            nodes = {str(one["node"]) for one in archive.environments().values() if one.get("job") == record.job}
    except ArchiveError as error:
        return Part(place.number, record, queued.state if queued else "gone", "", 0, 0, str(error))
    state = queued.state if queued else "done" if finished == record.studies else "gone"
    return Part(place.number, record, state, (queued and queued.node) or ", ".join(sorted(nodes)), finished, ended)


def _readable(place: Place, *, gone: bool) -> Path:
    """What of a part may be read: while its job lives, the copy alone."""
    return place.archive if gone and place.archive.exists() else place.copy


def unmeasured(archive: Archive) -> list[StudyRecord]:
    """The studies asked for that are not measured whole, but for those of `to: max` above one that does not fit."""
    finished, infeasible = archive.finished(), archive.infeasible()
    studies = archive.studies()
    least: dict[tuple[str, str], int] = {}
    for study in studies:
        if study.id in infeasible and study.content.get("open_ended"):
            key = study.workload, study.measure
            least[key] = min(study.batch_size, least.get(key, study.batch_size))
    unfinished = (study for study in studies if study.id not in finished)
    return [study for study in unfinished if study.batch_size <= least.get((study.workload, study.measure), math.inf)]


@dataclass(frozen=True)
class Collected:
    """What became of an archive: studies still missing of all, parts with a job, and why parts could not be read."""

    missing: int
    studies: int
    status: Status | None
    refused: tuple[str, ...]


def collect(path: Path) -> Collected:
    """Writes what the parts of an archive hold by now into it. May be done at any time, again and again.

    Once no job is left and all they hold is in the archive, the parts are removed. Raises ArchiveError where the
    archive or the record cannot be read, or another process writes to the archive.
    """
    with Archive.reading(path, whole=True):
        pass
    with Archive.writing(path) as archive:
        refused: list[str] = []
        seen = status(path) if is_detached(path) else None
        if seen:
            places = [Place(folder_of(path), part.number) for part in seen.parts]
            gone = [part.state in ("done", "gone") for part in seen.parts]
            files = [_readable(place, gone=over) for place, over in zip(places, gone, strict=True)]
            refused = [str(error) for error in merge.add([file for file in files if file.exists()], archive)]
        missing = unmeasured(archive)
        if seen and not seen.alive and not refused:
            for study in missing:
                for place in places:
                    there = storage.checkpoint(archive.path, study.id)
                    storage.bring_checkpoint(storage.checkpoint(place.archive, study.id), there)
            shutil.rmtree(folder_of(path))
        for name in archive.finished():
            storage.forget_checkpoint(storage.checkpoint(archive.path, name))
        return Collected(len(missing), len(archive.studies()), seen, tuple(refused))


def settle(path: Path) -> None:
    """Before an archive is run again: collects what a detached run left; raises ArchiveError while that goes on."""
    if not is_detached(path):
        return
    if not path.exists():
        raise ArchiveError(
            f"{path}: is gone, and a detached run of it left {folder_of(path)}; put it back, or remove the folder"
        )
    seen = status(path)
    if seen.unanswered:
        raise ArchiveError(f"{path}: was detached, and whether that goes on is not known: {seen.unanswered}")
    if seen.alive:
        jobs = ", ".join(part.record.job for part in seen.parts if part.state not in ("done", "gone"))
        raise ArchiveError(f"{path}: a detached run of it goes on, in jobs {jobs}; see 'bench status {path}'")
    if refused := collect(path).refused:
        raise ArchiveError("\n".join(refused))
