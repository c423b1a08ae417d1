"""What this machine offers, and whether what is measured on it is right."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.commands._options import DEFAULT_DATA, Data


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
    from bench.prove.doctor import examine

    if determinism:
        from bench.errors import CalibrationError
        from bench.prove.determinism import hashes

        first, second = hashes(device)
        if first != second:
            raise CalibrationError(f"two runs of one study on {device} differ: {first[:16]} and {second[:16]}")
        typer.echo(f"two runs of one study on {device} observed the same, bit for bit: {first[:16]}")
        return
    for finding in examine(data.expanduser()):
        typer.echo(f"{finding.what:<18} {finding.found}" + (f"  ->  {finding.advice}" if finding.advice else ""))


def calibrate(
    device: Annotated[str, typer.Option(help="Measure here, such as cuda:0 or cpu.")] = "cpu",
) -> None:
    """Measures workloads whose answers are known exactly: about a minute; exit code 1 where one is missed.

    Examples:  bench calibrate   |   bench calibrate --device cuda:0
    """
    from bench.errors import CalibrationError
    from bench.prove import calibrate

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
