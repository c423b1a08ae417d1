"""What a user might write, well and badly; named in suites as `user_models:name`."""

from __future__ import annotations

import os
import signal

import torch
from torch import nn


def with_dropout(example_shape, classes, *, rate: float = 0.5):
    """A small network with dropout."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, classes))


def with_batch_norm(example_shape, classes):
    """A small network with batch norm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, classes))


class Failing(nn.Module):
    """Linear, until it has been called `after` times."""

    def __init__(self, after, fault):
        super().__init__()
        self.linear, self.after, self.fault = nn.Linear(64, 10), after, fault

    def forward(self, x):
        self.after -= self.training
        if self.after < 0:
            self.fault()
        return self.linear(x.flatten(1))


def raising(example_shape, classes, *, after: int = 5):
    """Raises while training."""

    def fault():
        raise ZeroDivisionError("a fault in the model")

    return Failing(after, fault)


def out_of_memory(example_shape, classes, *, after: int = 5):
    """Runs out of memory while training."""

    def fault():
        raise torch.OutOfMemoryError("no more")

    return Failing(after, fault)


def killed(example_shape, classes, *, after: int = 5):
    """Has its process killed while training."""
    return Failing(after, lambda: os.kill(os.getpid(), signal.SIGKILL))


def not_a_model(example_shape, classes):
    """Gives something else."""
    return 3
