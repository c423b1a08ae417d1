"""YAML -> Suite, or everything that is wrong with it at once, each with its line.

What the types say is checked first; then what only the components can say (`together.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Tag, ValidationError

from bench.ask import components, document, together
from bench.ask.document import Document, KeyPath
from bench.ask.located import SECTIONS, as_list, at, shown, unknown
from bench.ask.search import DIMENSIONS, Scaled, Space
from bench.ask.suite import (
    MOST_EXAMPLES,
    TARGETS,
    Entry,
    Rules,
    Search,
    Suite,
    SuiteFile,
    TimingOptions,
)
from bench.errors import ComponentError, Problem, SuiteError, expected, nearest


def load(path: Path) -> Suite:
    """Reads and checks a suite; raises SuiteError with every problem. Runs no code of the components it names."""
    return check(document.read(path))


def check(source: Document) -> Suite:
    """Checks what was read; raises SuiteError with every problem."""
    if not isinstance(source.data, dict):
        no_suite = Problem(1, "", "holds no mapping; a suite has the keys suite and workloads")
        raise SuiteError(source.file, [*source.problems, no_suite])
    data, problems = _with_defaults(source)
    content = None
    try:
        content = SuiteFile.model_validate(data)
        problems += _check_size(source, content) or [*_check_names(source, content), *_check_gate(source, content)]
    except ValidationError as error:
        problems += [_problem(source, detail, data) for detail in error.errors() if not _of_no_reading(detail)]
    for index, workload in enumerate(as_list(data.get("workloads"))):
        problems += together.problems(source, ("workloads", index), workload) if isinstance(workload, dict) else []
    # What could not be read as a value is said once, and not again as what it is no value of.
    told = {(problem.line, problem.path) for problem in source.problems}
    problems = source.problems + [problem for problem in problems if (problem.line, problem.path) not in told]
    if problems or content is None:
        raise SuiteError(source.file, problems)
    return Suite(text=source.text, content=content)


def _with_defaults(source: Document) -> tuple[dict[str, Any], list[Problem]]:
    """The data with `defaults` in place where a workload says nothing; sections are joined key by key."""
    data = dict(source.data)
    defaults = data.get("defaults", {})
    if not isinstance(defaults, dict):
        return data, []
    known = [key for key in Entry.model_fields if key != "name"]
    shared = {key: value for key, value in defaults.items() if key in known}
    problems = [
        at(source, ("defaults", key), "unknown here; a name belongs to one workload, so give it there")
        if key == "name"
        else at(source, ("defaults", key), unknown(str(key), known))
        for key in defaults
        if key not in known
    ]
    problems += [
        at(source, ("defaults", section), f"found {shown(shared[section])}; should be {_SHAPES[section]}")
        for section in SECTIONS
        if not isinstance(shared.get(section, {}), dict)
    ]
    merged = []
    for workload in as_list(data.get("workloads")):
        if not isinstance(workload, dict):
            merged.append(workload)
            continue
        whole = {**shared, **workload}
        for section in SECTIONS:
            if isinstance(shared.get(section), dict) and isinstance(workload.get(section), dict):
                whole[section] = {**shared[section], **workload[section]}
        merged.append(whole)
    return {**data, "workloads": merged} if merged else data, problems


# What stands after "should be" where a key holds another kind of value.
_SHAPES = {
    **{
        key: field.description
        for model in (TimingOptions, Entry, SuiteFile)
        for key, field in model.model_fields.items()
        if field.description
    },
    **dict.fromkeys(TARGETS, "{at_most: number} or {below: number}"),
    **dict.fromkeys(Rules.model_fields, "a rule, such as {tolerance: 0.1}"),
    **dict.fromkeys(DIMENSIONS, "[low, high]"),
    "choice": "a list of values, such as [0, 0.9]",
}
_SHAPE_ERRORS = ("dict_type", "list_type", "model_type", "too_long", "too_short", "tuple_type")
_PATTERNS = {
    "suite": "should be lower-case letters, digits, - and _, a letter or digit first",
    "name": "should be letters, digits, spaces and . _ + -, a letter or digit first",
}


def _problem(source: Document, detail: Any, data: dict[str, Any]) -> Problem:
    """One of pydantic's errors as one of our sentences."""
    # pydantic's location also names the branch of a union it tried: only what is in the file is kept.
    path: KeyPath = ()
    value: Any = data
    for part in detail["loc"]:
        inside = part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value))
        if inside:
            value, path = value[part], (*path, part)
    kind, key = detail["type"], str(path[-1]) if path else ""
    if kind == "missing" and isinstance(value, dict):
        owner = key if path and isinstance(path[-1], str) else "a workload" if path else "a suite"
        return at(source, path, f"has no '{detail['loc'][-1]}'; {owner} needs one")
    if kind == "extra_forbidden" and key == "choice" and _section(detail["loc"][:-1]) is Scaled:
        return at(source, path, "unknown here; a choice has no ends to scale, so leave out at and scale")
    if kind == "extra_forbidden":
        known = list(_keys(_section(detail["loc"][:-1])))
        # A rule of a gate, say, has keys that a workload has elsewhere.
        return at(source, path, unknown(key, known) if path[0] == "workloads" else f"unknown; {nearest(key, known)}")
    if detail["loc"][-1] == "rule" and path[2:3] == ("target",):
        # It stands in the threshold, or beside its reading.
        path = path if key == "rule" else (*path[:3], "rule")
        return at(source, path, f"found {shown(detail['input'])}; {expected(detail)}")
    if kind == "literal_error" and path[2:3] == ("target",):
        return at(source, path, f"unknown reading; {nearest(key, [*TARGETS, 'rule'])}")
    if kind == "space" and isinstance(value, dict) and len(value) == 1:
        ((word, _),) = value.items()
        return at(source, (*path, word), f"unknown; {nearest(word, [*DIMENSIONS, 'half_life'])}")
    if kind == "string_pattern_mismatch":
        message = _PATTERNS[key]
    elif kind in _SHAPE_ERRORS and path[:1] == ("workloads",) and len(path) == 2:
        message = "should be a workload, a mapping begun by 'name:'"
    elif kind in (*_SHAPE_ERRORS, "missing") and key in _SHAPES:
        message = f"should be {_SHAPES[key]}"
    else:
        message = expected(detail)
    return at(source, path, f"found {shown(value)}; {message}")


