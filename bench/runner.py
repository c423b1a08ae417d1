"""plan - archive = what is missing -> executor -> archive."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from bench.archive import Archive
from bench.contracts import Ended, Event, Executor, Failed, Finished, Lost, Task
from bench.errors import ComponentError
from bench.plan import Plan, Study, Timing


def missing(plan: Plan, archive: Archive) -> list[Study | Timing]:
    """What the plan asks for and the archive does not hold whole, in the plan's order."""
    finished, infeasible = archive.finished(), archive.infeasible()
    dropped = _Dropped([unit for unit in plan.units if unit.id in infeasible])
    return [unit for unit in plan.units if unit.id not in finished and not dropped.too_large(unit)]


def run(
    plan: Plan, units: list[Study | Timing], archive: Archive, executor: Executor, data_folder: Path
) -> Generator[tuple[Study | Timing, Event]]:
    """Measures studies and timings of a plan and keeps what they say; each event is yielded once it is in the archive.

    Raises ComponentError, before anything is trained or written, with everything that would stop a study. Closing the
    iterator ends what is running, and marks it interrupted.
    """
    problems = executor.rehearse(units, data_folder) if units else []
    if problems:
        raise ComponentError("\n".join(problems))
    archive.plan(plan)
    # What is timed has the machine to itself, and comes first: it is short, and finds the batch sizes that do not fit.
    timings = [unit for unit in units if isinstance(unit, Timing)]
    studies = [unit for unit in units if isinstance(unit, Study)]
    dropped = _Dropped([])
    yield from _carry_out(_timed(timings, archive, data_folder, dropped), archive, executor, dropped, alone=True)
    yield from _carry_out(_trained(studies, archive, data_folder, dropped), archive, executor, dropped, alone=False)


class _Dropped:
    """What need not be tried, or not again: what does not fit in memory, of `to: max` all above it, and what failed."""

    def __init__(self, infeasible: Iterable[Study | Timing]) -> None:
        self._ids: set[str] = set()
        self._least: dict[tuple[str, bool], int] = {}
        for unit in infeasible:
            self.does_not_fit(unit)

    def does_not_fit(self, unit: Study | Timing) -> None:
        key = (unit.workload.name, _trains(unit))
        self._ids.add(unit.id)
        self._least[key] = min(unit.batch_size, self._least.get(key, unit.batch_size))

    def failed(self, unit: Study | Timing) -> None:
        self._ids.add(unit.id)

    def __contains__(self, unit: Study | Timing) -> bool:
        return unit.id in self._ids or self.too_large(unit)

    def too_large(self, unit: Study | Timing) -> bool:
        """Whether a smaller one did not fit. What is too large for a forward pass is too large to train, and not the
        other way round.
        """
        smaller = [self._least.get((unit.workload.name, trains)) for trains in {False, _trains(unit)}]
        return unit.workload.open_ended and any(least and least < unit.batch_size for least in smaller)


def _trains(unit: Study | Timing) -> bool:
    return not (isinstance(unit, Timing) and unit.what == "inference")


def _timed(timings: Sequence[Timing], archive: Archive, folder: Path, dropped: _Dropped) -> Iterator[Task]:
    """A task for each process of each timing: every timing once, then once more, so that drift falls on all alike."""
    smallest_first = sorted(timings, key=lambda timing: timing.batch_size)
    waiting = [(timing, archive.recall(timing)) for timing in smallest_first]
    for turn in range(max((len(processes) for _, processes in waiting), default=0)):
        for timing, processes in waiting:
            if turn < len(processes) and timing not in dropped:
                yield Task(timing, {}, folder, processes[turn])


def _trained(studies: Sequence[Study], archive: Archive, folder: Path, dropped: _Dropped) -> Iterator[Task]:
    """A task for each study, the longest first: a short one fits in where a long one begun last would be waited for.

    Of `to: max` the smallest come first, so that those which do not fit are found before larger ones are begun.
    """
    for study in sorted(studies, key=lambda each: (each.workload.open_ended and each.batch_size, -each.expected_cost)):
        if study not in dropped:
            yield Task(study, archive.known(study), folder)


def _goes_on(unit: Study | Timing, archive: Archive, dropped: _Dropped) -> bool:
    """Whether other processes of a timing are to come, now that one is done."""
    return isinstance(unit, Timing) and unit not in dropped and bool(archive.recall(unit))


def _carry_out(
    tasks: Iterator[Task], archive: Archive, executor: Executor, dropped: _Dropped, *, alone: bool
) -> Generator[tuple[Study | Timing, Event]]:
    begun: dict[str, Study | Timing] = {}
    places: dict[str, str] = {}
    with closing(executor.run(tasks, alone=alone)) as events:
        try:
            for task, environment, event in events:
                unit = begun.setdefault(task.study.id, task.study)
                if unit.id not in places and environment:
                    places[unit.id] = archive.environment(environment)
                if isinstance(event, Ended) and event.outcome == "infeasible":
                    dropped.does_not_fit(unit)
                if isinstance(event, Finished) and _goes_on(unit, archive, dropped):
                    continue
                archive.record(unit, places.get(unit.id, ""), event)
                if isinstance(event, Failed | Lost):
                    archive.close_open_trials(unit, "crashed")
                if isinstance(event, Failed):
                    dropped.failed(unit)
                yield unit, event
        finally:
            for unit in begun.values():
                archive.close_open_trials(unit, "interrupted")
