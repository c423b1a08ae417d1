"""Shows what an archive holds, and what follows from it or from anybody's table."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bench.commands._options import ALL_ANALYSES, Format, Label, Plugins, Results, ShownPath, analyses
from bench.commands._output import render, width, write
from bench.commands._places import own_components, source_of
from bench.errors import BenchError
from bench.show import pictures

# Read off the folder, since a help text is to import none of what finds components.
_PICTURES = sorted(path.stem for path in Path(pictures.__path__[0]).glob("[!_]*.py"))


def show(
    source: ShownPath,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    analysis: Annotated[
        str,
        typer.Option(help="Only this one of 'bench list analyses', or module:name.", autocompletion=analyses),
    ] = ALL_ANALYSES,
    plot: Annotated[bool, typer.Option("--plot", help="Draw steps to target in the terminal first.")] = False,
    label: Label = "main",
    plugin: Plugins = None,
    results: Results = Path("results"),
) -> None:
    """Shows what an archive holds and what follows from it; imports no torch.

    Examples:  bench show suites/quick.yaml   |   bench show results/quick/main.sqlite --analysis critical_batch
    """
    from bench.keep.archive import Archive

    # Somebody's own runs where it is named here.
    named = own_components(plugin) if ":" in analysis else nullcontext()
    if plot and output != "table":
        raise BenchError(f"--plot: found --format {output}; a picture in the terminal goes with a table")
    with Archive.reading(source_of(source, plugin, label, results)) as archive, named:
        if plot:
            from bench.show import report

            typer.echo("\n\n".join(report.pictures(archive, width() or 80)) + "\n")
        typer.echo(render(archive, output, None if analysis == ALL_ANALYSES else analysis))


def plot(
    source: ShownPath,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The picture: .svg, .png or .pdf.", dir_okay=False)
    ] = Path("plot.svg"),
    kind: Annotated[str, typer.Option(help=f"{', '.join(_PICTURES)}.")] = "batch_scaling",
    label: Label = "main",
    plugin: Plugins = None,
    results: Results = Path("results"),
) -> None:
    """Draws an archive into a file: a panel for each workload.

    Example:  bench plot suites/quick.yaml --kind curves -o curves.png
    """
    from bench.keep.archive import Archive
    from bench.show import plot

    with Archive.reading(source_of(source, plugin, label, results)) as archive:
        plot.plot(archive, kind, output)
    typer.echo(f"picture: {output}")


def report_(
    source: ShownPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.", dir_okay=False)] = Path("report.html"),
    label: Label = "main",
    plugin: Plugins = None,
    results: Results = Path("results"),
) -> None:
    """Writes an archive as one HTML page that needs nothing else: charts, tables, environment and suite.

    Example:  bench report suites/quick.yaml -o quick.html
    """
    from bench.keep.archive import Archive
    from bench.show.page import page

    with Archive.reading(source_of(source, plugin, label, results)) as archive:
        write(output, page(archive))
    typer.echo(f"page: {output}")


def fit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or JSON with the columns batch_size and steps.")],
    reference: Annotated[
        float | None,
        typer.Option(
            help="The batch size whose examples are the measure; else the largest of the curves' smallest.", min=1
        ),
    ] = None,
    overhead: Annotated[float, typer.Option(help="How many more examples may be paid, as a share.", min=0.001)] = 0.2,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
) -> None:
    """Fits the critical batch size to anybody's table of batch sizes and steps to target.

    Columns: batch_size, steps (empty: a miss); if there are any, seed, label (several curves), model_size and tokens.

    Example:  bench fit curve.csv --reference 256
    """
    from bench.conclude import curves
    from bench.show import report

    for name, value in (("--reference", reference), ("--overhead", overhead)):
        if value is not None and not math.isfinite(value):
            raise BenchError(f"{name}: found {value}; should be a number")
    typer.echo(report.rendered(report.fit_tables(curves.read(file), overhead, reference), output, width()))
