"""Workers that die, hang, or take too long: the run goes on, and says what happened to which trial."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing

import pytest
from test_run import archive, bench, contents, marked, start, write


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
    write(tmp_path, sizes=[8, 16, 32, 64, 128], trials=4, model="user_models:killed")
    _, err = bench("run", "small.yaml", folder=tmp_path, code=5)
    assert "stopped: 10 workers in a row failed" in err
    assert rows(tmp_path, "SELECT count(*) FROM faults") == [(10,)]
    assert {outcome for (outcome,) in rows(tmp_path, "SELECT outcome FROM trials")} <= {"crashed", "interrupted"}
