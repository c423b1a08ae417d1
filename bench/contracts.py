"""What each kind of component provides; `examples.py` says what data are, and `events.py` what a study says.

Positional parameters are what the harness gives; keyword-only parameters are what a suite may set.

    models/      name(example_shape, classes, *, options)       -> torch.nn.Module
    datasets/    name(folder, *, options)                       -> Data;  and SIZES, the examples of each split, and of
                 a text TOKENS, "bytes" or "characters", and of one that reads files FILE (DOWNLOADED_FILE, if it
                 fetches them), the first, for `bench doctor`; every dataset also takes `subset`, `label_noise` and
                 `task` (`alter.py`)
    optimizers/  name(parameters, *, learning_rate, ...)        -> torch.optim.Optimizer
    schedules/   name(horizon, *, options)                      -> Schedule
    probes/      name(*, options)                               -> Probe;  every probe also takes `every`
    analyses/    name(summaries)                                -> list[Table]
    executors/   name(devices, stall_seconds, *, options)       -> Executor

An optimizer that treats kinds of parameters apart names `roles` as its second parameter, and is given that of each
parameter (`roles.py`). One whose step takes several gradients has their number as its attribute `gradients`, and calls
the closure that its `step` is given for each. One that is read at other weights than it trains has `eval()`, which puts
them in place, and `train()`, which undoes that to the last bit. What it takes of all parameters together, it takes of
the groups that have one `trial` in common.

What a schedule takes as an option `.._steps`, a suite may give as `.._examples` or `.._epochs`; the harness turns it
into steps. A schedule that depends on its warm-up, by which the harness multiplies it, names `warmup_steps` as its
second parameter, and is given how many steps that takes: a float, 0 where there is none.

Importing this imports no torch: the stages that plan, keep and show use these words too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bench.ask.plan import PlanUnit, Trial
from bench.events import Event, Known, Way
from bench.examples import Split

if TYPE_CHECKING:
    import torch

# The factor of the learning rate at a step, which counts from 0.
Schedule = Callable[[int], float]


@dataclass
class Observation:
    """What an advance to a step showed of one trial: where it diverged, or its readings."""

    readings: dict[str, float] = field(default_factory=dict)
    diverged_at: int | None = None


# The exit code of one of several ranks that ran out of memory: the others wait for it, and none can go on.
OUT_OF_MEMORY = 77


class OutOfMemory(Exception):  # noqa: N818 (it is an outcome: caught, never shown)
    """The trials asked for do not fit on the device together."""


class Cohort(Protocol):
    """Trials that train together. Two ways keep this contract: one by one, and stacked. All may raise OutOfMemory."""

    way: Way

    def train(self, step: int) -> None:
        """Trains every trial still in the cohort to `step`, where it can be looked at."""

    def advance(self, step: int, examples: int | None = None) -> dict[Trial, Observation]:
        """Trains every trial still in the cohort to `step`, evaluates it on so many validation examples (all where no
        number is given), and drops those that diverged.
        """

    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        """The test readings of trials in the cohort, as they stand."""

    def part(self, trials: Sequence[Trial]) -> Cohort:
        """After `advance`, moves some of the trials into a cohort of their own, which goes on from here by itself."""

    def drop(self, trials: Sequence[Trial]) -> None:
        """Ends trials; what they held is freed."""

    def train_seconds(self, trial: Trial) -> float:
        """Time on the clock so far: training, without evaluation."""

    def weights(self, trial: Trial) -> dict[str, torch.Tensor]:
        """A copy of a trial's parameters and buffers, by name."""

    def state(self) -> dict[str, Any]:
        """After `advance`, everything that decides how training goes on, as it stands: numbers, strings, tensors, and
        lists and dictionaries of them. Raises ComponentError where something else decides it.
        """

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from the state of a cohort of the same trials, its tensors on any device, bit for bit as that one
        would have; raises ValueError where the state is another's.
        """


@dataclass(frozen=True)
class Moment:
    """A trial at a step, as a probe sees it: a copy that it may do with as it likes.

    model: with the trial's weights, in training mode.  start: its parameters at step 0, by name.  draw(n): n training
    examples, each drawn at random from all of them.  loss: (outputs, targets) -> the mean loss.
    """

    model: torch.nn.Module
    start: Mapping[str, torch.Tensor]
    draw: Callable[[int], Split]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    batch_size: int


# What a moment shows, by name; what could not be measured is NaN, and left out of the archive.
Probe = Callable[[Moment], dict[str, float]]

# Looks at trials of a cohort at a step with the probes of those names; readings by trial.
Look = Callable[[Cohort, Sequence[Trial], int, Sequence[str]], dict[Trial, dict[str, float]]]


@dataclass(frozen=True)
class Task:
    """A study to carry out, or one process of a timing: what is known of it, and where its data lies.

    apart: ids of trials that are trained in a cohort of their own, where training them in one ended a worker.
    checkpoint: the file in which a study is kept while it goes on; None keeps nothing.
    """

    unit: PlanUnit
    known: Mapping[str, Known]
    data_folder: Path
    apart: Sequence[frozenset[str]] = ()
    process: Trial | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Job:
    """A job of a cluster that goes on by itself, and the file it writes its log to."""

    id: str
    log: str


class Executor(Protocol):
    """Carries out tasks, as many at once as it has room for."""

    def rehearse(self, units: Sequence[PlanUnit], folder: Path) -> list[str]:
        """Everything that would stop the units, one sentence each, found before any is begun."""

    def run(self, tasks: deque[Task], *, alone: bool = False) -> Generator[tuple[Task, dict[str, Any], Event]]:
        """(task, the environment it runs in, event), each task ending in exactly one terminal event.

        Takes tasks from the left as there is room; the first waits for as many free devices as its workload takes, and
        those behind it wait too. What is added meanwhile is carried out as well, and those to be carried out `alone`
        have a machine to themselves. Nothing is tried twice: whether a study is begun again is for who asked. Closing
        the iterator ends what is running and leaves no process behind.
        """


@runtime_checkable
class Detachable(Executor, Protocol):
    """An executor whose jobs can go on without the run that submitted them."""

    # At most so many jobs at once.
    jobs: int

    def detach(self, works: Sequence[Callable[[Executor], None]]) -> list[Job]:
        """Submits a job for each piece of work, after a rehearsal; the work is given an executor of its job's devices.

        A job that is begun again begins its work again. Raises DeviceError where no job can be submitted.
        """
