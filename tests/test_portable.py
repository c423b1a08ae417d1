"""Archives that travel, and those that were made to do harm where they arrive."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import sqlite3
import tarfile
import tracemalloc
from contextlib import closing

import duckdb
import pytest
import zstandard
from test_archive import measure, plan_of
from test_run import bench

from bench.events import Ended, Evaluated, Finished, Started
from bench.keep.archive import Archive
from bench.keep.records import found
from bench.keep.schema import SCHEMA_VERSION

ODD = [math.nan, math.inf, -math.inf, 1e308, -0.0, 5e-324, float(2**63), 0.1]


def everything(path):
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(map(repr, db.execute(f"SELECT * FROM {name}"))) for name in tables}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with an archive a.sqlite that has odd values, and its export in both ways."""
    folder = tmp_path_factory.mktemp("exported")
    path = folder / "a.sqlite"
    of = measure(path)
    trial = plan_of().studies[0].draws()[5]
    with Archive.writing(path) as archive:
        environment = archive.environment({"device": "odd"})
        archive.record(of, environment, Started((trial,)))
        for step, value in enumerate(ODD):
            archive.record(of, environment, Evaluated(step, {trial.id: {"=odd": value}}))
        archive.record(of, environment, Ended(trial, "exhausted", len(ODD), 0.1))
        archive.record(of, environment, Finished())
    bench("export", path, "out", folder=folder)
    bench("export", path, "out.tar.zst", folder=folder)
    return folder


@pytest.mark.parametrize("way", ["out", "out.tar.zst"])
def test_an_archive_that_was_exported_and_imported_is_the_same_odd_values_and_all(exported, tmp_path, way):
    bench("import", exported / way, folder=tmp_path)
    assert everything(tmp_path / "results" / "fake" / "main.sqlite") == everything(exported / "a.sqlite")
    assert "exists already" in bench("import", exported / way, folder=tmp_path, code=2)[1]


def test_parquet_is_for_anybody_to_read(exported):
    rows = duckdb.sql(
        f"SELECT value, status FROM '{exported}/out/readings.parquet' WHERE name = '=odd' ORDER BY step"
    ).fetchall()
    assert repr([found(*row) for row in rows]) == repr(ODD)
    assert (exported / "out" / "suite.yaml").read_text().startswith("\nsuite: fake")


def test_readings_as_csv_and_json_have_a_status_beside_the_value_and_no_formula(exported, tmp_path):
    for name in ("r.csv", "r.json"):
        bench("export", exported / "a.sqlite", name, folder=tmp_path)
    from_json = [row for row in json.loads((tmp_path / "r.json").read_text()) if row["name"] == "=odd"]
    from_csv = [row for row in csv.DictReader((tmp_path / "r.csv").read_text().splitlines()) if row["name"] == "'=odd"]
    for rows in (from_json, from_csv):
        values = [float(row["status"] or row["value"]) for row in rows]
        assert repr(values) == repr(ODD)
    assert "exists already" in bench("export", exported / "a.sqlite", "r.csv", folder=tmp_path, code=2)[1]


def packed(path, members):
    """A .tar.zst of (TarInfo or name, content)."""
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member, content in members:
                info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        path.write_bytes(zstandard.compress(out.getvalue()))
    return path


