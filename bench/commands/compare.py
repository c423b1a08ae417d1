"""Compares two sides, and says whether one is worse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands._interrupt import interrupt_once
from bench.commands._options import (
    BASE_HELP,
    DEFAULT_DATA,
    SIDE_HELP,
    Data,
    FailOn,
    Format,
    JsonPath,
    JUnitPath,
    Plugins,
    Results,
    SuitePath,
)
from bench.commands._output import width, write
from bench.commands._places import place_of, plan_of, side_of
from bench.errors import ArchiveError, BaselineError, IncompleteError, VerdictError

if TYPE_CHECKING:
    from bench.conclude.verdicts import Judgement

EXIT_CODES = (
    "Exit codes: 0 passed; 1 a regression; 2 wrong usage; 3 inconclusive (only with --fail-on inconclusive); "
    "4 the base is missing or not comparable; 5 the candidate was not measured whole; 130 stopped by Ctrl-C."
)


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help=f"{SIDE_HELP}SUITE/LABEL.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="What is compared with it.")],
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    results: Results = Path("results"),
) -> None:
    """Compares two archives: both values of every measure, their ratio, and whether chance explains it.

    Examples:  bench compare quick/main quick/mine   |   bench compare baseline.json results/quick/main.sqlite
    """
    from bench.conclude.compare import compare
    from bench.show import report
    from bench.show.publish.tables import comparison_table

    sides = [side_of(place_of(name, results), ArchiveError) for name in (base, candidate)]
    typer.echo(report.rendered([comparison_table(compare(*sides))], output, width()))


def gate(
    suite: SuitePath,
    base: Annotated[str, typer.Argument(metavar="BASE", help=BASE_HELP)],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help=BASE_HELP)] = "main",
    fail_on: FailOn = "regression",
    output: Annotated[Format, typer.Option("--format", help="How to print the verdicts.")] = "table",
    junit: JUnitPath = None,
    json: JsonPath = None,
    plugin: Plugins = None,
    data: Data = DEFAULT_DATA,
    results: Results = Path("results"),
) -> None:
    """Holds a candidate to the rules of a suite ('gate:'), against a base: red only on evidence, green never for want
    of it.

    In a GitHub workflow the verdicts are annotations and a table on its page too.

    Example:  bench gate suites/quick.yaml results/baselines/quick.json main
    """
    from bench.conclude.gate import gate

    plan = plan_of(suite, plugin, data=data)
    before = side_of(place_of(base, results, plan.suite.name), BaselineError)
    after = side_of(place_of(candidate, results, plan.suite.name), IncompleteError)
    _publish(gate(plan, before, after), output, fail_on, junit, json)


def ab(
    suite: SuitePath,
    base: Annotated[str, typer.Option(help="A Python interpreter, a checkout's folder, or a git revision.")],
    candidate: Annotated[str, typer.Option(help="What is compared with it: another of these.")],
    pairs: Annotated[int, typer.Option(help="How often both sides are timed; all are run.", min=3, max=1000)] = 10,
    fail_on: FailOn = "regression",
    output: Annotated[Format, typer.Option("--format", help="How to print the verdicts.")] = "table",
    junit: JUnitPath = None,
    json: JsonPath = None,
    plugin: Plugins = None,
) -> None:
    """Gates speed and memory on a machine that has other things to do: times both sides of a pair right after one
    another, in a random order, each in a fresh process.

    It needs a rule for them, such as gate: {throughput: {tolerance: 0.05}}, and the workloads to measure throughput.

    Example:  bench ab my.yaml --base main --candidate .
    """
    from contextlib import ExitStack
    from dataclasses import replace

    from bench.conclude.compare import TIMING
    from bench.conclude.gate import gate, rules_of
    from bench.errors import InterruptedRunError
    from bench.run import ab

    plan = plan_of(suite, plugin, timed=True)
    rules_of(plan, TIMING)  # refused before anything is timed
    interrupt_once()
    seed = f"{plan.suite.name} {pairs}"
    order, runs = ab.order(seed, pairs), []
    try:
        with ExitStack() as stack:
            places = {
                name: stack.enter_context(ab.place(text))
                for name, text in zip(ab.NAMES, (base, candidate), strict=True)
            }
            for run in ab.timed(suite, plan.suite.name, places, order, plugin or []):
                runs.append(run)
                typer.echo(f"pair {len(runs)} of {pairs}", err=True)
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped; times of half the pairs are no evidence, and nothing was kept") from None
    before, after = (
        ab.merged([run[name] for run in runs], text) for name, text in zip(ab.NAMES, (base, candidate), strict=True)
    )
    judgement = gate(plan, before, after, TIMING, ab.CONDITIONS, same_source=False)
    first = ", ".join(str(place) for place, names in enumerate(order, 1) if names[0] == "base")
    note = f"{pairs} pairs, their order drawn from the seed '{seed}': the base was first in {first}."
    _publish(replace(judgement, notes=(note,)), output, fail_on, junit, json)


def _publish(judgement: Judgement, output: Format, fail_on: str, junit: Path | None, document: Path | None) -> None:
    """Shows a gate's answer everywhere it is asked for; raises VerdictError where it is no pass."""
    from bench.conclude.verdicts import INCONCLUSIVE
    from bench.show import report
    from bench.show.publish.annotations import annotations
    from bench.show.publish.document import document as as_document
    from bench.show.publish.junit import junit as as_junit
    from bench.show.publish.summary import summary
    from bench.show.publish.tables import judgement_table, title

    if document:
        write(document, as_document(judgement))
    if junit:
        write(junit, as_junit(judgement))
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(page).open("a", encoding="utf-8") as stream:
                stream.write(summary(judgement))
        except OSError as error:
            # Its exit code is what a gate is for.
            typer.echo(f"warning: {page}: cannot be written: {error.strerror}; the verdicts stand below", err=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # To the error stream, which a workflow reads too, so that --format json stays a document.
        typer.echo("\n".join(annotations(judgement)), err=True)
    typer.echo(report.rendered([judgement_table(judgement)], output, width()))
    code = judgement.exit_code
    if code and (code != INCONCLUSIVE or fail_on == "inconclusive"):
        raise VerdictError(title(judgement), code)
