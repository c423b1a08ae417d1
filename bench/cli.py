"""The command line: every command, in the order of its help. Each imports what it needs, so that help is instant."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from bench.commands import baseline, catalogue, compare, detached, keep, machine, measure, new, show, suite
from bench.errors import BenchError

app = typer.Typer(
    name="bench",
    help="What does the batch size do to training, and which one should I use?",
    epilog="Start with: bench new suite first",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes as long to import as everything else that help needs
    pretty_exceptions_enable=False,
)
app.command("list")(catalogue.list_)
app.command()(new.new)
app.command()(suite.check)
app.command()(suite.plan)
app.command("run", help=measure.RUN)(measure.measure)
app.command("time", help=measure.TIME)(measure.measure)
app.command()(detached.status)
app.command()(detached.collect)
app.command()(show.show)
app.command()(compare.compare)
app.command(epilog=compare.EXIT_CODES)(compare.gate)
app.command(epilog="Exit codes: those of 'bench gate'.")(compare.ab)
app.command()(show.plot)
app.command("report")(show.report_)
app.command()(show.fit)
app.command()(keep.export)
app.command("import")(keep.import_)
app.command()(keep.verify)
app.command()(keep.merge)
app.command()(catalogue.schema)
app.command()(machine.doctor)
app.command()(machine.calibrate)

baselines = typer.Typer(help="Keeps what candidates are compared with, as small files to commit.", no_args_is_help=True)
baselines.command()(baseline.save)
baselines.command()(baseline.accept)
app.add_typer(baselines, name="baseline")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    os.environ["BENCH_DEBUG"] = "1" if debug else ""


def main() -> None:
    """The entry point: an error the user can mend is a sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever is shown, and whatever the terminal can show
    try:
        app()
    except BenchError as error:
        if os.environ.get("BENCH_DEBUG"):
            raise
        from bench.table import plain

        typer.echo(plain(str(error)), err=True)
        raise SystemExit(error.exit_code) from None
