"""What each kind of component provides, and the words in which the stages speak to one another.

Positional parameters are what the harness gives; keyword-only parameters are what a suite may set.

    models/      name(example_shape, classes, *, options)       -> torch.nn.Module
    datasets/    name(folder, *, options)                       -> Data;  and SIZES, the examples of each split; every
                 dataset also takes `subset`, `label_noise` and `task` (`alter.py`)
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

Importing this imports no torch: the stages that plan, keep and show use these words too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

from bench.plan import Study, Timing, Trial

if TYPE_CHECKING:
    import torch

Outcome = Literal["reached", "overtaken", "exhausted", "diverged", "infeasible", "timed out", "crashed", "interrupted"]

# What training lowers, in `losses.py`: a class number or a value is given for each example, the example itself is to be
# given back, or it is the model's own output.
LossName = Literal["cross_entropy", "half_squared_error", "reconstruction", "output"]

# A class number that is none: a position of a text whose next token is not asked for.
NOT_COUNTED = -100

# The factor of the learning rate at a step, which counts from 0.
Schedule = Callable[[int], float]


class Examples(Protocol):
    """Examples and what they should be recognised as, wherever they lie.

    What they give is given as a model takes it, on the device they were sent to: inputs [n, *example_shape], floating
    point and normalised, or int64 tokens of a text; targets [n, *target_shape], int64 class numbers (for a text [n,
    length]: the token after each, or NOT_COUNTED), or values.
    """

    @property
    def targets(self) -> torch.Tensor:
        """[n, *target_shape], as they lie."""

    @property
    def example_shape(self) -> tuple[int, ...]: ...

    @property
    def target_shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same examples for a device, what is floating point of them as `dtype`."""

    def first(self, count: int) -> Split:
        """The first of them, as a model takes them; all where there are fewer."""

    def take(self, rows: torch.Tensor) -> Split:
        """Those of the numbers [n], as a model takes them."""

    def in_order(self, at_once: int) -> Iterator[Split]:
        """All of them, as a model takes them, so many at once."""

    def select(self, rows: torch.Tensor) -> Self:
        """Those of the numbers [n] and no others, as they lie."""

    def relabelled(self, targets: torch.Tensor) -> Self:
        """The same examples with other targets [n, ...]."""

    def reconstructed(self) -> Self:
        """The same examples, each of which is what itself should be recognised as."""

    def pieces(self, rows: torch.Tensor) -> Iterator[tuple[Split, torch.Tensor]]:
        """What steps of these numbers [steps, ...] need, a few steps at a time: examples in memory, and the numbers of
        the steps' own among these, on their device.
        """


@dataclass(frozen=True)
class Pixels:
    """How whole numbers from 0 to 255 are seen: as 0 .. 1, less the mean of each channel, over its deviation.

    mean, deviation: [channels, 1, 1], float32, in which it is computed; what comes of it is of type `dtype`, if given.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    dtype: torch.dtype | None = None

    def seen(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels.float() / 255 - self.mean) / self.deviation).to(self.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> Pixels:
        return Pixels(self.mean.to(device), self.deviation.to(device), dtype)


@dataclass(frozen=True)
class Split:
    """Keeps the contract of `Examples` in memory.

    inputs, targets: [n, ...], as a model takes them; whole numbers may be held as uint8. Where `targets` is `inputs`
    each example is what itself should be recognised as.  pixels: where inputs are images of whole numbers, how a model
    sees them.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    pixels: Pixels | None = None

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[1:])

    @property
    def target_shape(self) -> tuple[int, ...]:
        return tuple(self.targets.shape[1:])

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device, dtype: torch.dtype) -> Split:
        inputs = _moved(self.inputs, device, dtype)
        targets = inputs if self.targets is self.inputs else _moved(self.targets, device, dtype)
        return Split(inputs, targets, self.pixels.to(device, dtype) if self.pixels else None)

    def first(self, count: int) -> Split:
        return self._seen(self.inputs[:count], self.targets[:count])

    def take(self, rows: torch.Tensor) -> Split:
        rows = rows.to(self.inputs.device)
        return self._seen(self.inputs.index_select(0, rows), self.targets.index_select(0, rows))

    def in_order(self, at_once: int) -> Iterator[Split]:
        parts = zip(self.inputs.split(at_once), self.targets.split(at_once), strict=True)
        return (self._seen(inputs, targets) for inputs, targets in parts)

    def select(self, rows: torch.Tensor) -> Split:
        inputs = self.inputs[rows]
        return replace(self, inputs=inputs, targets=inputs if self.targets is self.inputs else self.targets[rows])

    def relabelled(self, targets: torch.Tensor) -> Split:
        return replace(self, targets=targets)

    def reconstructed(self) -> Split:
        return replace(self, targets=self.inputs)

    def pieces(self, rows: torch.Tensor) -> Iterator[tuple[Split, torch.Tensor]]:
        yield self, rows.to(self.inputs.device)

    def _seen(self, inputs: torch.Tensor, targets: torch.Tensor) -> Split:
        inputs = self.pixels.seen(inputs) if self.pixels else _whole(inputs)
        return Split(inputs, inputs if self.targets is self.inputs else _whole(targets))


