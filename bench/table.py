"""A table, and the formats it can be written in."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import Any, Literal

from tabulate import tabulate

Format = Literal["table", "markdown", "latex"]
_TABULATE = {"table": "simple", "markdown": "pipe", "latex": "latex_booktabs"}


@dataclass(frozen=True)
class Table:
    """Cells as text, right-aligned where `numeric`; notes stand below, a line each.

    Where a terminal is too narrow for all columns, the `spare` ones are left out in that order. `records` are the raw
    values, for JSON: a mapping for each row or finding, None where there is none.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    numeric: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)

    def render(self, style: Format, width: int | None = None) -> str:
        """The whole table as text; a table of at most `width` columns of characters, where one is given."""
        if style == "markdown":
            title, notes = markdown(self.title), [markdown(note) for note in self.notes]
            return "\n".join([f"### {title}", "", self._body(style, []), *(f"\n{note}" for note in notes)])
        if style == "latex":
            title, notes = _one_line(self.title), [_one_line(note) for note in self.notes]
            return "\n".join([f"% {title}", self._body(style, []), *(f"% {note}" for note in notes)])
        if width is None:
            return "\n".join([self.title, "", self._body(style, []), *self.notes])
        left_out: list[str] = []
        body = self._body(style, left_out)
        while max(map(len, body.splitlines())) > width and len(left_out) < len(self.spare):
            left_out = self.spare[: len(left_out) + 1]
            body = self._body(style, left_out)
        notes = [*self.notes, *([f"left out for want of width: {', '.join(left_out)}"] if left_out else [])]
        return "\n".join([textwrap.fill(self.title, width), "", body, *(textwrap.fill(note, width) for note in notes)])

    def _body(self, style: Format, left_out: list[str]) -> str:
        places = [place for place, column in enumerate(self.columns) if column not in left_out]
        columns = [self.columns[place] for place in places]
        escape = _ESCAPES.get(style, str)
        rows = [[escape(row[place]) for place in places] for row in self.rows]
        align = ["right" if column in self.numeric else "left" for column in columns]
        return tabulate(rows, columns, tablefmt=_TABULATE[style], colalign=align, disable_numparse=True)


# What Markdown would take for markup, but for what it cannot: an underscore inside a word.
_MARKUP = re.compile(r"[\\|*`&<>\[\]~]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(text: str) -> str:
    """Text as Markdown that shows it as it is, on one line, in a cell of a table too."""
    escaped = _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), text)
    return "<br>".join(escaped.splitlines())


def _one_line(text: str) -> str:
    # A second line would leave a LaTeX comment, and an empty one end a cell's paragraph.
    return " ".join(text.splitlines())


_ESCAPES = {"markdown": markdown, "latex": _one_line}
