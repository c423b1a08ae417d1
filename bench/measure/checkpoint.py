"""A long study is kept in a file while it goes on, so that after a crash it goes on from there.

The file holds the study's journal and the state of its cohorts. It is written beside the last one and takes its place
once it is on the disk; the one before stays. What is torn, or was not written here by this very program for this very
study, is never gone on from.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from bench.contracts import Look, OutOfMemory
from bench.errors import ComponentError, first_line
from bench.events import Started, StudyEvent
from bench.keep import checkpoints
from bench.measure import journal
from bench.measure.journal import Call, Carry, CohortState, Journal, Strayed
from bench.measure.memory import out_of_memory_named
from bench.measure.study import MakeCohort

# At most so often, and so that writing takes at most a twentieth of the time: shorter studies are begun again.
EVERY_SECONDS = 60.0
TIMES_WRITING = 20.0

_log = logging.getLogger(__name__)


def kept(
    path: Path, study: str, environment: Mapping[str, Any], carry: Carry, make: MakeCohort, look: Look
) -> Iterator[StudyEvent]:
    """The events of a study that goes on from its checkpoint, where there is one, and is kept in it now and then.

    study: its id.  environment: where its readings are taken, which must be where they were.  Raises ComponentError
    where the checkpoint was good and training cannot go on from it all the same; it is then removed.
    """
    identity = {"study": study, "environment": dict(environment), "source": _source()}
    calls, states, seated_seconds = _read(path, identity, carry)
    keeper = _Keeper(path, identity, seated_seconds)
    going_on = Journal(calls, states, make, look, keeper.evaluated)
    del calls, states  # the journal lets states go as cohorts take them
    try:
        for event in carry(going_on.make, going_on.look):
            yield keeper.started(event) if isinstance(event, Started) else event
    except Strayed as error:
        checkpoints.forget(path)
        raise ComponentError(f"{path}: cannot be gone on from: {error}; it is removed, run the suite again") from error


class _Keeper:
    """Writes a study's checkpoints when it is time.

    seated_seconds: since each time that trials took their seats, in the order in which the study will tell of it again.
    """

    def __init__(self, path: Path, identity: dict[str, Any], seated_seconds: Sequence[float]) -> None:
        self._path = path
        self._identity = identity
        self._again = deque(time.monotonic() - seconds for seconds in seated_seconds)
        self._seated: list[float] = []
        self._written = time.monotonic()
        self._took = 0.0
        self._warned = False

    def started(self, event: Started) -> Started:
        """The event, with how long ago it was where it is told again."""
        now = time.monotonic()
        self._seated.append(self._again.popleft() if self._again else now)
        return replace(event, seated_seconds=now - self._seated[-1])

    def evaluated(self, going_on: Journal) -> None:
        started = time.monotonic()
        if started - self._written < max(EVERY_SECONDS, TIMES_WRITING * self._took):
            return
        try:
            with out_of_memory_named():
                states = going_on.states()
            with out_of_memory_named(awaited=False):
                seated_seconds = [started - seated for seated in self._seated]
                kept = {"calls": going_on.calls, "states": states, "seated_seconds": seated_seconds}
                content = {**self._identity, **kept}
                _check_plain(content)
                _write(self._path, content)
        # None of these is the end of the study: at worst it is begun again.
        except (OSError, ComponentError, OutOfMemory) as error:
            if not self._warned:
                _log.warning("%s: a study is not kept while it goes on: %s", self._path, error)
            self._warned = True
        self._written = time.monotonic()
        self._took = self._written - started


def _write(path: Path, content: dict[str, Any]) -> None:
    """Raises OSError where the disk does not take it; what was kept before is still there then."""
    newest, previous, begun = checkpoints.files(path)
    path.parent.mkdir(exist_ok=True)
    try:
        with begun.open("wb") as file:
            writer = _Writer(file)
            torch.save(content, cast("IO[bytes]", writer))
            if writer.error is not None:
                raise writer.error
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        begun.unlink(missing_ok=True)
        raise
    if newest.exists():
        newest.replace(previous)
    begun.replace(newest)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Writer:
    """Takes whatever torch writes, and remembers the first error: torch answers one with another that hides it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Done once all is written."""


# The calls so far, the states of cohorts, and the seconds since each time that trials took their seats.
_Content = tuple[list[Call], dict[int, CohortState], list[float]]


def _read(path: Path, identity: dict[str, Any], carry: Carry) -> _Content:
    """The newest checkpoint that can be gone on from; nothing where there is none. What cannot is said in a line."""
    unfit = []
    found: _Content = [], {}, []
    for file in checkpoints.files(path)[:2]:
        if file.exists():
            try:
                found = _fit(file, identity, carry)
                break
            except Exception as error:  # whatever a torn file makes a reader raise
                unfit.append(f"{file}: cannot be gone on from: {first_line(error)}")
    if unfit:
        what = "goes on from the checkpoint before" if found[0] else "begins again from its first step"
        _log.warning("%s; the study %s", "; ".join(unfit), what)
    return found


def _fit(file: Path, identity: dict[str, Any], carry: Carry) -> _Content:
    """What a file holds, on the CPU; raises Strayed, or whatever a reader raises, where it cannot be gone on from."""
    with zipfile.ZipFile(file) as whole:  # torch does not look at its checksums
        if whole.testzip() is not None:
            raise Strayed("it is not what was written")
    content = torch.load(file, map_location="cpu", weights_only=True)
    for name, value in identity.items():
        if content[name] != value:
            raise Strayed(f"it is of another {name}")
    journal.check(content["calls"], content["states"], carry)
    return content["calls"], content["states"], list(map(float, content["seated_seconds"]))


def _check_plain(value: object) -> None:
    """Raises ComponentError where a value is none of those that can be read back without running anything."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _check_plain(key)
            _check_plain(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_plain(each)
    elif not (value is None or type(value) in (bool, int, float, str, Tensor)):
        raise ComponentError(f"its state holds a {type(value).__name__}, which is no number, string or tensor")


@cache
def _source() -> str:
    """A hash of this program: another may train, and count its calls, in another way."""
    digest = hashlib.sha256()
    here = Path(__file__).parent.parent
    for file in sorted(here.rglob("*.py")):
        digest.update(str(file.relative_to(here)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]
