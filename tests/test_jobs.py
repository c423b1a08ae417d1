"""Slurm's jobs and the run they dial in to, with threads that say what a test has them say in place of jobs."""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Client
from pathlib import Path
from threading import Event, Thread

import pytest
from fakes import fake_study
from test_run import bench

from bench.commands._executors import executor_of
from bench.contracts import Task
from bench.errors import ComponentError, DeviceError
from bench.events import Evaluated, Failed, Finished, Lost
from bench.measure.environment import cores

pytest.importorskip("submitit")

from bench.executors import slurm

NEWS = Evaluated(1, {})
# A job that waits for what does not happen goes on after so many news, a twentieth of a second each.
PATIENCE = 100


class Jobs:
    """In place of a submitter: a job is a thread that dials in and does what a test says, given its number."""

    cluster, logs = "slurm", "logs"

    def __init__(self, does):
        self._does = does
        self.threads = []

    def submit(self, calls):
        new = [Thread(target=self._job, args=(len(self.threads) + n, *call.args[:2])) for n, call in enumerate(calls)]
        self.threads += new
        for thread in new:
            thread.start()
        return new

    def left(self, jobs):
        return sum(job.is_alive() for job in jobs)

    def end(self, jobs):
        for job in jobs:
            job.join()

    def _job(self, number, address, key):
        with Client(address, authkey=key) as connection, suppress(EOFError, ConnectionError):
            self._does(number, connection)


def carried_out(does, monkeypatch, tasks=2):
    """Has two jobs carry out tasks, and those that are lost again; what became of each, and the jobs."""
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.2)
    jobs = Jobs(does)
    waiting = deque([Task(fake_study(), {}, Path())] * tasks)
    became = []
    for task, _, event in slurm.SlurmExecutor(jobs, 60.0, 2, "localhost").run(waiting):
        if isinstance(event, Finished | Lost):
            became.append(type(event))
        if isinstance(event, Lost):
            waiting.append(task)
    return became, jobs


def speak_until(happened, connection):
    for _ in range(PATIENCE):
        if happened.wait(0.05):
            return
        connection.send(({}, NEWS))


def test_a_job_that_is_lost_is_replaced_while_another_speaks(monkeypatch):
    replaced, waited = Event(), []

    def does(number, connection):
        connection.recv()
        if number == 1:
            return  # its time is up
        if number > 1:
            replaced.set()
        else:
            speak_until(replaced, connection)
            waited.append(replaced.is_set())
        connection.send(({}, Finished()))
        connection.recv()

    became, jobs = carried_out(does, monkeypatch)
    assert waited == [True]
    assert became.count(Finished) == 2
    assert len(jobs.threads) == 3


def test_a_job_for_which_nothing_is_left_is_let_go_while_another_works(monkeypatch):
    begun, let_go, waited = Event(), Event(), []

    def does(number, connection):
        connection.recv()
        if number > 0:
            begun.wait(PATIENCE * 0.05)  # or it would be given the other's task
        else:
            begun.set()
            speak_until(let_go, connection)
            waited.append(let_go.is_set())
        connection.send(({}, Finished()))
        try:
            connection.recv()
        except EOFError:
            let_go.set()

    assert carried_out(does, monkeypatch)[0] == [Finished] * 2
    assert waited == [True]


def told_by_two_jobs(units, fails, monkeypatch):
    """(job, unit) of each task that two jobs were given, where some fail of a device and are begun again."""
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.2)
    given, number_of = [], {unit.id: number for number, unit in enumerate(units)}

    def does(job, connection):
        while True:
            task, _ = connection.recv()
            told = job, number_of[task.unit.id]
            given.append(told)
            connection.send(({}, Failed("broken", "", of_device=True) if told in fails else Finished()))

    waiting = deque(Task(unit, {}, Path()) for unit in units)
    for task, _, event in slurm.SlurmExecutor(Jobs(does), 60.0, 2, "localhost").run(waiting):
        if isinstance(event, Failed) and given.count((0, number_of[task.unit.id])) < 3:
            waiting.appendleft(task)
    return given


def test_a_job_whose_device_failed_is_given_nothing_more_while_there_are_others(monkeypatch):
    units = [fake_study(max_steps=1000 + n) for n in range(6)]
    given = told_by_two_jobs(units, {(0, n) for n in range(6)}, monkeypatch)
    assert len([unit for job, unit in given if job == 0]) <= 1
    assert {unit for job, unit in given if job != 0} == set(range(6))


