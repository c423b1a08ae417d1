"""Two sides timed in turns on one machine, so that what else the machine does falls on both alike.

A pair is a run of `bench time` on either side, one after the other, in an order that is drawn; each side is first in
half of the pairs, so that what the first of a pair does to the second falls on both alike. Every run is a fresh
process, and the unit of evidence: steps within one are not independent (GOLDEN: of 60 processes of the same code a test
of their pooled steps calls 71 % of pairs different). All pairs are run: who stops when the numbers please finds what he
looks for.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from bench.conclude import sides
from bench.conclude.sides import Side
from bench.errors import BenchError, IncompleteError
from bench.keep.archive import Archive

Name = Literal["base", "candidate"]
NAMES: tuple[Name, Name] = ("base", "candidate")
# torch may be what changed; the machine may not.
CONDITIONS = ("device_type", "device", "threads")


@dataclass(frozen=True)
class Place:
    """Where a side runs: an interpreter, and the folder it is started in, whose modules come before installed ones, but
    where the interpreter itself is what is compared: what `installed` there counts.
    """

    python: str
    folder: Path
    installed: bool = False


@contextmanager
def place(text: str) -> Iterator[Place]:
    """The place that is meant by an interpreter, a checkout's folder, or a git revision of the folder bench runs in.

    A revision is checked out into a worktree, which is gone afterwards. Raises BenchError for anything else.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        yield Place(sys.executable, path.resolve())
    elif path.is_file() and os.access(path, os.X_OK):
        # Not resolved: the interpreter of a virtual environment is a link, and knows by its own place where it is.
        yield Place(str(path.absolute()), Path.cwd(), installed=True)
    else:
        if _git("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}") is None:
            raise BenchError(
                f"found '{text}'; should be a Python interpreter, the folder of a checkout, or a git revision"
            )
        inside = _git("rev-parse", "--show-prefix") or ""
        with TemporaryDirectory(prefix="bench-ab-") as folder:
            tree = Path(folder) / "tree"
            try:
                if _git("worktree", "add", "--detach", "--force", str(tree), text) is None:
                    raise BenchError(f"{text}: git cannot check it out; see 'git worktree add {text}'")
                if not (tree / inside).is_dir():
                    raise BenchError(f"{text}: has no folder {inside}; start from one that it has")
                yield Place(sys.executable, tree / inside)
            finally:
                # Twice: one whose checkout was cut short is locked.
                _git("worktree", "remove", "--force", "--force", str(tree))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def order(seed: str, pairs: int) -> list[tuple[Name, Name]]:
    """Who is first in each pair, and who second: each side is first in half of them, of an odd number up to one."""
    chance = random.Random(seed)
    orders: list[tuple[Name, Name]] = [("base", "candidate"), ("candidate", "base")]
    chance.shuffle(orders)
    drawn = [orders[pair % 2] for pair in range(pairs)]
    chance.shuffle(drawn)
    return drawn


def timed(
    suite: Path,
    name: str,
    places: Mapping[Name, Place],
    pairs: Sequence[tuple[Name, Name]],
    plugins: Sequence[Path] = (),
) -> Iterator[dict[Name, Side]]:
    """Both sides of each pair, as it is timed in its order, with the same suite and plugins; raises IncompleteError
    where a run fails.
    """
    for pair, names in enumerate(pairs):
        found: dict[Name, Side] = {}
        for side in names:
            with TemporaryDirectory(prefix="bench-ab-") as results:
                _run(side, places[side], suite, Path(results), plugins)
                found[side] = _read(Path(results) / name / f"{side}.sqlite", f"{side}, {pair + 1} runs")
        yield {side: found[side] for side in NAMES}


def _run(side: Name, where: Place, suite: Path, results: Path, plugins: Sequence[Path]) -> None:
    command = [where.python, "-m", "bench", "time", str(suite.absolute()), "--label", side, "--results", str(results)]
    command += [word for path in plugins for word in ("--plugin", str(path.expanduser().absolute()))]
    # A session of its own, so that whatever it starts can be ended with it.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"} if where.installed else None
    try:
        process = subprocess.Popen(
            [*command, "--format", "json"],
            cwd=where.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise BenchError(f"{side}: {where.python} cannot be started: {error.strerror}") from error
    try:
        _, told = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        last = told.strip().splitlines()[-1:] or ["it said nothing"]
        raise IncompleteError(f"{side}: 'bench time' in {where.folder} ended with {process.returncode}: {last[0]}")


def _read(path: Path, name: str) -> Side:
    with Archive.reading(path) as archive:
        return replace(sides.of_archive(archive), name=name)


def merged(runs: Sequence[Side], name: str) -> Side:
    """All runs of a side as one: a process's step time and peak memory are the medians of what a run timed."""
    samples = {}
    for key, last in runs[-1].samples.items():
        of_all = [run.samples[key] for run in runs if key in run.samples]
        samples[key] = replace(
            last,
            step_seconds=tuple(statistics.median(each.step_seconds) for each in of_all if each.step_seconds),
            peak_memory_bytes=tuple(
                statistics.median(each.peak_memory_bytes) for each in of_all if each.peak_memory_bytes
            ),
            timed_in=sides.each_once(environment for each in of_all for environment in each.timed_in),
        )
    environments = sides.each_once(environment for run in runs for environment in run.environments)
    return Side(name, runs[-1].suite, environments, samples)
