"""The command line: parses, calls a stage, prints. Each command imports what it needs, so that help is instant."""

from __future__ import annotations

import io
import math
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from bench.errors import (
    ArchiveError,
    BaselineError,
    BenchError,
    BrokenArchiveError,
    IncompleteError,
    VerdictError,
)

if TYPE_CHECKING:
    from bench.archive import Archive
    from bench.gate import Judgement
    from bench.plan import Plan
    from bench.sides import Side

app = typer.Typer(
    name="bench",
    help="What does the batch size do to training, and which one should I use?",
    epilog="Start with: bench run suites/quick.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes as long to import as everything else that help needs
    pretty_exceptions_enable=False,
)


Format = Literal["table", "markdown", "latex", "csv", "json"]
Kind = Literal["models", "datasets", "optimizers", "schedules", "probes", "analyses", "archives"]


def _suites(incomplete: str) -> list[str]:
    """Shell completion: suites here and in suites/."""
    found = [*Path().glob("*.yaml"), *Path("suites").glob("*.yaml")]
    return sorted(str(path) for path in found if str(path).startswith(incomplete))


def _shown(incomplete: str) -> list[str]:
    """Shell completion: archives, and the suites that may have one."""
    archives = sorted(str(path) for path in Path("results").glob("*/*.sqlite"))
    return [path for path in archives if path.startswith(incomplete)] + _suites(incomplete)


def _analyses(incomplete: str) -> list[str]:
    """Shell completion: the analyses."""
    from bench import components

    return [name for name in (ALL_ANALYSES, *components.names("analyses")) if name.startswith(incomplete)]


