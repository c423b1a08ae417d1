"""`bench fit`: anybody's table of steps to target."""

from __future__ import annotations

import json
import math

import pytest
from test_scaling import BATCHES, STEPS
from typer.testing import CliRunner

from bench.cli import app
from bench.conclude import curves
from bench.errors import DataError


def csv_of(path, text):
    path = path / "curve.csv"
    path.write_text(text)
    return path


def published(tmp_path):
    rows = "\n".join(f"{size},{steps}" for size, steps in zip(BATCHES, STEPS, strict=True))
    return csv_of(tmp_path, f"batch_size,steps\n{rows}\n")


def test_the_published_curve_gives_its_critical_batch_size(tmp_path):
    result = CliRunner().invoke(app, ["fit", str(published(tmp_path)), "--reference", "256", "--format", "json"])
    ((record,),) = (table["records"] for table in json.loads(result.stdout))
    assert record["minimum_steps"]["value"] == pytest.approx(1293.827, abs=5e-4)
    assert record["minimum_examples"]["value"] == pytest.approx(2834258.1, abs=0.5)
    assert record["overhead_batch"]["value"] == pytest.approx(745.320, abs=5e-4)


@pytest.mark.parametrize("style", ["table", "markdown", "latex", "csv"])
def test_a_fit_is_shown_in_every_format(tmp_path, style):
    result = CliRunner().invoke(app, ["fit", str(published(tmp_path)), "--format", style])
    assert result.exit_code == 0
    assert "16,384" in result.stdout


def test_seeds_labels_misses_and_sizes_are_read(tmp_path):
    text = "label, batch_size, seed, steps, model_size\n" + "".join(
        f"{label}, {size}, {seed}, {'' if size == 64 else 1000 // size + seed}, {model}\n"
        for label, model in (("small", 1e6), ("large", 1e7))
        for size in (64, 8, 16)
        for seed in (0, 1, 2)
    )
    small, large = curves.read(csv_of(tmp_path, text))
    assert (small.label, small.sizes) == ("small", (("model_size", 1e6),))
    assert (large.label, large.sizes) == ("large", (("model_size", 1e7),))
    assert [point.batch_size for point in small.points] == [8, 16, 64]
    assert small.points[0].steps == (125, 126, 127)
    assert small.points[2].median == math.inf


def test_json_may_hold_rows_or_columns(tmp_path):
    columns, rows = tmp_path / "columns.json", tmp_path / "rows.json"
    columns.write_text(json.dumps({"batch_size": [8, 16], "steps": [100, 60]}))
    rows.write_text(json.dumps([{"batch_size": 8, "steps": 100}, {"batch_size": 16, "steps": 60}]))
    assert curves.read(columns)[0].points == curves.read(rows)[0].points


def test_several_sizes_give_the_power_law_of_the_critical_batch_size(tmp_path):
    rows = [
        {"label": str(size), "tokens": size, "batch_size": batch, "steps": 100 * (1 + size**0.5 / batch)}
        for size in (1e4, 1e5, 1e6)
        for batch in (size**0.5 * 2.0**power for power in range(-30, 4))
    ]
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(rows))
    result = CliRunner().invoke(app, ["fit", str(path), "--format", "json"])
    law = json.loads(result.stdout)[-1]["records"][0]
    assert law["exponents"]["tokens"]["value"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ["curve.csv: holds no rows"]),
        ("batch_size,steps\n", ["curve.csv: holds no rows"]),
        ("batch,steps\n8,100\n", ["curve.csv: has no column 'batch_size'; did you mean 'batch'?"]),
        ("batch_size,steps\n8,100\n", ["found 1 batch size with steps to target; a fit needs two or more"]),
        ("batch_size,steps\n8,100\n16,\n", ["found 1 batch size with steps to target"]),
        (
            "batch_size,steps\n0,nan\n-8,1e400\nx,0\n",
            [
                "line 2: batch_size: found '0'; should be a number above 0",
                "line 2: steps: found 'nan'; should be a number above 0",
                "line 3: batch_size: found '-8'",
                "line 3: steps: found '1e400'",
                "line 4: batch_size: found 'x'",
                "line 4: steps: found '0'",
            ],
        ),
        (
            "batch_size,steps\n64,46,000\n128,23000\n",
            ["line 2: found 3 cells; the header has 2 (a number has no commas, or stands in quotes)"],
        ),
        (
            "batch_size,steps\n8,100\n16,60\n32\n",
            ["line 4: steps: found nothing; should be a number above 0, or an empty cell for a miss"],
        ),
        ("batch_size,steps,steps\n8,100,1\n16,60,1\n", ["has the column 'steps' twice; each once would be right"]),
        (
            "batch_size,steps,seed\n8,100,1\n8,110,1\n16,60,1\n",
            ["line 3: seed: found 1 at batch size 8 in line 2 too; each row should be of another"],
        ),
        (f"batch_size,steps\n8,{'1' * 200_000}\n", ["line 2: is not CSV: field larger than field limit"]),
        (
            "batch_size,steps,tokens\n8,100,5\n16,60,6\n",
            ["line 3: tokens: found 6 and 5 before; a curve has one"],
        ),
    ],
)
def test_a_table_that_cannot_be_fitted_is_answered_with_every_row_that_is_wrong(tmp_path, text, sentences):
    with pytest.raises(DataError) as caught:
        curves.read(csv_of(tmp_path, text))
    for sentence in sentences:
        assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == len(sentences)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "broken.json:1: is not JSON"),
        ("3", "should be a list of rows"),
        ("[3]", "should be a list of rows"),
        ('{"batch_size": [8, 16], "steps": [1]}', "has columns of 1 and 2 values; make them equal"),
        (f'[{{"batch_size": 8, "steps": 1{"0" * 400}}}]', "row 1: steps: found 1000"),
        (f'[{{"batch_size": 8, "steps": 1{"0" * 5000}}}]', "nested too deep, or holds a number too long"),
        ("[" * 100_000, "nested too deep, or holds a number too long"),
        ('[{"batch_size": 8}, {"batch_size": 16, "steps": null}]', "row 1: steps: found nothing"),
        ('[{"batch_size": true, "steps": "a"}, {"batch_size": [1]}]', "row 1: batch_size: found True"),
    ],
)
def test_broken_json_is_answered_with_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        curves.read(path)


