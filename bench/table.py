"""A table, and the formats it can be written in."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tabulate import tabulate

Format = Literal["table", "markdown", "latex"]
# What Markdown would take for markup, but for what it cannot: an underscore inside a word.
_MARKUP = re.compile(r"[\\|*`&<>\[\]~]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_TABULATE = {"table": "simple", "markdown": "pipe", "latex": "latex_booktabs"}


def plain(text: str) -> str:
    """Text that moves no cursor and commands no CI, whoever wrote it: control and formatting characters as escapes."""
    shown = (char if char == "\n" or unicodedata.category(char)[0] != "C" else f"\\u{ord(char):04x}" for char in text)
    return "".join(shown).replace("::", ": :")


def harmless(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula; a number stays one."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def markdown(text: str) -> str:
    """Text as Markdown that shows it as it is, on one line, in a cell of a table too."""
    escaped = _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), plain(text))
    return "<br>".join(escaped.splitlines())


def _written(text: str, style: Format) -> str:
    """Text of an archive, which anybody may have written, as it is put into a table of a style."""
    return markdown(text) if style == "markdown" else " ".join(plain(text).splitlines())


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

    def without_empty(self, columns: Collection[str]) -> Table:
        """The table without those of the columns in which no row has anything."""
        kept = [
            place
            for place, column in enumerate(self.columns)
            if column not in columns or any(row[place] for row in self.rows)
        ]
        rows = [[row[place] for place in kept] for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in kept], rows=rows)

    def render(self, style: Format, width: int | None = None) -> str:
        """The whole table as text; a table of at most `width` columns of characters, where one is given."""
        title, notes = _written(self.title, style), [_written(note, style) for note in self.notes]
        if style == "markdown":
            return "\n".join([f"### {title}", "", self._body(style, []), *(f"\n{note}" for note in notes)])
        if style == "latex":
            return "\n".join([f"% {title}", self._body(style, []), *(f"% {note}" for note in notes)])
        if width is None:
            return "\n".join([title, "", self._body(style, []), *notes])
        left_out: list[str] = []
        body = self._body(style, left_out)
        while max(map(len, body.splitlines())) > width and len(left_out) < len(self.spare):
            left_out = self.spare[: len(left_out) + 1]
            body = self._body(style, left_out)
        notes += [f"left out for want of width: {', '.join(left_out)}"] if left_out else []
        return "\n".join([textwrap.fill(title, width), "", body, *(textwrap.fill(note, width) for note in notes)])

    def _body(self, style: Format, left_out: list[str]) -> str:
        places = [place for place, column in enumerate(self.columns) if column not in left_out]
        columns = [self.columns[place] for place in places]
        rows = [[_written(row[place], style) for place in places] for row in self.rows]
        align = ["right" if column in self.numeric else "left" for column in columns]
        return tabulate(rows, columns, tablefmt=_TABULATE[style], colalign=align, disable_numparse=True)
