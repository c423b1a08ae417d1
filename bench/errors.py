"""Everything bench refuses, as one tree.

BenchError
  SuiteError           a suite that cannot be run as it stands: every problem at once
  ComponentError       a model, dataset, ... that is not there, or cannot do what the suite asks
  DataError            a dataset whose files are missing or unlike what they should be
  DeviceError          a device that is not there, or a cluster that does not answer
  ArchiveError         an archive that is missing, locked, broken, or not one of ours
    BrokenArchiveError an archive that is not what was written
    ContradictionError two sound archives that tell otherwise of the same trial
    StorageError       an archive that could not be written further: a full disk, a quota
  InterruptedRunError  a run that Ctrl-C ended
  IncompleteError      a run that ended before everything it planned was measured
    FaultyDeviceError  a run that was stopped because its device failed again and again
  CalibrationError     a measurement of a workload with an exact answer that missed it
  BaselineError        a baseline that is missing, or cannot be read as one
  VerdictError         a gate that did not pass

An error's text is one sentence to the person who can mend it: where, what was found, what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class BenchError(Exception):
    """What the user must mend. The command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a suite."""

    line: int
    path: str
    message: str


class SuiteError(BenchError):
    """All problems of one suite, each on a line as `file:line: path: what was found; what would be right`."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = sorted(set(problems))
        super().__init__("\n".join(self._sentence(problem) for problem in self.problems))

    def _sentence(self, problem: Problem) -> str:
        where = f"{self.file}:{problem.line}" if problem.line else self.file
        return ": ".join(part for part in (where, problem.path, problem.message) if part)


class ComponentError(BenchError):
    """A component that cannot be found or built."""


class DataError(BenchError):
    """A dataset that cannot be loaded."""


class DeviceError(BenchError):
    """A device that cannot be used."""


class ArchiveError(BenchError):
    """An archive that cannot be read or written."""


class BrokenArchiveError(ArchiveError):
    """What is wrong with an archive, a sentence each."""

    exit_code = 1


class ContradictionError(ArchiveError):
    """Two archives that are sound, and tell otherwise of the same trial."""


class StorageError(ArchiveError):
    """A disk that takes no more; what was measured before is in the archive."""

    exit_code = 5


class InterruptedRunError(BenchError):
    """A run that Ctrl-C ended; what it measured is in the archive."""

    exit_code = 130


class IncompleteError(BenchError):
    """A run that could not measure everything it planned; what it measured is in the archive."""

    exit_code = 5


class FaultyDeviceError(IncompleteError):
    """A device on which one worker after the other failed."""


class CalibrationError(BenchError):
    """A check against an exact answer that failed: what bench measures here is not to be believed."""

    exit_code = 1


class BaselineError(BenchError):
    """What a candidate is to be compared with is missing, or is not to be believed."""

    exit_code = 4


class VerdictError(BenchError):
    """A gate that did not pass; its exit code says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


_MOST_WORDS = 24


def nearest(word: str, words: Sequence[str]) -> str:
    """The end of a sentence about an unknown word: the closest known one, or what there is where none is close."""
    by_lower_case = {known.lower(): known for known in sorted(words)}
    if close := difflib.get_close_matches(word.lower(), by_lower_case, n=1):
        return f"did you mean '{by_lower_case[close[0]]}'?"
    shown = ", ".join(sorted(words)[:_MOST_WORDS])
    more = f" and {len(words) - _MOST_WORDS} more" if len(words) > _MOST_WORDS else ""
    return f"there is {shown}{more}" if words else "there is none"


_EXPECTED = {
    "bool_type": "should be true or false",
    "dict_type": "should be a mapping, {{key: value}}",
    "float_type": "should be a number",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "int_type": "should be a whole number",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "list_type": "should be a list, such as [a, b]",
    "literal_error": "should be {expected}",
    "model_type": "should be a mapping, {{key: value}}",
    "string_too_long": "should have at most {max_length} characters",
    "string_type": "should be text, in quotes if it looks like something else",
    "too_long": "should hold at most {max_length}",
    "too_short": "should hold at least {min_length}",
}


def expected(detail: Mapping[str, Any]) -> str:
    """What would be right, as the end of a sentence, from one of the details of a pydantic ValidationError."""
    kind, found = detail["type"], detail["input"]
    if kind == "int_type" and isinstance(found, float) and found.is_integer():
        return "should be a whole number, written without a point"
    if kind in _EXPECTED:
        bounds = detail.get("ctx", {})
        return _EXPECTED[kind].format(
            **{
                name: value if isinstance(value, str) else f"{value:,}".removesuffix(".0")
                for name, value in bounds.items()
            }
        )
    message: str = detail["msg"]
    return message.removeprefix("Value error, ").replace("Input should", "should")


def lines(error: BaseException) -> list[str]:
    """What an exception says, line by line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its kind where it says nothing."""
    return lines(error)[0]


def sentence(error: Exception) -> str:
    """An exception as one sentence: bench's own as it is, any other by its kind and first line."""
    if isinstance(error, BenchError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error) if str(error).strip() else 'no message'}"
