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
    places: dict[str, str] = {}
    # The longest first: a short one fits in where a long one begun last would be waited for.
    longest_first = sorted(studies, key=lambda study: study.expected_cost, reverse=True)
    tasks = [Task(study, archive.known(study), data_folder) for study in longest_first]
    with closing(executor.run(tasks)) as events:
        try:
            for task, environment, event in events:
                study = begun.setdefault(task.study.id, task.study)
                if study.id not in places and environment:
                    places[study.id] = archive.environment(environment)
                archive.record(study, places.get(study.id, ""), event)
                if isinstance(event, Failed | Lost):
                    archive.close_open_trials(study, "crashed")
                yield study, event
        finally:
            for study in begun.values():
                archive.close_open_trials(study, "interrupted")
