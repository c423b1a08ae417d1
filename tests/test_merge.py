"""Archives made on several machines, joined."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from test_archive import measure, rows
from test_run import bench

from bench import seals, verify
from bench.archive import Archive


def test_archives_of_several_machines_become_one_that_shows_what_each_showed(tmp_path):
    # The second machine had a wider search: the trials they share are the same, some went further there.
    here, there, both = (tmp_path / f"{name}.sqlite" for name in ("here", "there", "both"))
    measure(here)
    measure(there, trials=5)
    out, _ = bench("merge", here, there, "--into", both, folder=tmp_path)
    assert "2 studies whole" in out
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


def test_archives_that_contradict_each_other_are_refused_and_nothing_is_written(tmp_path):
    here, there, both = (tmp_path / f"{name}.sqlite" for name in ("here", "there", "both"))
    measure(here)
    measure(there)
    with closing(sqlite3.connect(there)) as db, db:
        db.execute("UPDATE readings SET value = 0.4 WHERE value = 0.5 AND step = 4 AND trial = 2")
        seals.seal_all(db)
    _, err = bench("merge", here, there, "--into", both, folder=tmp_path, code=2)
    assert "contradicts that of an archive before it" in err
    assert not both.exists()
    assert "exists already" in bench("merge", here, "--into", here, folder=tmp_path, code=2)[1]
