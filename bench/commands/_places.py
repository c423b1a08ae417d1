"""Where what a command names lies: suites, archives, sides of a comparison."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ArchiveError, BaselineError, BenchError

if TYPE_CHECKING:
    from bench.ask.plan import Given, Plan
    from bench.conclude.sides import Side


def plan_of(path: Path, plugins: list[Path] | None, *, timed: bool = False, data: Path | None = None) -> Plan:
    """The plan of a suite; data: the folder of datasets, for whoever relies on ids."""
    from bench.ask import check, plan

    with own_components(plugins):
        made = plan.make(check.load(path), timed=timed, data=data and data.expanduser())
        made.components()  # all that it names is found here, and not later
        return made


@contextmanager
def own_components(plugins: list[Path] | None) -> Iterator[list[str]]:
    """A person's own models lie in the folder they run bench from, which a console script leaves off the path, or in
    plugins, whose modules are named.

    Only what reads a suite, or measures, looks there: whatever else lies beside somebody's archive is not run when it
    is shown or compared.
    """
    # pydantic runs, once, what on the path calls itself its plugin: at its first model, before this folder is there.
    import bench.ask.suite  # noqa: F401
    from bench.ask import plugin

    before = sys.path.copy()
    try:
        modules = plugin.find(plugins or [])
        sys.path.append(str(Path.cwd()))
        yield modules
    finally:
        sys.path[:] = before


def source_of(source: str, plugins: list[Path] | None, label: str, results: Path) -> Path:
    """The archive that is meant: itself, or a suite's."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return archive_path(results, plan_of(path, plugins).suite.name, label)
    return archive_of(source, results)


def archive_of(name: str, results: Path) -> Path:
    """Where an archive lies: a file as it is, and SUITE/LABEL in the folder of archives."""
    path = Path(name)
    return path if path.exists() else place_of(name, results)


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
        raise BenchError(
            f"found '{name}'; should be an archive (.sqlite), a baseline or summary (.json), or SUITE/LABEL"
        )
    return archive_path(results, named or suite or "", label)


def side_of(path: Path, refusal: type[BenchError]) -> Side:
    """One side of a comparison; raises `refusal` where it cannot be read."""
    from bench.conclude import baseline, sides
    from bench.keep.archive import Archive

    try:
        if path.suffix == ".json":
            return baseline.read(path)
        with Archive.reading(path) as archive:
            return sides.of_archive(archive)
    except (ArchiveError, BaselineError) as error:
        raise refusal(str(error)) from error


def given_of(name: str, results: Path, suite: str) -> dict[tuple[str, int], tuple[Given, ...]]:
    """What a base confirmed, by workload and batch size, to be confirmed again; raises BaselineError where it cannot be
    read, or does not say with which metaparameters.
    """
    from bench.conclude.sides import given_by

    side = side_of(place_of(name, results, suite), BaselineError)
    for (workload, size), sample in side.samples.items():
        if sample.contenders and not given_by(sample):
            raise BaselineError(
                f"{side.name}: does not say with which metaparameters {workload} was confirmed at batch size {size:,}; "
                "measure the base again, and save it anew"
            )
    return {key: given_by(sample) for key, sample in side.samples.items()}