def test_a_job_whose_device_failed_is_tried_again_where_no_other_comes_and_forgotten_once_it_is_over(monkeypatch):
    over, tried = Event(), []

    class OthersWait(Jobs):
        def _job(self, number, address, key):
            if number == 1 and len(tried) < 3:
                over.wait()
            else:
                super()._job(number, address, key)

    def does(number, connection):
        while len(tried) < 3:
            connection.recv()
            tried.append(number)
            connection.send(({}, Failed("broken", "", of_device=True) if len(tried) != 2 else Finished()))
        if number == 0:  # it is over while it is held: another has to do what it left
            return
        connection.recv()
        tried.append(number)
        connection.send(({}, Finished()))

    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "_ALONE_SECONDS", 0.5)
    waiting = deque([Task(fake_study(max_steps=1000 + n), {}, Path()) for n in range(2)])
    for task, _, event in slurm.SlurmExecutor(OthersWait(does), 60.0, 1, "localhost").run(waiting):
        if isinstance(event, Failed):
            waiting.appendleft(task)
        if len(tried) == 3:
            over.set()
    assert tried[:3] == [0, 0, 0]
    assert tried[3] != 0
    assert not waiting


def test_a_unit_that_fails_of_a_device_wherever_it_is_clears_the_places_it_was_at(monkeypatch):
    units = [fake_study(max_steps=1000 + n) for n in range(6)]
    given = told_by_two_jobs(units, {(job, 0) for job in range(9)}, monkeypatch)
    assert {unit for _, unit in given} == set(range(6))


def test_a_job_that_died_before_it_was_given_a_task_costs_the_run_nothing(monkeypatch):
    let_in, broken = slurm.let_in, []

    def one_broken(*told):
        connections = let_in(*told)
        if not broken:
            broken.extend(connections)
            for connection in connections:
                with socket.socket(fileno=os.dup(connection.fileno())) as theirs:
                    theirs.shutdown(socket.SHUT_WR)
        return connections

    def does(number, connection):
        while True:
            connection.recv()
            connection.send(({}, Finished()))

    monkeypatch.setattr(slurm, "let_in", one_broken)
    assert carried_out(does, monkeypatch)[0] == [Finished] * 2
    assert len(broken) == 1


def test_what_jobs_are_given_with_the_key_of_their_run_lies_where_nobody_else_can_enter(tmp_path):
    logs = tmp_path / "logs"
    slurm.slurm([], 60.0, logs=str(logs / "%j"), cluster="local")
    assert logs.stat().st_mode & 0o777 == 0o700
    logs.chmod(0o750)
    with pytest.raises(DeviceError, match=r"logs: found '.*logs', which others can enter; .* chmod 700 .*logs"):
        slurm.slurm([], 60.0, logs=str(logs), cluster="local")


def test_a_job_has_time_enough_to_do_anything_before_it_is_told_that_its_time_is_up(tmp_path):
    with pytest.raises(DeviceError, match=r"^minutes: found 2; should be at least 3"):
        slurm.slurm([], 60.0, minutes=2, logs=str(tmp_path), cluster="local")


def test_an_executor_is_listed_with_what_its_options_mean_and_what_they_are_if_not_given(tmp_path):
    out, _ = bench("list", "executors", "slurm", folder=tmp_path)
    for line in ("  minutes: 60", '  cluster: "slurm"', "  gres"):
        assert line in out.splitlines()
    assert "gres (such as `gpu:1`)" in out
    assert "(needed)" in bench("list", "optimizers", "sgd", folder=tmp_path)[0]


SBATCH = """#!/bin/sh
cp "$1" submitted
echo Submitted batch job 7
"""


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """What sbatch is given where a job is submitted with options, as they stand on the command line or in a file."""
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def submit(*options):
        executor_of("slurm", options, [], 60.0)._submitter.submit([print])
        return {line.removeprefix("#SBATCH ") for line in Path("submitted").read_text().splitlines()}

    return submit


def test_what_is_typed_as_an_option_that_is_text_is_text_though_it_looks_like_a_number(submitted):
    assert {"--account=012345", "--partition=7"} <= submitted("account=012345", "partition=7")
    Path("options.yaml").write_text("account: 012345\n")
    with pytest.raises(ComponentError, match=r"account=.*; should be text, in quotes"):
        submitted("options.yaml")


def test_what_else_a_job_is_to_ask_for_is_handed_to_sbatch(submitted):
    given = submitted("sbatch={mem: 16G, qos: high, exclusive: true, signal: TERM}")
    assert {"--mem=16G", "--qos=high", "--exclusive", "--signal=B:USR2@90"} <= given
    with pytest.raises(ComponentError, match="sbatch=16; should be a mapping"):
        submitted("sbatch=16")


def test_how_many_devices_a_job_has_is_not_held_against_a_study_where_sbatch_is_told_otherwise(submitted):
    wide = fake_study()
    wide = replace(wide, workload=replace(wide.workload, devices=2))
    refused = "w: found devices: 2; a job has 1, as cpus=1 asks for"
    for options, problems in (((), [refused]), (("sbatch={gpus-per-node: 2}",), [])):
        assert executor_of("slurm", options, [], 60.0).rehearse([wide], Path()) == problems


@pytest.mark.parametrize(("asked", "counted"), [("1", 1), ("100000", None), ("", None), ("2(x2)", None)])
def test_a_job_uses_as_many_cores_as_it_asked_for_where_slurm_binds_it_to_none(monkeypatch, asked, counted):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    there = cores()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
    assert cores() == (counted or there)
