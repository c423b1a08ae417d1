"""Archives that are torn, flipped, old, or somebody's trap: a sentence, and never a wrong number shown as right."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import fake_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_archive import measure, plan_of, rows
from test_run import bench

from bench import table
from bench.ask import check, document, plan
from bench.conclude.compare import compare
from bench.conclude.sides import of_archive
from bench.errors import BenchError
from bench.events import Ended, Evaluated, Finished, Started
from bench.keep import seals, verify
from bench.keep.archive import Archive
from bench.keep.schema import SCHEMA_VERSION
from bench.show import page, report

RELEASED = sorted((Path(__file__).parent.parent / "archives").glob("version_*.sql"))


def shown(path):
    with Archive.reading(path) as archive:
        return report.as_json(archive) + "\n\n".join(each.render("table") for each in report.tables(archive))


@dataclass(repr=False)
class Sound:
    """An archive with nothing wrong, its bytes, what it shows, its studies that are whole, and its readings."""

    path: Path

    def __post_init__(self):
        self.content = self.path.read_bytes()
        self.shown = shown(self.path)
        self.readings = set(rows(self.path))
        with Archive.reading(self.path) as archive:
            self.studies = len(archive.finished())


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.sqlite"
    measure(path)
    return Sound(path)


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """One that holds a study, and a timing of it."""
    path = tmp_path_factory.mktemp("timed") / "a.sqlite"
    measure(path)
    text = fake_text(seeds=5, top=1)
    made = plan.make(check.check(document.parse(f"{text}    measure: [steps_to_target, throughput]\n")))
    (timing,) = made.timings
    with Archive.writing(path) as archive:
        archive.plan(made)
        where = archive.environment({"device": "fake"})
        for process in timing.processes():
            archive.record(timing, where, Started((process,)))
            seen = {"peak_memory_bytes": 2.0**20, "first_step_seconds": 0.5}
            archive.record(timing, where, Evaluated(0, {process.id: seen}))
            for window in range(1, 6):
                archive.record(timing, where, Evaluated(window, {process.id: {"step_seconds": 0.001 * window}}))
            archive.record(timing, where, Ended(process, "reached", 5, 1.0))
        archive.record(timing, where, Finished())
    assert "throughput" in shown(path)
    return Sound(path)


def answer(path, ask, *arguments):
    """What comes of it, and whether that is an answer; what is none is a sentence that names the file."""
    try:
        return ask(*arguments), True
    except BenchError as error:
        sentence = str(error)
    assert str(path) in sentence
    return sentence, False


def looked_at(path, original):
    """Shows, verifies and repairs; what is shown is the original, or nothing is, or, repaired, that it is to be run."""
    said, is_shown = answer(path, shown, path)
    assert not is_shown or said == original.shown
    wrong, _ = answer(path, verify.problems, path)
    assert wrong or (is_shown and said == original.shown)
    saved = path.with_name("saved.sqlite")
    salvage, is_saved = answer(path, verify.repair, path, saved)
    if is_saved:
        again, is_shown = answer(saved, shown, saved)
        assert not is_shown or again == original.shown or salvage.studies < original.studies
        assert set(rows(saved)) <= original.readings, "a reading is as it was written, or is not there"
        assert is_shown or "holds no suite" in again
        assert not is_shown or verify.problems(saved) == []


EXAMPLES = settings(
    max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@EXAMPLES
@given(place=st.integers(0, 2**32), bit=st.integers(0, 7))
def test_an_archive_with_a_flipped_bit_is_never_a_traceback_and_never_a_wrong_number(
    timed, tmp_path_factory, place, bit
):
    content = timed.content
    place %= len(content)
    path = tmp_path_factory.mktemp("flipped") / "a.sqlite"
    path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
    looked_at(path, timed)
    shutil.rmtree(path.parent)


@EXAMPLES
@given(length=st.integers(0, 2**32))
def test_a_torn_archive_is_never_a_traceback_and_never_a_wrong_number(timed, tmp_path_factory, length):
    content = timed.content
    path = tmp_path_factory.mktemp("torn") / "a.sqlite"
    path.write_bytes(content[: length % len(content)])
    looked_at(path, timed)
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("UPDATE readings SET value = value / 2 WHERE name = 'validation_error'", "the trial"),
        (
            "UPDATE trials SET outcome = 'exhausted' WHERE outcome = 'reached'",
            "did not reach its target, and its readings say otherwise",
        ),
        ("DELETE FROM readings WHERE value <= 0.1", "reached its target, and no reading does"),
        ("UPDATE studies SET content = replace(content, '0.1', '0.2')", "the study"),
        ("UPDATE suites SET text = ''", "the suite '1' is not what was written"),
        ("UPDATE environments SET content = '{}'", "the environment"),
        ("DELETE FROM trials WHERE number = 1 AND phase = 'search'", "refers to one of trials that is not there"),
        ("UPDATE trials SET step = 2 WHERE outcome = 'reached'", "has readings beyond its last step"),
    ],
)
def test_verify_says_what_is_not_as_it_was_written(sound, tmp_path, change, sentence):
    path = tmp_path / "a.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(change)
    _, err = bench("verify", path, folder=tmp_path, code=1)
    assert sentence in err
    assert "is not what was written" in bench("show", path, folder=tmp_path, code=2)[1]
    assert "not what was written" in err


def test_verify_finds_nothing_wrong_with_an_archive_that_is_sound(sound, tmp_path):
    assert "nothing wrong" in bench("verify", sound.path, folder=tmp_path)[0]


def test_repair_saves_what_is_sound_into_a_new_file_and_never_in_place(sound, tmp_path):
    path, saved = tmp_path / "a.sqlite", tmp_path / "saved.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE readings SET value = 0.0 WHERE trial = 1")
    before = path.read_bytes()
    out, _ = bench("verify", path, "--repair", saved, folder=tmp_path)
    assert "0 of 1 studies whole, 9 of 10 trials" in out
    assert path.read_bytes() == before
    assert "exists already" in bench("verify", path, "--repair", saved, folder=tmp_path, code=2)[1]
    with Archive.reading(saved) as archive:
        assert archive.finished() == set()
        assert len(archive.studies()[0].trials) == 9


@pytest.mark.parametrize("command", [["export", "a.sqlite", "copy"], ["merge", "a.sqlite", "--into", "copy"]])
def test_what_is_sealed_anew_is_checked_first_however_large_it_is(sound, tmp_path, monkeypatch, command):
    monkeypatch.setattr("bench.keep.database.CHECKED_BYTES", 0)
    path = tmp_path / "a.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE readings SET value = 0.0 WHERE trial = 1")
    assert "is not what was written" in bench(*command, folder=tmp_path, code=2)[1]
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "command", [["merge", "--into", "copy.sqlite"], ["verify", "--repair", "copy.sqlite"], ["export", "copy.tar.zst"]]
)
def test_a_timing_survives_being_merged_repaired_exported_and_imported(timed, tmp_path, command):
    bench(command[0], timed.path, *command[1:], folder=tmp_path)
    copy = tmp_path / command[-1]
    if command[0] == "export":
        bench("import", copy, folder=tmp_path)
        copy = tmp_path / "results" / "fake" / "main.sqlite"
    assert verify.problems(copy) == []
    assert shown(copy) == timed.shown


def test_repair_saves_the_processes_of_a_timing_that_are_sound_and_asks_for_the_others(timed, tmp_path):
    path = altered(timed, tmp_path, "UPDATE readings SET value = 7.0 WHERE name = 'step_seconds'", reseal=False)
    out, _ = bench("verify", path, "--repair", "saved.sqlite", folder=tmp_path)
    assert "1 of 2 studies whole, 10 of 15 trials" in out
    with Archive.reading(tmp_path / "saved.sqlite") as archive:
        (timing,) = (each for each in archive.studies() if each.measure == "throughput")
        assert (timing.finished, timing.trials) == (False, ())


def test_a_salvaged_archive_that_lost_its_suite_outlives_a_run_that_is_refused_and_an_import(sound, tmp_path):
    path, saved = tmp_path / "a.sqlite", tmp_path / "saved.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE suites SET text = ''")
    verify.repair(path, saved)
    before = trials_of(saved)
    assert len(before) == 10
    with pytest.raises(BenchError, match="refused"), Archive.writing(saved):
        raise BenchError("refused")
    assert trials_of(saved) == before
    with (
        Archive.writing(saved) as archive,
        pytest.raises(BenchError, match=r"holds trials that were measured; .* --label"),
    ):
        archive.begin_import()
    assert trials_of(saved) == before


def trials_of(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT id, outcome FROM trials ORDER BY id").fetchall()


@pytest.mark.parametrize("dump", RELEASED, ids=lambda path: path.stem)
def test_an_archive_of_every_released_version_is_shown_and_migrated(dump, sound, tmp_path):
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(dump.read_text())
        ((then,),) = db.execute("SELECT id FROM studies").fetchall()
    before = path.read_bytes()
    expected = shown(path)
    (study,) = json.loads(bench("show", path, "--format", "json", folder=tmp_path)[0])["workloads"][0]["studies"]
    # Its trials stopped at the first reading that met the target, and so it is read by that rule.
    steps = {key: study["steps_to_target"][key] for key in ("rule", "search", "median", "high", "reached", "seeds")}
    assert steps == {"rule": "first", "search": 19, "median": 16, "high": None, "reached": 4, "seeds": 5}
    assert "first reading that met the target" in bench("show", path, folder=tmp_path)[0]
    assert verify.problems(path) == []
    assert path.read_bytes() == before, "reading changes nothing"
    with Archive.writing(path) as archive:
        assert archive.finished() == {then}
    assert shown(path) == expected
    assert verify.problems(path) == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert db.execute("SELECT count(*) FROM seals").fetchone()[0] >= 10


def test_every_version_before_this_one_has_its_archive():
    assert [path.stem for path in RELEASED] == [f"version_{version}" for version in range(1, SCHEMA_VERSION)]


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE VIEW w AS SELECT load_extension('x')",
        "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM trials; END",
    ],
)
def test_an_archive_that_holds_something_to_run_is_refused(sound, tmp_path, trap):
    path = tmp_path / "a.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db:
        db.execute(trap)
    for command in ("show", "verify"):
        assert "nothing to run" in bench(command, path, folder=tmp_path, code=2)[1]


@pytest.mark.parametrize("content", ["[]", "{}", '{"model": 3}', "nonsense", '"' + "x" * 1000])
def test_content_that_bench_would_not_write_is_a_sentence(sound, tmp_path, content):
    path = tmp_path / "a.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE studies SET content = ?", (content,))
        seals.seal_all(db)
    assert "holds what bench does not write" in bench("show", path, folder=tmp_path, code=2)[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("measure", "another"),
        ("threshold", {}),
        ("threshold", {"at_most": 0.1, "below": 0.2}),
        ("trials", "4"),
        ("seeds", -4),
        ("max_steps", "7"),
        ("devices", 0),
        ("slack", "1"),
        ("precision", [1]),
        ("growth", {"adaptive": "norm_test", "most": 7}),
    ],
)
def test_a_study_that_no_suite_could_ask_for_is_a_sentence(sound, tmp_path, key, value):
    path = altered(
        sound, tmp_path, f"UPDATE studies SET content = json_set(content, '$.{key}', json(?))", json.dumps(value)
    )
    assert "holds what bench does not write" in answer(path, everything, path)[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", {"at_most": 0.1, "below": None}),
        ("target", {"validation_error": {"at_most": 0.1, "below": None}}),
        ("growth", {"adaptive": "noise_scale", "most": 700, "eta": None}),
        ("space", {}),
        ("reading", "another"),
    ],
)
def test_a_study_told_otherwise_than_bench_writes_it_is_shown(sound, tmp_path, key, value):
    path = altered(
        sound, tmp_path, f"UPDATE studies SET content = json_set(content, '$.{key}', json(?))", json.dumps(value)
    )
    assert answer(path, everything, path)[1]


def test_a_timing_that_leaves_out_what_has_a_default_is_shown(timed, tmp_path):
    path = altered(timed, tmp_path, "UPDATE studies SET content = json_set(content, '$.timing', json('{}'))")
    assert answer(path, everything, path)[1]


def everything(path):
    """All that is made of an archive."""
    with Archive.reading(path) as archive:
        compare(of_archive(archive), of_archive(archive))
        return f"{shown(path)}{page._data(archive)}"


def altered(sound, folder, statement, *values, reseal=True):
    """The sound archive, changed by somebody who knows how it is sealed, or does not."""
    path = folder / "a.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)
        if not reseal:
            return path
        for name, content in db.execute("SELECT id, content FROM environments").fetchall():
            again = hashlib.sha256(str(content).encode()).hexdigest()[:16]
            db.execute("UPDATE environments SET id = ?", (again,))
            db.execute("UPDATE trials SET environment = ? WHERE environment = ?", (again, name))
        seals.seal_all(db)
    return path


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE suites SET planned = ?", "5"),
        ("UPDATE suites SET planned = ?", "[[1]]"),
        ("UPDATE suites SET planned = ?", '["none"]'),
        ("UPDATE suites SET text = ?", b"\xff"),
        ("UPDATE studies SET batch_size = ?", "x"),
        ("UPDATE studies SET batch_size = ?", 0),
        ("UPDATE studies SET batch_size = ?", -8),
        ("UPDATE studies SET workload = ?", b"w"),
        ("UPDATE studies SET content = ?", "[" * 100_000),
        ("UPDATE studies SET content = json_set(content, '$.deep', json(?))", "[" * 900 + "]" * 900),
        ("UPDATE environments SET content = ?", "[]"),
        ("UPDATE environments SET content = ?", "{" * 5000),
        ("UPDATE readings SET status = ?", "abc"),
        ("UPDATE readings SET value = ?", "half"),
        ("UPDATE readings SET value = ?", None),
        ("UPDATE readings SET name = ? WHERE name = 'test_error'", b"7"),
        ("UPDATE readings SET step = -step - 1 WHERE step > ?", 0),
        ("UPDATE trials SET metaparameters = ?", "5"),
        ("UPDATE trials SET phase = ?", "abc"),
        ("UPDATE trials SET outcome = ?", "won"),
        ("UPDATE trials SET step = ?", "soon"),
        ("UPDATE trials SET step = ?", -1),
        ("UPDATE trials SET train_seconds = ?", "long"),
        ("CREATE TABLE more AS SELECT ? AS x", 1),
        ("ALTER TABLE trials ADD COLUMN more DEFAULT 1", None),
    ],
)
def test_what_show_refuses_verify_says_and_neither_is_a_traceback(sound, tmp_path, statement, value):
    path = altered(sound, tmp_path, statement, *([value] if "?" in statement else []))
    _, refused = bench("show", path, "--format", "json", folder=tmp_path, code=2)
    _, wrong = bench("verify", path, folder=tmp_path, code=1)
    assert str(path) in refused
    assert str(path) in wrong
    bench("verify", path, "--repair", tmp_path / "saved.sqlite", folder=tmp_path)


NAMES = ["\x1b[2J\x1b[31mred", "::error::stop", "<script>x</script>", "[a](http://b)", "=1+2", "\u202eback", "`c`|d"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_somebodys_archive_is_text_in_every_output_and_nothing_else(sound, tmp_path, name):
    path = tmp_path / "a.sqlite"
    path.write_bytes(sound.content)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE studies SET workload = ?", (name,))
        seals.seal_all(db)
    for style in ("table", "markdown", "latex", "csv", "json"):
        out, _ = bench("show", path, "--format", style, folder=tmp_path)
        assert not {"\x1b", "\u202e"} & set(out)
        assert not any(line.startswith("::") for line in out.splitlines())
        if style == "markdown":
            assert "<script" not in out
            assert "<a " not in MarkdownIt("commonmark").render(out)
        elif style == "csv":
            assert not any(cell.startswith("=") for line in out.splitlines() for cell in line.split(","))
        elif style == "json":
            assert json.loads(out)["workloads"][0]["name"] == name


def test_cells_of_a_csv_are_no_formulas_and_numbers_stay_numbers():
    cells = ["=1+2", "@x", "+a", "-b", "-1.5", -1.5, "a", None, "\t=x"]
    harmless = ["'=1+2", "'@x", "'+a", "'-b", "-1.5", -1.5, "a", None, "'\t=x"]
    assert [table.harmless(cell) for cell in cells] == harmless


ODD = [math.nan, math.inf, -math.inf, 1e308, -0.0, 5e-324, float(2**63), 0.1]


def same(left, right):
    return repr(left) == repr(right)


def test_odd_values_survive_the_archive(tmp_path):
    path = tmp_path / "a.sqlite"
    made = plan_of()
    (of,) = made.studies
    trial = of.draws()[0]
    with Archive.writing(path) as archive:
        archive.plan(made)
        environment = archive.environment({"device": "fake"})
        archive.record(of, environment, Started((trial,)))
        for step, value in enumerate(ODD):
            archive.record(of, environment, Evaluated(step, {trial.id: {"odd": value}}))
        archive.record(of, environment, Ended(trial, "exhausted", len(ODD), 0.1))
    with Archive.reading(path) as archive:
        ((key, *_),) = archive.studies()[0].trials and [(archive.studies()[0].trials[0].key,)]
        assert same([value for _, _, value in archive.readings(key)], ODD)
    with closing(sqlite3.connect(path)) as db:
        statuses = [status for (status,) in db.execute("SELECT status FROM readings ORDER BY step")]
    assert statuses == ["nan", "inf", "-inf", None, "-0", None, None, None]
    assert verify.problems(path) == []
