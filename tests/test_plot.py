"""Every kind of picture, as a file and in the terminal."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from sides_by_hand import timed
from summaries import summary
from test_archive import measure
from test_run import bench

from bench.conclude.points import curve_of
from bench.errors import BenchError
from bench.keep.archive import Archive
from bench.show import page, plot, report, terminal

pytest.importorskip("matplotlib")

STEPS = {8: 270, 16: 140, 32: 78, 64: 48, 128: 36}


def studies(**changes):
    probed = {"noise_scale.noise_trace": {0: 40.0, 5: 44.0}, "noise_scale.gradient_squared": {0: 1.0, 5: 1.1}}
    made = [
        summary(size, steps, seeds=[steps + off for off in (-3, -1, 0, 2, 4)], probed=[probed] * 5, **changes)
        for size, steps in STEPS.items()
    ]
    missed = summary(256, 30, seeds=[math.inf] * 5, workload=changes.get("workload", "w"))
    return [replace(each, timed=timed([0.01, 0.011, 0.012])) for each in (*made, missed)]


def test_what_was_only_timed_has_no_curve_to_draw(monkeypatch, tmp_path):
    clock = timed([0.01, 0.011])
    fell_over = replace(clock, processes=(replace(clock.processes[0], windows=()),))
    only = [replace(summary(32, None), study=each.study, timed=each) for each in (clock, fell_over)]
    assert curve_of(only).points == ()
    monkeypatch.setattr(plot, "summaries", lambda _: only)
    measure(tmp_path / "a.sqlite")
    with Archive.reading(tmp_path / "a.sqlite") as opened:
        for kind in ("batch_scaling", "curves"):
            with pytest.raises(BenchError, match="holds nothing to draw"):
                plot.plot(opened, kind, tmp_path / "p.svg")
        plot.plot(opened, "time", tmp_path / "p.svg")
        monkeypatch.setattr(report, "summaries", lambda _: only)
        with pytest.raises(BenchError, match="holds nothing to draw"):
            report.pictures(opened, 80)
        monkeypatch.setattr(page, "summaries", lambda _: only)
        monkeypatch.setattr(page, "tables", lambda _: [])
        assert page._data(opened)["workloads"] == []


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive of one measured study, whose summaries are those of a whole curve."""
    measure(tmp_path / "a.sqlite")
    with Archive.reading(tmp_path / "a.sqlite") as opened:
        measured = opened.studies()[0]
        made = [
            replace(each, study=replace(each.study, trials=measured.trials))
            for each in (*studies(workload="a $x_1$ & b"), *studies(workload="v"))
        ]
        monkeypatch.setattr(plot, "summaries", lambda _: made)
        yield opened


KINDS = ["batch_scaling", "curves", "learning_rates", "noise_scale", "time"]
DRAWN = [*((kind, ".svg", b"<?xml") for kind in KINDS), ("time", ".png", b"\x89PNG"), ("time", ".pdf", b"%PDF")]


@pytest.mark.parametrize(("kind", "suffix", "magic"), DRAWN)
def test_every_kind_is_drawn_and_in_every_format(archive, tmp_path, kind, suffix, magic):
    path = tmp_path / "pictures" / f"p{suffix}"
    plot.plot(archive, kind, path)
    assert path.read_bytes().startswith(magic)
    assert path.stat().st_size > 2_000


def test_the_kinds_are_the_files():
    assert plot.kinds() == KINDS


def test_a_miss_is_marked_at_its_budget_and_nothing_stands_where_there_is_no_number(archive):
    figure = plot._drawn(archive, "batch_scaling")
    panel = figure.axes[0]
    marks = {line.get_label(): line for line in panel.get_lines()}
    assert list(marks["a miss, at its budget"].get_ydata()) == [90]
    assert list(marks["a miss, at its budget"].get_xdata()) == [256]
    assert panel.get_xscale() == panel.get_yscale() == "log"
    slope = marks["slope -1: perfect scaling"]
    x, y = slope.get_xdata(), slope.get_ydata()
    assert math.log(y[-1] / y[0]) / math.log(x[-1] / x[0]) == pytest.approx(-1)
    assert any(label.startswith("S_min (1 + (B_crit/B)") for label in marks)
    assert panel.get_title() == "a $x_1$ & b"


def test_a_best_trial_without_a_learning_rate_has_no_mark_among_the_best(archive, monkeypatch):
    trials = archive.studies()[0].trials
    made = [replace(each, study=replace(each.study, trials=trials)) for each in (summary(8, 50), summary(16, 40))]
    (best,) = made[1].found.attempts
    made[1] = replace(made[1], found=replace(made[1].found, attempts=(replace(best, metaparameters={}),)))
    monkeypatch.setattr(plot, "summaries", lambda _: made)
    lines = {line.get_label(): line for line in plot._drawn(archive, "learning_rates").axes[0].get_lines()}
    assert list(lines["the best"].get_xdata()) == [8]


def test_a_picture_is_of_one_xml_document(archive, tmp_path):
    plot.plot(archive, "batch_scaling", tmp_path / "p.svg")
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("batch_scaling", "p.gif", "found the suffix '.gif'; should be one of .svg, .png, .pdf"),
        ("batch_scalin", "p.svg", "did you mean 'batch_scaling'?"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(archive, tmp_path, kind, name, sentence):
    with pytest.raises(BenchError, match=sentence):
        plot.plot(archive, kind, tmp_path / name)


def test_a_kind_the_archive_holds_nothing_for_is_a_sentence_and_no_empty_picture(tmp_path):
    measure(tmp_path / "a.sqlite")
    for kind in ("noise_scale", "time"):
        _, err = bench("plot", "a.sqlite", "--kind", kind, "-o", "p.svg", folder=tmp_path, code=2)
        assert f"holds nothing to draw as '{kind}'" in err
        assert not (tmp_path / "p.svg").exists()
    out, _ = bench("plot", "a.sqlite", "-o", "p.svg", folder=tmp_path)
    assert out == "picture: p.svg\n"


def test_the_terminal_shows_medians_misses_and_batch_sizes_within_its_width():
    pytest.importorskip("plotext")
    text = terminal.drawn(curve_of(studies()), 60)
    assert max(map(len, text.splitlines())) <= 60
    assert sum(line.count("o") for line in text.splitlines()[1:-1]) == len(STEPS)
    assert "^" in text
    for size in (*STEPS, 256):
        assert str(size) in text.splitlines()[-2]
    assert "\x1b" not in text


def test_show_draws_before_its_tables_and_only_beside_a_table(tmp_path):
    measure(tmp_path / "a.sqlite")
    out, _ = bench("show", "a.sqlite", "--plot", folder=tmp_path)
    assert out.index("w: steps to target") < out.index("w: softmax")
    _, err = bench("show", "a.sqlite", "--plot", "--format", "csv", folder=tmp_path, code=2)
    assert "a picture in the terminal goes with a table" in err


def test_the_help_names_every_kind(tmp_path):
    out, _ = bench("plot", "--help", folder=tmp_path)
    assert f"--kind <str> {', '.join(KINDS)}." in " ".join(out.split())
