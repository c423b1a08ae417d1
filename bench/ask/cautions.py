"""What a suite may ask for and seldom means, a sentence each. Nothing is wrong with it: it is run as it stands."""

from __future__ import annotations

from collections.abc import Iterable

from bench.ask.plan import Workload
from bench.options import units

# The options of a schedule that say when it decays; where none is given it decays over the horizon.
_HORIZONS = ("decay_steps", "total_steps", "milestones")


def cautions(workloads: Iterable[Workload]) -> list[str]:
    """Decays that a trial seldom sees the end of, each with the workloads that have it."""
    found: dict[str, list[str]] = {}
    for workload in workloads:
        given = workload.schedule.options.keys() | workload.space.keys()
        own = [option.name for option in workload.component("schedule").options if option.name in _HORIZONS]
        names = [name for option in own for name in units(option)]
        if own and given.isdisjoint(names) and "steps_to_target" in workload.entry.measure:
            sentence = (
                f"{workload.schedule.name} decays over max_steps ({workload.entry.max_steps:,}), since none of "
                f"{', '.join(names)} is given; a trial that meets its target much earlier hardly decays"
            )
            found.setdefault(sentence, []).append(workload.name)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in found.items()]
