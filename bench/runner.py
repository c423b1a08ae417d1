"""plan - archive = what is missing -> executor -> archive. A worker that ends early ends no run: see `retries.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from bench.archive import Archive
from bench.contracts import Ended, Event, Executor, Failed, Finished, Lost, Task
from bench.errors import ComponentError, FaultyDeviceError
from bench.plan import Plan, Study
from bench.retries import Retries

# So many times in a row the device failed, or what ran on it died, with no trial at its end between: it is not used on.
MOST_DEVICE_ERRORS = 10


def missing(plan: Plan, archive: Archive) -> list[Study]:
    """The studies the plan asks for and the archive does not hold whole, in the plan's order."""
    finished = archive.finished()
    return [study for study in plan.studies if study.id not in finished]


def run(
    plan: Plan, studies: list[Study], archive: Archive, executor: Executor, data_folder: Path
) -> Generator[tuple[Study, Event]]:
    """Measures studies of a plan and keeps what they say; each event is yielded once it is in the archive.

    Raises ComponentError, before anything is trained or written, with everything that would stop a study, and
    FaultyDeviceError where the device fails again and again. Closing the iterator ends what is running, and marks it
    interrupted.
    """
    problems = executor.rehearse(studies, data_folder) if studies else []
    if problems:
        raise ComponentError("\n".join(problems))
    archive.plan(plan)
    begun: dict[str, Retries] = {}
    places: dict[str, str] = {}
    device_errors = 0
    # The longest first: a short one fits in where a long one begun last would be waited for.
    longest_first = sorted(studies, key=lambda study: study.expected_cost, reverse=True)
    tasks = deque(Task(study, archive.known(study), data_folder) for study in longest_first)
    with closing(executor.run(tasks)) as events:
        try:
            for task, environment, event in events:
                study = task.study
                if study.id not in begun:
                    begun[study.id] = Retries(task)
                retries = begun[study.id]
                if study.id not in places and environment:
                    places[study.id] = archive.environment(environment)
                archive.record(study, places.get(study.id, ""), event)
                retries.apply(event)
                if isinstance(event, Ended | Finished):
                    device_errors = 0
                elif isinstance(event, Failed | Lost):
                    archive.fault(study, event, retries.training)
                    device_errors += isinstance(event, Lost) or event.of_device
                    if device_errors >= MOST_DEVICE_ERRORS:
                        raise FaultyDeviceError(
                            f"{event.message}\nstopped: {device_errors} workers in a row failed, and no trial ended "
                            "between them; run the suite again when the device is well"
                        )
                    if retried := retries.after(event):
                        tasks.append(retries.next_task(archive.known(study, retries.settled)))
                        yield study, retried
                        continue
                yield study, event
        finally:
            for retries in begun.values():
                archive.interrupt(retries.task.study, retries.training)
