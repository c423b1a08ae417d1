"""plan - archive = what is missing -> executor -> archive. A worker that ends early ends no run: see `retries.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from bench.ask.plan import Plan, PlanUnit, Study, Timing, Trial
from bench.contracts import Executor, Task
from bench.errors import ComponentError, FaultyDeviceError
from bench.events import Ended, Event, Failed, Finished, Lost, Retried
from bench.keep import checkpoints
from bench.keep.archive import Archive
from bench.run.ceilings import Ceilings
from bench.run.retries import Retries, gone

# So many times in a row the device failed, or a worker died that timed or had no trial in its seat, and no trial came
# to its end between: the device is not used on. What falls while a trial is in its seat may be that trial's own fault.
MOST_DEVICE_ERRORS = 10
# A timing whose workers fell so many times in a row is given up, and its other processes are not tried.
MOST_FALLS = 2


def missing(plan: Plan, archive: Archive) -> list[PlanUnit]:
    """What the plan asks for and the archive does not hold whole, in the plan's order."""
    finished, infeasible = archive.finished(), archive.infeasible()
    dropped = _Dropped([unit for unit in plan.units if unit.id in infeasible])
    return [unit for unit in plan.units if unit.id not in finished and not dropped.too_large(unit)]


def run(
    plan: Plan, units: list[PlanUnit], archive: Archive, executor: Executor, data_folder: Path
) -> Generator[tuple[PlanUnit, Event]]:
    """Measures studies and timings of a plan and keeps what they say; each event is yielded once it is in the archive.

    Raises ComponentError, before anything is trained or written, with everything that would stop a study, and
    FaultyDeviceError where the device fails again and again. Closing the iterator ends what is running, and marks it
    interrupted.
    """
    problems = executor.rehearse(units, data_folder) if units else []
    if problems:
        raise ComponentError("\n".join(problems))
    archive.plan(plan)
    for study in archive.finished():  # a run may have been killed before it came to that
        checkpoints.forget(checkpoints.place(archive.path, study))
    # What is timed has the machine to itself, and comes first: it is short, and finds the batch sizes that do not fit.
    folder = data_folder.resolve()  # a node of a cluster may run in another folder
    timings = _timed([unit for unit in units if isinstance(unit, Timing)], archive, folder)
    studies = _trained([unit for unit in units if isinstance(unit, Study)], archive, folder)
    dropped = _Dropped([])
    yield from _carry_out(timings, archive, executor, dropped, alone=True)
    dropped.remove_from(studies)
    yield from _carry_out(studies, archive, executor, dropped, alone=False)


class _Dropped:
    """What need not be tried, or not again: what does not fit in memory, of `to: max` all above it, and what failed."""

    def __init__(self, infeasible: Iterable[PlanUnit]) -> None:
        self._ids: set[str] = set()
        self._ceilings = Ceilings()
        for unit in infeasible:
            self.does_not_fit(unit)

    def does_not_fit(self, unit: PlanUnit) -> None:
        self._ids.add(unit.id)
        self._ceilings.lower(unit.workload.name, unit.measure, unit.batch_size)

    def failed(self, unit: PlanUnit) -> None:
        self._ids.add(unit.id)

    def remove_from(self, tasks: deque[Task]) -> None:
        kept = [task for task in tasks if task.unit not in self]
        tasks.clear()
        tasks.extend(kept)

    def __contains__(self, unit: PlanUnit) -> bool:
        return unit.id in self._ids or self.too_large(unit)

    def too_large(self, unit: PlanUnit) -> bool:
        """Whether a smaller one did not fit."""
        beyond = self._ceilings.below(unit.workload.name, unit.measure, unit.batch_size)
        return unit.workload.open_ended and beyond


def _timed(timings: Sequence[Timing], archive: Archive, folder: Path) -> deque[Task]:
    """A task for each process of each timing: every timing once, then once more, so that drift falls on all alike."""
    smallest_first = sorted(timings, key=lambda timing: timing.batch_size)
    waiting = [(timing, archive.recall(timing)) for timing in smallest_first]
    turns = range(max((len(processes) for _, processes in waiting), default=0))
    return deque(
        Task(timing, {}, folder, process=processes[turn])
        for turn in turns
        for timing, processes in waiting
        if turn < len(processes)
    )


