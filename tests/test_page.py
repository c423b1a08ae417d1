"""The page of the quick suite in a real browser: what it shows, and that it asks no network for anything."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from test_archive import measure
from test_run import bench

from bench.keep.archive import Archive
from bench.numbers import sort_key
from bench.show.page import page

pytest.importorskip("plotly")

QUICK = Path(__file__).parent.parent / "suites" / "quick.yaml"
SMALLER = {"[8, 16, 32, 64, 128, 256, 512]": "[8, 64, 512]", "seeds: 5": "seeds: 2", "processes: 3": "processes: 1"}
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1100,2600"),
]

in_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="there is no Chromium here")


def data_of(text):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found, parse_constant=pytest.fail)


def test_the_page_holds_every_number_and_nothing_that_could_end_its_script(tmp_path):
    measure(tmp_path / "a.sqlite")
    with Archive.writing(tmp_path / "a.sqlite") as archive:
        archive._db.execute("UPDATE studies SET workload = '</script><b>\U0001f680{style}'")
        archive._db.commit()
        text = page(archive)
    data = data_of(text)
    (workload,) = data["workloads"]
    assert workload["name"] == "</script><b>\U0001f680{style}"
    assert workload["points"] == [
        {
            "batch_size": 100,
            "steps": 16,
            "low": 12,
            "high": 57,
            "tried": 57,
            "text": "16 steps [12, >57]; 4 of 5 met the target",
        }
    ]
    assert sum(trial["kind"] == "diverged" for trial in workload["trials"]) == 1
    assert {curve["seed"] for curve in workload["curves"]} == {0, 1, 2, 3, 4}
    assert data["environments"] == [{"device": "fake"}]
    assert data["suite"].startswith("\nsuite: fake")
    assert text.count("{style}") == text.count("\\ud83d\\ude80{style}")


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    measure(tmp_path / "a.sqlite")
    bench("report", "a.sqlite", "-o", "out/page.html", folder=tmp_path)
    text = (tmp_path / "out" / "page.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", markup)
    assert "default-src 'none'" in markup


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The page of the quick suite made smaller, opened from its file; the driver."""
    selenium = pytest.importorskip("selenium.webdriver")
    folder = tmp_path_factory.mktemp("quick")
    text = QUICK.read_text()
    for whole, part in SMALLER.items():
        assert whole in text
        text = text.replace(whole, part)
    (folder / "quick.yaml").write_text(text)
    bench("run", "quick.yaml", folder=folder)
    bench("report", "quick.yaml", "-o", "quick.html", folder=folder)
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options, selenium.ChromeService(DRIVER))
    try:
        driver.get((folder / "quick.html").as_uri())
        yield driver
    finally:
        driver.quit()


def ask(driver, expression):
    return driver.execute_script(f"return {expression}")


