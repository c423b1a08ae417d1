"""What Slurm's queue says of jobs. Its accounting, which many clusters do not have, is not asked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def left(ids: Sequence[str]) -> int:
    """How many of these jobs wait or run; all of them where the controller does not answer."""
    if not ids:
        return 0
    asked = subprocess.run(
        ["squeue", "-h", "-r", "-j", ",".join(ids), "-o", "%i"], capture_output=True, text=True, check=False
    )
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return len(ids)  # the controller does not answer, which says nothing of the jobs
    return len(asked.stdout.split())
