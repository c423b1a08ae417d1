"""What Slurm's queue says of jobs. Its accounting, which many clusters do not have, is not asked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import DeviceError


@dataclass(frozen=True)
class Queued:
    """A job that waits or runs: Slurm's word for its state, such as `pending`, and its node; none while it waits."""

    state: str
    node: str


def queued(ids: Sequence[str]) -> dict[str, Queued]:
    """Those of these jobs that wait or run; raises DeviceError where Slurm does not answer."""
    if not ids:
        return {}
    asking = ["squeue", "-h", "-r", "-j", ",".join(ids), "-o", "%i|%T|%N"]
    try:
        asked = subprocess.run(asking, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(f"Slurm cannot be asked from here: squeue: {error.strerror}") from error
    if asked.returncode and "Invalid job id" not in asked.stderr:  # one that Slurm has forgotten is over
        said = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        raise DeviceError(f"Slurm does not answer: {said[-1]}")
    rows = [line.split("|") for line in asked.stdout.splitlines()]
    return {name: Queued(state.lower(), node) for name, state, node in rows}


def left(ids: Sequence[str]) -> int:
    """How many of these jobs wait or run; all of them where Slurm does not answer, which says nothing of the jobs."""
    try:
        return len(queued(ids))
    except DeviceError:
        return len(ids)
