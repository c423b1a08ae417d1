"""What charts show of a study, whichever draws it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from summaries import summary
from test_archive import measure

from bench.ask.suite import Doubling
from bench.conclude import charts
from bench.conclude.measures import summaries
from bench.keep.archive import Archive
from bench.show.page import page
from bench.show.plot import _drawn


@pytest.fixture
def archive(tmp_path):
    """One study: two trials met the target, two were overtaken and one diverged; five confirmations."""
    measure(tmp_path / "a.sqlite")
    with Archive.writing(tmp_path / "a.sqlite") as opened:
        yield opened


def test_every_trial_of_the_search_is_shown_once_by_what_came_of_it(archive):
    found = list(charts.tried(*summaries(archive)))
    assert [each.kind for each in found] == [
        *("not in time", "met the target", "diverged", "met the target", "not in time")
    ]
    assert [each.slower for each in found] == [None, 1.0, None, 1.0, None]


def test_trials_with_the_values_of_one_that_met_the_target_are_shown_too(archive):
    (row,) = summaries(archive)
    trials = tuple(replace(trial, metaparameters={"learning_rate": 0.1}) for trial in row.study.trials)
    assert len(list(charts.tried(replace(row, study=replace(row.study, trials=trials))))) == 5


def test_a_trial_without_a_learning_rate_is_not_shown():
    assert list(charts.tried(summary(8, 50))) == []


def test_curves_are_of_confirmations_and_of_the_search_where_there_are_none(archive):
    (row,) = summaries(archive)
    found = charts.curves(row, archive)
    assert [next(step for step, value in path.items() if value <= 0.1) for path in found[:4]] == [12, 14, 16, 22]
    searched = [trial for trial in row.study.trials if trial.phase == "search"]
    assert len(charts.curves(replace(row, study=replace(row.study, trials=tuple(searched))), archive)) == 5


def test_a_curve_runs_along_examples_where_the_batch_grows(archive):
    (row,) = summaries(archive)
    grown = replace(row.study, content={**row.study.content, "growth": Doubling(double_at=[1000])})
    steps, examples = (charts.curves(each, archive)[0] for each in (row, replace(row, study=grown)))
    assert list(examples) == [100 * step for step in steps]


def test_a_reading_that_is_infinite_is_left_out_of_the_page_and_of_the_picture(archive):
    archive._db.execute("UPDATE readings SET value = ?, status = 'inf' WHERE step = 1", (math.inf,))
    archive._db.commit()
    pytest.importorskip("plotly")
    pytest.importorskip("matplotlib")
    assert "Infinity" not in page(archive).partition('id="data">')[2].partition("</script>")[0]
    assert all(1 not in line.get_xdata()[:1] for line in _drawn(archive, "curves").axes[0].get_lines()[:5])
