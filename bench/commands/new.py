"""Something new, to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.ask.new import PLURALS, Kind


def new(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="What to write.", show_choices=True)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The function and its file, or the suite.")],
) -> None:
    """Writes a working example of a component with its test, or a small suite, for you to change.

    KIND is model, dataset, optimizer, schedule, probe, analysis or suite. In a clone of bench the files go where they
    belong, elsewhere into this folder.

    Examples:  bench new model mine   |   bench new suite first
    """
    from bench.ask import new

    written = new.write(kind, name, Path.cwd())
    for file in written.files:
        typer.echo(f"written: {file}")
    if kind == "suite":
        typer.echo(f"measure it: bench run {written.files[0]}")
    elif kind == "analysis":
        typer.echo(f"use it: bench show ARCHIVE --analysis {written.said}")
    else:
        key = "probes: {" + f"'{written.said}': {{}}" + "}" if kind == "probe" else f"{kind}: {written.said}"
        typer.echo(f"use it in a suite: {key}")
        typer.echo(f"its options: bench list {PLURALS[kind]} {written.said}")