def test_a_missing_or_unreadable_file_is_answered_with_a_sentence(tmp_path):
    with pytest.raises(DataError, match="no such file; give a CSV or JSON file"):
        curves.read(tmp_path / "none.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        curves.read(binary)
    with pytest.raises(DataError, match="cannot be read"):
        curves.read(tmp_path)


def test_a_miss_of_which_nothing_more_is_known_is_no_number(tmp_path):
    path = csv_of(tmp_path, "batch_size,steps\n8,900\n16,500\n32,300\n64,200\n128,\n")
    printed = CliRunner().invoke(app, ["fit", str(path)]).stdout
    assert "missed" in printed
    assert ">0" not in printed
    assert "no steps to target at batch size 128, nor how many were tried: the fit knows nothing of them" in printed


def law_of(path, rows, *options):
    path = path / "law.json"
    path.write_text(json.dumps(rows))
    result = CliRunner().invoke(app, ["fit", str(path), "--format", "json", *options])
    return json.loads(result.stdout)[-1]


@pytest.mark.parametrize("reference", [None, 2048])
def test_the_power_law_takes_one_reference_for_all(tmp_path, reference):
    rows = [
        {"label": str(size), "model_size": size, "batch_size": batch, "steps": 100 * (1 + 1000 / batch)}
        for size, first in ((1e6, 16), (1e7, 128), (1e8, 1024))
        for batch in (first * 2**power for power in range(8))
    ]
    law = law_of(tmp_path, rows, *([] if reference is None else ["--reference", str(reference)]))["records"][0]
    assert law["exponents"]["model_size"]["value"] == pytest.approx(0, abs=1e-6)
    assert law["factor"] == pytest.approx(200 + 1.2 * (reference or 1024))


def test_the_power_law_leaves_out_what_is_unresolved_and_says_so(tmp_path):
    rows = [
        {"label": f"{size:g}", "model_size": size, "batch_size": batch, "steps": 100 * (least + 1000 / batch)}
        for size, least in ((1e6, 1), (1e7, 1), (1e8, 0))
        for batch in (16 * 2**power for power in range(8))
    ]
    law = law_of(tmp_path, rows)
    assert law["records"][0]["exponents"]["model_size"]["value"] == pytest.approx(0, abs=1e-6)
    assert law["records"][0]["curves"] == ["1e+06", "1e+07"]
    assert any("leaves out 1e+08, whose 20% critical batch size is unresolved" in note for note in law["notes"])
    alone = law_of(tmp_path, rows[8:])
    assert alone["records"][0]["exponents"] is None
    assert (
        "a power law needs the 20% critical batch size resolved, with both ends of its interval, at two sizes or more."
        in (alone["notes"])
    )


def test_model_size_and_tokens_are_fitted_jointly(tmp_path):
    rows = [
        {
            "label": f"{model:g} {tokens:g}",
            "model_size": model,
            "tokens": tokens,
            "batch_size": batch,
            "steps": 100 * (1 + model**0.1 * tokens**0.4 / 50 / batch),
        }
        for model in (1e7, 1e8, 1e9)
        for tokens in (1e9, 1e10, 1e11)
        for batch in (2.0**power for power in range(2, 16))
    ]
    law = law_of(tmp_path, rows, "--overhead", "1000")["records"][0]
    assert law["exponents"]["model_size"]["value"] == pytest.approx(0.1, abs=0.01)
    assert law["exponents"]["tokens"]["value"] == pytest.approx(0.4, abs=0.01)


def test_a_curve_has_one_of_each_size(tmp_path):
    text = "batch_size,steps,model_size,tokens\n8,100,1e6,1e7\n16,60,1e6,1e8\n"
    with pytest.raises(DataError, match="line 3: tokens: found 1e\\+08 and 1e\\+07 before; a curve has one"):
        curves.read(csv_of(tmp_path, text))


def test_a_curve_without_a_fit_says_why(tmp_path):
    text = "batch_size,seed,steps\n" + "".join(
        f"{size},{seed},{steps + seed}\n" for size, steps in ((8, 100), (16, 200), (32, 400)) for seed in range(3)
    )
    printed = CliRunner().invoke(app, ["fit", str(csv_of(tmp_path, text))]).stdout
    assert "no fit: S_min (1 + (B_crit/B)^alpha) explains" in printed
    assert "steps rise with the batch size at 16, 32" in printed


def test_a_reference_that_is_no_number_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["fit", str(published(tmp_path)), "--reference", "nan"])
    assert result.exit_code != 0
