"""Every output of a gate, read back by something else that reads its format; names are as hostile as names can be."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from junitparser import JUnitXml
from lxml import etree
from markdown_it import MarkdownIt
from sides_by_hand import gate, plan_of, side
from summaries import summary
from test_compare import study as timed_study
from test_gate import BASE, study, worse

from bench.conclude.compare import compare
from bench.show import report
from bench.show.publish.annotations import MOST, annotations
from bench.show.publish.document import document
from bench.show.publish.junit import junit
from bench.show.publish.summary import MOST_BYTES
from bench.show.publish.summary import summary as page
from bench.show.publish.tables import comparison_table, judgement_table

HOSTILE = "a|b & c_d_ <e>\n**f** `g` \\h %25 $x$ #1 ~t^ {} [l](u) \U0001f680 _i_"
ONE_LINE = " ".join(HOSTILE.splitlines())


@pytest.fixture(scope="module")
def judgement():
    """A pass, a fail, an inconclusive and an error, the last of a hostile name and in a hostile sentence."""
    sizes = (1, 2, 4)
    base = [study(BASE, size) for size in sizes]
    candidate = [study(worse(factor), size) for factor, size in zip((1.01, 2, 1.2), sizes, strict=True)]
    gone = study(BASE, 8, workload=HOSTILE)
    found = gate(plan_of(sizes=sizes), side(*base, gone), side(*candidate, name="candidate"))
    spoiled = replace(found.rulings[-1], note=HOSTILE)
    return replace(found, rulings=(*found.rulings[:-1], spoiled))


@pytest.fixture(scope="module")
def comparison():
    made = [study(BASE, workload=HOSTILE), study(BASE, 64, workload="plain")]
    return compare(side(*made), side(*made, name=HOSTILE))


def test_the_verdicts_are_what_the_outputs_below_are_made_of(judgement):
    assert [found.verdict for found in judgement.rulings] == ["pass", "fail", "inconclusive", "error"]


# ---- Markdown --------------------------------------------------------------------------------------------------------


def cells(text):
    """The cells of the only table of a Markdown text, as a renderer shows them."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    (table,) = etree.HTML(html).iter("table")
    return [["\n".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_markdown_renders_as_a_table_that_shows_every_name_as_it_is(comparison):
    table = comparison_table(comparison)
    shown = cells(table.render("markdown"))
    assert shown[0] == table.columns
    assert [len(row) for row in shown] == [len(table.columns)] * (len(table.rows) + 1)
    assert shown[1][0] == HOSTILE
    assert shown[1][3:5] == table.rows[0][3:5]


def test_the_heading_and_the_notes_cannot_be_markup_either(judgement):
    html = MarkdownIt("commonmark").enable("table").render(page(judgement))
    assert "<e>" not in html
    assert "<strong>" not in html
    assert "<a href" not in html
    assert "<code>" not in html


def test_the_page_of_a_workflow_shows_the_worst_first(judgement):
    verdicts = [row[-1] for row in cells(page(judgement))[1:]]
    assert verdicts == ["fail", "error", "inconclusive", "pass"]


def test_the_page_of_a_workflow_is_cut_below_its_limit_and_says_so(judgement):
    many = replace(judgement, rulings=judgement.rulings * 3_000)
    text = page(many)
    assert len(text.encode()) <= MOST_BYTES
    shown = cells(text)[1:]
    assert f"{12_000 - len(shown):,} of 12,000 rows are left out for want of room." in text
    assert text.count("are left out") == 1
    assert {row[-1] for row in shown} <= {"fail", "error"}


# ---- LaTeX and CSV ---------------------------------------------------------------------------------------------------


def test_latex_is_escaped_and_no_title_or_note_leaves_its_comment(comparison):
    text = comparison_table(comparison).render("latex")
    lines = text.splitlines()
    body = lines[lines.index("\\toprule") : lines.index("\\bottomrule")]
    assert "a|b \\& c\\_d\\_" in text
    for line in body:
        assert line.replace("\\&", "").count("&") in (0, 8)
    outside = [line for line in lines if not line.startswith("%")]
    assert outside[0].startswith("\\begin{tabular}")
    assert outside[-1] == "\\end{tabular}"


LATEX = shutil.which("lualatex") or shutil.which("pdflatex") or shutil.which("tectonic")


@pytest.mark.skipif(LATEX is None, reason="there is no TeX here")
def test_latex_compiles(comparison, tmp_path):
    body = comparison_table(comparison).render("latex")
    text = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(text)
    options = [] if LATEX.endswith("tectonic") else ["-interaction=batchmode", "-halt-on-error"]
    subprocess.run([LATEX, *options, "table.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "table.pdf").exists()


def test_csv_opens_in_a_spreadsheet_library_unchanged(comparison):
    pandas = pytest.importorskip("pandas")
    table = comparison_table(comparison)
    text = report.rendered([table], "csv", None)
    sheet = pandas.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    assert list(sheet.columns) == ["table", *table.columns]
    assert sheet[table.columns].values.tolist() == table.rows


# ---- JUnit -----------------------------------------------------------------------------------------------------------


def test_junit_is_valid_by_its_schema_and_reads_back(judgement):
    text = junit(judgement)
    schema = etree.XMLSchema(etree.parse(str(Path(__file__).parent / "junit.xsd")))
    schema.assertValid(etree.fromstring(text.encode()))
    read = JUnitXml.fromstring(text.encode())
    assert (read.tests, read.failures, read.errors, read.skipped) == (4, 1, 1, 1)
    names = [suite.name for suite in read]
    assert names[0] == "w"
    # An attribute of XML has no line ends but those that are written as characters.
    assert names[1] in (HOSTILE, ONE_LINE)


def test_junit_leaves_out_what_xml_cannot_hold(judgement):
    broken = replace(judgement.rulings[-1], workload="a\x00b\x1bc", note="\ud800")
    text = junit(replace(judgement, rulings=(broken,)))
    (suite,) = JUnitXml.fromstring(text.encode())
    assert suite.name == "a\ufffdb\ufffdc"


# ---- the level of intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["table", "markdown", "latex"])
def test_under_the_table_the_level_of_its_intervals_is_stated_once(judgement, comparison, style):
    for table in (judgement_table(judgement), comparison_table(comparison)):
        text = table.render(style)
        assert text.count("90%") == 1
        assert "of a median of 5 values 94%" in text


def test_the_level_of_each_number_of_values_is_stated_and_none_where_there_is_no_interval():
    quick = timed_study(BASE, seconds=[0.01, 0.011, 0.012])
    assert "of 3 values 75%, of 5 values 94%" in comparison_table(compare(side(quick), side(quick))).render("table")
    nothing = comparison_table(compare(side(summary(32, None)), side(summary(32, None))))
    assert "interval" not in nothing.render("table")


def test_every_interval_of_a_document_has_its_level(judgement, comparison):
    records = [*json.loads(document(judgement))["rulings"], *comparison_table(comparison).records]
    for record in records:
        assert record["ratio"] is None or record["ratio"]["confidence"] == 0.9
        assert record["base"]["confidence"] == 0.9375
    assert any(record["ratio"] for record in records)


# ---- annotations and JSON --------------------------------------------------------------------------------------------


def test_annotations_are_a_line_each_the_worst_first(judgement):
    lines = annotations(judgement)
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::error"]
    assert all(len(line.splitlines()) == 1 for line in lines)
    assert "%2525 $x$" in lines[1]
    assert "%0A**f**" in lines[1]
    assert lines[0].startswith("::error title=fail%3A w%2C batch size 2%2C steps to target::2 times the base")


def test_annotations_are_at_most_nine_and_one_that_sums_up(judgement):
    many = replace(judgement, rulings=judgement.rulings * 10)
    lines = annotations(many)
    assert len(lines) == MOST + 1
    assert "10 fail, 10 error, 10 inconclusive, 10 pass" in lines[-1]


def test_the_document_is_json_with_every_raw_value_and_its_own_name(judgement):
    found = json.loads(document(judgement), parse_constant=pytest.fail)
    assert found["rulings"][-1]["workload"] == HOSTILE
    assert found["rulings"][0]["base"]["values"] == BASE
    assert found["counts"] == {"fail": 1, "error": 1, "inconclusive": 1, "pass": 1, "identical": 0}
    assert found["rulings"][2]["needed"] > 5


def test_a_miss_is_null_in_the_document():
    candidate = study([*BASE[:4], float("inf")])
    found = json.loads(document(gate(plan_of(), side(study(BASE)), side(candidate))), parse_constant=pytest.fail)
    assert found["rulings"][0]["candidate"]["values"][-1] is None
    assert found["rulings"][0]["candidate"]["budget"] == 270


def test_a_side_that_never_met_the_target_is_written_too():
    missing = gate(plan_of(), side(summary(32, None)), side(study(BASE)))
    for write in (document, junit, page, annotations):
        assert "no trial of the base met the target" in str(write(missing))
    assert judgement_table(missing).rows[0][-1] == "error"
