"""What an archive keeps, and what is concluded from it; the study is one of fake curves."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing

import pytest
from fakes import Curve, FakeCohort, fake_text, look

from bench.ask import check, document, plan
from bench.conclude import measures
from bench.errors import ArchiveError
from bench.events import Ended, Finished, Lost, Started
from bench.keep import seals
from bench.keep.archive import Archive
from bench.keep.schema import SCHEMA_VERSION
from bench.measure import study
from bench.show import report

CURVES = [Curve(100), Curve(17), Curve(diverges=5), Curve(18), Curve(), Curve()]


def plan_of(**changes):
    text = fake_text(**{"seeds": 5, "top": 1, **changes})
    return plan.make(check.check(document.parse(text)))


def measure(path, confirmations=(12, 14, 16, 22, None), events=None, **changes):
    """Writes an archive of the study; `events` cuts it short."""
    made = plan_of(**changes)
    (of,) = made.studies

    def curve(trial):
        return CURVES[trial.number] if trial.phase == "search" else Curve(confirmations[trial.number])

    with Archive.writing(path) as archive:
        archive.plan(made)
        environment = archive.environment({"device": "fake"})
        known = archive.known(of)
        stream = list(study.run(of, known, 1, lambda trials: FakeCohort(trials, curve), look))
        for event in stream[:events]:
            archive.record(of, environment, event)
        if events is None:
            archive.record(of, environment, Finished())
    return of


def summary(path):
    with Archive.reading(path) as archive:
        (found,) = measures.summaries(archive)
    return found


def test_what_ended_a_study_is_told_until_it_is_begun_again(tmp_path):
    (each,) = plan_of().studies
    first, second = each.draws()[:2]
    with Archive.writing(tmp_path / "a.sqlite") as archive:
        archive.plan(plan_of())
        where = archive.environment({"device": "fake"})
        told = []
        for trial in (first, second):
            archive.record(each, where, Started((trial,)))
            if trial is first:
                archive.fault(each, Lost("it ended", "crashed"), {trial: 1})
            told.append(archive.studies()[0].fault)
        archive.interrupt(each, {second: 3})
        told.append(archive.studies()[0].fault)
    assert told == ["it ended", None, None]


def test_steps_to_target_are_the_first_evaluated_step_that_meets_the_target(tmp_path):
    measure(tmp_path / "a.sqlite")
    concluded = summary(tmp_path / "a.sqlite")
    assert concluded.found.steps == 19
    assert concluded.found.resolution == pytest.approx((19 - 16 - 1) / 19)
    assert concluded.outcomes == {"overtaken": 2, "reached": 2, "diverged": 1}


def test_the_confirmed_number_is_a_median_in_which_a_miss_is_beyond_the_budget(tmp_path):
    measure(tmp_path / "a.sqlite")
    confirmed = summary(tmp_path / "a.sqlite").confirmed
    assert (confirmed.steps.median, confirmed.steps.low, confirmed.steps.high) == (16, 12, math.inf)
    assert (confirmed.reached, confirmed.seeds, confirmed.budget) == (4, 5, 57)


def test_a_miss_is_null_in_the_document_and_beyond_the_budget_in_the_table(tmp_path):
    measure(tmp_path / "a.sqlite", confirmations=(None, None, None, 12, 14))
    with Archive.reading(tmp_path / "a.sqlite") as archive:
        steps = report.document(archive)["workloads"][0]["studies"][0]
        text = report.tables(archive)[0].render("table")
        assert "Infinity" not in report.as_json(archive)
    assert steps["steps_to_target"]["median"] is None
    assert steps["steps_to_target"]["high"] is None
    assert steps["steps_to_target"]["low"] == 12
    assert steps["examples_to_target"] is None
    assert ">57 [12, >57]" in text
    assert ">5,700" in text
    assert "2/5" in text


def test_a_study_nothing_met_has_no_number_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr("test_archive.CURVES", [Curve()] * 4)
    measure(tmp_path / "a.sqlite")
    with Archive.reading(tmp_path / "a.sqlite") as archive:
        found = report.document(archive)["workloads"][0]["studies"][0]
        assert "no trial met the target in 1,000 steps" in report.tables(archive)[0].render("table")
    assert found["best"] is None
    assert set(found["steps_to_target"].values()) == {None, "isotonic"}
    assert found["outcomes"] == {"exhausted": 4}


def test_what_was_cut_off_is_begun_again_and_ends_the_same(tmp_path):
    measure(tmp_path / "whole.sqlite")
    for events in range(1, 40, 7):
        measure(tmp_path / f"{events}.sqlite", events=events)
        assert summary(tmp_path / f"{events}.sqlite").status == "not measured"
        measure(tmp_path / f"{events}.sqlite")
        assert rows(tmp_path / f"{events}.sqlite") == rows(tmp_path / "whole.sqlite")


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute("SELECT id, readings.step, name, value FROM readings JOIN trials ON trial = key"))


def test_trials_that_ended_are_known_and_those_that_did_not_are_not(tmp_path):
    of = measure(tmp_path / "a.sqlite")
    path = tmp_path / "a.sqlite"
    with Archive.writing(path) as archive:
        archive.record(of, archive.environment({"device": "fake"}), Ended(of.draws()[0], "crashed", 3, 0.1))
        known = archive.known(of)
    draws = of.draws()
    assert draws[0].id not in known
    assert known[draws[1].id].reached_at == 19
    assert known[draws[2].id].outcome == "diverged"


def test_a_reader_sees_the_last_suite_and_keeps_the_readings_of_the_one_before(tmp_path):
    path = tmp_path / "a.sqlite"
    measure(path)
    before = rows(path)
    measure(path, max_steps=500)
    assert summary(path).study.content["max_steps"] == 500
    assert set(before) <= set(rows(path))


def test_a_closed_archive_needs_no_companion_so_that_it_opens_in_a_read_only_folder(tmp_path):
    path = tmp_path / "a.sqlite"
    measure(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.lock", "a.sqlite"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_reader_and_a_writer_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.sqlite"
    of = measure(path)
    with Archive.reading(path) as reader, Archive.writing(path) as writer:
        writer.record(of, writer.environment({"device": "other"}), Finished())
        assert len(measures.summaries(reader)) == 1


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "a.sqlite"
    with Archive.writing(path), pytest.raises(ArchiveError, match="another bench run"), Archive.writing(path):
        pass


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_an_archive_of_another_schema_is_refused_and_left_alone(tmp_path, version):
    path = tmp_path / "a.sqlite"
    measure(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for opening in (Archive.reading, Archive.writing):
        with pytest.raises(ArchiveError, match=f"schema version {version}"), opening(path):
            pass
    assert path.read_bytes() == before


def test_each_reading_knows_the_environment_it_was_taken_in(tmp_path):
    path = tmp_path / "a.sqlite"
    measure(path)
    with Archive.reading(path) as archive:
        (name,) = archive.environments()
        assert {trial.environment for trial in archive.studies()[0].trials} == {name}
        assert json.loads(report.as_json(archive))["environment"] == {"device": "fake"}


def test_a_best_value_at_the_edge_of_its_range_is_said(tmp_path):
    of = measure(tmp_path / "a.sqlite")
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        content = json.loads(db.execute("SELECT content FROM studies").fetchone()[0])
        best = of.draws()[1].metaparameters["learning_rate"]
        content["space"]["learning_rate"] = {"log_uniform": [best / 1.01, best * 10]}
        db.execute("UPDATE studies SET content = ?", (json.dumps(content),))
        seals.renew_study(db, of.id)
    assert summary(path).at_edge == {"learning_rate": "low"}
    with Archive.reading(path) as archive:
        assert "the best learning_rate is at the low edge" in report.tables(archive)[0].render("table")


def test_a_trial_that_has_to_go_further_keeps_its_outcome_until_it_has_another(tmp_path, monkeypatch):
    curves = [Curve(100), Curve(90), Curve(40), Curve(80), Curve(), Curve(11)]
    monkeypatch.setattr("test_archive.CURVES", curves)
    path = tmp_path / "a.sqlite"
    measure(path, trials=6)
    whole = rows(path)
    measure(path, trials=4, events=6)
    measure(path, trials=4, events=6)
    with Archive.reading(path) as archive:
        assert archive.finished() == {plan_of(trials=6).studies[0].id}
    assert set(whole) <= set(rows(path))
    with Archive.writing(path) as archive:
        archive.plan(plan_of(trials=6))
    assert summary(path).outcomes == {"overtaken": 5, "reached": 1}


def test_an_overtaken_trial_that_does_not_fit_when_it_has_to_go_further_keeps_what_it_was(tmp_path):
    path = tmp_path / "a.sqlite"
    of = measure(path)
    before = rows(path), summary(path).outcomes
    with Archive.writing(path) as archive:
        (environment,) = archive.environments()
        overtaken = next(each.id for each in archive.studies()[0].trials if each.outcome == "overtaken")
        trial = next(each for each in of.draws() if each.id == overtaken)
        archive.record(of, environment, Started((trial,)))
        archive.record(of, environment, Ended(trial, "infeasible", 0, 0.0))
    assert (rows(path), summary(path).outcomes) == before


def test_a_trial_that_went_further_elsewhere_has_the_environment_it_ended_in(tmp_path):
    path = tmp_path / "a.sqlite"
    of = measure(path)
    with Archive.writing(path) as archive:
        overtaken = next(each.id for each in archive.studies()[0].trials if each.outcome == "overtaken")
        trial = next(each for each in of.draws() if each.id == overtaken)
        elsewhere = archive.environment({"device": "another"})
        archive.record(of, elsewhere, Started((trial,)))
        assert {each.environment for each in archive.studies()[0].trials} == archive.environments().keys() - {elsewhere}
        archive.record(of, elsewhere, Ended(trial, "exhausted", 1000, 0.1))
        assert [each.id for each in archive.studies()[0].trials if each.environment == elsewhere] == [overtaken]


def test_a_confirmation_that_ran_out_of_memory_is_no_miss(tmp_path):
    of = measure(tmp_path / "a.sqlite")
    path = tmp_path / "a.sqlite"
    with Archive.writing(path) as archive:
        last = of.confirmations([of.draws()[1]], [19])[4]
        archive.record(of, archive.environment({"device": "fake"}), Ended(last, "infeasible", 3, 0.1))
    concluded = summary(path)
    assert (concluded.status, concluded.confirmed, concluded.steps_to_target) == ("infeasible", None, None)


def test_nothing_is_concluded_of_a_confirmation_that_was_cut_off(tmp_path):
    path = tmp_path / "a.sqlite"
    measure(path, events=40)
    assert summary(path).found is not None
    assert summary(path).examples_to_target is None


def test_csv_has_the_same_columns_whatever_the_outcome(tmp_path, monkeypatch):
    headers = []
    for name, curves in (("met", CURVES), ("missed", [Curve()] * 4)):
        monkeypatch.setattr("test_archive.CURVES", curves)
        measure(tmp_path / f"{name}.sqlite")
        with Archive.reading(tmp_path / f"{name}.sqlite") as archive:
            headers.append(report.as_csv(archive).splitlines()[0])
    assert headers[0] == headers[1]
    assert "outcomes.diverged" in headers[0]
    assert "best.learning_rate" in headers[0]


def test_a_table_wider_than_the_terminal_leaves_out_what_it_can_spare_and_says_so(tmp_path):
    measure(tmp_path / "a.sqlite")
    with Archive.reading(tmp_path / "a.sqlite") as archive:
        table = report.tables(archive)[0]
    narrow = table.render("table", width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "steps to target" in narrow
    assert "left out for want of width: seconds, test error" in narrow
    assert "left out" not in table.render("table", width=300)


def test_an_archive_that_nothing_was_planned_in_is_not_left_behind(tmp_path):
    with Archive.writing(tmp_path / "a.sqlite"):
        pass
    assert not (tmp_path / "a.sqlite").exists()