def _component_names(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the components of the kind already typed."""
    from bench import components

    kind = context.params.get("kind")
    return [] if kind in (None, "archives") else [n for n in components.names(kind) if n.startswith(incomplete)]


SuitePath = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite's YAML file.", autocompletion=_suites)]
ShownPath = Annotated[str, typer.Argument(metavar="ARCHIVE-or-SUITE", autocompletion=_shown)]
Label = Annotated[str, typer.Option(help="Which archive of the suite: results/<suite>/<label>.sqlite.")]
Results = Annotated[Path, typer.Option(help="The folder of archives.", file_okay=False)]
Data = Annotated[
    Path, typer.Option(help="Where datasets lie, or are downloaded to.", envvar="BENCH_DATA", file_okay=False)
]
Devices = Annotated[
    list[str] | None, typer.Option(help="Measure here, such as cuda:0 or cpu; may be given several times.")
]
StallSeconds = Annotated[
    float, typer.Option(help="A worker without an evaluation for so long hangs: it is ended, and tried again.", min=1)
]
ALL_ANALYSES = "all"
DEFAULT_DATA = Path("~/.cache/bench/data")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    os.environ["BENCH_DEBUG"] = "1" if debug else ""


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="Only this kind.")] = None,
    name: Annotated[
        str | None, typer.Argument(help="One component, with its options.", autocompletion=_component_names)
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Lists models, datasets, optimizers, schedules, probes, analyses and archives.

    Examples:  bench list   |   bench list models   |   bench list optimizers adam
    """
    from bench import components

    if name is not None and kind not in (None, "archives"):
        with _own_components():
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


@app.command()
def check(suite: SuitePath) -> None:
    """Checks a suite and reports every problem at once, with its line. Trains nothing, imports no torch.

    Example:  bench check suites/quick.yaml
    """
    plan = _plan(suite)
    timings = f", timings: {len(plan.timings)}" if plan.timings else ""
    typer.echo(f"{suite}: nothing wrong; workloads: {len(plan.workloads)}, studies: {len(plan.studies)}{timings}")
    if outside := plan.outside():
        typer.echo(f"running it runs code from outside bench: {', '.join(outside)}")


@app.command()
def plan(suite: SuitePath) -> None:
    """Shows every study and trial of a suite, and the steps and examples it can cost at most.

    Example:  bench plan suites/quick.yaml
    """
    from bench import report

    for table in report.plan_tables(_plan(suite)):
        typer.echo(table.render("table") + "\n")


@app.command()
def run(
    suite: SuitePath,
    label: Label = "main",
    device: Devices = None,
    output: Annotated[Format, typer.Option("--format", help="How to print what was measured.")] = "table",
    stall_seconds: StallSeconds = 1800,
    data: Data = DEFAULT_DATA,
    results: Results = Path("results"),
) -> None:
    """Measures what the archive does not hold yet of a suite, and shows the whole.

    Examples:  bench run suites/quick.yaml   |   bench run mine.yaml --device cuda:0 --device cuda:1
    """
    _measure(_plan(suite), label, device, output, stall_seconds, data, results)


@app.command("time")
def time_(
    suite: SuitePath,
    label: Label = "main",
    device: Devices = None,
    output: Annotated[Format, typer.Option("--format", help="How to print what was timed.")] = "table",
    stall_seconds: StallSeconds = 1800,
    data: Data = DEFAULT_DATA,
    results: Results = Path("results"),
) -> None:
    """Times the steps of a suite's workloads, whatever else it asks for, and trains nothing to its target.

    Examples:  bench time suites/throughput.yaml   |   bench time mine.yaml --label throughput --device cuda:0
    """
    _measure(_plan(suite, timed=True), label, device, output, stall_seconds, data, results, only_timed=True)


@app.command()
def show(
    source: ShownPath,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    analysis: Annotated[
        str, typer.Option(help="Only this one of 'bench list analyses'.", autocompletion=_analyses)
    ] = ALL_ANALYSES,
    plot: Annotated[bool, typer.Option("--plot", help="Draw steps to target in the terminal first.")] = False,
    label: Label = "main",
    results: Results = Path("results"),
) -> None:
    """Shows what an archive holds and what follows from it; imports no torch.

    Examples:  bench show suites/quick.yaml   |   bench show results/quick/main.sqlite --analysis critical_batch
    """
    from bench.archive import Archive

    if plot and output != "table":
        raise BenchError(f"--plot: found --format {output}; a picture in the terminal goes with a table")
    with Archive.reading(_source(source, label, results)) as archive:
        if plot:
            from bench import report

            typer.echo("\n\n".join(report.pictures(archive, _width() or 80)) + "\n")
        typer.echo(_render(archive, output, None if analysis == ALL_ANALYSES else analysis))


FailOn = Annotated[Literal["regression", "inconclusive"], typer.Option(help="What else than errors is not to pass.")]
JUnitPath = Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML too.", dir_okay=False)]
JsonPath = Annotated[Path | None, typer.Option(help="Write every number as JSON too.", dir_okay=False)]
BASE_HELP = "An archive, a baseline (.json), or the label of an archive."


@app.command()
def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="An archive, a baseline (.json), or SUITE/LABEL.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="What is compared with it.")],
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    results: Results = Path("results"),
) -> None:
    """Compares two archives: both values of every measure, their ratio, and whether chance explains it.

    Examples:  bench compare quick/main quick/mine   |   bench compare baseline.json results/quick/main.sqlite
    """
    from bench import report
    from bench.compare import compare
    from bench.publish.tables import comparison_table

    sides = [_side(_place(name, results), ArchiveError) for name in (base, candidate)]
    typer.echo(report.rendered([comparison_table(compare(*sides))], output, _width()))


@app.command(
    epilog="Exit codes: 0 passed; 1 a regression; 2 wrong usage; 3 inconclusive (only with --fail-on inconclusive); "
    "4 the base is missing or not comparable; 5 the candidate was not measured whole; 130 stopped by Ctrl-C."
)
def gate(
    suite: SuitePath,
    base: Annotated[str, typer.Argument(metavar="BASE", help=BASE_HELP)],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help=BASE_HELP)] = "main",
    fail_on: FailOn = "regression",
    output: Annotated[Format, typer.Option("--format", help="How to print the verdicts.")] = "table",
    junit: JUnitPath = None,
    json: JsonPath = None,
    results: Results = Path("results"),
) -> None:
    """Holds a candidate to the rules of a suite ('gate:'), against a base: red only on evidence, green never for want
    of it.

    In a GitHub workflow the verdicts are annotations and a table on its page too.

    Example:  bench gate suites/quick.yaml results/baselines/quick.json main
    """
    from bench.gate import gate

    plan = _plan(suite)
    before = _side(_place(base, results, plan.suite.name), BaselineError)
    after = _side(_place(candidate, results, plan.suite.name), IncompleteError)
    _publish(gate(plan, before, after), output, fail_on, junit, json)


