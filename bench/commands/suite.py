"""A suite before it is run."""

from __future__ import annotations

import typer

from bench.commands._options import SuitePath
from bench.commands._places import plan_of


def check(suite: SuitePath) -> None:
    """Checks a suite and reports every problem at once, with its line. Trains nothing, imports no torch.

    Example:  bench check suites/quick.yaml
    """
    plan = plan_of(suite)
    timings = f", timings: {len(plan.timings)}" if plan.timings else ""
    typer.echo(f"{suite}: nothing wrong; workloads: {len(plan.workloads)}, studies: {len(plan.studies)}{timings}")
    if outside := plan.outside():
        typer.echo(f"running it runs code from outside bench: {', '.join(outside)}")


def plan(suite: SuitePath) -> None:
    """Shows every study and trial of a suite, and the steps and examples it can cost at most.

    Example:  bench plan suites/quick.yaml
    """
    from bench import report

    for table in report.plan_tables(plan_of(suite)):
        typer.echo(table.render("table") + "\n")
