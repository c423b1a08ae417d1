"""What there is to name in a suite, and the suite's schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

import typer

from bench.commands._options import Kind, Plugins, Results, component_names
from bench.commands._places import own_components


def list_(
    kind: Annotated[Kind | None, typer.Argument(help="Only this kind.")] = None,
    name: Annotated[
        str | None, typer.Argument(help="One component, with its options.", autocompletion=component_names)
    ] = None,
    plugin: Plugins = None,
    results: Results = Path("results"),
) -> None:
    """Lists models, datasets, optimizers, schedules, probes, analyses and archives.

    Examples:  bench list   |   bench list models   |   bench list optimizers adam
    """
    from bench.ask import components

    with own_components(plugin) as own:
        if name is not None and kind not in (None, "archives"):
            component = components.find(kind, name)
            typer.echo(f"{component.name}: {component.summary}")
            if component.origin:
                typer.echo(f"from outside bench: {component.origin}")
            for option in component.options:
                default = f": {option.default}" if option.default else ""
                typer.echo(f"  {option.name}{' (needed)' if option.required else default}")
            if component.about:
                typer.echo(f"\n{component.about}")
            return
        for each in [kind] if kind else get_args(Kind):
            typer.echo(f"{each}:")
            found = map(str, sorted(results.glob("*/*.sqlite"))) if each == "archives" else _listed(each, own)
            for line in found:
                typer.echo(f"  {line}")


def _listed(kind: str, own: list[str]) -> Iterator[str]:
    """The components of a kind, a line each: bench's own, those that packages offer, those of plugins, and what else
    may be named.
    """
    from bench.ask import components
    from bench.ask.libraries import torch_optimizers
    from bench.ask.offers import offers

    for name in components.names(kind):
        yield _line(kind, name)
    for offer in offers(kind):
        # A name of bench's own wins; what it hides is still found where it lies.
        hidden = offer.name in components.builtin(kind)
        note = f"; '{offer.name}' is bench's own" if hidden else ""
        yield f"{_line(kind, offer.place if hidden else offer.name)} (of {offer.package}{note})"
    for module in own:
        yield from (_line(kind, name) for name in components.functions(kind, module))
    match kind:
        case "models":
            yield "torchvision:NAME, timm:NAME, package.module:NAME; each also takes init_scale"
        case "datasets":
            yield "torchvision:NAME, package.module:NAME; each also takes subset, label_noise and task: reconstruction"
        case "optimizers":
            yield f"and of torch.optim: {', '.join(torch_optimizers())}; or package.module:NAME"
        case _:
            yield "package.module:NAME"


def _line(kind: str, name: str) -> str:
    from bench.ask import components
    from bench.errors import ComponentError

    try:
        return f"{name:<16} {components.find(kind, name).summary}"
    except ComponentError as error:
        return f"{name:<16} cannot be used: {error}"


def schema() -> None:
    """Prints the JSON Schema of a suite, for editors.

    Example:  bench schema > suite.schema.json
    """
    import json

    from bench.ask.suite import SuiteFile

    typer.echo(json.dumps(SuiteFile.model_json_schema(), indent=2))
