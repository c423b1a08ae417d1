"""A table, and the formats it can be written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tabulate import tabulate

Format = Literal["table", "markdown", "latex"]
_TABULATE = {"table": "simple", "markdown": "pipe", "latex": "latex_booktabs"}


@dataclass(frozen=True)
class Table:
    """Cells as text, right-aligned where `numeric`; notes stand below, a line each."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    numeric: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def render(self, style: Format) -> str:
        """The whole table as text in a format."""
        rows, columns = self.rows, self.columns
        if style == "markdown":
            rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        align = ["right" if column in self.numeric else "left" for column in columns]
        body = tabulate(rows, columns, tablefmt=_TABULATE[style], colalign=align, disable_numparse=True)
        match style:
            case "table":
                parts = [self.title, "", body, *self.notes]
            case "markdown":
                parts = [f"### {self.title}", "", body, *(f"\n{note}" for note in self.notes)]
            case "latex":
                parts = [f"% {self.title}", body, *(f"% {note}" for note in self.notes)]
        return "\n".join(parts)
