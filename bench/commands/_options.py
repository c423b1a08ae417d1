"""What several commands are given, and what a shell completes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Format = Literal["table", "markdown", "latex", "csv", "json"]
Kind = Literal["models", "datasets", "optimizers", "schedules", "probes", "analyses", "executors", "archives"]
ALL_ANALYSES = "all"


def suites(incomplete: str) -> list[str]:
    """Shell completion: suites here and in suites/."""
    found = [*Path().glob("*.yaml"), *Path("suites").glob("*.yaml")]
    return sorted(str(path) for path in found if str(path).startswith(incomplete))


def shown(incomplete: str) -> list[str]:
    """Shell completion: archives, and the suites that may have one."""
    archives = sorted(str(path) for path in Path("results").glob("*/*.sqlite"))
    return [path for path in archives if path.startswith(incomplete)] + suites(incomplete)


def analyses(incomplete: str) -> list[str]:
    """Shell completion: the analyses."""
    from bench.ask import components

    return [name for name in (ALL_ANALYSES, *components.known("analyses")) if name.startswith(incomplete)]


def executors(incomplete: str) -> list[str]:
    """Shell completion: the executors."""
    from bench.ask import components

    return [name for name in components.names("executors") if name.startswith(incomplete)]


def component_names(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the components of the kind already typed."""
    from bench.ask import components

    kind = context.params.get("kind")
    return [] if kind in (None, "archives") else [n for n in components.known(kind) if n.startswith(incomplete)]


SuitePath = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite's YAML file.", autocompletion=suites)]
ShownPath = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE-or-SUITE", help="An archive, SUITE/LABEL, or a suite.", autocompletion=shown),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file or folder whose components the suite names; may be given again."),
]
Label = Annotated[str, typer.Option(help="Which archive of the suite: results/<suite>/<label>.sqlite.")]
Results = Annotated[Path, typer.Option(help="The folder of archives.", file_okay=False)]
Data = Annotated[
    Path, typer.Option(help="Where datasets lie, or are downloaded to.", envvar="BENCH_DATA", file_okay=False)
]
DEFAULT_DATA = Path("~/.cache/bench/data")
Devices = Annotated[
    list[str] | None, typer.Option(help="Measure here, such as cuda:0 or cpu; may be given several times.")
]
StallSeconds = Annotated[
    float, typer.Option(help="A worker without an evaluation for so long hangs: it is ended, and tried again.", min=1)
]
Executor = Annotated[
    str,
    typer.Option("--executor", help="What carries it out: one of 'bench list executors'.", autocompletion=executors),
]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option("--executor-options", metavar="KEY=VALUE|FILE", help="An option of it, or a YAML file of options."),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Submit it and return; 'bench status' and 'bench collect' see to the rest.")
]
FailOn = Annotated[Literal["regression", "inconclusive"], typer.Option(help="What else than errors is not to pass.")]
JUnitPath = Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML too.", dir_okay=False)]
JsonPath = Annotated[Path | None, typer.Option(help="Write every number as JSON too.", dir_okay=False)]
ConfirmOf = Annotated[
    str | None,
    typer.Option(
        "--confirm",
        metavar="BASE",
        help="Search nothing: train what BASE confirmed, a baseline or an archive, to be held against it.",
    ),
]
SIDE_HELP = "An archive, a baseline or what 'bench show --format json' printed (.json), or "
BASE_HELP = f"{SIDE_HELP}the label of an archive."
BaselinePath = Annotated[Path, typer.Option("-o", "--output", help="The baseline's file.", dir_okay=False)]
ArchivePath = Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive, or SUITE/LABEL.")]