@in_browser
def test_the_page_shows_its_charts_in_a_browser_without_an_error_or_a_request(quick):
    assert "bench: quick" in quick.title
    assert ask(quick, "document.querySelector('#advice p').textContent").startswith(
        "advice: on this device use batch size"
    )
    # The points of three studies with their intervals, and the fit through them.
    assert ask(quick, "document.querySelectorAll('#scaling .points path').length") == 3
    assert ask(quick, "document.querySelectorAll('#scaling .errorbar').length") == 3
    assert ask(quick, "document.querySelectorAll('#scaling .scatterlayer .js-line').length") == 1
    assert ask(quick, "document.querySelectorAll('#rates .points path').length") == 3 * 16
    logged = [entry for entry in quick.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert logged == []
    messages = [json.loads(entry["message"])["message"] for entry in quick.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    # Of chrome: and chrome-untrusted: is the empty page that a browser begins with.
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob", "chrome", "chrome-untrusted"}
    assert len([url for url in asked if url.startswith("file:")]) == 1


@in_browser
def test_hovering_over_a_point_says_what_it_is(quick):
    quick.execute_script("Plotly.Fx.hover('scaling', [{curveNumber: 1, pointNumber: 0}])")
    text = ask(quick, "document.querySelector('#scaling .hoverlayer').textContent")
    assert "batch size 8" in text
    assert "2 of 2 met the target" in text


@in_browser
def test_a_click_sorts_a_table_by_number_and_another_turns_it_round(quick):
    cells = (
        "[...document.querySelectorAll('.table')[0].querySelectorAll('tbody td:nth-child(1)')].map(c => c.textContent)"
    )
    sizes = ["8", "64", "512"]
    assert ask(quick, cells) == sizes
    click = "document.querySelectorAll('.table')[0].querySelectorAll('th button')[0].click()"
    quick.execute_script(click)
    assert ask(quick, cells) == sizes
    quick.execute_script(click)
    assert ask(quick, cells) == sizes[::-1]
    steps = "document.querySelectorAll('.table')[0].querySelectorAll('th button')[2].click()"
    quick.execute_script(steps)
    assert ask(quick, cells)[-1] == "8"


@pytest.mark.parametrize(
    "rising",
    [
        ["267 us", "1.2 ms [1.1 ms, 1.3 ms]", "0.9 s", "45 s", "12 min", "1.5 h"],
        ["512 B", "31.5 KiB", "1,000 KiB", "31.5 MiB", "2 GiB"],
        ["31 [23, 42]", "266 [170, 517]", "600", ">600", "1,234", "1e+15"],
        ["-1.01 [-2.04, -0.291]", "-0.759", "0 [-0.559, 0.556]", "5.1e-05"],
        ["0.99x", "15.1x"],
        ["2%", "52%", "100%"],
    ],
)
def test_cells_are_sorted_by_what_they_mean(rising):
    keys = [sort_key(cell) for cell in rising]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("cell", ["", "none", "out of memory", "unresolved, above 3", "undecided"])
def test_what_is_no_amount_has_no_place_among_them(cell):
    assert sort_key(cell) is None


@in_browser
def test_times_sort_by_how_long_they_are_and_what_has_none_stays_last(quick):
    """In a table of the page's own program, whose rows and keys are as the page has them."""
    cells = ["1.2 ms", "", "267 us", "0.9 s", "31 ms"]
    content = {
        "title": "times",
        "columns": ["step time"],
        "rows": [[cell] for cell in cells],
        "keys": [[sort_key(cell)] for cell in cells],
        "numeric": [True],
        "notes": [],
    }
    quick.execute_script(f"window.made = table({json.dumps(content)}); document.body.append(window.made)")
    shown = "[...window.made.querySelectorAll('tbody td')].map(cell => cell.textContent)"
    click = "window.made.querySelector('th button').click()"
    quick.execute_script(click)
    assert ask(quick, shown) == ["267 us", "1.2 ms", "31 ms", "0.9 s", ""]
    quick.execute_script(click)
    assert ask(quick, shown) == ["0.9 s", "31 ms", "1.2 ms", "267 us", ""]


@in_browser
def test_every_column_of_numbers_is_sorted_by_the_keys_that_were_shipped(quick):
    """Whatever was measured, and in whatever units it is shown."""
    tables = ask(quick, "data.tables")
    assert any("us" in cell or "ms" in cell for table in tables for row in table["rows"] for cell in row)
    for place, content in enumerate(tables):
        for column, numeric in enumerate(content["numeric"]):
            if not numeric:
                continue
            here = f"document.querySelectorAll('#tables .table')[{place}]"
            quick.execute_script(f"{here}.querySelectorAll('th button')[{column}].click()")
            rows = ask(
                quick, f"[...{here}.querySelectorAll('tbody tr')].map(row => [...row.cells].map(c => c.textContent))"
            )
            keys = [sort_key(row[column]) for row in rows]
            known = [key for key in keys if key is not None]
            assert known == sorted(known)
            assert keys[: len(known)] == known


@in_browser
def test_a_table_is_copied_as_it_stands_so_that_a_spreadsheet_takes_it(quick):
    quick.execute_script(
        "navigator.clipboard.writeText = async (text) => { window.copied = text };"
        "document.querySelector('button.copy').click()"
    )
    rows = [line.split("\t") for line in ask(quick, "window.copied").split("\n")]
    assert rows[0][0] == "batch size"
    assert {len(row) for row in rows} == {11}
    assert len(rows) == 4


@in_browser
def test_a_box_takes_the_curves_of_a_batch_size_away_and_brings_them_back(quick):
    curves = "document.querySelectorAll('#curves .scatterlayer .js-line').length"
    box = "document.querySelectorAll('#curves-sizes input')[0].click()"
    assert ask(quick, curves) == 3 * 2
    quick.execute_script(box)
    assert ask(quick, curves) == 2 * 2
    quick.execute_script(box)
    assert ask(quick, curves) == 3 * 2
