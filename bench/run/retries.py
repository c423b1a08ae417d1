"""What becomes of a study whose worker ended early: which trial is at fault, and what is tried next.

The trials that were training are split in halves, each of which trains in a cohort of its own, until the one that ends
its worker stands alone; the study then goes on without it. A fault that does not come back costs nothing but time.
Where the machine itself went, no trial is at fault: the study begins again as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from bench.ask.plan import Trial
from bench.contracts import Task
from bench.events import Ended, Evaluated, Event, Failed, Known, Lost, Retried, Started

# So many workers in a row, none of which got a trial to its end, and it is not a trial that is at fault but the study.
MOST_IN_A_ROW = 5
# Before any trial has begun there is nothing to split: what ends a worker then is tried once more.
_MOST_UNSEATED = 2
# So many machines in a row went before a trial was evaluated on any: they go because of the study.
MOST_INTERRUPTED = 10


class Retries:
    """Follows a study's events; when its worker has ended early, says what is tried next."""

    def __init__(self, task: Task) -> None:
        self.task = task
        # Trials that are training, each with the last step it was seen at.
        self.training: dict[Trial, int] = {}
        self.settled: set[str] = set()
        self._blamed: dict[str, Known] = {}
        self._falls: Counter[str] = Counter()
        self._in_a_row = 0
        self._unseated = 0
        self._interrupted = 0

    def apply(self, event: Event) -> None:
        match event:
            case Started(trials):
                self.training |= dict.fromkeys(trials, 0)
            case Evaluated(step, readings):
                self.training |= {trial: step for trial in self.training if trial.id in readings}
                self._interrupted = 0
            case Ended(trial):
                self.training.pop(trial, None)
                self.settled.add(trial.id)
                self._in_a_row = self._interrupted = 0

    def after(self, fault: Failed | Lost) -> Retried | None:
        """What is tried next, after which `next_task` has the task; None where the study is given up."""
        trials = list(self.training)
        if isinstance(fault, Lost) and fault.outcome == "interrupted":
            self._interrupted += 1
            again = self._interrupted < MOST_INTERRUPTED
            return Retried(f"{fault.message}; the study begins again elsewhere") if again else None
        # Half as many trials need half the memory: that comes to an end by itself, and blames nobody.
        too_many = isinstance(fault, Lost) and fault.outcome == "infeasible"
        self._in_a_row += not too_many
        self._unseated += not trials
        timed_out = isinstance(fault, Lost) and fault.outcome == "timed out"
        hopeless = timed_out or (isinstance(fault, Failed) and (fault.of_data or not trials))
        if hopeless or self._in_a_row >= MOST_IN_A_ROW or self._unseated >= _MOST_UNSEATED:
            return None
        self._falls.update(trial.id for trial in trials if not too_many)
        blamed = trials[0] if len(trials) == 1 and self._falls[trials[0].id] > 1 else None
        if blamed:
            if not self.settled and len(self._blamed) + 1 >= self.task.study.workload.entry.search.trials:
                return None  # nobody would be left
            self._blamed[blamed.id] = Known("crashed", self.training[blamed], None)
            # The others are innocent until they fall again: together once more.
            self.task = replace(self.task, apart=())
            return Retried(f"{fault.message}; the study goes on without trial {blamed.id}", blamed)
        middle = (len(trials) + 1) // 2
        halves = [frozenset(trial.id for trial in half) for half in (trials[:middle], trials[middle:]) if half]
        others = [ids.difference(*halves) for ids in self.task.apart]
        self.task = replace(self.task, apart=[*(ids for ids in others if ids), *halves])
        return Retried(f"{fault.message}; the study begins again in a fresh worker")

    def next_task(self, known: Mapping[str, Known]) -> Task:
        """The study again, given what is known of its trials by now."""
        self.training.clear()
        return replace(self.task, known={**known, **self._blamed})