def in_order(studies: Sequence[Study]) -> list[Study]:
    """The order in which studies are begun: those on fewer devices first, and of these the longest.

    A short one fits in where a long one begun last would be waited for. One on several devices waits until as many are
    free, and no other is begun meanwhile, so that it need not wait for ever; among others on as many, the devices that
    one leaves are those the next one takes. Of `to: max` the smallest come first, so that those which do not fit are
    found before larger ones are begun.
    """

    def turn(study: Study) -> tuple[int, int, float]:
        workload = study.workload
        return workload.devices, study.batch_size if workload.open_ended else 0, -study.expected_cost

    return sorted(studies, key=turn)


def _trained(studies: Sequence[Study], archive: Archive, folder: Path) -> deque[Task]:
    return deque(
        Task(study, archive.known(study), folder, checkpoint=checkpoints.place(archive.path.resolve(), study.id))
        for study in in_order(studies)
    )


def _carry_out(
    tasks: deque[Task], archive: Archive, executor: Executor, dropped: _Dropped, *, alone: bool
) -> Generator[tuple[PlanUnit, Event]]:
    begun: dict[str, Retries] = {}
    places: dict[str, str] = {}  # ids of environments, by what they hold
    device_errors = 0
    with closing(executor.run(tasks, alone=alone)) as events:
        try:
            for task, environment, event in events:
                unit = task.unit
                retries = begun.setdefault(unit.id, Retries(unit))
                where = str(environment)
                if environment and where not in places:
                    places[where] = archive.environment(environment)
                if isinstance(event, Ended) and event.outcome == "infeasible":
                    dropped.does_not_fit(unit)
                    dropped.remove_from(tasks)
                if isinstance(event, Finished) and _goes_on(unit, archive, dropped):
                    continue
                if isinstance(event, Finished) and retries.short:
                    event = _fell_short(unit, retries.short)
                    archive.unfinish(unit)
                archive.record(unit, places.get(where, ""), event)
                retries.apply(event)
                if isinstance(event, Finished) or (isinstance(event, Lost) and event.outcome == "timed out"):
                    checkpoints.forget(checkpoints.place(archive.path, unit.id))
                if isinstance(event, Ended | Finished):
                    device_errors = 0
                    if isinstance(event, Ended) and event.outcome != archive.outcome(event.trial):
                        retries.short = event.trial  # it was overtaken elsewhere, and does not fit here
                elif isinstance(event, Failed | Lost):
                    archive.fault(unit, event, retries.training)
                    device_errors += _at_device(retries, event)
                    if device_errors >= MOST_DEVICE_ERRORS:
                        raise FaultyDeviceError(
                            f"{event.message}\nstopped: {device_errors} workers in a row failed, and no trial ended "
                            "between them; run the suite again when the device is well"
                        )
                    if retried := retries.after(event):
                        # Next, and not last: the longest were begun first, and nobody should wait for one at the end.
                        tasks.appendleft(_again(task, retries, retried, archive))
                        event = retried
                    elif isinstance(event, Failed) or retries.falls >= MOST_FALLS:
                        dropped.failed(unit)
                        dropped.remove_from(tasks)
                yield unit, event
        finally:
            for retries in begun.values():
                archive.interrupt(retries.unit, retries.training)


def _again(task: Task, retries: Retries, retried: Retried, archive: Archive) -> Task:
    """What is tried next of a task whose worker ended early."""
    if retried.blamed and archive.outcome(retried.blamed) == "overtaken":
        retries.short = retried.blamed
    known = archive.known(task.unit, retries.settled) if isinstance(task.unit, Study) else {}
    return retries.next_task(task, known)


def _at_device(retries: Retries, fault: Failed | Lost) -> bool:
    """Whether a worker may have ended early of its device: torch said so, or it died, no trial with values of its own
    was in the seat, and it was not the machine that went.
    """
    if isinstance(fault, Failed):
        return fault.of_device
    return not gone(fault) and (isinstance(retries.unit, Timing) or not retries.training)


def _fell_short(unit: PlanUnit, trial: Trial) -> Failed:
    """What is said of a study that ended without a trial of which too little is known for its answer."""
    return Failed(
        f"{unit}: trial {trial.id} was overtaken in another study and could not go further, as this one needs it to"
    )


def _goes_on(unit: PlanUnit, archive: Archive, dropped: _Dropped) -> bool:
    """Whether other processes of a timing are to come, now that one is done."""
    return isinstance(unit, Timing) and unit not in dropped and bool(archive.recall(unit))