@app.command(epilog="Exit codes: those of 'bench gate'.")
def ab(
    suite: SuitePath,
    base: Annotated[str, typer.Option(help="A Python interpreter, a checkout's folder, or a git revision.")],
    candidate: Annotated[str, typer.Option(help="What is compared with it: another of these.")],
    pairs: Annotated[int, typer.Option(help="How often both sides are timed; all are run.", min=3, max=1000)] = 10,
    fail_on: FailOn = "regression",
    output: Annotated[Format, typer.Option("--format", help="How to print the verdicts.")] = "table",
    junit: JUnitPath = None,
    json: JsonPath = None,
) -> None:
    """Gates speed and memory on a machine that has other things to do: times both sides of a pair right after one
    another, in a random order, each in a fresh process.

    It needs a rule for them, such as gate: {throughput: {tolerance: 0.05}}, and the workloads to measure throughput.

    Example:  bench ab my.yaml --base main --candidate .
    """
    from contextlib import ExitStack

    from bench import ab
    from bench.compare import TIMING
    from bench.errors import InterruptedRunError
    from bench.gate import gate, rules_of

    plan = _plan(suite, timed=True)
    rules_of(plan, TIMING)  # refused before anything is timed
    runs = []
    with ExitStack() as stack:
        places = {
            name: stack.enter_context(ab.place(text)) for name, text in zip(ab.NAMES, (base, candidate), strict=True)
        }
        try:
            for run in ab.timed(suite, plan.suite.name, places, pairs):
                runs.append(run)
                typer.echo(f"pair {len(runs)} of {pairs}", err=True)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                "stopped; times of half the pairs are no evidence, and nothing was kept"
            ) from None
    before, after = (
        ab.merged([run[name] for run in runs], text) for name, text in zip(ab.NAMES, (base, candidate), strict=True)
    )
    _publish(gate(plan, before, after, TIMING, ab.CONDITIONS, same_source=False), output, fail_on, junit, json)


def _publish(judgement: Judgement, output: Format, fail_on: str, junit: Path | None, document: Path | None) -> None:
    """Shows a gate's answer everywhere it is asked for; raises VerdictError where it is no pass."""
    from bench import report
    from bench.gate import INCONCLUSIVE
    from bench.publish.annotations import annotations
    from bench.publish.document import document as as_document
    from bench.publish.junit import junit as as_junit
    from bench.publish.summary import summary
    from bench.publish.tables import judgement_table, title

    if document:
        _write(document, as_document(judgement))
    if junit:
        _write(junit, as_junit(judgement))
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
    typer.echo(report.rendered([judgement_table(judgement)], output, _width()))
    code = judgement.exit_code
    if code and (code != INCONCLUSIVE or fail_on == "inconclusive"):
        raise VerdictError(title(judgement), code)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def _place(name: str, results: Path, suite: str | None = None) -> Path:
    """Where a side lies: a file as it is, and a label in the folder of archives."""
    if Path(name).suffix in (".json", ".sqlite"):
        return Path(name)
    named, _, label = name.rpartition("/")
    if not (named or suite):
        raise BenchError(f"found '{name}'; should be an archive (.sqlite), a baseline (.json) or SUITE/LABEL")
    return _archive_path(results, named or suite or "", label)


def _side(path: Path, refusal: type[BenchError]) -> Side:
    """One side of a comparison; raises `refusal` where it cannot be read."""
    from bench import baseline, sides
    from bench.archive import Archive

    try:
        if path.suffix == ".json":
            return baseline.read(path)
        with Archive.reading(path) as archive:
            return sides.of_archive(archive)
    except (ArchiveError, BaselineError) as error:
        raise refusal(str(error)) from error