def _of_no_reading(detail: Any) -> bool:
    """Whether an error is of the threshold of what is no reading, which is told of by itself."""
    location = detail["loc"]
    return location[2:3] == ("target",) and location[3:] and location[3] not in TARGETS and location[-1] != "[key]"


def _section(location: Sequence[Any]) -> type[BaseModel]:
    """The type of the mapping at a place as pydantic gives it: keys, positions, and the tags of unions."""
    section: type[BaseModel] = SuiteFile
    choices: dict[str, type[BaseModel]] = {}
    for part in location:
        if part in _keys(section):
            choices = _choices(_keys(section)[part])
        elif section is Search:
            choices = _choices(Space)
        section = choices.get(part) or choices.get("") or section
    return section


def _keys(section: type[BaseModel]) -> dict[str, Any]:
    """The types of what may stand in a mapping, by their keys in the file."""
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def _choices(annotation: Any, tag: str = "") -> dict[str, type[BaseModel]]:
    """The mappings that a value of some type may be, or hold, by their tags in a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {tag: annotation}
    tag = next((each.tag for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Tag)), tag)
    return {key: found for inner in get_args(annotation) for key, found in _choices(inner, tag).items()}


def _check_size(source: Document, content: SuiteFile) -> list[Problem]:
    count = sum(entry.trial_count(_most_examples(entry)) for entry in content.workloads)
    if count <= content.max_trials:
        return []
    message = f"found {count:,} trials; at most {content.max_trials:,} unless the suite gives a larger max_trials"
    return [at(source, ("workloads",), message)]


def _most_examples(entry: Entry) -> int:
    """Of the datasets that say how much they have, the most; those that cannot be found are told of elsewhere."""
    most = 0
    for spec in entry.dataset:
        try:
            known = components.find("datasets", spec.name).train_examples(spec.options)
            most = max(most, known or MOST_EXAMPLES)
        except ComponentError:
            most = MOST_EXAMPLES
    return most


def _check_names(source: Document, content: SuiteFile) -> list[Problem]:
    problems = []
    names: dict[str, int] = {}
    for index, entry in enumerate(content.workloads):
        # The entry's own name too: it is what seeds are made of.
        for name in dict.fromkeys([entry.name, *(name for name, *_ in entry.combinations())]):
            first = names.setdefault(name, index)
            if first != index:
                message = f"makes a workload '{name}', and so does workloads[{first}]; give one another name"
                problems.append(at(source, ("workloads", index, "name"), message))
    return problems


def _check_gate(source: Document, content: SuiteFile) -> list[Problem]:
    gate = content.gate
    if gate is None:
        return []
    names = [name for entry in content.workloads for name, *_ in entry.combinations()]
    problems = [
        at(source, ("gate", "workloads", name), f"unknown workload; {nearest(name, names)}")
        for name in gate.workloads
        if name not in names
    ]
    for entry in content.workloads:
        for name, *_ in entry.combinations():
            for measure in gate.rules(name):
                needed = "steps_to_target" if measure == "steps_to_target" else "throughput"
                if needed not in entry.measure:
                    own = getattr(gate.workloads.get(name), measure, None)
                    path = ("gate", "workloads", name, measure) if own else ("gate", measure)
                    message = f"a rule for '{name}', which does not measure {needed}; add it to its 'measure'"
                    problems.append(at(source, path, message))
    if not any(gate.rules(name) for name in names):
        problems.append(at(source, ("gate",), f"holds no rule; should be {_SHAPES['gate']}"))
    return problems
