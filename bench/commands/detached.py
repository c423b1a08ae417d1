"""Runs that nobody waits for: how far they are, and what they have measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.commands._interrupt import interrupt_once
from bench.commands._options import ArchivePath, Results
from bench.commands._output import width
from bench.commands._places import archive_of
from bench.errors import ContradictionError, IncompleteError, InterruptedRunError

if TYPE_CHECKING:
    from bench.run.collect import Status


def status(archive: ArchivePath, results: Results = Path("results")) -> None:
    """Says how far a detached run is: its jobs, and what they have measured by now.

    Example:  bench status results/mine/main.sqlite
    """
    from bench.keep.archive import Archive
    from bench.run import collect, detached

    path = archive_of(archive, results)
    with Archive.reading(path) as opened:
        if not detached.is_detached(path):
            studies, left = len(opened.studies()), len(collect.unmeasured(opened))
            typer.echo(f"{path}: {studies - left} of {studies} studies measured; no detached run of it is left")
            return
    typer.echo(_table(path, collect.status(path)))


def _table(path: Path, seen: Status) -> str:
    from bench.table import Table

    finished, asked = sum(part.finished for part in seen.parts), sum(part.record.studies for part in seen.parts)
    said = seen.unanswered or f"{seen.alive} of {len(seen.parts)} jobs left"
    rows = [
        [
            *(str(part.number), part.record.job, part.state),
            *(f"{part.finished} of {part.record.studies}", str(part.ended_trials), part.node, part.record.log),
        ]
        for part in seen.parts
    ]
    return Table(
        f"{path}: detached at {seen.submitted}",
        ["part", "job", "state", "studies", "trials ended", "node", "log"],
        rows,
        numeric={"part", "studies", "trials ended"},
        notes=[
            *(f"part {part.number}: {part.problem}" for part in seen.parts if part.problem),
            *(f"part {part.number}: {fault}" for part in seen.parts for fault in part.faults),
            f"{finished} of {asked} studies measured; {said}; next: bench collect {path}",
        ],
        spare=["log", "node"],
    ).render("table", width())


def collect(archive: ArchivePath, results: Results = Path("results")) -> None:
    """Writes into an archive what the jobs of its detached run have measured by now; may be done again and again.

    Example:  bench collect results/mine/main.sqlite
    """
    from bench.run import collect
    from bench.run.parts import folder_of

    path = archive_of(archive, results)
    interrupt_once()
    try:
        got = collect.collect(path)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"stopped; {path} is as it was, or holds all that was to be had") from None
    alive = got.status.alive if got.status else 0
    said = f"{path}: {got.studies - got.missing} of {got.studies} studies measured"
    if not (got.missing or got.refused):
        typer.echo(said)
        return
    if got.status and got.status.unanswered:
        advice = f"{got.status.unanswered}; collect again"
    elif got.status and alive:
        advice = f"{alive} of {len(got.status.parts)} jobs left, collect again; see 'bench status'"
    elif any(isinstance(error, ContradictionError) for error in got.refused):
        advice = f"'bench merge PART --into NEW' keeps such a part by itself; then remove {folder_of(path)}"
    elif got.refused:
        advice = f"'bench verify' says what can be saved of these parts; then remove {folder_of(path)}"
    else:
        advice = "no job is left, run the suite again"
    raise IncompleteError("\n".join([*map(str, got.refused), *got.faults, f"{said}; {advice}"]))
