"""Ten thousand studies on a thousand devices, on paper: nothing is lost, and little time."""

from __future__ import annotations

import heapq
import random
from contextlib import closing

import pytest

from bench.ask import check, document, plan
from bench.ask.forecast import forecast
from bench.events import Ended, Finished, Lost, Started
from bench.keep.archive import Archive
from bench.run import runner

LARGE = """
suite: large
defaults:
  model: softmax
  dataset: digits
  optimizer: sgd
  target: {validation_error: {at_most: 0.1}}
  max_steps: 1000
  search: {trials: 1, learning_rate: 0.1}
  confirm: {seeds: 0}
workloads:
"""


PAPER = {"device": "paper"}


class PaperCluster:
    """Keeps the contract of `contracts.Executor` in no time: a study takes as long as it is expected to, give or take
    a quarter, and a share of those that are under way is lost, with its devices, which come back at once.

    busy: the device time of all that was begun, lost or not.
    """

    def __init__(self, devices, lost):
        self.free, self.lost, self.losses = devices, lost, 0
        self.now = self.busy = self.longest = 0.0
        self.draws = random.Random(0)

    def rehearse(self, studies, folder):
        return []

    def run(self, tasks, *, alone=False):
        running, number = [], 0
        while tasks or running:
            while tasks and tasks[0].unit.workload.devices <= self.free:
                task = tasks.popleft()
                takes = task.unit.expected_cost * self.draws.uniform(0.75, 1.25)
                falls = self.draws.random() < self.lost
                takes *= self.draws.random() if falls else 1.0
                heapq.heappush(running, (self.now + takes, number, task, falls))
                width = task.unit.workload.devices
                self.free, self.busy = self.free - width, self.busy + width * takes
                self.longest, number = max(self.longest, takes), number + 1
            self.now, _, task, falls = heapq.heappop(running)
            self.free += task.unit.workload.devices
            trial = task.unit.draws()[0]
            yield task, PAPER, Started((trial,))
            if falls:
                self.losses += 1
                yield task, PAPER, Lost("its node was lost", "interrupted")
            else:
                yield task, PAPER, Ended(trial, "exhausted", 1000, 1.0)
                yield task, PAPER, Finished()


def large(batch_sizes, *devices):
    """A plan of workloads, each on so many devices a study."""
    sizes = list(range(104, 104 + 8 * batch_sizes, 8))
    rows = "".join(
        f"  - {{name: w{number}, devices: {count}, batch_sizes: {sizes}}}\n" for number, count in enumerate(devices)
    )
    made = check.check(document.parse(LARGE.replace("dataset: digits", "dataset: fashion_mnist") + rows))
    return plan.make(made)


def test_ten_thousand_studies_keep_a_thousand_devices_busy_and_none_is_lost(tmp_path):
    """No schedule ends before the longest study does, nor before the device time of all, shared out evenly."""
    made = large(1000, 1, 2, 4, 8, 1, 2, 4, 8, 1, 8)
    cluster = PaperCluster(1000, lost=0.05)
    with Archive.writing(tmp_path / "large.sqlite") as archive:
        with closing(runner.run(made, made.studies, archive, cluster, tmp_path)) as events:
            finished = [study.id for study, event in events if isinstance(event, Finished)]
        assert runner.missing(made, archive) == []
    assert sorted(finished) == sorted(study.id for study in made.studies)
    assert cluster.losses > 100
    assert cluster.now <= 1.1 * max(cluster.longest, cluster.busy / 1000)


class Preempted(PaperCluster):
    """Loses the machine of each task so many times before it has said anything."""

    def __init__(self, times):
        super().__init__(4, 0.0)
        self.times = times

    def run(self, tasks, *, alone=False):
        left = {}
        while tasks:
            task = tasks.popleft()
            key = task.unit.id, task.process
            left[key] = left.get(key, self.times) - 1
            if left[key] >= 0:
                yield task, PAPER, Lost("its job was preempted", "interrupted")
                continue
            trial = task.process or task.unit.draws()[0]
            yield task, PAPER, Started((trial,))
            yield task, PAPER, Ended(trial, "exhausted", 1000, 1.0)
            yield task, PAPER, Finished()


def test_being_preempted_is_nobodys_fault_and_what_was_preempted_is_tried_again(tmp_path):
    text = LARGE + "  - {name: w, batch_sizes: [8, 16, 32, 64], measure: [steps_to_target, throughput]}\n"
    made = plan.make(check.check(document.parse(text)))
    with Archive.writing(tmp_path / "a.sqlite") as archive:
        list(runner.run(made, list(made.units), archive, Preempted(4), tmp_path))
        assert runner.missing(made, archive) == []


def test_what_is_preempted_without_end_is_given_up(tmp_path):
    made = large(3, 1)
    with Archive.writing(tmp_path / "a.sqlite") as archive:
        events = [event for _, event in runner.run(made, made.studies, archive, Preempted(10**6), tmp_path)]
        assert len(runner.missing(made, archive)) == 3
    assert sum(isinstance(event, Lost) for event in events) == 3


def test_a_forecast_is_the_schedule_worked_out_by_hand():
    made = forecast([(each, 1) for each in (3.0, 3.0, 2.0, 2.0, 2.0)], 2)
    assert (made.makespan_seconds, made.device_seconds, made.least_seconds) == (7.0, 12.0, 6.0)
    assert made.utilisation == pytest.approx(12 / 14)


def test_a_study_on_several_devices_waits_until_as_many_are_free_and_no_other_passes_it():
    made = forecast([(3.0, 1), (1.0, 1), (1.0, 1), (2.0, 4), (1.0, 2), (1.0, 1)], 4)
    # The fourth begins at 3, when the first ends, and the last two at 5, though two devices were free from 1 on.
    assert (made.makespan_seconds, made.device_seconds) == (6.0, 5.0 + 8.0 + 3.0)
    assert made.least_seconds == 4.0


def test_one_long_study_is_what_a_thousand_devices_wait_for():
    made = forecast([(100.0, 1), *[(1.0, 1)] * 50], 1000)
    assert made.makespan_seconds == made.least_seconds == 100.0
