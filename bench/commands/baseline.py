"""Keeps what candidates are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands._options import ArchivePath, BaselinePath, Results
from bench.commands._places import place_of, side_of
from bench.errors import ArchiveError


def save(source: ArchivePath, output: BaselinePath, results: Results = Path("results")) -> None:
    """Saves an archive as a new baseline: raw values, environments and hashes.

    Example:  bench baseline save quick/main -o results/baselines/quick.json
    """
    from bench.conclude import baseline

    baseline.save(side_of(place_of(source, results), ArchiveError), output)
    typer.echo(f"baseline: {output}")


def accept(
    source: ArchivePath,
    output: BaselinePath,
    reason: Annotated[str, typer.Option(help="Why the new numbers are right; kept in the file.")],
    results: Results = Path("results"),
) -> None:
    """Replaces a baseline by an archive, and keeps the reason.

    Example:  bench baseline accept quick/main -o results/baselines/quick.json --reason "torch 2.15"
    """
    from bench.conclude import baseline

    baseline.accept(side_of(place_of(source, results), ArchiveError), output, reason)
    typer.echo(f"baseline: {output}")
