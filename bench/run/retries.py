"""What becomes of a study whose worker ended early: which trial is at fault, and what is tried next.

The trials that were training are split in halves, each of which trains in a cohort of its own, until the one that ends
its worker stands alone; the study then goes on without it. A fault that does not come back costs nothing but time.
Where the machine itself went, no trial is at fault: the study begins again as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.ask.plan import PlanUnit, Timing, Trial
from bench.contracts import Task
from bench.events import Ended, Evaluated, Event, Failed, Finished, Known, Lost, Retried, Started

# So many workers in a row, none of which got a trial to its end, and it is not a trial that is at fault but the study.
MOST_IN_A_ROW = 5
# Before any trial has begun there is nothing to split: what ends a worker then is tried once more.
_MOST_UNSEATED = 2
# So many machines in a row went before the study came further than on any before: it is longer than they last.
MOST_INTERRUPTED = 10


class Retries:
    """Follows the events of a study or a timing; when a worker has ended early, says what is tried next.

    training: trials that are training, each with the last step it was seen at.  settled: ids of those that have ended.
    falls: how many workers in a row ended early before a trial ended or all was done, machines that went apart.
    short: a trial of which too little is known for the study's answer, and that could not go further.
    """

    def __init__(self, unit: PlanUnit) -> None:
        self.unit = unit
        self.training: dict[Trial, int] = {}
        self.settled: set[str] = set()
        self.falls = 0
        self.short: Trial | None = None
        self._apart: Sequence[frozenset[str]] = ()
        self._blamed: dict[str, Known] = {}
        self._falls_of: Counter[str] = Counter()
        self._in_a_row = 0
        self._unseated = 0
        self._interrupted = self._furthest = 0

    def apply(self, event: Event) -> None:
        match event:
            case Started(trials):
                self.training |= dict.fromkeys(trials, 0)
            case Evaluated(step, readings):
                self.training |= {trial: step for trial in self.training if trial.id in readings}
                if step > self._furthest:
                    self._furthest, self._interrupted = step, 0
            case Ended(trial):
                self.training.pop(trial, None)
                self.settled.add(trial.id)
                self.falls = self._in_a_row = self._interrupted = self._furthest = 0
            case Finished():
                self.falls = 0
            case Failed() | Lost():
                self.falls += not gone(event)

    def after(self, fault: Failed | Lost) -> Retried | None:
        """What is tried next, after which `next_task` has the task; None where the study is given up, or no other try
        is made of a timing's process. Nothing trains any more.
        """
        training, self.training = self.training, {}
        trials = list(training)
        if gone(fault):
            self._interrupted += 1
            again = self._interrupted < MOST_INTERRUPTED
            return Retried(f"{fault.message}; the study begins again elsewhere") if again else None
        if isinstance(self.unit, Timing):
            return None
        # Half as many trials need half the memory: that comes to an end by itself, and blames nobody.
        too_many = isinstance(fault, Lost) and fault.outcome == "infeasible"
        self._in_a_row += not too_many
        self._unseated += not trials
        timed_out = isinstance(fault, Lost) and fault.outcome == "timed out"
        hopeless = timed_out or (isinstance(fault, Failed) and (fault.of_data or not (trials or fault.of_device)))
        if hopeless or self._in_a_row >= MOST_IN_A_ROW or self._unseated >= _MOST_UNSEATED:
            return None
        self._falls_of.update(trial.id for trial in trials if not too_many)
        blamed = trials[0] if len(trials) == 1 and self._falls_of[trials[0].id] > 1 else None
        if blamed:
            if not self.settled and len(self._blamed) + 1 >= self.unit.workload.entry.search.trials:
                return None  # nobody would be left
            self._blamed[blamed.id] = Known("crashed", training[blamed], None)
            # The others are innocent until they fall again: together once more.
            self._apart = ()
            return Retried(f"{fault.message}; the study goes on without trial {blamed.id}", blamed)
        middle = (len(trials) + 1) // 2
        halves = [frozenset(trial.id for trial in half) for half in (trials[:middle], trials[middle:]) if half]
        others = [ids.difference(*halves) for ids in self._apart]
        self._apart = [*(ids for ids in others if ids), *halves]
        return Retried(f"{fault.message}; the study begins again in a fresh worker")

    def next_task(self, task: Task, known: Mapping[str, Known]) -> Task:
        """The task again, given what is known of its trials by now."""
        return replace(task, known={**known, **self._blamed}, apart=self._apart)


def gone(event: Event) -> bool:
    """Whether a machine went, and with it what ran there."""
    return isinstance(event, Lost) and event.outcome == "interrupted"
