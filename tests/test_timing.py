"""The clock: known work takes the time it takes, and what spoils a time is said."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from bench.analyses._timing import doubt_notes, shares
from bench.analyses.inference import inference
from bench.analyses.throughput import throughput
from bench.analyses.time_to_target import time_to_target
from bench.ask.suite import TimingOptions
from bench.conclude.measures import Process, Timed
from bench.keep.records import StudyRecord
from bench.measure import conditions, timing
from tests.summaries import summary

CPU = torch.device("cpu")


class Busy:
    """Work that spins for `seconds` a step, and notes by a clock of its own how long each call really took."""

    def __init__(self, seconds):
        self.seconds, self.steps, self.took, self.prepared = seconds, 0, [], 0

    def prepare(self, steps):
        self.prepared += steps
        spin(0.005)  # off the clock: a time that counted it in would be wrong

    def run(self, steps):
        begun = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
        for _ in range(steps):
            spin(self.seconds)
        self.steps += steps
        self.took.append((time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - begun) / steps)


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class Planned:
    """Work that does nothing; with `clocked`, its n-th call is taken to last as long a step as the n-th number says."""

    def __init__(self, step_seconds):
        self.step_seconds = iter(step_seconds)

    def prepare(self, steps):
        """Nothing."""

    def run(self, steps):
        """Nothing."""

    def waited(self):
        return None


@pytest.fixture
def clocked(monkeypatch):
    def seconds_of(run, steps, device):
        return next(run.__self__.step_seconds) * steps

    monkeypatch.setattr(timing, "seconds_of", seconds_of)


@pytest.mark.parametrize("seconds", [0.0005, 0.03])
def test_known_work_is_timed_within_two_percent(seconds):
    work = Busy(seconds)
    warm = timing.warm_up(work, CPU, most_seconds=1)
    called = len(work.took)
    seen = list(timing.windows(work, warm.steps_a_window, CPU, wanted=0.001, most_seconds=0.4))
    apart = [window.step_seconds / known for window, known in zip(seen, work.took[called:], strict=True)]
    assert statistics.median(apart) == pytest.approx(1, abs=0.02)
    assert warm.first_step_seconds == pytest.approx(work.took[0], rel=0.02, abs=1e-4)
    assert work.prepared == work.steps
    assert warm.steps + len(seen) * warm.steps_a_window == work.steps


def test_what_the_first_steps_cost_is_kept_apart(clocked):
    work = Planned(itertools.chain([0.3, 0.05], itertools.repeat(0.03)))
    warm = timing.warm_up(work, CPU, most_seconds=1)
    assert (warm.first_step_seconds, warm.steps_a_window) == (0.3, 1)
    seen = list(itertools.islice(timing.windows(work, 1, CPU, 0.0, 1), 5))
    assert {window.step_seconds for window in seen} == {0.03}


def test_a_window_is_made_long_enough_to_be_timed(clocked):
    warm = timing.warm_up(Planned(itertools.repeat(1e-5)), CPU, most_seconds=1)
    assert warm.steps_a_window * 1e-5 >= timing.WINDOW_SECONDS


def test_a_step_that_never_becomes_steady_is_warmed_up_for_so_long_and_no_longer(clocked):
    warm = timing.warm_up(Planned(itertools.cycle([0.03, 0.06])), CPU, most_seconds=0.05)
    assert warm.seconds < 1
    assert not warm.steady


def test_windows_end_when_the_median_is_known_and_else_when_time_is_up(clocked):
    assert len(list(timing.windows(Planned(itertools.repeat(0.02)), 1, CPU, 0.02, 60))) == 10
    begun = time.perf_counter()
    never = list(timing.windows(Planned(itertools.cycle([0.01, 0.03])), 1, CPU, 0.02, 0.05))
    assert 0.05 <= time.perf_counter() - begun < 5
    assert timing.relative_precision([window.step_seconds for window in never]) > 0.02


def test_a_step_that_takes_longer_than_the_time_asked_for_is_timed_all_the_same(clocked):
    assert len(list(timing.windows(Planned(itertools.repeat(5.0)), 1, CPU, 0.02, 1e-9))) == 3


def test_a_planted_slow_step_raises_the_outlier_warning():
    # Windows of ten steps of 2 ms, and one window of steps of 50 ms.
    work = Busy(0.002)
    seen = []
    for number in range(20):
        work.seconds = 0.05 if number == 9 else 0.002
        seen += list(itertools.islice(timing.windows(work, 10, CPU, 0, 9), 1))
    assert "far from the rest" in " ".join(doubt_notes([timed([each.step_seconds for each in seen])]))
    steady = tuple(0.002 + 1e-6 * (number % 7) for number in range(20))
    assert doubt_notes([timed(steady)]) == []


def test_a_slow_second_step_does_not_leave_windows_too_short_to_be_timed(clocked):
    warm = timing.warm_up(Planned(itertools.chain([0.3, 0.08], itertools.repeat(0.0007))), CPU, most_seconds=1e-9)
    assert warm.steps_a_window * 0.0007 >= timing.WINDOW_SECONDS
    assert warm.steady


def test_processes_of_the_same_group_are_no_other_programs_though_they_are_not_children():
    spin = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    before = conditions._own_seconds()
    # The shell ends at once, so that what it started is a child of this process no more.
    command = ["sh", "-c", 'exec 3<&0; "$0" -c "$1" <&3 &', sys.executable, spin]
    reads, writes = os.pipe()
    with subprocess.Popen(command, stdin=reads, stdout=subprocess.PIPE) as shell:
        os.close(reads)
        shell.wait()
        shell.stdout.readline()
        seen = conditions._own_seconds() - before
        os.close(writes)
    assert seen > 0.2  # the system counts in hundredths, and cuts off


# ---- what analyses make of it ------------------------------------------------------------------------------------

ONCE = {
    "others_share": 0.0,
    "first_step_seconds": 0.1,
    "window_steps": 10.0,
    "peak_memory_bytes": 2.0**20,
    "operations": 2e9,
    "parameter_bytes": 1e6,
    "gradient_bytes": 1e6,
    "state_bytes": 0.0,
    "product_operations_per_second": 1e12,
    "copy_bytes_per_second": 1e9,
}
HERE = {"device": "a processor", "threads": 2, "torch": "2", "governor": "performance"}
CONTENT = {
    "model": "m",
    "dataset": "d",
    "optimizer": "sgd",
    "precision": "fp32",
    "compile": False,
    "channels_last": False,
    "micro_batch": None,
    "input": "device",
    "timing": {
        "processes": 1,
        "precision": 0.02,
        "seconds": 1.0,
        "latency_bound": None,
        "interconnect": {"bandwidth_bytes_per_second": 1e9, "latency_seconds": 1e-4},
    },
}


def timed(windows, *, batch_size=8, what="throughput", processes=1, where=None, precise=True, infeasible=False, **once):
    settings = {**CONTENT["timing"], "latency_bound": once.pop("latency_bound", None)}
    content = {**CONTENT, "measure": what, "timing": TimingOptions(**settings)}
    study = StudyRecord(f"{what}-{batch_size}", "w", batch_size, content, True, ())
    process = Process(tuple(windows), {**ONCE, **once}, precise, where or HERE)
    return Timed(study, (process,) * processes, infeasible)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"others_share": 0.3}, "other programs used"),
        ({"gpu_processes": 1.0}, "on the GPU"),
        ({"throttling": 4.0}, "held back"),
        ({"clock_before_mhz": 1980.0, "clock_after_mhz": 1500.0}, "changed while"),
        ({"precise": False}, "not known to 2%"),
        ({"resident_step_seconds": 0.001}, "waited for their examples"),
        ({"where": {**HERE, "governor": "powersave"}}, "powersave"),
        ({"steady": 0.0}, "not steady"),
        ({"windows": [0.004] * 4 + [0.002] * 36}, "first windows were slower"),
    ],
)
def test_each_thing_that_can_spoil_a_time_is_said_once_with_its_batch_sizes(made, words):
    windows = made.pop("windows", [0.002] * 40)
    notes = doubt_notes([timed(windows, batch_size=size, **made) for size in (8, 16)])
    (said,) = [note for note in notes if words in note]
    assert said.startswith("doubt: at batch size 8, 16: ")
    assert all(words not in note for note in doubt_notes([timed([0.002] * 40)]))


def test_a_process_that_is_missing_is_said():
    few = timed([0.002] * 40)
    few.study.content["timing"] = TimingOptions(processes=3)
    assert "1 of 3 processes" in doubt_notes([few])[0]


def test_processes_of_two_environments_are_told_apart():
    one, other = timed([0.002] * 40), timed([0.002] * 40, where={**HERE, "threads": 1})
    mixed = replace(one, processes=(*one.processes, *other.processes))
    assert "2 environments" in " ".join(doubt_notes([mixed]))


def test_a_time_stands_where_the_limits_could_not_be_measured():
    few = timed([0.002] * 40)
    del few.processes[0].once["operations"]
    (table,) = throughput([summary_with(summary(8, 100), few)])
    assert table.rows[0][1] == "2 ms"
    assert table.records[0]["compute_share"] is None


def test_the_ceiling_that_binds_is_the_one_that_is_used_most():
    # 2e9 operations in 2 ms of 1e12 a second: all of it. 4 x 1e6 + 2 x 1e6 bytes in 2 ms of 1e9 a second: three times.
    used = shares(timed([0.002] * 3))
    assert used.compute == pytest.approx(1.0)
    assert used.memory == pytest.approx(3.0)
    assert used.binding == "memory"
    assert shares(timed([0.002] * 3, copy_bytes_per_second=1e11)).binding == "compute"
    assert shares(timed([0.2] * 3, copy_bytes_per_second=1e11)).binding == "neither"
    # A forward pass only reads its parameters.
    assert shares(timed([0.002] * 3, what="inference")).memory == pytest.approx(0.5)


def test_what_does_not_fit_is_a_row_with_its_peak_memory_beside_the_others():
    fits = summary(8, 100)
    rows = [
        summary_with(fits, timed([0.002] * 40, peak_memory_bytes=2.0**30)),
        summary_with(summary(16, 100), timed((), batch_size=16, infeasible=True, peak_memory_bytes=3 * 2.0**30)),
    ]
    (table,) = throughput(rows)
    assert [row[:2] for row in table.rows] == [["8", "2 ms"], ["16", "out of memory"]]
    assert table.rows[1][4] == "3 GiB"
    assert any("the largest batch size tried that fits is 8; 16 does not" in note for note in table.notes)
    assert table.records[0]["processes"][0]["windows"] == [0.002] * 40
    assert table.records[1]["step_seconds"] is None


def summary_with(row, of):
    return replace(row, **{"timed" if of.study.measure == "throughput" else "inference": of})


def test_time_to_target_is_steps_times_the_time_of_a_step_with_both_intervals():
    row = summary_with(summary(8, 100, seeds=[90, 100, 100, 110, 120]), timed([0.002] * 40, processes=5))
    assert row.seconds_to_target.median == pytest.approx(0.2)
    assert row.seconds_to_target.low == pytest.approx(0.18)
    assert row.seconds_to_target.high == pytest.approx(0.24)
    assert row.seconds_to_target.confidence == pytest.approx(0.9 * 0.9375)
    assert summary(8, 100).seconds_to_target is None
    missed = summary_with(summary(8, 100, seeds=[math.inf] * 5), timed([0.002] * 40))
    assert math.isinf(missed.seconds_to_target.median)


def test_more_devices_are_predicted_by_a_ring_all_reduce():
    rows = [
        summary_with(summary(16, 100), timed([0.010] * 40, batch_size=16)),
        summary_with(summary(64, 80), timed([0.040] * 40, batch_size=64)),
    ]
    measured, predicted = time_to_target(rows)
    assert [record["seconds_to_target"]["median"] for record in measured.records] == pytest.approx([1.0, 3.2])
    one, two, four = predicted.records[:3]
    assert (one["batch_size"], one["seconds"], one["predicted"]) == (16, pytest.approx(1.0), False)
    # 32 of 64 on each of two lies half-way on log axes: 20 ms; 1e6 bytes x 2 x 1/2 at 1e9 a second and two messages.
    # Batch 16 on two is no quicker than the smallest measured, so that it costs as much as on one, and the all-reduce.
    assert two["all_reduce_seconds"] == pytest.approx(1e-3 + 2e-4)
    assert (two["batch_size"], two["seconds"]) == (16, pytest.approx(100 * (0.010 + 0.0012)))
    assert four["batch_size"] == 64
    assert four["seconds"] == pytest.approx(80 * (0.010 + 1.5e-3 + 6e-4))
    assert four["predicted"]
    assert "PREDICTED" in predicted.notes[0]


def test_the_knee_is_the_smallest_batch_with_nine_tenths_of_the_best_throughput():
    times = {1: 0.001, 8: 0.002, 64: 0.0145, 512: 0.11}
    rows = [
        summary_with(summary(size, None), timed([each] * 40, batch_size=size, what="inference", latency_bound=0.003))
        for size, each in times.items()
    ]
    (table,) = inference(rows)
    assert "knee: batch size 64" in table.notes[1]
    assert "within 3 ms use batch size 8: 4,000 examples/s" in table.notes[2]
