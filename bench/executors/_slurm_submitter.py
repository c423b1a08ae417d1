"""Submits jobs to Slurm, or starts processes of this machine in their place, through submitit."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from bench.errors import DeviceError, lines
from bench.executors import _slurm_queue

try:
    import submitit
except ImportError as error:
    raise DeviceError(f"--executor slurm: {error}; install it with: pip install 'bench[slurm]'") from error

# So often is a job that no run waits for queued again when its time is up.
_MOST_TIMES_UP = 20
# Slurm tells a job that its time will be up in so many seconds by a signal to its batch script, which Python takes the
# place of: without srun there is no other process that Slurm would tell.
_PYTHON = f"exec {shlex.quote(sys.executable)}"
_SIGNAL = {"signal": "B:USR2@90"}

Cluster = Literal["slurm", "local"]


class Submitter:
    """Submits jobs that all ask for the same; `asked` is what `AutoExecutor.update_parameters` takes, `also` sbatch.

    In the folder `logs`, which is no other user's to enter, lies what jobs are given: calls, which are run as they are
    read, and the key to the run, which has it run what is sent.
    """

    def __init__(self, logs: str, cluster: Cluster, also: Mapping[str, object], **asked: object) -> None:
        try:
            _make_private(submitit.core.utils.JobPaths.get_first_id_independent_folder(logs))
            self._engine = submitit.AutoExecutor(
                logs, cluster=cluster, slurm_max_num_timeout=_MOST_TIMES_UP, slurm_python=_PYTHON
            )
        except (RuntimeError, OSError) as error:
            raise DeviceError(f"no jobs can be submitted from here: {error}") from error
        given = {key: value for key, value in asked.items() if value is not None}
        self._engine.update_parameters(
            name="bench", slurm_use_srun=False, slurm_additional_parameters={**also, **_SIGNAL}, **given
        )
        self.cluster, self.logs = cluster, logs

    def submit(self, calls: Sequence[Callable[[], None]]) -> list[submitit.Job[None]]:
        """A job for each call, as one array; raises DeviceError where none is taken."""
        try:
            with self._engine.batch():
                return [self._engine.submit(call) for call in calls]
        except (submitit.core.utils.FailedJobError, OSError) as error:
            raise DeviceError(f"Slurm took no job: {lines(error)[-1]}") from error

    def left(self, jobs: Sequence[submitit.Job[None]]) -> int:
        """How many jobs wait or run; asked of the queue, since submitit asks the accounting."""
        if self.cluster == "slurm":
            return _slurm_queue.left([job.job_id for job in jobs])
        return sum(not job.done() for job in jobs)

    def end(self, jobs: Sequence[submitit.Job[None]]) -> None:
        """Ends what is left of jobs."""
        for job in jobs:
            job.cancel(check=False)
            if self.cluster == "local":
                job.wait()


def _make_private(folder: Path) -> None:
    """Makes a folder that is only this user's to enter; raises DeviceError where there is one that others can enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        raise DeviceError(
            f"logs: found '{folder}', which others can enter; whoever reads what jobs are given there can run code as "
            f"you: chmod 700 {shlex.quote(str(folder))}, or name another folder"
        )
