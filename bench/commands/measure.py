"""Measures: to the target, or only the clock."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.commands._executors import executor_of
from bench.commands._interrupt import interrupt_once
from bench.commands._options import (
    DEFAULT_DATA,
    ConfirmOf,
    Data,
    Detach,
    Devices,
    Executor,
    ExecutorOptions,
    Format,
    Label,
    Plugins,
    Results,
    StallSeconds,
    SuitePath,
)
from bench.commands._output import render
from bench.commands._places import archive_path, given_of, own_components, plan_of
from bench.errors import BenchError, IncompleteError

RUN = """Measures what the archive does not hold yet of a suite, and shows the whole.

Examples:  bench run suites/quick.yaml   |   bench run mine.yaml --label pr --confirm results/baselines/mine.json
"""
TIME = """Times the steps of a suite's workloads, whatever else it asks for, and trains nothing to its target.

Examples:  bench time suites/throughput.yaml   |   bench time mine.yaml --label throughput --device cuda:0
"""


def measure(
    context: typer.Context,
    suite: SuitePath,
    plugin: Plugins = None,
    label: Label = "main",
    confirm: ConfirmOf = None,
    device: Devices = None,
    output: Annotated[Format, typer.Option("--format", help="How to print what was measured.")] = "table",
    stall_seconds: StallSeconds = 1800,
    executor: Executor = "local",
    executor_options: ExecutorOptions = None,
    detach: Detach = False,
    data: Data = DEFAULT_DATA,
    results: Results = Path("results"),
) -> None:
    """`bench run`, and `bench time`, which measures of a suite only what is timed."""
    from contextlib import closing

    from bench.errors import InterruptedRunError
    from bench.events import Failed, Lost, Retried
    from bench.keep import checkpoints
    from bench.keep.archive import Archive
    from bench.run import collect, detached, live, runner

    only_timed = context.command.name == "time"
    plan = plan_of(suite, plugin, timed=only_timed, data=data)
    if confirm:
        if detach:
            raise BenchError("--confirm: cannot go with --detach; run it without --detach")
        plan = plan.confirming(given_of(confirm, results, plan.suite.name))
    failures: dict[str, Failed | Lost] = {}
    crashes: list[Retried] = []
    place = executor_of(executor, executor_options or [], device or [], stall_seconds)
    path = archive_path(results, plan.suite.name, label)
    collect.settle(path)
    interrupt_once()
    with Archive.writing(path) as archive:
        studies = [unit for unit in runner.missing(plan, archive) if unit in plan.timings or not only_timed]
        progress = live.Progress(plan, studies)
        events = runner.run(plan, studies, archive, place, data.expanduser())
        try:
            if detach and studies:
                with own_components(plugin):
                    made = detached.submit(plan, studies, archive, place, data.expanduser())
                typer.echo(f"submitted: {len(studies)} studies in {len(made.parts)} jobs, which go on without this run")
                typer.echo(f"how far it is: bench status {path}\nwhat it has measured: bench collect {path}")
                return
            with closing(events), progress.shown(), own_components(plugin):
                for study, event in events:
                    progress.apply(study, event)
                    if isinstance(event, Failed | Lost):
                        failures[study.id] = event
                    elif isinstance(event, Retried) and event.blamed:
                        crashes.append(event)
        except KeyboardInterrupt:
            again = shlex.join(["bench", *sys.argv[1:]])
            raise InterruptedRunError(f"stopped; what was measured is kept, go on with: {again}") from None
        typer.echo(render(archive, output))
        if output == "table":
            typer.echo(f"\narchive: {archive.path}")
        if others := checkpoints.of_others(archive.path, {study.id for study in plan.studies}):
            typer.echo(f"warning: {others}", err=True)
    if failures:
        if os.environ["BENCH_DEBUG"]:
            typer.echo("\n".join(event.trace for event in failures.values()), err=True)
        sentences = "\n".join(event.message for event in failures.values())
        lasting = any(isinstance(event, Failed) and not event.of_device for event in failures.values())
        then = "mend what is said of them, then run" if lasting else "run"
        raise IncompleteError(
            f"{sentences}\n{len(failures)} of {len(studies)} studies were not measured; {then} the suite again"
        )
    if crashes:
        raise IncompleteError(
            f"trials that crashed and are left out: {len(crashes)}; run the suite again to try them again"
        )
