"""Archives made on several machines, joined."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from test_archive import measure, rows
from test_run import bench

from bench.ask import check, document, plan
from bench.events import Ended, Evaluated, Finished, Lost, Started
from bench.keep import seals, verify
from bench.keep.archive import Archive


def test_archives_of_several_machines_become_one_that_shows_what_each_showed(tmp_path):
    # The second machine had a wider search: the trials they share are the same, some went further there.
    here, there, both = (tmp_path / f"{name}.sqlite" for name in ("here", "there", "both"))
    measure(here)
    measure(there, trials=5)
    out, _ = bench("merge", here, there, "--into", both, folder=tmp_path)
    assert "2 studies whole" in out
    assert not both.with_suffix(".lock").exists()
    assert set(rows(both)) == set(rows(here)) | set(rows(there))
    assert verify.problems(both) == []
    assert bench("show", both, folder=tmp_path) == bench("show", here, folder=tmp_path)
    with Archive.reading(both) as archive:
        assert len(archive.finished()) == 2


def test_an_archive_that_was_cut_off_adds_what_it_saw_and_hides_nothing(tmp_path):
    cut, whole, both = (tmp_path / f"{name}.sqlite" for name in ("cut", "whole", "both"))
    measure(whole)
    measure(cut, events=9)
    bench("merge", cut, whole, "--into", both, folder=tmp_path)
    assert rows(both) == rows(whole)
    assert bench("show", both, folder=tmp_path) == bench("show", whole, folder=tmp_path)


def timed(path, outcomes, value):
    """An archive of one timing, with so many processes of it timed, each at a value of its own machine."""
    text = """
suite: timed
workloads:
  - {name: w, model: softmax, dataset: digits, optimizer: {sgd: {learning_rate: 0.1}}, batch_sizes: [8],
     measure: [throughput], timing: {processes: 3}}
"""
    made = plan.make(check.check(document.parse(text)))
    (timing,) = made.timings
    with Archive.writing(path) as archive:
        archive.plan(made)
        environment = archive.environment({"device": path.stem})
        for process, outcome in zip(timing.processes(), outcomes, strict=False):
            archive.record(timing, environment, Started((process,)))
            archive.record(timing, environment, Evaluated(1, {process.id: {"step_seconds": value}}))
            archive.record(timing, environment, Ended(process, outcome, 1, value))
        if len(outcomes) == 3 or "infeasible" in outcomes:
            archive.record(timing, environment, Finished())


@pytest.mark.parametrize(
    ("here", "there", "stands"),
    [
        (["reached"] * 2, ["reached"] * 3, "there"),
        (["reached"] * 3, ["exhausted"] * 2, "here"),
        (["reached"], ["reached"] * 2, "there"),
        (["infeasible"], ["reached"], "there"),
        (["reached"], ["infeasible"], "here"),
    ],
)
def test_a_timing_is_taken_whole_from_the_archive_that_knows_it_best(tmp_path, here, there, stands):
    paths = {name: tmp_path / f"{name}.sqlite" for name in ("here", "there", "both")}
    timed(paths["here"], here, 1.0)
    timed(paths["there"], there, 2.0)
    bench("merge", paths["here"], paths["there"], "--into", paths["both"], folder=tmp_path)
    assert rows(paths["both"]) == rows(paths[stands])
    with Archive.reading(paths["both"]) as both, Archive.reading(paths[stands]) as one:
        assert both.finished() == one.finished()
        assert [each.outcome for each in both.studies()[0].trials] == [each.outcome for each in one.studies()[0].trials]


@pytest.mark.parametrize("first", ["small", "large"])
def test_a_trial_that_did_not_fit_on_one_machine_is_what_it_was_on_another(tmp_path, first):
    paths = {name: tmp_path / f"{name}.sqlite" for name in ("small", "large", "both")}
    of = measure(paths["large"])
    measure(paths["small"], events=3)
    with Archive.writing(paths["small"]) as archive:
        archive.record(of, archive.environment({"device": "fake"}), Ended(of.draws()[1], "infeasible", 0, 0.0))
    second = "large" if first == "small" else "small"
    bench("merge", paths[first], paths[second], "--into", paths["both"], folder=tmp_path)
    assert rows(paths["both"]) == rows(paths["large"])


def test_a_study_that_holds_a_crashed_trial_is_not_counted_as_whole(tmp_path):
    here, both, saved = (tmp_path / f"{name}.sqlite" for name in ("here", "both", "saved"))
    of = measure(here)
    with Archive.writing(here) as archive:
        archive.record(of, archive.environment({"device": "fake"}), Started(of.draws()[:1]))
        archive.interrupt(of, {of.draws()[0]: 0})
        assert archive.finished() == {of.id}, "one that was overtaken stays so"
        archive.record(of, archive.environment({"device": "fake"}), Started(of.draws()[1:2]))
        archive.fault(of, Lost("fell"), {of.draws()[1]: 3})
    assert "0 studies whole" in bench("merge", here, "--into", both, folder=tmp_path)[0]
    assert "0 of 1 studies whole" in bench("verify", here, "--repair", saved, folder=tmp_path)[0]


def test_a_workload_that_was_called_otherwise_elsewhere_is_the_same_study(tmp_path):
    here, there, both = (tmp_path / f"{name}.sqlite" for name in ("here", "there", "both"))
    measure(here)
    measure(there)
    with closing(sqlite3.connect(there)) as db, db:
        db.execute("UPDATE studies SET content = replace(content, '\"open_ended\"', '\"another\"')")
        seals.seal_all(db)
    bench("merge", here, there, "--into", both, folder=tmp_path)
    assert rows(both) == rows(here)


def test_archives_that_contradict_each_other_are_refused_and_nothing_is_written(tmp_path):
    here, there, both = (tmp_path / f"{name}.sqlite" for name in ("here", "there", "both"))
    measure(here)
    measure(there)
    with closing(sqlite3.connect(there)) as db, db:
        db.execute("UPDATE readings SET value = 0.4 WHERE value = 0.5 AND step = 4 AND trial = 2")
        seals.seal_all(db)
    _, err = bench("merge", here, there, "--into", both, folder=tmp_path, code=2)
    assert "contradicts that of an archive before it" in err
    assert sorted(place.suffix for place in tmp_path.iterdir()) == [".lock", ".lock", ".sqlite", ".sqlite"]
    assert "exists already" in bench("merge", here, "--into", here, folder=tmp_path, code=2)[1]


def test_a_trial_of_a_study_that_was_cut_off_gives_way_to_that_of_one_that_was_finished(tmp_path):
    """A job that is requeued on an unlike node trains its study anew, and the last digit may be another."""
    cut, whole, both, other = (tmp_path / f"{name}.sqlite" for name in ("cut", "whole", "both", "other"))
    measure(whole)
    measure(cut)
    with closing(sqlite3.connect(cut)) as db, db:
        db.execute("UPDATE studies SET finished = 0")
        db.execute("UPDATE readings SET value = value + 1e-9")
        db.execute("DELETE FROM seals WHERE kind = 'study'")
        seals.seal_all(db)
    for name, order in ((both, (cut, whole)), (other, (whole, cut))):
        bench("merge", *order, "--into", name, folder=tmp_path)
        assert rows(name) == rows(whole)
        assert verify.problems(name) == []
