"""One task on one device: its data, its cohorts, its study, as a stream of events. Runs in a worker process."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench import build, cohort, precision, probing, study, timing
from bench.contracts import Data, Ended, Evaluated, Event, Failed, Finished, OutOfMemory, Started, StudyEvent, Task
from bench.errors import BenchError, ComponentError
from bench.losses import LOSSES
from bench.plan import Study, Timing, Trial, Workload
from bench.search import Dimension


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
        of_device = isinstance(error, torch.AcceleratorError)
        yield Failed(f"{_name(task.study)}: {_sentence(error)}", traceback.format_exc(), of_device)
    else:
        yield Finished()


def prepare(task: Task) -> None:
    """Has this process compute in the precision, and as deterministically, as the suite asks for."""
    precision.prepare(task.study.workload.entry.precision)
    precision.prepare_determinism(task.study.workload.entry.deterministic)


def _events(task: Task, device: torch.device) -> Iterator[StudyEvent]:
    if isinstance(task.study, Timing):
        assert task.process is not None  # a timing is carried out a process at a time
        return timing.run(task.study, task.process, task.data_folder, device)
    data = build.data(task.study.workload, task.data_folder, device)
    make_cohort = cohort.maker(task.study, data, device)
    look = probing.looker(task.study, data, device)
    return study.run(task.study, task.known, len(data.validation), make_cohort, look, task.apart)


def rehearse(studies: Sequence[Study | Timing], folder: Path) -> list[str]:
    """Everything that would stop studies from being carried out, found before any of them is: one sentence each.

    Loads (and where it must, downloads) each dataset, and takes one step of each workload on the CPU with two examples.
    """
    problems: dict[str, None] = {}
    loaded: dict[tuple[str, str], Data | Exception] = {}
    largest: dict[str, Study | Timing] = {}
    for each in sorted(studies, key=lambda each: each.batch_size):
        largest[each.workload.name] = each
    for each in largest.values():
        try:
            _rehearse(each, folder, loaded)
        except Exception as error:  # a user's component may raise anything
            problems[f"{each.workload.name}: {_sentence(error)}"] = None
    return list(problems)


def _rehearse(largest: Study | Timing, folder: Path, loaded: dict[tuple[str, str], Data | Exception]) -> None:
    workload, cpu = largest.workload, torch.device("cpu")
    key = str(workload.dataset)
    as_asked = key, workload.entry.precision
    if as_asked not in loaded:
        try:
            loaded[as_asked] = build.data(workload, folder, cpu)
        except Exception as error:  # said of every workload that needs the dataset, tried once
            loaded[as_asked] = error
    data = loaded[as_asked]
    if isinstance(data, Exception):
        raise data
    if largest.batch_size > len(data.train) and not workload.open_ended:
        raise ComponentError(
            f"found the batch size {largest.batch_size:,}; {key} has {len(data.train):,} training examples"
        )
    model = build.model(workload, data, cpu, seed=0)
    try:
        outputs = model(data.train.inputs[:2])
    except RuntimeError as error:
        raise ComponentError(
            f"{workload.model} cannot take examples of shape {list(data.example_shape)} from {key}: {_sentence(error)}"
        ) from error
    targets = data.train.targets[:2]
    wanted = {
        "cross_entropy": (*targets.shape, data.classes),
        "half_squared_error": tuple(targets.shape),
        "output": (2,),
    }[data.loss]
    if tuple(outputs.shape) != wanted:
        raise ComponentError(f"{workload.model} gave {tuple(outputs.shape)} for 2 examples of {key}; it takes {wanted}")
    if "validation_error" in workload.entry.target and LOSSES[data.loss].error is None:
        raise ComponentError(f"{key} knows no right and wrong answers; make the target one of validation_loss")
    probing.build_probes(workload)
    point = _any_point(workload)
    optimizer = build.optimizer(workload, model.parameters(), point)
    build.schedule(workload, point)(0)
    LOSSES[data.loss].mean(outputs, targets).backward()
    optimizer.step()


def _any_point(workload: Workload) -> dict[str, float | int | str | bool]:
    return {
        name: dimension.extremes()[0] if isinstance(dimension, Dimension) else dimension
        for name, dimension in workload.space.items()
    }


def _name(study: Study | Timing) -> str:
    return f"{study.workload.name} at batch size {study.batch_size:,}"


def _sentence(error: Exception) -> str:
    if isinstance(error, BenchError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
