"""Where what a command names lies: suites, archives, sides of a comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ArchiveError, BaselineError, BenchError

if TYPE_CHECKING:
    from bench.plan import Plan
    from bench.sides import Side


def plan_of(path: Path, *, timed: bool = False) -> Plan:
    from bench import check, plan

    find_own_components()
    return plan.make(check.load(path), timed=timed)


def find_own_components() -> None:
    """A person's own models lie in the folder they run bench from, which a console script leaves off the path.

    Only what reads a suite looks there: whatever else lies beside somebody's archive is not run when it is shown.
    """
    sys.path.append(str(Path.cwd()))


def source_of(source: str, label: str, results: Path) -> Path:
    """The archive that is meant: itself, or a suite's."""
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        return path
    before = sys.path.copy()
    suite = plan_of(path).suite.name
    sys.path[:] = before
    return archive_path(results, suite, label)


def archive_path(results: Path, suite: str, label: str) -> Path:
    if not suite.replace("-", "").replace("_", "").isalnum():
        raise BenchError(f"found the suite name {suite!r}; a name is letters, digits, '-' and '_'")
    if not label.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise BenchError(f"found the label '{label}'; a label is letters, digits, '-', '_' and '.'")
    return results / suite / f"{label}.sqlite"


def place_of(name: str, results: Path, suite: str | None = None) -> Path:
    """Where a side lies: a file as it is, and a label in the folder of archives."""
    if Path(name).suffix in (".json", ".sqlite"):
        return Path(name)
    named, _, label = name.rpartition("/")
    if not (named or suite):
        raise BenchError(f"found '{name}'; should be an archive (.sqlite), a baseline (.json) or SUITE/LABEL")
    return archive_path(results, named or suite or "", label)


def side_of(path: Path, refusal: type[BenchError]) -> Side:
    """One side of a comparison; raises `refusal` where it cannot be read."""
    from bench import baseline, sides
    from bench.archive import Archive

    try:
        if path.suffix == ".json":
            return baseline.read(path)
        with Archive.reading(path) as archive:
            return sides.of_archive(archive)
    except (ArchiveError, BaselineError) as error:
        raise refusal(str(error)) from error
