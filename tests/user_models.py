"""What a user might write, well and badly; named in suites as `user_models:name`."""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import subprocess
import threading
import time
import weakref

import torch
from torch import nn

from bench.datasets.digits import digits
from bench.measure import checkpoint


def with_dropout(example_shape, classes, *, rate: float = 0.5):
    """A small network with dropout."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, classes))


def with_batch_norm(example_shape, classes):
    """A small network with batch norm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, classes))


def with_sync_batch_norm(example_shape, classes):
    """A small network with torch's batch norm over several devices."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(with_batch_norm(example_shape, classes))


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


def unspeakable(example_shape, classes, *, after: int = 5):
    """Raises with a message that no encoding has: half of a pair."""

    def fault():
        raise ZeroDivisionError("half of a pair: \ud800")

    return Failing(after, fault)


def out_of_memory(example_shape, classes, *, after: int = 5):
    """Runs out of memory while training."""

    def fault():
        raise torch.OutOfMemoryError("no more")

    return Failing(after, fault)


def killed(example_shape, classes, *, after: int = 5):
    """Has its process killed while training."""
    return Failing(after, lambda: os.kill(os.getpid(), signal.SIGKILL))


def killed_when_built(example_shape, classes):
    """Has its process killed before there is a model."""
    os.kill(os.getpid(), signal.SIGKILL)


def hanging_when_built(example_shape, classes):
    """Hangs before there is a model."""
    threading.Event().wait()


def falling_once(example_shape, classes):
    """Has its process killed once in a folder."""

    def fault():
        fallen = pathlib.Path("fallen")
        if not fallen.exists():
            fallen.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return Failing(5, fault)


def segfaulting(example_shape, classes, *, after: int = 5):
    """Reads memory that is not there while training."""
    return Failing(after, lambda: ctypes.string_at(0))


def hanging(example_shape, classes, *, after: int = 5):
    """Hangs while training, in a lock that nobody gives back, and does not listen to SIGTERM."""

    def fault():
        print("about to hang", flush=True)  # noqa: T201
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        subprocess.Popen(["sleep", "1000"])
        threading.Lock().acquire() and threading.Event().wait()

    return Failing(after, fault)


def one_rank(example_shape, classes, *, how: str = "SIGKILL"):
    """Falls while training in the second of its ranks alone."""

    def fault():
        if os.environ.get("RANK") != "1":
            return
        if how == "raise":
            raise ZeroDivisionError("a fault of one rank")
        if how == "out of memory":
            raise torch.OutOfMemoryError("no more")
        os.kill(os.getpid(), signal.SIGKILL)

    return Failing(5, fault)


ALIVE = weakref.WeakSet()


def crowded(example_shape, classes):
    """Runs out of memory in the second of its ranks where there are several of it."""

    def fault():
        if os.environ.get("RANK") == "1" and len(ALIVE) > 1:
            raise torch.OutOfMemoryError("no more")

    made = Failing(0, fault)
    ALIVE.add(made)
    return made


def slow(example_shape, classes, *, seconds: float = 0.05):
    """Takes its time for every training step."""
    return Failing(0, lambda: time.sleep(seconds))


def greedy(example_shape, classes, *, after: int = 5):
    """Asks for more memory than there is while training."""
    return Failing(after, lambda: torch.empty(2**44))


def falling(parameters, *, learning_rate: float, above: float = 1.0, how: str = "SIGKILL"):
    """An optimizer that takes its process along where the learning rate is too high for its taste."""

    class Falling(torch.optim.SGD):
        taken = 0

        def step(self):
            self.taken += 1
            if self.taken > 5 and any(group["lr"] > above for group in self.param_groups):
                if how == "raise":
                    raise FloatingPointError("the learning rate is too high")
                os.kill(os.getpid(), signal.Signals[how])
            super().step()

    return Falling(parameters, lr=learning_rate)


def not_a_model(example_shape, classes):
    """Gives something else."""
    return 3


class ControlFlow(nn.Module):
    """Asks a value of its input, which a vmapped program has none of."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y if float(y.detach().sum()) > 0 else y * 2


def with_control_flow(example_shape, classes):
    """Data-dependent control flow."""
    return ControlFlow()


def own_step(parameters, *, learning_rate: float):
    """An optimizer of one's own."""
    return torch.optim.SGD(parameters, lr=learning_rate)


def noisy(parameters, *, learning_rate: float, sd: float = 0.01):
    """Gradient descent that adds noise to the weights."""

    class Noisy(torch.optim.SGD):
        @torch.no_grad()
        def step(self):
            super().step()
            for weight in self.param_groups[0]["params"]:
                weight.add_(torch.randn_like(weight), alpha=sd)

    return Noisy(parameters, lr=learning_rate)


def by_role(parameters, roles, *, learning_rate: float):
    """An optimizer that is told what each parameter is for."""
    rates = {"vector": 0.0}
    groups = [
        {"params": [each], "lr": rates.get(role, learning_rate)} for each, role in zip(parameters, roles, strict=True)
    ]
    return torch.optim.SGD(groups)


def own_clip(parameters, *, learning_rate: float, clip: float = 1.0):
    """An optimizer with a word of the harness."""
    return torch.optim.SGD(parameters, lr=learning_rate)


