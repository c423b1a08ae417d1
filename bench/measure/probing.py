"""Shows probes a copy of a trial, so that nothing they do can be felt in training."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.ask import components
from bench.ask.plan import Study, Trial, Workload
from bench.ask.search import seed_of
from bench.contracts import Cohort, Look, Moment, Probe
from bench.examples import Data, Examples, Split
from bench.measure import build, precision
from bench.measure.evaluation import finite, random_state_kept
from bench.measure.losses import of_training
from bench.measure.memory import out_of_memory_named


def build_probes(workload: Workload) -> dict[str, Probe]:
    """The workload's probes by name; raises ComponentError where options do not go together."""
    return {name: components.find("probes", name).load()(**options) for name, options in workload.probes.items()}


def looker(study: Study, data: Data, device: torch.device) -> Look:
    """Looks at the trials of a study with its probes; readings are called `<probe>.<what it gave>`.

    The examples a probe draws depend on its name, the step and the trial's seed alone, which is the same on any number
    of devices.
    """
    probes = build_probes(study.workload)
    copies = Copies(study, data, device)

    @out_of_memory_named()
    def look(cohort: Cohort, trials: Sequence[Trial], step: int, names: Sequence[str]) -> dict[Trial, dict[str, float]]:
        readings: dict[Trial, dict[str, float]] = {trial: {} for trial in trials}
        for trial in trials:
            weights = cohort.weights(trial)
            for name in names:
                seed = seed_of(name, trial.init_seed, step)
                seen = copies.show(probes[name], trial, weights, seed)
                readings[trial].update({f"{name}.{key}": value for key, value in seen.items()})
        return readings

    return look


class Copies:
    """Makes copies of a study's trials."""

    def __init__(self, study: Study, data: Data, device: torch.device) -> None:
        self._study, self._data, self._device = study, data, device

    def show(self, probe: Probe, trial: Trial, weights: Mapping[str, Tensor], seed: int) -> dict[str, float]:
        """What a probe sees of a copy of a trial with those weights, but for what is not finite.

        seed: of what the probe draws; random state is afterwards what it was.
        """
        workload, device = self._study.workload, self._device
        with random_state_kept(device):
            torch.manual_seed(seed)
            model = build.model(workload, self._data, device, trial.init_seed)
            start = {key: value.clone() for key, value in model.state_dict().items()}
            _put(weights, model)
            # On the instance, so that it holds however a probe calls the model.
            model.forward = precision.products(workload.entry.precision, device, model.forward)
            draw = functools.partial(_draw, self._data.train, torch.Generator().manual_seed(seed))
            loss = of_training(self._data.loss, trial.metaparameters)
            return finite(probe(Moment(model.train(), start, draw, loss, self._study.batch_size)))


def _put(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    places = {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, value in weights.items():
            places[name].copy_(value)


def _draw(examples: Examples, generator: torch.Generator, count: int) -> Split:
    return examples.take(torch.randint(len(examples), (count,), generator=generator))
