"""One task on one device: its data, its cohorts, its study, as a stream of events. Runs in a worker process."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import torch

from bench.ask.plan import Timing, Trial, Workload
from bench.contracts import Look, OutOfMemory, Task
from bench.errors import ComponentError, DataError, sentence
from bench.events import Ended, Evaluated, Event, Failed, Finished, Lost, Started, StudyEvent
from bench.measure import build, checkpoint, cohort, environment, parallel, precision, probing, study, timing
from bench.measure.cohorts.parallel import follow
from bench.measure.feeds import lost_reader, reading


def carry_out(task: Task, device: torch.device) -> Iterator[Event]:
    """The study's events and one terminal event. Running out of memory is an outcome; a fault is Failed, not raised."""
    seated: dict[Trial, int] = {}
    try:
        prepare(task)
        for event in _events(task, device):
            match event:
                case Started(trials):
                    seated.update(dict.fromkeys(trials, 0))
                case Evaluated(step):
                    seated = dict.fromkeys(seated, step)
                case Ended(trial):
                    seated.pop(trial)
            yield event
    except OutOfMemory:
        for trial, step in seated.items():
            yield Ended(trial, "infeasible", step, 0.0)
        yield Finished()
    except Exception as error:  # whatever a component raises, the other studies go on and this one says what it was
        if lost := lost_reader(error):  # no fault of a trial, or of the user: told as what became of a worker
            yield Lost(f"{task.unit}: a process that reads examples ended early: {lost}", "interrupted")
            return
        of_device = isinstance(error, torch.AcceleratorError)
        message = f"{task.unit}: {sentence(error)}"
        yield Failed(message, traceback.format_exc(), of_device, isinstance(error, DataError))
    else:
        yield Finished()


def prepare(task: Task) -> None:
    """Has this process compute in the precision, and as deterministically, as the suite asks for."""
    precision.prepare(task.unit.workload.entry.precision)
    precision.prepare_determinism(task.unit.workload.entry.deterministic)


def _insist_on_code(workload: Workload) -> None:
    """Raises ComponentError where a component is not the code that was planned: readings would be told of another."""
    for named, component in workload.components().items():
        if component.source != workload.sources[named]:
            raise ComponentError(f"{component.name} was changed since the run began; run the suite again")


def _events(task: Task, device: torch.device) -> Iterator[StudyEvent]:
    _insist_on_code(task.unit.workload)
    if isinstance(task.unit, Timing):
        assert task.process is not None  # a timing is carried out a process at a time
        yield from timing.run(task.unit, task.process, task.data_folder, device)
        return
    of, known, apart = task.unit, task.known, task.apart
    data = build.data(of.workload, task.data_folder, device)

    def carry(make_cohort: study.MakeCohort, look: Look) -> Iterator[StudyEvent]:
        return study.run(of, known, len(data.validation), make_cohort, look, apart)

    with reading(data):
        if parallel.rank() > 0:
            follow(of, data, device)
            return
        make_cohort, look = cohort.maker(of, data, device), probing.looker(of, data, device)
        if task.checkpoint is None:
            yield from carry(make_cohort, look)
        else:
            where = environment.describe(device)
            yield from checkpoint.kept(task.checkpoint, of.id, where, carry, make_cohort, look)
    parallel.tell(None)  # the others need not follow any more
