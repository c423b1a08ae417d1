"""Chooses how the trials of a cohort train: stacked, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.flop_counter import FlopCounterMode

from bench.ask.plan import Study, Trial
from bench.contracts import Cohort, OutOfMemory
from bench.errors import ComponentError, first_line
from bench.events import Way
from bench.examples import Data
from bench.measure import build, precision
from bench.measure.cohorts.growing import Growing
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.parallel import Parallel
from bench.measure.cohorts.stacked import Stacked

# On a CPU core the overhead of a step, which stacking shares between trials, outweighs steps of fewer operations than
# this, for cohorts of at least so many trials. tests/perf/training.py measured it: see tests/perf/README.md.
TINY_STEP = 4e6
SEVERAL = 8


def maker(study: Study, data: Data, device: torch.device) -> Callable[[Sequence[Trial]], Cohort]:
    """Makes the cohorts of a study. How they train is a rule of what they are and not of what is faster today, so that
    the same suite gives the same readings.

    Raises ComponentError where the suite asks for `training: stacked` and the trials cannot be stacked.
    """
    asked = study.workload.entry.training
    alone = _alone(study)
    obstacle = None if asked == "one_by_one" else _obstacle(study, data, device)
    if asked == "stacked" and obstacle:
        raise ComponentError(f"training: stacked cannot be: {obstacle}; use auto or one_by_one")
    operations = _operations(study, data, device) if asked == "auto" and device.type == "cpu" and not obstacle else 0.0

    def make(trials: Sequence[Trial]) -> Cohort:
        if asked != "auto":
            stacked, reason = asked == "stacked", "the suite says so"
        elif obstacle:
            stacked, reason = False, obstacle
        elif device.type == "cuda":
            stacked, reason = len(trials) > 1, f"{len(trials)} trials on a GPU"
        else:
            stacked = operations <= TINY_STEP and len(trials) >= SEVERAL
            reason = f"{len(trials)} trials of {operations:.2g} operations a step on a CPU"
        way = Way("stacked" if stacked else "one by one", reason)
        return (Stacked if stacked else alone)(study, data, device, trials, way)

    return make


def _alone(study: Study) -> type[OneByOne]:
    """How trials train that do not train stacked."""
    if study.workload.devices > 1:
        return Parallel
    return Growing if study.workload.entry.growth else OneByOne


def _obstacle(study: Study, data: Data, device: torch.device) -> str | None:
    """Why the trials cannot be stacked, in a line; None if they can.

    Found by trying: two trials take two steps on two examples both ways, dropout off, and must agree. A model with
    state outside its registered buffers runs stacked, but with the state of one trial for all.
    """
    entry = study.workload.entry
    if apart := [key for key in ("compile", "channels_last", "micro_batch") if getattr(entry, key)]:
        return f"{apart[0]} is for one trial's own step"
    if study.workload.devices > 1:
        return f"each trial has {study.workload.devices} devices"
    if entry.growth:
        return "each trial's batch grows by itself"
    if entry.precision == "fp16":
        return "fp16 scales the loss of each trial by itself"
    optimizer = study.workload.component("optimizer")
    if not optimizer.module.startswith(("bench.optimizers.", "torch.optim")):
        return f"{optimizer.name} may tie its parameter groups together"
    try:
        found = _difference(study, data, device)
        if found and entry.precision in ("fp32", "tf32"):
            # Again where there is next to no rounding, which is the whole gradient of some weights, such as those that
            # batch norm takes the mean of.
            exact = replace(study.workload, entry=entry.model_copy(update={"precision": "fp64"}))
            found = _difference(replace(study, workload=exact), data, device)
    except OutOfMemory:
        return "two trials do not fit in memory together"
    except Exception as error:  # whatever a model raises, one by one is the way that asks nothing of it
        return f"{study.workload.model} does not vmap ({first_line(error)})"
    return found


def _difference(study: Study, data: Data, device: torch.device) -> str | None:
    """How two trials differ after two steps on two examples each way, dropout off; None if they agree."""
    dtype = precision.dtype(study.workload.entry.precision)
    few = data.train.first(2).to(device, dtype)
    tiny, two = replace(study, batch_size=2), replace(data, train=few, validation=few, test=few)
    trials = study.draws()[:2]
    stacked, one = (kind(tiny, two, device, trials, Way("stacked", "")) for kind in (Stacked, OneByOne))
    for module in [inner for way in (stacked, one) for model in way.modules() for inner in model.modules()]:
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    for cohort in (stacked, one):
        cohort.advance(2)
    # Stacked gradients are zero where one by one there are none, and weight decay acts on a zero gradient.
    if any(weight.requires_grad and weight.grad is None for model in one.modules() for weight in model.parameters()):
        return f"{study.workload.model} has a parameter that gets no gradient"
    agree = all(_alike(stacked.weights(trial), one.weights(trial)) for trial in trials)
    return None if agree else f"{study.workload.model} trains otherwise stacked: it keeps state, or draws at random"


def _alike(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether weights are equal but for rounding; NaN equals NaN."""
    return all(
        torch.allclose(left[name].double(), value.double(), rtol=1e-2, atol=1e-4, equal_nan=True)
        for name, value in right.items()
        if name in left
    )


def _operations(study: Study, data: Data, device: torch.device) -> float:
    """Floating-point operations of a training step: three forward passes, as the counter sees one, or as the number of
    parameters has it (2 a parameter) where that is more, for the counter does not know every layer.
    """
    model = build.model(study.workload, data, device, seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(data.train.first(2).inputs)
    an_example: float = max(
        counter.get_total_flops() / 2, 2.0 * sum(parameter.numel() for parameter in model.parameters())
    )
    return 3 * an_example * study.batch_size
