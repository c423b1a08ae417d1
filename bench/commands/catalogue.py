"""What there is to name in a suite, and the suite's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from bench.commands._options import Kind, Results, component_names
from bench.commands._places import find_own_components


def list_(
    kind: Annotated[Kind | None, typer.Argument(help="Only this kind.")] = None,
    name: Annotated[
        str | None, typer.Argument(help="One component, with its options.", autocompletion=component_names)
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Lists models, datasets, optimizers, schedules, probes, analyses and archives.

    Examples:  bench list   |   bench list models   |   bench list optimizers adam
    """
    from bench import components

    if name is not None and kind not in (None, "archives"):
        find_own_components()
        component = components.find(kind, name)
        typer.echo(f"{component.name}: {component.summary}")
        for option in component.options:
            typer.echo(f"  {option.name}{' (needed)' if option.required else ''}")
        return
    for each in [kind] if kind else get_args(Kind):
        typer.echo(f"{each}:")
        if each == "archives":
            for path in sorted(results.glob("*/*.sqlite")):
                typer.echo(f"  {path}")
            continue
        if not components.names(each):
            typer.echo("  none yet")
        for known in components.names(each):
            typer.echo(f"  {known:<16} {components.find(each, known).summary}")
        if each == "models":
            typer.echo("  torchvision:NAME, package.module:NAME")
        elif each == "optimizers":
            typer.echo(f"  and of torch.optim: {', '.join(components.torch_optimizers())}; or package.module:NAME")
        elif each in ("datasets", "schedules"):
            typer.echo("  package.module:NAME")


def schema() -> None:
    """Prints the JSON Schema of a suite, for editors.

    Example:  bench schema > suite.schema.json
    """
    import json

    from bench.suite import SuiteFile

    typer.echo(json.dumps(SuiteFile.model_json_schema(), indent=2))
