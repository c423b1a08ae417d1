"""Workers that die, hang, or take too long: the run goes on, and says what happened to which trial."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter, deque
from contextlib import closing
from pathlib import Path

import pytest
from fakes import Curve
from test_archive import measure, plan_of
from test_run import archive, bench, contents, marked, start, write

from bench.ask import check, document, plan
from bench.contracts import Task
from bench.errors import FaultyDeviceError
from bench.events import Ended, Failed, Finished, Lost, Started
from bench.executors._place import Place
from bench.keep.archive import Archive
from bench.run import runner


def rows(folder, query):
    with closing(sqlite3.connect(archive(folder))) as db:
        return db.execute(query).fetchall()


def falls(folder, how, above=3.0, trials=8, **changes):
    """A suite whose trials above a learning rate take their worker along; the learning rates of all."""
    path = write(folder, sizes=[64], trials=trials, target=0.0, max_steps=40, **changes)
    text = path.read_text().replace(
        "optimizer: sgd", f"optimizer: {{'user_models:falling': {{above: {above}, how: {how}}}}}"
    )
    path.write_text(text)
    return path


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "raise"])
def test_a_trial_that_ends_its_worker_is_found_and_the_study_goes_on_without_it(tmp_path, how):
    falls(tmp_path, how)
    out, err = bench("run", "small.yaml", folder=tmp_path, code=5)
    trials = rows(tmp_path, "SELECT json_extract(metaparameters, '$.learning_rate'), outcome, step FROM trials")
    guilty = [row for row in trials if row[0] > 3.0]
    assert 1 <= len(guilty) < 8
    assert {outcome for _, outcome, _ in guilty} == {"crashed"}
    assert {outcome for rate, outcome, _ in trials if rate <= 3.0} == {"exhausted"}
    assert all(0 < step <= 5 for _, _, step in guilty)
    faults = rows(tmp_path, "SELECT signal, trials, message, trace FROM faults")
    assert {signal for signal, *_ in faults} == {None if how == "raise" else how}
    assert all(json.loads(seen) for _, seen, *_ in faults)
    assert f"trials that crashed and are left out: {len(guilty)}" in err
    assert f"{len(guilty)} crashed" in out
    assert f"trials that crashed or timed out and decide nothing: {len(guilty)}" in out
    # Crashed is not 'did not reach the target', and they are tried again when the suite is run again.
    assert "studies done" not in err
    _, err = bench("run", "small.yaml", folder=tmp_path, code=5)
    assert f"trials that crashed and are left out: {len(guilty)}" in err


def test_what_a_component_says_may_be_what_no_encoding_has(tmp_path):
    write(tmp_path, sizes=[64], trials=1, model="user_models:unspeakable")
    process = start("--debug", "run", "small.yaml", folder=tmp_path, PYTHONIOENCODING="ascii")
    _, err = process.communicate(timeout=60)
    assert "half of a pair: \\ud800" in err
    assert "UnicodeEncodeError" not in err
    messages = rows(tmp_path, "SELECT message, trace FROM faults")
    assert messages
    assert all("half of a pair: \\ud800" in text for row in messages for text in row)


def test_a_fault_that_does_not_come_back_changes_no_reading(tmp_path):
    # The second workload falls once, in one process, and never again.
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        path = write(folder, sizes=[64], target=0.0, max_steps=60, model="user_models:falling_once")
        assert path.exists()
    (whole / "fallen").touch()
    bench("run", "small.yaml", folder=whole)
    _, err = bench("run", "small.yaml", folder=cut)
    assert "killed by SIGKILL; the study begins again in a fresh worker" in err
    assert (cut / "fallen").exists()
    trials, readings, members, _ = contents(archive(cut))
    assert [trials, readings, members] == contents(archive(whole))[:3]


def test_a_worker_that_hangs_is_ended_with_everything_it_started(tmp_path):
    write(tmp_path, sizes=[64], trials=1, target=0.0, max_steps=40, model="[softmax, 'user_models:hanging']")
    process = start("run", "small.yaml", "--stall-seconds", "2", folder=tmp_path, BENCH_TEST_MARK=str(tmp_path))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "no evaluation for 2 seconds" in err
    assert "1 of 2 studies were not measured" in err
    assert {outcome for (outcome,) in rows(tmp_path, "SELECT outcome FROM trials")} == {"crashed", "exhausted"}
    signals = rows(tmp_path, "SELECT signal, trace FROM faults")
    assert all(name == "SIGTERM" and "about to hang" in trace for name, trace in signals)
    until = time.monotonic() + 10
    while marked(str(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert marked(str(tmp_path)) == []


def test_a_trial_that_trains_for_longer_than_it_may_has_timed_out_and_missed_nothing(tmp_path):
    path = write(tmp_path, sizes=[64], trials=2, target=0.0, model="[softmax, 'user_models:slow']", max_steps=100)
    path.write_text(path.read_text().replace("max_steps: 100", "max_steps: 100\n    max_seconds: 2.5"))
    out, err = bench("run", "small.yaml", folder=tmp_path, code=5)
    assert "its trials trained for more than max_seconds, 2.5" in err
    assert "2 timed out" in out
    assert "no trial met the target" not in out.split("user_models:slow")[1]
    assert rows(tmp_path, "SELECT min(step) > 0 FROM trials WHERE outcome = 'timed out'") == [(1,)]


def test_what_a_worker_said_last_and_where_it_fell_are_kept(tmp_path):
    write(tmp_path, sizes=[64], trials=1, model="user_models:segfaulting")
    bench("run", "small.yaml", folder=tmp_path, code=5)
    (name, trace), *_ = rows(tmp_path, "SELECT signal, trace FROM faults")
    assert name == "SIGSEGV"
    assert "user_models.py" in trace


def test_more_memory_than_there_is_makes_a_study_infeasible(tmp_path):
    write(tmp_path, sizes=[64], trials=2, model="[softmax, 'user_models:greedy']")
    out, _ = bench("run", "small.yaml", folder=tmp_path)
    assert "2 infeasible" in out


def test_a_device_that_fails_again_and_again_ends_the_run_with_exit_code_5(tmp_path):
    write(tmp_path, sizes=[8, 16, 32, 64, 128], trials=4, model="{'user_models:killed': {after: 1}}")
    _, err = bench("run", "small.yaml", folder=tmp_path, code=5)
    assert "stopped: 10 workers in a row failed" in err
    assert rows(tmp_path, "SELECT count(*) FROM faults") == [(10,)]
    assert {outcome for (outcome,) in rows(tmp_path, "SELECT outcome FROM trials")} <= {"crashed", "interrupted"}


TIMED = """
suite: timed
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: [8, 16]
    target: {validation_error: {at_most: 0.1}}
    max_steps: 100
    search: {trials: 2, learning_rate: {log_uniform: [0.01, 1]}}
    measure: [steps_to_target, throughput]
    timing: {processes: 12, seconds: 100}
    max_seconds: 50