def members_of(folder):
    return [("manifest.json", (folder / "manifest.json").read_bytes())] + [
        (path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.name != "manifest.json"
    ]


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def changed(members, **changes):
    """The members with a changed manifest."""
    manifest = json.loads(members[0][1])
    return [("manifest.json", json.dumps({**manifest, **changes}).encode()), *members[1:]]


def listing(members, name, content):
    """The members with one that has other content, as the manifest says it should."""
    manifest = json.loads(members[0][1])
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rest = [(each, content if each == name else before) for each, before in members[1:]]
    return changed([members[0], *rest], files=manifest["files"])


def sized(members, size):
    """The members, of which the manifest gives one that size."""
    manifest = json.loads(members[0][1])
    manifest["files"]["suite.yaml"]["bytes"] = "?"
    return [("manifest.json", json.dumps(manifest).replace('"?"', size).encode()), *members[1:]]


def parquet(folder, query):
    duckdb.sql(f"COPY ({query}) TO '{folder}/made.parquet' (FORMAT parquet)")
    return (folder / "made.parquet").read_bytes()


TRAPS = {
    "traversal": (lambda m, _: [m[0], ("../../evil", b"x"), *m[1:]], "which its manifest does not list once"),
    "absolute": (lambda m, _: [m[0], ("/tmp/evil", b"x"), *m[1:]], "which its manifest does not list once"),
    "symbolic link": (
        lambda m, _: [m[0], (link("suite.yaml", "/etc/passwd", tarfile.SYMTYPE), b"")],
        "no ordinary file",
    ),
    "hard link": (lambda m, _: [m[0], (link("suite.yaml", "/etc/passwd", tarfile.LNKTYPE), b"")], "no ordinary file"),
    "device": (lambda m, _: [m[0], (link("suite.yaml", "", tarfile.CHRTYPE), b"")], "no ordinary file"),
    "twice": (lambda m, _: [*m, m[-1]], "does not list once"),
    "missing file": (lambda m, _: m[:-1], "lacks"),
    "nothing": (lambda m, _: [], "lacks manifest.json"),
    "no manifest": (lambda m, _: m[1:], "manifest.json would be right"),
    "wrong hash": (lambda m, _: [*m[:-1], (m[-1][0], m[-1][1][:-1] + b"x")], "not as the manifest says"),
    "wrong size": (lambda m, _: [*m[:-1], (m[-1][0], m[-1][1] + b"x")], "not as the manifest says"),
    "newer schema": (lambda m, _: changed(m, schema_version=SCHEMA_VERSION + 1), "has schema version"),
    "other format": (lambda m, _: changed(m, format="zip"), "its format is 'zip'"),
    "path in the manifest": (
        lambda m, _: changed(m, files={"../evil": {"bytes": 1, "sha256": ""}}),
        "lists other files than an export has",
    ),
    "manifest of nonsense": (lambda m, _: [("manifest.json", b"[" * 100_000), *m[1:]], "is not one that bench writes"),
    "bomb": (lambda m, _: bomb(m), "unpacks to more than"),
    "size below nothing": (lambda m, _: sized(m, "-1000000000"), "is not one that bench writes"),
    "size without end": (lambda m, _: sized(m, "1e999"), "is not one that bench writes"),
    "no parquet": (lambda m, _: listing(m, "trials.parquet", b"PAR1" * 10), "is not what bench writes"),
    "other columns": (
        lambda m, f: listing(m, "trials.parquet", parquet(f, "SELECT 1 AS x")),
        "is not what bench writes",
    ),
    "endless parquet": (
        lambda m, f: listing(m, "members.parquet", parquet(f, "SELECT 'a' AS study, 1 AS trial FROM range(3000000)")),
        "rows in",
    ),
    "suite name that is a path": (
        lambda m, f: listing(
            m,
            "suites.parquet",
            parquet(f, "SELECT 1 AS number, '../../evil' AS name, '' AS text, '[]' AS planned"),
        ),
        "found the suite name",
    ),
    "a suite without a number": (
        lambda m, f: listing(
            m,
            "suites.parquet",
            parquet(f, "SELECT NULL::BIGINT AS number, 'fake' AS name, '' AS text, '[]' AS planned"),
        ),
        "a value is missing",
    ),
    "a status of nonsense": (
        lambda m, f: listing(
            m,
            "readings.parquet",
            parquet(f, "SELECT 1 AS trial, 1 AS step, 'x' AS name, 0.5 AS value, 'abc' AS status"),
        ),
        "with values that bench does not write",
    ),
    "rows that refer to nothing": (
        lambda m, f: listing(m, "members.parquet", parquet(f, "SELECT 'a' AS study, 99 AS trial")),
        "refer to what is not there",
    ),
    "content of nonsense": (
        lambda m, f: listing(
            m,
            "suites.parquet",
            parquet(f, "SELECT 1 AS number, 'fake' AS name, '' AS text, '[\"none\"]' AS planned"),
        ),
        "holds what bench does not write",
    ),
}


def bomb(members):
    manifest = json.loads(members[0][1])
    manifest["files"]["suite.yaml"]["bytes"] = 2**40
    return changed(members, files=manifest["files"])


@pytest.mark.parametrize("trap", TRAPS)
def test_an_export_that_was_made_to_do_harm_is_a_sentence_and_writes_nothing(exported, tmp_path, trap):
    craft, sentence = TRAPS[trap]
    folder = tmp_path / "here"
    folder.mkdir()
    path = packed(tmp_path / "trap.tar.zst", craft(members_of(exported / "out"), tmp_path))
    before = sorted(place for place in tmp_path.rglob("*"))
    _, err = bench("import", path, folder=folder, code=2)
    assert sentence in err
    after = [place for place in sorted(tmp_path.rglob("*")) if place.suffix != ".lock" and place.is_file()]
    assert after == [place for place in before if place.is_file()]


@pytest.mark.parametrize("place", [0, 1])
def test_a_header_without_end_is_refused_before_it_is_read(exported, tmp_path, place):
    members, info = members_of(exported / "out"), tarfile.TarInfo("suite.yaml")
    info.pax_headers = {"comment": "0" * 2**27}
    path = packed(tmp_path / "trap.tar.zst", [*members[:place], (info, b"x"), *members[place:]])
    bench("import", tmp_path / "none.tar.zst", folder=tmp_path, code=2)  # what is imported once
    tracemalloc.start()
    _, err = bench("import", path, folder=tmp_path, code=2)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "holds a header of more than 262,144 bytes" in err
    assert peak_bytes < 2**25
    assert not (tmp_path / "results").exists()


def test_what_is_not_there_is_said_not_to_be_there(tmp_path):
    _, err = bench("import", "nothing.tar.zst", folder=tmp_path, code=2)
    assert err == "nothing.tar.zst: is not there; name a folder or a file that 'bench export' wrote\n"
    assert not any(tmp_path.iterdir())


def test_what_is_no_tar_at_all_or_no_zstandard_is_a_sentence(tmp_path):
    (tmp_path / "x.tar.zst").write_bytes(b"PK\x03\x04 a zip, say" * 100)
    assert "is not a .tar.zst" in bench("import", "x.tar.zst", folder=tmp_path, code=2)[1]
    (tmp_path / "y.tar.zst").write_bytes(zstandard.compress(b"no tar" * 1000))
    assert "is not a .tar.zst" in bench("import", "y.tar.zst", folder=tmp_path, code=2)[1]


def test_a_folder_with_a_link_in_it_is_refused(exported, tmp_path):
    for path in (exported / "out").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "suite.yaml").unlink()
    (tmp_path / "suite.yaml").symlink_to(exported / "out" / "suite.yaml")
    assert "cannot be read as an ordinary file" in bench("import", tmp_path, folder=tmp_path, code=2)[1]
