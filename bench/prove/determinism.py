"""Does this machine give the same readings twice? A small study trained twice, every reading compared bit for bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from bench.ask import check, document, plan
from bench.contracts import Task
from bench.errors import IncompleteError
from bench.events import Ended, Evaluated, Failed
from bench.measure import environment
from bench.measure.task import carry_out

_SUITE = """
suite: determinism
workloads:
  - name: digits-mlp
    model: {mlp: {hidden: [64]}}
    dataset: digits
    optimizer: momentum
    batch_sizes: [64]
    target: {validation_error: {at_most: 0.05}}
    max_steps: 200
    deterministic: true
    search: {trials: 4, learning_rate: {log_uniform: [0.01, 1]}, momentum: 0.9}
    confirm: {seeds: 2}
"""


def hashes(device: str) -> tuple[str, str]:
    """The SHA-256 of everything that a small study observed, each of two times; raises DeviceError where the device is
    not there, and IncompleteError where the study cannot be carried out.
    """
    (name,) = environment.devices([device])
    torch.set_num_threads(1)  # as a worker has
    return _observed(torch.device(name)), _observed(torch.device(name))


def _observed(device: torch.device) -> str:
    (study,) = plan.make(check.check(document.parse(_SUITE))).studies
    digest = hashlib.sha256()
    evaluated = False
    for event in carry_out(Task(study, {}, Path()), device):
        if isinstance(event, Failed):
            raise IncompleteError(event.message)
        if isinstance(event, Evaluated):
            digest.update(repr((event.step, sorted(event.readings.items()))).encode())
            evaluated = True
        elif isinstance(event, Ended):
            if event.outcome == "infeasible":
                raise IncompleteError(f"the study does not fit in memory on {device}: nothing can be said of it")
            digest.update(repr((event.trial.id, event.outcome, event.step)).encode())
    if not evaluated:
        raise IncompleteError(f"the study was evaluated nowhere on {device}: nothing can be said of it")
    return digest.hexdigest()
