"""Shows probes a copy of a trial, so that nothing they do can be felt in training."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench import build, components, precision
from bench.contracts import Cohort, Data, Look, Moment, Probe, Split
from bench.evaluation import finite, random_state_kept
from bench.losses import LOSSES
from bench.memory import out_of_memory_named
from bench.plan import Study, Trial, Workload
from bench.search import seed_of


def build_probes(workload: Workload) -> dict[str, Probe]:
    """The workload's probes by name; raises ComponentError where options do not go together."""
    return {name: components.find("probes", name).load()(**options) for name, options in workload.probes.items()}


def looker(study: Study, data: Data, device: torch.device) -> Look:
    """Looks at the trials of a study with its probes; readings are called `<probe>.<what it gave>`.

    The examples a probe draws depend on its name, the trial and the step alone.
    """
    workload = study.workload
    probes = build_probes(workload)
    loss = LOSSES[data.loss].mean

    @out_of_memory_named()
    def look(cohort: Cohort, trials: Sequence[Trial], step: int, names: Sequence[str]) -> dict[Trial, dict[str, float]]:
        readings: dict[Trial, dict[str, float]] = {trial: {} for trial in trials}
        with random_state_kept(device):
            for trial in trials:
                weights = cohort.weights(trial)
                for name in names:
                    seed = seed_of(name, trial.id, step)
                    torch.manual_seed(seed)
                    model = build.model(workload, data, device, trial.init_seed)
                    start = {key: value.clone() for key, value in model.state_dict().items()}
                    _put(weights, model)
                    # On the instance, so that it holds however a probe calls the model.
                    model.forward = precision.products(workload.entry.precision, device, model.forward)
                    draw = functools.partial(_draw, data.train, torch.Generator().manual_seed(seed))
                    moment = Moment(model.train(), start, draw, loss, study.batch_size)
                    seen = finite(probes[name](moment))
                    readings[trial].update({f"{name}.{key}": value for key, value in seen.items()})
        return readings

    return look


def _put(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    places = {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, value in weights.items():
            places[name].copy_(value)


def _draw(split: Split, generator: torch.Generator, count: int) -> Split:
    rows = torch.randint(len(split), (count,), generator=generator).to(split.targets.device)
    return Split(split.inputs.index_select(0, rows), split.targets.index_select(0, rows))
