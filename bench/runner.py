"""plan - archive = what is missing -> executor -> archive."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from bench.archive import Archive
from bench.contracts import Event, Executor, Failed, Lost, Task
from bench.errors import ComponentError
from bench.plan import Plan, Study


def missing(plan: Plan, archive: Archive) -> list[Study]:
    """The studies the plan asks for and the archive does not hold whole, in the plan's order."""
    finished = archive.finished()
    return [study for study in plan.studies if study.id not in finished]


def run(
    plan: Plan, studies: list[Study], archive: Archive, executor: Executor, data_folder: Path
) -> Generator[tuple[Study, Event]]:
    """Measures studies of a plan and keeps what they say; each event is yielded once it is in the archive.

    Raises ComponentError, before anything is trained or written, with everything that would stop a study. Closing the
    iterator ends what is running, and marks it interrupted.
    """
    problems = executor.rehearse(studies, data_folder) if studies else []
    if problems:
        raise ComponentError("\n".join(problems))
    archive.plan(plan)
    begun: dict[str, Study] = {}
    tasks = [Task(study, archive.known(study), data_folder) for study in studies]
    with closing(executor.run(tasks)) as events:
        try:
            for task, environment, event in events:
                begun[task.study.id] = task.study
                archive.record(task.study, archive.environment(environment), event)
                if isinstance(event, Failed | Lost):
                    archive.close_open_trials(task.study, "crashed")
                yield task.study, event
        finally:
            for study in begun.values():
                archive.close_open_trials(study, "interrupted")
