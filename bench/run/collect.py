"""A detached run, from any shell: how far it is, and what it has measured, collected into the archive it is for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ArchiveError, DeviceError
from bench.executors import _slurm_queue
from bench.executors._slurm_queue import Queued
from bench.keep import checkpoints, merge, storage
from bench.keep.archive import Archive
from bench.keep.records import StudyRecord
from bench.run.ceilings import Ceilings
from bench.run.detached import PartRecord, is_detached, read, record_of
from bench.run.parts import PartFiles, folder_of


@dataclass(frozen=True)
class Part:
    """How far a part is.

    state: Slurm's word for its job, `done` where all is measured, `gone` where the job ended before, or `unknown` where
    Slurm does not answer, or knows of no such job and something holds the part.  problem: why its archive cannot be
    read or held, if so.  faults: see `faults`.
    """

    number: int
    record: PartRecord
    state: str
    node: str
    finished: int
    ended_trials: int
    problem: str = ""
    faults: tuple[str, ...] = ()


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


def status(path: Path) -> Status:
    """How far the detached run of an archive is; raises ArchiveError where its record cannot be read."""
    with _held(path) as seen:
        return seen


@contextmanager
def _held(path: Path) -> Iterator[Status]:
    """How far a detached run is; until this is left, nobody writes to the parts whose jobs are over.

    That the queue does not hold a job is no proof that it is over: it may be that of another cluster, or of a
    controller that lost what it knew.
    """
    record = read(path)
    try:
        queue, unanswered = _slurm_queue.queued([part.job for part in record.parts]), ""
    except DeviceError as error:
        queue, unanswered = None, str(error)
    files = [PartFiles(folder_of(path), number) for number in range(len(record.parts))]
    with ExitStack() as locks:
        yield Status(
            tuple(_look(part, its, queue, locks) for part, its in zip(files, record.parts, strict=True)),
            record.submitted,
            unanswered,
        )


def _look(files: PartFiles, record: PartRecord, queue: Mapping[str, Queued] | None, locks: ExitStack) -> Part:
    queued, problem = Queued("unknown", "") if queue is None else queue.get(record.job), ""
    if queued is None:
        try:
            locks.enter_context(storage.locked(files.archive))
        except ArchiveError as error:
            queued, problem = Queued("unknown", ""), str(error)
    try:
        with Archive.reading(_readable(files, gone=queued is None)) as archive:
            studies = archive.studies()
            missing = unmeasured(archive)
            finished = len({study.id for study in studies} - {study.id for study in missing})
            told = faults(missing)
            ended = len({trial.id for study in studies for trial in study.trials if trial.outcome})
            nodes = {str(one["node"]) for one in archive.environments().values() if one.get("job") == record.job}
    except ArchiveError as error:
        return Part(files.number, record, queued.state if queued else "gone", "", 0, 0, str(error))
    state = queued.state if queued else "done" if finished == record.studies else "gone"
    node = (queued and queued.node) or ", ".join(sorted(nodes))
    return Part(files.number, record, state, node, finished, ended, problem, told)


def _readable(files: PartFiles, *, gone: bool) -> Path:
    """What of a part may be read: while its job lives, the copy alone."""
    return files.archive if gone and files.archive.exists() else files.copy


def unmeasured(archive: Archive) -> list[StudyRecord]:
    """The studies asked for that are not measured whole, but for those of `to: max` above one that does not fit."""
    finished, infeasible, ceilings = archive.finished(), archive.infeasible(), Ceilings()
    studies = archive.studies()
    for study in studies:
        if study.id in infeasible and study.content.get("open_ended"):
            ceilings.lower(study.workload, study.measure, study.batch_size)
    unfinished = (study for study in studies if study.id not in finished)
    return [study for study in unfinished if not ceilings.below(study.workload, study.measure, study.batch_size)]


def faults(missing: Iterable[StudyRecord]) -> tuple[str, ...]:
    """Of studies that are missing, what ended them, once each."""
    return tuple(dict.fromkeys(study.fault for study in missing if study.fault))


@dataclass(frozen=True)
class Collected:
    """What became of an archive: studies still missing of all, parts with a job, why parts could not be read, and
    `faults` of those missing.
    """

    missing: int
    studies: int
    status: Status | None
    refused: tuple[ArchiveError, ...]
    faults: tuple[str, ...]


def collect(path: Path) -> Collected:
    """Writes what the parts of an archive hold by now into it. May be done at any time, again and again.

    Once no job is left and all they hold is in the archive, the parts are removed. Raises ArchiveError where the
    archive or the record cannot be read, or another process writes to the archive.
    """
    with Archive.reading(path, whole=True):
        pass
    with Archive.writing(path) as archive:
        seen, refused = _take(archive) if is_detached(path) else (None, [])
        if seen and not seen.alive and not refused:
            _remove(record_of(path))
        for name in archive.finished():
            checkpoints.forget(checkpoints.place(archive.path, name))
        missing = unmeasured(archive)
        return Collected(len(missing), len(archive.studies()), seen, tuple(refused), faults(missing))


def _take(archive: Archive) -> tuple[Status, list[ArchiveError]]:
    """Writes what parts hold into their archive, and empties them if no job is left; why some could not be read."""
    folder = folder_of(archive.path)
    with _held(archive.path) as seen:
        files = [PartFiles(folder, part.number) for part in seen.parts]
        gone = [part.state in ("done", "gone") for part in seen.parts]
        readable = [_readable(part, gone=over) for part, over in zip(files, gone, strict=True)]
        refused = merge.add([file for file in readable if file.exists()], archive)
        if not seen.alive and not refused:
            for study in unmeasured(archive):
                for part in files:
                    there = checkpoints.place(archive.path, study.id)
                    checkpoints.bring(checkpoints.place(part.archive, study.id), there)
            locks = {part.archive.with_suffix(".lock") for part in files}
            for file in sorted({*folder.iterdir()} - {*locks, record_of(archive.path)}):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        return seen, refused


def _remove(record: Path) -> None:
    """Removes the folder of a record, in which nothing is left but that and locks, the record last: without it nobody
    knows that the rest may be removed.
    """
    with storage.interrupts_held():
        for file in sorted(record.parent.iterdir(), key=record.__eq__):
            file.unlink()
        record.parent.rmdir()


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
        raise ArchiveError("\n".join(map(str, refused)))
