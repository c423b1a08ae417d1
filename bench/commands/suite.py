"""A suite before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands._options import DEFAULT_DATA, Data, Label, Plugins, Results, SuitePath
from bench.commands._places import archive_path, plan_of


def check(suite: SuitePath, plugin: Plugins = None) -> None:
    """Checks a suite and reports every problem at once, with its line. Trains nothing, imports no torch.

    Example:  bench check suites/quick.yaml
    """
    from bench.ask.cautions import cautions
    from bench.ask.offers import offers_of

    plan = plan_of(suite, plugin)
    timings = f", timings: {len(plan.timings)}" if plan.timings else ""
    typer.echo(f"{suite}: nothing wrong; workloads: {len(plan.workloads)}, studies: {len(plan.studies)}{timings}")
    for caution in cautions(plan.workloads):
        typer.echo(f"caution: {caution}")
    if outside := plan.outside():
        named = ", ".join(f"{component.name} ({component.origin})" for component in outside)
        typer.echo(f"running it runs code from outside bench: {named}")
    for component in plan.components():
        for offer in [] if component.origin else offers_of(component.kind, component.name):
            typer.echo(f"{component.name} is bench's own; that of {offer.package} is named {offer.place}")


def plan(
    suite: SuitePath,
    devices: Annotated[
        int | None, typer.Option(help="How long would it take on so many?", min=1, max=1_000_000)
    ] = None,
    label: Label = "main",
    plugin: Plugins = None,
    data: Data = DEFAULT_DATA,
    results: Results = Path("results"),
) -> None:
    """Shows every study and trial of a suite, and the steps and examples it can cost at most; with --devices the time
    too, from the step times that its archive holds.

    Examples:  bench plan suites/quick.yaml   |   bench plan suites/quick.yaml --devices 8
    """
    from bench.ask.cautions import cautions
    from bench.keep.archive import Archive
    from bench.run import runner
    from bench.show import plans

    planned = plan_of(suite, plugin, data=data)
    if devices is None:
        tables = plans.plan_tables(planned)
    else:
        with Archive.reading(archive_path(results, planned.suite.name, label)) as archive:
            tables = [plans.forecast_table(runner.in_order(planned.studies), archive, devices)]
    for table in tables:
        typer.echo(table.render("table") + "\n")
    for caution in cautions(planned.workloads):
        typer.echo(f"caution: {caution}")
