"""Reads YAML as data and nothing else, and remembers the line of every value.

Numbers and booleans are those of YAML's 1.2 core schema: `1e-3` is a number, `no` is a word. Aliases, tags,
repeated keys, large files and deep nesting are refused before anything is built from them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.errors import Problem, SuiteError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_DIGITS = 18

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own protocol)


_WORD = re.compile(r"[\w<:/-]+$")
_INT = re.compile(r"[-+]?[0-9]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


@dataclass
class Document:
    """A YAML file: its text, its data, and the line on which each value, or the key that holds it, stands."""

    file: str
    text: str
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line of a value, or of the nearest thing around it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(path: Path) -> Document:
    """Reads a YAML file; raises SuiteError naming everything in it that is not plain data."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot be read ({reason}); give the path of a suite, such as suites/quick.yaml"
        raise SuiteError(file, [Problem(0, "", message)]) from None
    if len(content) > MAX_BYTES:
        raise SuiteError(file, [Problem(0, "", f"holds more than {MAX_BYTES:,} bytes; a suite is smaller")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"found a byte that is not UTF-8 (0x{content[error.start]:02x}); save the file as UTF-8 text"
        raise SuiteError(file, [Problem(line, "", message)]) from None
    return parse(text, file)


def parse(text: str, file: str = "<text>") -> Document:
    """Reads YAML text; raises SuiteError for what cannot be read as plain data at all.

    A value or key that cannot stand is left out, or as it is, and told in the document's `problems`, so that it hides
    nothing else that is wrong.
    """
    try:
        # Events come from a state machine and are flat; composing nodes recurses, so depth is looked at first.
        problems = _refusals(text)
        if problems:
            raise SuiteError(file, problems)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise SuiteError(file, [_unreadable(error)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"found the control character U+{error.character:04X}; a suite is plain text"
        raise SuiteError(file, [Problem(line, "", message)]) from None
    document = Document(file, text, None)
    if node is not None:
        document.data = _build(node, (), document, document.problems)
    return document


_HINTS = {
    "mapping values are not allowed here": "text that holds ': ' needs quotes, and keys beside one another one indent",
    "found character '\\t' that cannot start any token": "indent with spaces",
}


def _unreadable(error: yaml.MarkedYAMLError) -> Problem:
    """PyYAML's complaint as a sentence: where it noticed, what it was reading, and where that began."""
    line = error.problem_mark.line + 1 if error.problem_mark else 0
    parts = ["not YAML"]
    if error.context and error.context_mark and error.context_mark.line + 1 != line:
        parts.append(f"{error.context} begun on line {error.context_mark.line + 1}")
    parts.append(error.problem or "it cannot be read")
    message = ": ".join(parts)
    return Problem(line, "", f"{message}; {_HINTS[error.problem]}" if error.problem in _HINTS else message)


def _refusals(text: str) -> list[Problem]:
    problems: list[Problem] = []
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            problems.append(
                Problem(line, "", f"found the alias '*{event.anchor}'; write the value out, or use defaults:")
            )
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            problems.append(
                Problem(line, "", f"found the anchor '&{event.anchor}'; write values out, or use defaults:")
            )
        if tag := getattr(event, "tag", None):
            problems.append(Problem(line, "", f"found the tag '{tag}'; a suite is plain data, without tags"))
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                return [*problems, Problem(line, "", "found a second document, begun by '---'; a suite is one")]
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return [*problems, Problem(line, "", f"nested deeper than {MAX_DEPTH}; a suite needs about six levels")]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return problems


def _build(node: yaml.Node, path: KeyPath, document: Document, problems: list[Problem]) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*path, index), document, problems) for index, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(Problem(line, dotted(path), "found a list or mapping as a key; a key is a word"))
                continue
            key = key_node.value
            if key in found:
                first = document.lines[(*path, key)]
                problems.append(
                    Problem(line, dotted((*path, key)), f"given twice, first on line {first}; give it once")
                )
                continue
            document.lines[(*path, key)] = line
            found[key] = _build(value_node, (*path, key), document, problems)
        return found
    return _scalar(node, path, problems)


def _scalar(node: yaml.Node, path: KeyPath, problems: list[Problem]) -> Any:
    text: str = node.value
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float"):
        number: float = _number(text)
        wrong = None
        if not math.isfinite(number):
            wrong = "every number in a suite is finite"
        elif kind == "int" and abs(number) >= 10**MAX_DIGITS:
            wrong = f"a whole number in a suite has at most {MAX_DIGITS} digits"
        if wrong:
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            problems.append(Problem(node.start_mark.line + 1, dotted(path), f"found {shown}; {wrong}"))
        return number
    return text


def _number(text: str) -> int | float:
    if _INT.match(text) and len(text) <= MAX_DIGITS + 1:
        return int(text)
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    # 1e4 steps are a count: a whole number stays one however it is written.
    return int(number) if number.is_integer() and "." not in text and abs(number) < 2**53 else number


def dotted(path: KeyPath) -> str:
    """`("workloads", 0, "search")` as `workloads[0].search`; a key that is no plain word stands in quotes."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part if _WORD.match(part) else repr(part)}" for part in path)
    return "".join(parts).removeprefix(".")