@app.command()
def plot(
    source: ShownPath,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The picture: .svg, .png or .pdf.", dir_okay=False)
    ] = Path("plot.svg"),
    kind: Annotated[
        str, typer.Option(help="batch_scaling, curves, learning_rates, noise_scale or time.")
    ] = "batch_scaling",
    label: Label = "main",
    results: Results = Path("results"),
) -> None:
    """Draws an archive into a file: a panel for each workload.

    Example:  bench plot suites/quick.yaml --kind curves -o curves.png
    """
    from bench import plot
    from bench.archive import Archive

    with Archive.reading(_source(source, label, results)) as archive:
        plot.plot(archive, kind, output)
    typer.echo(f"picture: {output}")


@app.command("report")
def report_(
    source: ShownPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.", dir_okay=False)] = Path("report.html"),
    label: Label = "main",
    results: Results = Path("results"),
) -> None:
    """Writes an archive as one HTML page that needs nothing else: charts, tables, environment and suite.

    Example:  bench report suites/quick.yaml -o quick.html
    """
    from bench.archive import Archive
    from bench.page import page

    with Archive.reading(_source(source, label, results)) as archive:
        _write(output, page(archive))
    typer.echo(f"page: {output}")


baselines = typer.Typer(help="Keeps what candidates are compared with, as small files to commit.", no_args_is_help=True)
app.add_typer(baselines, name="baseline")
BaselinePath = Annotated[Path, typer.Option("-o", "--output", help="The baseline's file.", dir_okay=False)]
ArchivePath = Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive, or SUITE/LABEL.")]


@baselines.command()
def save(source: ArchivePath, output: BaselinePath, results: Results = Path("results")) -> None:
    """Saves an archive as a new baseline: raw values, environments and hashes.

    Example:  bench baseline save quick/main -o results/baselines/quick.json
    """
    from bench import baseline

    baseline.save(_side(_place(source, results), ArchiveError), output)
    typer.echo(f"baseline: {output}")


@baselines.command()
def accept(
    source: ArchivePath,
    output: BaselinePath,
    reason: Annotated[str, typer.Option(help="Why the new numbers are right; kept in the file.")],
    results: Results = Path("results"),
) -> None:
    """Replaces a baseline by an archive, and keeps the reason.

    Example:  bench baseline accept quick/main -o results/baselines/quick.json --reason "torch 2.15"
    """
    from bench import baseline

    baseline.accept(_side(_place(source, results), ArchiveError), output, reason)
    typer.echo(f"baseline: {output}")


