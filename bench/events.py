"""What a study says while it runs, as the stages that run, keep and show it hear it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.ask.plan import Trial

Outcome = Literal["reached", "overtaken", "exhausted", "diverged", "infeasible", "timed out", "crashed", "interrupted"]


@dataclass(frozen=True)
class Way:
    """How trials train, and why so."""

    name: Literal["stacked", "one by one"]
    reason: str


@dataclass(frozen=True)
class Known:
    """What the archive already holds of a trial: its outcome, its last step, and where its target is crossed by then.

    The crossing is settled where the outcome is `reached`.
    """

    outcome: Outcome
    step: int
    reached_at: int | None


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