def _whole(values: torch.Tensor) -> torch.Tensor:
    """Values as they are, and whole numbers as int64, which models and losses take."""
    return values if values.is_floating_point() else values.long()


def _moved(values: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return values.to(device, dtype if values.is_floating_point() else None)


@dataclass(frozen=True)
class Data:
    """A dataset: targets are met on validation; test is reported once, at the end, and chooses nothing.

    classes: how many numbers a model gives for an example, one for each class where there are classes.
    """

    train: Examples
    validation: Examples
    test: Examples
    classes: int
    loss: LossName = "cross_entropy"

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.train.example_shape

    @property
    def outputs_an_example(self) -> int:
        """How many numbers a model gives for an example, at all of its positions together."""
        positions = prod(self.train.target_shape) if self.loss == "cross_entropy" else 1
        return positions * self.classes

    def to(self, device: torch.device, dtype: torch.dtype) -> Data:
        """The same data for a device, what is floating point of it as `dtype`."""
        return self.each(lambda examples: examples.to(device, dtype))

    def each(self, change: Callable[[Examples], Examples]) -> Data:
        """The same data, a change made to each of its three parts."""
        return replace(self, train=change(self.train), validation=change(self.validation), test=change(self.test))


@dataclass
class Observation:
    """What an advance to a step showed of one trial: where it diverged, or its readings."""

    readings: dict[str, float] = field(default_factory=dict)
    diverged_at: int | None = None


@dataclass(frozen=True)
class Way:
    """How trials train, and why so."""

    name: Literal["stacked", "one by one"]
    reason: str


# The exit code of one of several ranks that ran out of memory: the others wait for it, and none can go on.
OUT_OF_MEMORY = 77


class OutOfMemory(Exception):  # noqa: N818 (it is an outcome: caught, never shown)
    """The trials asked for do not fit on the device together."""


class ReaderLost(Exception):  # noqa: N818 (no fault of a trial, or of the user: told as what became of a worker)
    """A process that reads examples was ended."""


class Cohort(Protocol):
    """Trials that train together. Two ways keep this contract: one by one, and stacked. All may raise OutOfMemory."""

    way: Way

    def train(self, step: int) -> None:
        """Trains every trial still in the cohort to `step`, where it can be looked at."""

    def advance(self, step: int) -> dict[Trial, Observation]:
        """Trains every trial still in the cohort to `step`, evaluates it, and drops those that diverged."""

    def test(self, trials: Sequence[Trial]) -> dict[Trial, dict[str, float]]:
        """The test readings of trials in the cohort, as they stand."""

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


# ---- events: what a study says while it runs --------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """Trials took their seats.

    seated_seconds: for how long they have been in them, where a study that was cut off goes on.
    """

    trials: tuple[Trial, ...]
    seated_seconds: float = 0.0


@dataclass(frozen=True)
class Seated:
    """How trials that started are trained."""

    trials: tuple[Trial, ...]
    way: Way


@dataclass(frozen=True)
class Recalled:
    """Trials that the archive already knows take part in the study."""

    trials: Mapping[Trial, Known]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of a cohort: readings by trial id."""

    step: int
    readings: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Ended:
    """A trial's one outcome, and the last step it took."""

    trial: Trial
    outcome: Outcome
    step: int
    train_seconds: float


@dataclass(frozen=True)
class Finished:
    """Terminal: the study was measured, whatever came of it."""


@dataclass(frozen=True)
class Failed:
    """Terminal: the study could not be carried out; `message` is a sentence, `trace` is for --debug.

    of_device: the device raised it, and not the code that ran on it.  of_data: an example cannot be read, whatever
    trial is in its seat.
    """

    message: str
    trace: str = ""
    of_device: bool = False
    of_data: bool = False


@dataclass(frozen=True)
class Lost:
    """Terminal: the process that ran the study ended without a word, or was ended.

    outcome: what became of the trials it was training: `interrupted` where the machine went, and no trial is at fault;
    `infeasible` where there were too many for the memory.
    signal: what ended it, such as SIGSEGV, where a signal did.
    trace: the end of what it wrote to stderr.
    """

    message: str
    outcome: Outcome = "crashed"
    signal: str | None = None
    trace: str = ""


@dataclass(frozen=True)
class Retried:
    """A worker ended early, and the study goes on in a fresh one: without the trial `blamed`, if it was found."""

    message: str
    blamed: Trial | None = None


StudyEvent = Started | Seated | Recalled | Evaluated | Ended
Event = StudyEvent | Finished | Failed | Lost | Retried
TERMINAL = (Finished, Failed, Lost)


@dataclass(frozen=True)
class Known:
    """What the archive already holds of a trial: its outcome, its last step, and the step that met the target."""

    outcome: Outcome
    step: int
    reached_at: int | None


@dataclass(frozen=True)
class Task:
    """A study to carry out, or one process of a timing: what is known of it, and where its data lies.

    apart: ids of trials that are trained in a cohort of their own, where training them in one ended a worker.
    checkpoint: the file in which a study is kept while it goes on; None keeps nothing.
    """

    study: Study | Timing
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

    def rehearse(self, studies: Sequence[Study | Timing], folder: Path) -> list[str]:
        """Everything that would stop the studies, one sentence each, found before any is begun."""

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
