"""A run is cut off again and again: what was kept of its studies is not trained again."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

from test_run import archive, bench, contents, start, wait_for_readings, write

TRIALS, MOST_STEPS_BETWEEN_EVALUATIONS = 2, 15


def outcomes(folder):
    with closing(sqlite3.connect(archive(folder))) as db:
        return {outcome for (outcome,) in db.execute("SELECT outcome FROM trials")}


def readings(folder):
    return set(contents(archive(folder))[1])


def test_a_run_that_is_cut_off_goes_on_from_where_it_was_and_ends_in_the_archive_of_one_that_was_not(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        write(folder, [64], target=0.0, max_steps=300, trials=TRIALS, race="false", model="user_models:telling")
    bench("run", "small.yaml", folder=whole)
    calls = (whole / "calls").stat().st_size
    kept = archive(cut).with_suffix(".checkpoints")
    ways = [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    for how, number in zip(ways, (60, 120, 180), strict=True):
        process = start("run", "small.yaml", folder=cut)
        wait_for_readings(archive(cut), number, process)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert len(list(kept.glob("*.pt"))) == 2
        assert outcomes(cut) == ({None} if how == signal.SIGKILL else {"interrupted"})
        bench("verify", archive(cut), folder=cut)
    before = readings(cut)
    bench("run", "small.yaml", folder=cut)
    assert before <= readings(cut)
    assert contents(archive(cut)) == contents(archive(whole))
    # Each time at most the steps since the last evaluation are taken again, and the one that tries the model out.
    again = (cut / "calls").stat().st_size - calls
    assert 0 < again <= len(ways) * (1 + TRIALS * MOST_STEPS_BETWEEN_EVALUATIONS)
    assert not kept.exists()


def test_a_study_that_timed_out_does_not_go_on_beyond_its_time(tmp_path):
    model = "{'user_models:telling': {seconds: 0.02}}"
    path = write(tmp_path, [64], target=0.0, max_steps=5000, trials=1, race="false", model=model)
    path.write_text(path.read_text().replace("max_steps: 5000", "max_steps: 5000\n    max_seconds: 2"))
    for _ in range(2):
        _, err = bench("run", "small.yaml", folder=tmp_path, code=5)
        assert "max_seconds, 2" in err
        assert outcomes(tmp_path) == {"timed out"}
        assert not archive(tmp_path).with_suffix(".checkpoints").exists()


def test_what_a_run_left_behind_that_was_killed_when_its_study_was_done_is_removed(tmp_path):
    write(tmp_path, [64], max_steps=40, trials=1)
    bench("run", "small.yaml", folder=tmp_path)
    (study, *_) = contents(archive(tmp_path))[3][0]
    kept = archive(tmp_path).with_suffix(".checkpoints")
    kept.mkdir()
    for name in (f"{study}.pt", f"{study}.previous.pt", f"{study}.begun"):
        (kept / name).write_bytes(b"left behind")
    _, err = bench("run", "small.yaml", folder=tmp_path)
    assert not kept.exists()
    assert "checkpoints" not in err


def test_what_is_kept_of_a_study_that_the_suite_asks_for_no_more_is_told_and_stays(tmp_path):
    write(tmp_path, [64], max_steps=40, trials=1)
    kept = archive(tmp_path).with_suffix(".checkpoints")
    kept.mkdir(parents=True)
    (kept / "0123456789abcdef.pt").write_bytes(b"of another")
    _, err = bench("run", "small.yaml", folder=tmp_path)
    assert "warning: results/small/main.checkpoints: keeps 10 bytes of studies that were cut off and that" in err
    assert [file.name for file in kept.iterdir()] == ["0123456789abcdef.pt"]