"""


class Scripted:
    """An executor whose workers say of a task what they are told to."""

    def __init__(self, says):
        self.says, self.tasks = says, []

    def rehearse(self, studies, folder):
        return []

    def run(self, tasks, *, alone=False):
        while tasks:
            self.tasks.append(tasks.popleft())
            for event in self.says(self.tasks[-1]):
                yield self.tasks[-1], {"device": "fake"}, event


def carried_out(path, executor, text=TIMED):
    made = plan.make(check.check(document.parse(text)))
    with Archive.writing(path) as kept:
        return list(runner.run(made, list(made.units), kept, executor, path.parent))


@pytest.mark.parametrize("sizes", [[8], [8, 16]])
def test_a_timing_that_falls_twice_is_given_up_and_the_run_goes_on(tmp_path, sizes):
    def says(task):
        if task.process is None:
            return [Finished()]
        if task.unit.batch_size in sizes:
            return [Started((task.process,)), Lost("fell")]
        return [Started((task.process,)), Ended(task.process, "reached", 3, 1.0), Finished()]

    executor = Scripted(says)
    told = carried_out(tmp_path / "a.sqlite", executor)
    tried = Counter(task.unit.batch_size for task in executor.tasks if task.process)
    assert tried == {size: 2 if size in sizes else 12 for size in (8, 16)}
    assert sum(event == Finished() for unit, event in told if isinstance(unit, plan.Study)) == 2


def test_what_timed_out_or_fell_in_its_seat_is_no_fault_of_the_device(tmp_path):
    def says(task):
        if task.process:
            return [Started((task.process,)), Ended(task.process, "reached", 3, 1.0), Finished()]
        return [Started(tuple(task.unit.draws()[:2])), Lost("fell")]

    told = carried_out(tmp_path / "a.sqlite", Scripted(says))
    assert sum(isinstance(event, Lost) for _, event in told) == 2


def test_timings_that_kill_one_worker_after_the_other_are_the_devices_fault(tmp_path):
    sizes = [1, 2, 3, 4, 5, 6]
    executor = Scripted(lambda task: [Started((task.process,)), Lost("fell")] if task.process else [Finished()])
    text = TIMED.replace("[8, 16]", str(sizes))
    with pytest.raises(FaultyDeviceError, match="10 workers in a row failed"):
        carried_out(tmp_path / "a.sqlite", executor, text)
    assert len(executor.tasks) == 10


def test_a_study_that_was_finished_and_then_falls_short_is_finished_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("test_archive.CURVES", [Curve(100), Curve(90), Curve(40), Curve(80), Curve(), Curve(11)])
    path = tmp_path / "a.sqlite"
    measure(path, trials=6)
    fewer = plan_of(trials=4)
    with Archive.writing(path) as kept:
        short = next(each for each in fewer.studies[0].draws() if kept.outcome(each) == "overtaken")
        kept.plan(fewer)
        kept.record(fewer.studies[0], "", Finished())
        does_not_fit = Scripted(lambda _: [Started((short,)), Ended(short, "infeasible", 0, 0.0), Finished()])
        *_, (_, last) = runner.run(fewer, list(fewer.studies), kept, does_not_fit, tmp_path)
        assert isinstance(last, Failed)
        assert fewer.studies[0].id not in kept.finished()
    with Archive.reading(path) as kept:
        assert not kept.studies()[0].finished


def test_a_download_that_takes_longer_than_a_worker_may_hang_is_waited_for(tmp_path):
    path = write(tmp_path, sizes=[64], trials=1, max_steps=10)
    path.write_text(path.read_text().replace("dataset: digits", "dataset: 'user_models:downloaded'"))
    _, err = bench("run", path, "--stall-seconds", "3", "--data", tmp_path, folder=tmp_path)
    assert "no answer for" not in err


def test_a_timing_that_hangs_is_ended_and_the_others_go_on(tmp_path):
    path = write(tmp_path, sizes=[64], trials=1, model="[softmax, 'user_models:hanging']")
    text = path.read_text().partition("    target:")[0]
    path.write_text(
        f"{text}    measure: [throughput]\n    timing: {{processes: 1, seconds: 0.5}}\n"
        "    search: {trials: 1, learning_rate: 0.1}\n"
    )
    _, err = bench("run", path, "--stall-seconds", "9", folder=tmp_path, code=5)
    assert "no evaluation for 10 seconds" in err
    assert "1 of 2 studies were not measured" in err
    assert rows(tmp_path, "SELECT DISTINCT signal FROM faults") == [("SIGTERM",)]
    ended = rows(
        tmp_path,
        "SELECT workload LIKE '%hanging', outcome FROM trials JOIN members ON trial = key"
        " JOIN studies ON studies.id = study",
    )
    assert {(hangs, outcome == "crashed") for hangs, outcome in ended} == {(0, False), (1, True)}


class Silent:
    """A worker that says what it is told to, and nothing more."""

    def __init__(self):
        self.said = deque()

    def has_news(self):
        return bool(self.said)

    def receive(self):
        return self.said.popleft()


@pytest.fixture
def place():
    made = plan.make(check.check(document.parse(TIMED)))
    return lambda unit: Place(Task(getattr(made, unit)[0], {}, Path()), ["cpu"], Silent(), 10.0)


def test_a_timing_says_nothing_until_its_end_and_is_no_trial_that_may_time_out(place):
    timed = place("timings")
    timed.worker.said.append(Started(tuple(timed.task.unit.processes()[:1])))
    timed.news()
    assert 205 < timed.seconds_left() <= 210


def test_the_time_that_trials_may_train_runs_from_the_first_seat_of_their_cohort(place, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("bench.executors._place.time.monotonic", lambda: now[0])
    trained = place("studies")
    first, second, replacement = trained.task.unit.draws()[:3]

    def left(at, *events):
        now[0] = at
        trained.worker.said.extend(events)
        for _ in events:
            trained.news()
        trained.heard = 10_000.0  # what is left before it counts as hanging is not asked here
        return trained.seconds_left()

    assert left(5.0, Started((first, second))) == 50
    assert left(15.0, Ended(first, "diverged", 3, 1.0), Started((replacement,))) == 40
    assert left(25.0, Started((first,))) == 30, "a replacement once more"
    assert left(35.0, Started((second,))) == 50, "what did not fit begins again in a smaller cohort"
    assert left(45.0, Ended(second, "reached", 3, 1.0), Started((first,))) == 50
    assert left(55.0, Ended(first, "reached", 3, 1.0), Started((first,), 30.0)) == 20, (
        "it trained before it was cut off"
    )


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("killed_when_built", "ended early: killed by SIGKILL;"), ("hanging_when_built", "no answer for 3 seconds")],
)
def test_a_model_that_dies_or_hangs_when_it_is_tried_out_is_a_sentence(tmp_path, model, sentence):
    path = write(tmp_path, model=f"user_models:{model}")
    _, err = bench("run", path, "--stall-seconds", "3", folder=tmp_path, code=2)
    assert sentence in err


@pytest.mark.parametrize("how", ["falls", "does not fit"])
def test_a_study_without_an_overtaken_trial_that_has_to_go_further_is_not_finished(tmp_path, monkeypatch, how):
    monkeypatch.setattr("test_archive.CURVES", [Curve(100), Curve(90), Curve(40), Curve(80), Curve(), Curve(11)])
    path = tmp_path / "a.sqlite"
    more, fewer = plan_of(trials=6), plan_of(trials=4)
    measure(path, trials=6)

    def says(task):
        if how == "does not fit":
            return [Started((short,)), Ended(short, "infeasible", 0, 0.0), Finished()]
        if task.known[short.id].outcome == "crashed":
            return [Finished()]
        return [Started((short,)), Lost("fell")]

    for _ in range(2):
        with Archive.writing(path) as kept:
            short = next(each for each in fewer.studies[0].draws() if kept.outcome(each) == "overtaken")
            units = runner.missing(fewer, kept)
            *_, (_, last) = runner.run(fewer, units, kept, Scripted(says), tmp_path)
            assert units == list(fewer.studies)
            assert isinstance(last, Failed)
            assert "could not go further, as this one needs it to" in last.message
            assert kept.finished() == {more.studies[0].id}
            assert kept.outcome(short) == "overtaken"
