"""A suite before it is run."""

from __future__ import annotations

import typer

from bench.commands._options import Plugins, SuitePath
from bench.commands._places import plan_of


def check(suite: SuitePath, plugin: Plugins = None) -> None:
    """Checks a suite and reports every problem at once, with its line. Trains nothing, imports no torch.

    Example:  bench check suites/quick.yaml
    """
    from bench.offers import offers_of

    plan = plan_of(suite, plugin)
    timings = f", timings: {len(plan.timings)}" if plan.timings else ""
    typer.echo(f"{suite}: nothing wrong; workloads: {len(plan.workloads)}, studies: {len(plan.studies)}{timings}")
    if outside := plan.outside():
        named = ", ".join(f"{component.name} ({component.origin})" for component in outside)
        typer.echo(f"running it runs code from outside bench: {named}")
    for component in plan.components():
        for offer in [] if component.source else offers_of(component.kind, component.name):
            typer.echo(f"{component.name} is bench's own; that of {offer.package} is named {offer.place}")


def plan(suite: SuitePath, plugin: Plugins = None) -> None:
    """Shows every study and trial of a suite, and the steps and examples it can cost at most.

    Example:  bench plan suites/quick.yaml
    """
    from bench import report

    for table in report.plan_tables(plan_of(suite, plugin)):
        typer.echo(table.render("table") + "\n")
