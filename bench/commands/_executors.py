"""Which executor carries studies out, and with which options: where a suite runs is not science, and not in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ComponentError, SuiteError, nearest

if TYPE_CHECKING:
    from bench.contracts import Executor


def executor_of(name: str, given: Sequence[str], devices: Sequence[str], stall_seconds: float) -> Executor:
    """The executor of that name; raises ComponentError with everything that is wrong with its options.

    given: `key=value`, or a YAML file of options.
    """
    from bench.ask import components

    component = components.find("executors", name)
    options = {key: value for text in given for key, value in _read(text).items()}
    typed = {key: value for key, equals, value in (text.partition("=") for text in given) if equals}
    problems = []
    for key, value in options.items():
        option = component.option(key)
        if option is None:
            known = [option.name for option in component.options]
            problems.append(f"--executor-options: '{key}' is no option of {name}; {nearest(key, known)}")
        elif not (problem := option.problem(value)):
            continue
        elif key in typed and not option.problem(typed[key]):
            options[key] = typed[key]  # text that looks like something else, whose quotes the shell would take away
        else:
            problems.append(f"--executor-options: found {key}={value}; {problem}")
    if problems:
        raise ComponentError("\n".join(problems))
    made: Executor = component.load()(devices, stall_seconds, **options)
    return made


def _read(text: str) -> dict[str, Any]:
    from bench.ask import document

    key, equals, value = text.partition("=")
    refusal = ComponentError(f"--executor-options: found '{text}'; should be key=value, or a YAML file of options")
    try:
        source = document.parse(f"{key}: {value}") if equals else document.read(Path(text))
    except SuiteError as error:
        raise refusal from error
    if source.problems or not isinstance(source.data, dict):
        raise refusal
    return source.data
