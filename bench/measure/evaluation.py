"""Reads models off the clock, and leaves them, and the random numbers they draw, as they were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from bench.contracts import Observation
from bench.examples import Examples
from bench.measure.ema import Average
from bench.measure.losses import Loss

# Over all trials together: evaluation needs no more memory than a training step of a few thousand examples, and where
# each has many outputs (the vocabulary at each position of a text) or is large itself (a photograph) of fewer.
_EXAMPLES_AT_ONCE = 4_000
_OUTPUTS_AT_ONCE = 4_000_000
_INPUTS_AT_ONCE = 40_000_000


def evaluate(
    forward: Callable[[Tensor], Tensor],
    loss: Loss,
    split: Examples,
    name: str,
    trials: int,
    outputs_an_example: int,
    average: Average | None = None,
) -> list[dict[str, float]]:
    """Mean loss, and share of errors where the loss knows any, over a split, for each of several trials; and again, as
    `ema_...`, with the average of the weights where one is kept.

    forward: inputs [n, *example_shape] -> outputs [trials, n, ...].
    """
    inputs_an_example = math.prod(split.example_shape)
    most = min(_EXAMPLES_AT_ONCE, _OUTPUTS_AT_ONCE // outputs_an_example, _INPUTS_AT_ONCE // inputs_an_example)
    at_once = max(1, most // trials)
    readings = _evaluate(forward, loss, split, name, trials, at_once)
    if average is not None:
        with average.in_place():
            averaged = _evaluate(forward, loss, split, f"ema_{name}", trials, at_once)
        readings = [{**own, **more} for own, more in zip(readings, averaged, strict=True)]
    return readings


def _evaluate(
    forward: Callable[[Tensor], Tensor], loss: Loss, split: Examples, name: str, trials: int, at_once: int
) -> list[dict[str, float]]:
    measures = {"loss": loss.each, **({"error": loss.error} if loss.error else {})}
    sums: dict[str, Tensor] = {}
    for part in split.in_order(at_once):
        outputs = forward(part.inputs).flatten(0, 1)
        repeated = part.targets.repeat(trials, *[1] * (part.targets.ndim - 1))
        for measure, each in measures.items():
            total = each(outputs, repeated).view(trials, -1).sum(1, dtype=torch.float64)
            sums[measure] = sums[measure] + total if measure in sums else total
    return [
        {f"{name}_{measure}": total / len(split) for measure, total in zip(measures, totals, strict=True)}
        for totals in zip(*(each.tolist() for each in sums.values()), strict=True)
    ]


def spread(split: Examples, examples: int | None) -> Examples:
    """So many examples of a split, evenly spread over it, so that they are of all classes where these lie in order; the
    whole split where no number is given.
    """
    if examples is None or examples >= len(split):
        return split
    return split.select(torch.arange(examples) * len(split) // examples)


def finite(readings: dict[str, float]) -> dict[str, float]:
    """The readings that are numbers: a test split that gives none leaves the reading missing."""
    return {name: value for name, value in readings.items() if math.isfinite(value)}


def together(losses: Sequence[Tensor]) -> Tensor:
    """Losses of steps [..], each on the device, as one tensor [.., steps] on the CPU; of no step, an empty one."""
    return torch.stack(list(losses), dim=-1).cpu() if losses else torch.empty(0)


def observation(step: int, losses: Tensor, readings: dict[str, float]) -> Observation:
    """What a stretch of steps showed of one trial.

    step: the last of them; losses: [steps], each step's training loss, none before the first step; readings: those at
    its end. The trial diverged at the first step whose loss is not finite, or at the last if only what was read there
    is not.
    """
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        return Observation(diverged_at=step - len(losses) + 1 + int(bad[0]))
    if not all(map(math.isfinite, readings.values())):
        return Observation(diverged_at=step)
    return Observation({**({"train_loss": float(losses.double().mean())} if len(losses) else {}), **readings})


@contextmanager
def observing(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, without gradients; afterwards modes and random state are what they were."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), random_state_kept(device):
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def averages(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside, the weights are those that an optimizer which averages its own path is judged by; afterwards, to the last
    bit, those it trains. It has `eval()` and `train()` for that; to any other nothing is done.
    """
    switch = (getattr(optimizer, "eval", None), getattr(optimizer, "train", None))
    if switch[0] is None or switch[1] is None:
        yield
        return
    switch[0]()
    try:
        yield
    finally:
        switch[1]()


class RandomStream:
    """Random numbers of one's own: dropout draws the same whatever else is trained or evaluated in between."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        with random_state_kept(device):
            torch.manual_seed(seed)
            self._states = self._read()

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Inside, the default generators of the CPU and the device are this stream; afterwards what they were."""
        before = self._read()
        self._draw_from(self._states)
        try:
            yield
            self._states = self._read()
        finally:
            self._draw_from(before)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Where the stream stands; `load_state_dict` takes it back."""
        return {"states": self._states}

    def load_state_dict(self, state_dict: dict[str, list[Tensor]], /) -> None:
        self._states = list(state_dict["states"])

    def _draw_from(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)

    def _read(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """The default generators of the CPU and the device are afterwards what they were before."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
