"""A run that nobody waits for: submitted in parts (`parts.py`), and the record of its jobs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.ask.plan import Plan, PlanUnit
from bench.contracts import Detachable, Executor
from bench.errors import ArchiveError, ComponentError, DeviceError
from bench.keep import storage
from bench.keep.archive import Archive
from bench.run.parts import PartFiles, Work, begin, folder_of, shared_out


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


def submit(plan: Plan, units: Sequence[PlanUnit], archive: Archive, executor: Executor, data_folder: Path) -> Record:
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
        files = [PartFiles(folder, number) for number in range(len(shares))]
        for part, share in zip(files, shares, strict=True):
            begin(archive, share, part)
        with storage.interrupts_held():  # jobs without a record would be nobody's
            jobs = executor.detach([Work(part, data_folder.resolve()) for part in files])
            submitted = datetime.now(UTC).isoformat(timespec="seconds")
            parts = [
                PartRecord(job=job.id, log=job.log, studies=len(share)) for job, share in zip(jobs, shares, strict=True)
            ]
            record = Record(submitted=submitted, parts=tuple(parts))
            record_of(archive.path).write_text(record.model_dump_json(indent=1))
    except BaseException:
        shutil.rmtree(folder)
        raise
    return record


def record_of(path: Path) -> Path:
    """Where the record of an archive's detached run lies."""
    return folder_of(path) / "detached.json"


def is_detached(path: Path) -> bool:
    """Whether a detached run of an archive was not collected whole yet."""
    return record_of(path).exists()


def read(path: Path) -> Record:
    """The record of an archive's detached run; raises ArchiveError where it is not what `submit` wrote."""
    place = record_of(path)
    try:
        return Record.model_validate_json(place.read_bytes())
    except (ValidationError, OSError) as error:
        raise ArchiveError(
            f"{place}: is not the record of a detached run; 'bench merge' joins the archives beside it, after which "
            "their folder can be removed"
        ) from error