def net(example_shape, classes):
    """A linear model."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def partly_frozen(example_shape, classes):
    """A first layer that is not trained."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))
    model[1].requires_grad_(False)
    return model


class OwnState(nn.Module):
    """Draws something that is no parameter and no buffer."""

    def __init__(self, classes):
        super().__init__()
        self.linear, self.mixed = nn.Linear(64, classes), torch.randn(64, 64) / 8

    def forward(self, x):
        return self.linear(x.flatten(1) @ self.mixed.to(x.dtype))


def own_state(example_shape, classes):
    """State outside registered buffers."""
    return OwnState(classes)


class Unused(nn.Module):
    """Has a layer it never calls."""

    def __init__(self, classes):
        super().__init__()
        self.linear, self.unused = nn.Linear(64, classes), nn.Linear(2, 2)

    def forward(self, x):
        return self.linear(x.flatten(1))


def with_unused_layer(example_shape, classes):
    """A parameter without a gradient."""
    return Unused(classes)


def downloaded(folder, *, seconds: float = 7.0):
    """The digits, of which a byte arrives at a time, the first time."""
    until = 0 if (folder / "digits.part").exists() else time.monotonic() + seconds
    with (folder / "digits.part").open("wb", buffering=0) as file:
        while time.monotonic() < until:
            time.sleep(0.1)
            file.write(b"0")
    return digits(folder)


def talking(example_shape, classes):
    """Prints while it is built."""
    print("hello from the model")  # noqa: T201
    return net(example_shape, classes)


class OwnOptimizer(torch.optim.SGD):
    """A class in torch's style."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)


class Hungry(nn.Module):
    """Linear, and asks for 64 MiB of memory an example that it never touches."""

    def __init__(self, always=True):
        super().__init__()
        self.linear, self.always = nn.Linear(64, 10), always

    def forward(self, x):
        if self.always or self.training:
            torch.empty(len(x), 2**26, dtype=torch.uint8)
        return self.linear(x.flatten(1))


def hungry(example_shape, classes):
    """Needs a great deal of memory for each example."""
    return Hungry()


def hungry_in_training(example_shape, classes):
    """Needs a great deal of memory for each example that it is trained on."""
    return Hungry(always=False)


def following(example_shape, classes):
    """What follows each token of a text, as a table of its own for every token: all that a bigram language has."""
    return nn.Embedding(classes, classes)


def own_loss(example_shape, classes):
    """Gives the loss of each example itself, as a VAE does its bound: half its squared distance from one point."""
    return OwnLoss(example_shape)


class OwnLoss(nn.Module):
    def __init__(self, example_shape):
        super().__init__()
        self.point = nn.Parameter(torch.randn(example_shape))

    def forward(self, x):
        return 0.5 * (x - self.point).square().flatten(1).sum(1)


def reconstructing(example_shape, classes, *, width: int = 8):
    """An autoencoder of one narrow layer."""
    layers = nn.Linear(classes, width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(), *layers, nn.Unflatten(1, example_shape))


class Counting(nn.Module):
    """Counts its calls where nobody looks: all of them, or those in evaluation alone."""

    def __init__(self, classes, every):
        super().__init__()
        self.linear, self.every, self.calls = nn.Linear(64, classes), every, 0

    def forward(self, x):
        self.calls += self.every or not self.training
        return self.linear(x.flatten(1))


def counting(example_shape, classes, *, every: bool = True):
    """State in an attribute."""
    return Counting(classes, every)


class Telling(nn.Module):
    """Linear; its study is kept at every evaluation, and a file holds a byte for each of its calls in training."""

    def __init__(self, classes, seconds):
        super().__init__()
        self.linear, self.seconds = nn.Linear(64, classes), seconds
        checkpoint.EVERY_SECONDS = checkpoint.TIMES_WRITING = 0.0

    def forward(self, x):
        if self.training:
            time.sleep(self.seconds)
            with pathlib.Path("calls").open("ab") as file:
                file.write(b".")
        return self.linear(x.flatten(1))


def telling(example_shape, classes, *, seconds: float = 0.002):
    """Keeps its study often, and counts its calls where they are not forgotten."""
    return Telling(classes, seconds)


class Drawing(nn.Module):
    """Draws noise from a generator of its own."""

    def __init__(self, classes):
        super().__init__()
        self.linear, self.generator = nn.Linear(64, classes), torch.Generator().manual_seed(1)

    def forward(self, x):
        return self.linear(x.flatten(1) + 0.01 * torch.randn(64, generator=self.generator))


def drawing(example_shape, classes):
    """State in a generator."""
    return Drawing(classes)


class Passing(nn.Module):
    """Subtracts a running mean that it does not save."""

    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(64, classes)
        self.register_buffer("mean", torch.zeros(64), persistent=False)

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.1)
        return self.linear(x - self.mean.clone())


def with_passing_buffer(example_shape, classes):
    """A buffer that its state_dict leaves out."""
    return Passing(classes)


def after_warm_up(horizon, warmup_steps: float):
    """Half the rate once it has warmed up."""
    return lambda step: 1.0 if step < warmup_steps else 0.5


def lazy(example_shape, classes):
    """Learns how wide an example is from the first."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def from_a_file(folder, *, path: str = "mine.csv"):
    """A dataset in a file of its own."""