@app.command()
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

    Columns: batch_size, steps (empty: a miss); if there are any, seed, label (several curves), model_size or tokens.

    Example:  bench fit curve.csv --reference 256
    """
    from bench import curves, report

    for name, value in (("--reference", reference), ("--overhead", overhead)):
        if value is not None and not math.isfinite(value):
            raise BenchError(f"{name}: found {value}; should be a number")
    typer.echo(report.rendered(report.fit_tables(curves.read(file), overhead, reference), output, _width()))


@app.command()
def export(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="An archive, such as results/quick/main.sqlite.")],
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A folder, or a .tar.zst, .csv or .json file.")],
) -> None:
    """Writes an archive as Parquet with a manifest of hashes, or its readings as CSV or JSON.

    Examples:  bench export results/quick/main.sqlite quick.tar.zst   |   bench export results/quick/main.sqlite q.csv
    """
    from bench import portable
    from bench.archive import Archive

    with Archive.reading(archive, whole=True) as opened:
        portable.export(opened, target)
    typer.echo(f"exported: {target}")


@app.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="What 'bench export' wrote, or another program measured.")
    ],
    source: Annotated[
        Literal["bench", "batch-science"] | None,
        typer.Option("--format", help="How it lies there; bench where there is a manifest or a file."),
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            help="A goal that was not published, as DATASET/MODEL:READING:NUMBER, such as"
            " 'mnist/fc_*:validation_error:0.03'; may be given several times."
        ),
    ] = None,
    label: Label = "main",
    results: Results = Path("results"),
) -> None:
    """Imports what was exported elsewhere, or what another program measured, into an archive of its own.

    batch-science is the public archive of Shallue et al. 2019.

    Example:  bench import batch_science --format batch-science
    """
    from rich.console import Console
    from rich.progress import Progress

    from bench.archive import Archive
    from bench.errors import InterruptedRunError
    from bench.importers.batch_science import batch_science

    if not folder.exists():
        raise ArchiveError(f"{folder}: is not there; name a folder or a file that 'bench export' wrote")
    if source is None:
        source = "bench" if folder.is_file() or (folder / "manifest.json").exists() else "batch-science"
    if source == "bench":
        from bench import portable

        typer.echo(f"archive: {portable.read(folder, lambda suite: _archive_path(results, suite, label))}")
        return
    console = Console(stderr=True)
    left_out: tuple[str, ...] = ()
    with Archive.writing(_archive_path(results, source, label)) as archive:
        try:
            with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
                task = bar.add_task("importing", total=None)
                for progress in batch_science(folder, archive, goal or []):
                    bar.update(task, description=progress.workload, completed=progress.done, total=progress.total)
                    left_out = progress.left_out
        except KeyboardInterrupt:
            raise InterruptedRunError("stopped; nothing was imported, and no archive is left behind") from None
    if left_out:
        typer.echo(f"left out, for want of a --goal: {', '.join(left_out)}", err=True)
    typer.echo(f"archive: {archive.path}")


@app.command()
def verify(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="An archive, such as results/quick/main.sqlite.")],
    repair: Annotated[Path | None, typer.Option(help="Write what can be saved into this new archive.")] = None,
) -> None:
    """Says whether an archive is what was written, and what of it can be saved; exit code 1 where it is not.

    Examples:  bench verify results/quick/main.sqlite   |   bench verify torn.sqlite --repair saved.sqlite
    """
    from bench import verify

    if repair is not None:
        saved = verify.repair(archive, repair)
        studies = f"{saved.studies} of {saved.of_studies} studies whole"
        trials = f"{saved.trials} of {saved.of_trials} trials"
        typer.echo(f"{repair}: {studies}, {trials}; 'bench run' measures what is missing")
        return
    found = verify.problems(archive)
    if found:
        sentences = "\n".join(f"{archive}: {sentence}" for sentence in found)
        raise BrokenArchiveError(f"{sentences}\nsave what is sound with: bench verify {archive} --repair NEW.sqlite")
    typer.echo(f"{archive}: nothing wrong")


@app.command()
def merge(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE..", help="Archives, the first with the suite.")],
    into: Annotated[Path, typer.Option(help="The new archive.")],
) -> None:
    """Joins archives made on several machines into a new one, by trial; refuses those that contradict each other.

    Example:  bench merge here.sqlite there.sqlite --into both.sqlite
    """
    from bench import merge

    typer.echo(f"{into}: {merge.merge(archives, into)} studies whole")


@app.command()
def schema() -> None:
    """Prints the JSON Schema of a suite, for editors.

    Example:  bench schema > suite.schema.json
    """
    import json

    from bench.suite import SuiteFile

    typer.echo(json.dumps(SuiteFile.model_json_schema(), indent=2))


@app.command()
def doctor(
    data: Data = DEFAULT_DATA,
    determinism: Annotated[
        bool,
        typer.Option("--determinism", help="Train a small study twice and compare; exit code 1 where they differ."),
    ] = False,
    device: Annotated[str, typer.Option(help="Where to train it, such as cuda:0 or cpu.")] = "cpu",
) -> None:
    """Says what this machine offers, what is missing, and how to get it.

    Examples:  bench doctor   |   bench doctor --determinism --device cuda:0
    """
    from bench.doctor import examine

    if determinism:
        from bench.determinism import hashes
        from bench.errors import CalibrationError

        first, second = hashes(device)
        if first != second:
            raise CalibrationError(f"two runs of one study on {device} differ: {first[:16]} and {second[:16]}")
        typer.echo(f"two runs of one study on {device} observed the same, bit for bit: {first[:16]}")
        return
    for finding in examine(data.expanduser()):
        typer.echo(f"{finding.what:<18} {finding.found}" + (f"  ->  {finding.advice}" if finding.advice else ""))


@app.command()
def calibrate(
    device: Annotated[str, typer.Option(help="Measure here, such as cuda:0 or cpu.")] = "cpu",
) -> None:
    """Measures workloads whose answers are known exactly: about a minute; exit code 1 where one is missed.

    Examples:  bench calibrate   |   bench calibrate --device cuda:0
    """
    from bench import calibrate
    from bench.errors import CalibrationError

    passed = []
    for made in calibrate.calibrate(device):
        verdict = "pass" if made.passed else "FAIL"
        typer.echo(f"{verdict}  {made.what}: {made.measured}; exact: {made.exact}; tolerance: {made.tolerance}")
        passed.append(made.passed)
    if not all(passed):
        raise CalibrationError(
            f"{passed.count(False)} of {len(passed)} checks failed on {device}; "
            "what bench measures there is not to be believed"
        )


def _measure(
    plan: Plan,
    label: str,
    device: list[str] | None,
    output: Format,
    stall_seconds: float,
    data: Path,
    results: Path,
    *,
    only_timed: bool = False,
) -> None:
    """Measures what the archive does not hold yet of a plan, or of it only what is timed, and shows the whole."""
    from contextlib import closing

    from rich.console import Console

    from bench import live, runner
    from bench.archive import Archive
    from bench.contracts import Failed, Lost, Retried
    from bench.errors import InterruptedRunError
    from bench.executors.local import LocalExecutor

    failures: dict[str, Failed | Lost] = {}
    crashes: list[Retried] = []
    _interrupt_once()
    with Archive.writing(_archive_path(results, plan.suite.name, label)) as archive:
        studies = [unit for unit in runner.missing(plan, archive) if unit in plan.timings or not only_timed]
        progress = live.Progress(plan, studies, Console(stderr=True))
        events = runner.run(plan, studies, archive, LocalExecutor(device or [], stall_seconds), data.expanduser())
        try:
            with closing(events), progress.shown(), _own_components():
                for study, event in events:
                    progress.apply(study, event)
                    if isinstance(event, Failed | Lost):
                        failures[study.id] = event
                    elif isinstance(event, Retried) and event.blamed:
                        crashes.append(event)
        except KeyboardInterrupt:
            again = shlex.join(["bench", *sys.argv[1:]])
            raise InterruptedRunError(f"stopped; what was measured is kept, go on with: {again}") from None
        typer.echo(_render(archive, output))
        if output == "table":
            typer.echo(f"\narchive: {archive.path}")
    if failures:
        if os.environ["BENCH_DEBUG"]:
            typer.echo("\n".join(event.trace for event in failures.values()), err=True)
        sentences = "\n".join(event.message for event in failures.values())
        raise IncompleteError(
            f"{sentences}\n{len(failures)} of {len(studies)} studies were not measured; run the suite again"
        )
    if crashes:
        raise IncompleteError(
            f"trials that crashed and are left out: {len(crashes)}; run the suite again to try them again"
        )


def _interrupt_once() -> None:
    """The first Ctrl-C, or request to end, is a KeyboardInterrupt, after which a run tidies up; a second one kills."""

    def interrupt(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _plan(path: Path, *, timed: bool = False) -> Plan:
    from bench import check, plan

    with _own_components():
        made = plan.make(check.load(path), timed=timed)
        for unit in made.units:
            _ = unit.id  # takes the sources of all that it names, which are found here and not later
        return made


@contextmanager
def _own_components() -> Iterator[None]:
    """A person's own models lie in the folder they run bench from, which a console script leaves off the path.

    Only what reads a suite, or measures, looks there: whatever else lies beside somebody's archive is not run when it
    is shown or compared.
    """
    before = sys.path.copy()
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _source(source: str, label: str, results: Path) -> Path:
    """The archive that is meant: itself, or a suite's."""
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        return path
    return _archive_path(results, _plan(path).suite.name, label)


def _archive_path(results: Path, suite: str, label: str) -> Path:
    if not suite.replace("-", "").replace("_", "").isalnum():
        raise BenchError(f"found the suite name {suite!r}; a name is letters, digits, '-' and '_'")
    if not label.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise BenchError(f"found the label '{label}'; a label is letters, digits, '-', '_' and '.'")
    return results / suite / f"{label}.sqlite"


def _render(archive: Archive, output: Format, analysis: str | None = None) -> str:
    from bench import report

    if output == "json":
        return report.as_json(archive, analysis)
    if output == "csv" and analysis is None:
        return report.as_csv(archive)
    return report.rendered(report.tables(archive, analysis), output, _width())


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


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
