"""Archives that go elsewhere, come from elsewhere, or are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.commands._options import ArchivePath, Label, Results
from bench.commands._places import archive_of, archive_path
from bench.errors import ArchiveError, BrokenArchiveError


def export(
    archive: ArchivePath,
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A folder, or a .tar.zst, .csv or .json file.")],
    results: Results = Path("results"),
) -> None:
    """Writes an archive as Parquet with a manifest of hashes, or its readings as CSV or JSON.

    Examples:  bench export quick/main quick.tar.zst   |   bench export results/quick/main.sqlite quick.csv
    """
    from bench.keep import portable
    from bench.keep.archive import Archive

    with Archive.reading(archive_of(archive, results), whole=True) as opened:
        portable.export(opened, target)
    typer.echo(f"exported: {target}")


def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="What 'bench export' wrote, or another program measured.")
    ],
    source: Annotated[
        Literal["bench", "batch-science"] | None,
        typer.Option("--format", help="How it lies there; bench where there is a manifest or a file."),
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            help="A goal that was not published, as DATASET/MODEL:READING:NUMBER, such as"
            " 'mnist/fc_*:validation_error:0.03'; may be given several times."
        ),
    ] = None,
    label: Label = "main",
    results: Results = Path("results"),
) -> None:
    """Imports what was exported elsewhere, or what another program measured, into an archive of its own.

    batch-science is the public archive of Shallue et al. 2019.

    Example:  bench import batch_science --format batch-science
    """
    from rich.console import Console
    from rich.progress import Progress

    from bench.errors import InterruptedRunError
    from bench.keep.archive import Archive
    from bench.keep.importers.batch_science import batch_science

    if not folder.exists():
        raise ArchiveError(f"{folder}: is not there; name a folder or a file that 'bench export' wrote")
    if source is None:
        source = "bench" if folder.is_file() or (folder / "manifest.json").exists() else "batch-science"
    if source == "bench":
        from bench.keep import portable

        typer.echo(f"archive: {portable.read(folder, lambda suite: archive_path(results, suite, label))}")
        return
    console = Console(stderr=True)
    left_out: tuple[str, ...] = ()
    with Archive.writing(archive_path(results, source, label)) as archive:
        try:
            with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
                task = bar.add_task("importing", total=None)
                for progress in batch_science(folder, archive, goal or []):
                    bar.update(task, description=progress.workload, completed=progress.done, total=progress.total)
                    left_out = progress.left_out
        except KeyboardInterrupt:
            raise InterruptedRunError("stopped; nothing was imported, and no archive is left behind") from None
    if left_out:
        typer.echo(f"left out, for want of a --goal: {', '.join(left_out)}", err=True)
    typer.echo(f"archive: {archive.path}")


def verify(
    archive: ArchivePath,
    repair: Annotated[Path | None, typer.Option(help="Write what can be saved into this new archive.")] = None,
    results: Results = Path("results"),
) -> None:
    """Says whether an archive is what was written, and what of it can be saved; exit code 1 where it is not.

    Examples:  bench verify results/quick/main.sqlite   |   bench verify torn.sqlite --repair saved.sqlite
    """
    from bench.keep import verify

    path = archive_of(archive, results)
    if repair is not None:
        saved = verify.repair(path, repair)
        studies = f"{saved.studies} of {saved.of_studies} studies whole"
        trials = f"{saved.trials} of {saved.of_trials} trials"
        typer.echo(f"{repair}: {studies}, {trials}; 'bench run' measures what is missing")
        return
    found = verify.problems(path)
    if found:
        sentences = "\n".join(f"{path}: {sentence}" for sentence in found)
        raise BrokenArchiveError(f"{sentences}\nsave what is sound with: bench verify {path} --repair NEW.sqlite")
    typer.echo(f"{path}: nothing wrong")


def merge(
    archives: Annotated[list[str], typer.Argument(metavar="ARCHIVE..", help="Archives, the first with the suite.")],
    into: Annotated[Path, typer.Option(help="The new archive.")],
    results: Results = Path("results"),
) -> None:
    """Joins archives made on several machines into a new one, by trial; refuses those that contradict each other.

    Example:  bench merge here.sqlite there.sqlite --into both.sqlite
    """
    from bench.keep import merge

    typer.echo(f"{into}: {merge.merge([archive_of(each, results) for each in archives], into)} studies whole")
