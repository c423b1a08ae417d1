"""Suite -> workloads, studies, trials: what would be measured, each with an id that says what it is.

An id is a hash of content and a seed comes from names, so that adding a workload, a batch size or a trial leaves
every other trial as it was, and a run can find in the archive what it need not do again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from bench.ask import components
from bench.ask.contents import contents
from bench.ask.description import STEP, Component
from bench.ask.search import Dimension, ScalingRule, Value, as_plain, draw, region_of, seed_of
from bench.ask.suite import MOST_EXAMPLES, PARTS, UNITS, BatchRange, Entry, Measure, Race, Spec, Suite, Threshold
from bench.errors import BenchError
from bench.options import EVERY

# The kind of a component, and what a suite calls it: ("models", "mlp").
Named = tuple[str, str]

_STEP_KEYS = ("compile", "channels_last", "micro_batch", "deterministic", "decay")
_TIMED_KEYS = ("name", "model", "dataset", "optimizer", "sources", "contents", "precision", "augment", "order")

# Confirmations go on to so many times the steps of the best trials of the search, and at least to so many steps.
CONFIRM_BUDGET = 3
FEWEST_STEPS = 32
MOST_DRAWS = 2
# A trial of the search that takes more than so many times the fewest steps is not confirmed.
CONTENDS = 1.5
# A confirmation is evaluated on all examples from this share of the fewest steps of the search on, and so densely.
_WHOLE_FROM, _DENSE = 0.5, 0.05
# However coarse the resolution, the next evaluation stands at most this share of a step further.
_WIDEST = 0.25
# Fewer examples than these say too little of a trial, whatever they cost.
FEWEST_EXAMPLES = 500


def contenders(ranked: Sequence[tuple[int, dict[str, Value]]], top: int) -> list[dict[str, Value]]:
    """The metaparameters that are confirmed: of trials that met their target, as (steps, metaparameters) in rising
    order, the first `top` that differ, none with more than `CONTENDS` times the fewest steps.
    """
    best: list[dict[str, Value]] = []
    for steps, values in ranked:
        if steps <= CONTENDS * ranked[0][0] and values not in best and len(best) < top:
            best.append(values)
    return best


def confirmation_budget(steps: Sequence[int], most: int) -> int:
    """The steps after which a confirmation has missed its target: three times those that the slowest of the best trials
    took in the search, so that a typical seed is not cut off where the search was lucky; at most `most`.
    """
    return min(most, max(FEWEST_STEPS, CONFIRM_BUDGET * max(steps)))


# What is timed, and the phase of a trial that times it.
TimedMeasure = Literal["throughput", "inference"]
Phase = Literal["search", "confirm", "throughput", "inference"]


class Evaluation(NamedTuple):
    """After which step a trial is evaluated, and on how many of the validation examples."""

    step: int
    examples: int


@dataclass(frozen=True)
class Trial:
    """One training run: a draw of metaparameters, two seeds and a budget. `number` counts within study and phase.

    Of what is timed, one process is a trial: its budget is 0 steps, for a clock ends it.
    """

    id: str
    phase: Phase
    number: int
    metaparameters: dict[str, Value] = field(hash=False)
    init_seed: int
    order_seed: int
    max_steps: int


@dataclass(frozen=True)
class Given:
    """Metaparameters that a study confirms without a search of its own: those of a trial of the same study elsewhere,
    its number there, and the steps it took.
    """

    number: int
    steps: int
    metaparameters: dict[str, Value] = field(hash=False)


@dataclass(frozen=True)
class Workload:
    """One model, dataset, optimizer and schedule, with a target: what is measured at each batch size.

    sources: which code its components were when this was planned (`Component.source`).  contents: which files of one's
    own it is trained on (`contents.py`), if any, and the data folder is known.
    """

    name: str
    entry: Entry
    model: Spec
    dataset: Spec
    optimizer: Spec
    schedule: Spec
    devices: int = 1
    sources: dict[Named, str | None] = field(default_factory=dict, hash=False)
    contents: str | None = None

    @property
    def reading(self) -> str:
        """The name of the reading the target is about: what is stored, whatever the suite gives the target in."""
        stated = next(iter(self.entry.target))
        return "validation_loss" if stated in UNITS else stated

    @cached_property
    def threshold(self) -> Threshold:
        """The target's threshold, in the unit of the reading."""
        ((stated, threshold),) = self.entry.target.items()
        if stated not in UNITS:
            return threshold
        bound = {key: UNITS[stated].loss(value) for key, value in threshold.bound().items()}
        return Threshold(**bound, rule=threshold.rule)

    @property
    def open_ended(self) -> bool:
        """Whether batch sizes go on to the last that fits."""
        return isinstance(self.entry.batch_sizes, BatchRange) and self.entry.batch_sizes.to == "max"

    def component(self, part: str) -> Component:
        """The component that one of its `PARTS` is; raises ComponentError where it cannot be found."""
        return components.find(f"{part}s", getattr(self, part).name)

    def batch_sizes(self) -> list[int]:
        """Every batch size asked for, none larger than the training set where its size is known."""
        known = self.component("dataset").train_examples(self.dataset.options)
        return self.entry.sizes(known or MOST_EXAMPLES)

    @property
    def slack(self) -> float | None:
        """How many times the best step trials may go; None where each goes on to its budget."""
        race = self.entry.race
        return race.slack if isinstance(race, Race) else 1.0 if race else None

    @cached_property
    def probes(self) -> dict[str, dict[str, Any]]:
        """The options of each probe, without `every`, which is the harness's."""
        return {
            name: {key: value for key, value in options.items() if key != "every"}
            for name, options in self.entry.probes.items()
        }

    @cached_property
    def space(self) -> dict[str, Dimension | ScalingRule | Value]:
        """The part of the search space that this workload's optimizer, its schedule and the step take."""
        takers = [self.component("optimizer"), self.component("schedule"), STEP]
        space = self.entry.search.space
        return {key: space[key] for key in space if any(taker.option(key) for taker in takers)}

    def space_at(self, batch_size: int) -> dict[str, Dimension | Value]:
        """The space at a batch size, where each rule has given a constant or a range."""
        return {
            name: value.resolve(batch_size) if isinstance(value, ScalingRule) else value
            for name, value in self.space.items()
        }

    def ranges_at(self, batch_size: int) -> dict[str, Dimension | ScalingRule | Value]:
        """The space with the ranges that are drawn from at a batch size; what is a constant by a rule stays the rule.

        So an archive says between which ends a study searched, and which of its constants followed a rule.
        """
        at = self.space_at(batch_size)
        return {
            name: found if isinstance(found := at[name], Dimension) else stated for name, stated in self.space.items()
        }

    def components(self) -> dict[Named, Component]:
        """Those of its parts and its probes."""
        named = [(f"{key}s", getattr(self, key).name) for key in PARTS] + [
            ("probes", name) for name in self.entry.probes
        ]
        return {(kind, name): components.find(kind, name) for kind, name in named}

    def files_of_own(self, folder: Path) -> str | None:
        """Which files of one's own its dataset is by now, in the folder of datasets; None where it is none of these."""
        return contents(self.component("dataset").with_defaults(self.dataset.options), folder)

    def identity(self) -> dict[str, Any]:
        """What makes a trial's readings what they are, but for its draw, its seeds and its budget."""
        entry = self.entry
        return {
            "name": entry.name,
            **{key: getattr(self, key).model_dump() for key in PARTS},
            "target": {name: threshold.model_dump(exclude_none=True) for name, threshold in entry.target.items()},
            "evaluate": entry.evaluate.model_dump(),
            "slack": self.slack,
            "sources": [self.sources[f"{key}s", getattr(self, key).name] for key in PARTS],
            **({"contents": self.contents} if self.contents else {}),
            "precision": entry.precision,
            "training": entry.training,
            **self._step(),
            **self._examples(),
        }

    def _step(self) -> dict[str, Any]:
        """How a step is taken, where the suite says anything of it: what was measured without keeps its ids."""
        growth = {"growth": self.entry.growth.model_dump()} if self.entry.growth else {}
        devices = {"devices": self.devices} if self.devices > 1 else {}
        keys = {key: getattr(self.entry, key) for key in _STEP_KEYS}
        said = {key: value for key, value in keys.items() if value != Entry.model_fields[key].default}
        return {**said, **devices, **growth}

    def _examples(self) -> dict[str, Any]:
        """How examples are drawn and changed, where the suite says anything of it, for the same reason."""
        entry = self.entry
        said = {"augment": entry.augment.model_dump(exclude_defaults=True)} if entry.augment else {}
        return {**said, **({"order": entry.order} if entry.order != "reshuffle" else {})}


@dataclass(frozen=True)
class _AtBatchSize:
    """A workload at one batch size, as a sentence names it: `mnist-sgd at batch size 1,024`."""

    workload: Workload
    batch_size: int

    def __str__(self) -> str:
        return f"{self.workload.name} at batch size {self.batch_size:,}"


@dataclass(frozen=True)
class Study(_AtBatchSize):
    """One workload at one batch size, trained until it meets its target.

    given: what is confirmed instead of the best trials of a search, the best first; where nothing is, it searches.
    """

    given: tuple[Given, ...] = ()
    measure: ClassVar[Measure] = "steps_to_target"

    @cached_property
    def id(self) -> str:
        entry = self.workload.entry
        extent = {
            "trials": entry.search.trials,
            **({"refine": entry.search.refine} if entry.search.refine else {}),
            "seeds": entry.confirm.seeds,
            "top": entry.confirm.top,
            "max_steps": entry.max_steps,
            "probes": self._probes(),
            **({"given": [asdict(each) for each in self.given]} if self.given else {}),
        }
        return _hash([self.workload.identity(), self.batch_size, as_plain(self.workload.space), extent])

    @property
    def largest_batch(self) -> int:
        """The most examples that a step takes: more than the batch size where the batch grows."""
        growth = self.workload.entry.growth
        return growth.largest(self.batch_size) if growth else self.batch_size

    @property
    def most_steps(self) -> int:
        """The steps the study takes if every trial diverges or goes to the end, and every confirmation too."""
        entry = self.workload.entry
        if self.given:
            budget = confirmation_budget([each.steps for each in self.given], entry.max_steps)
            return budget * len(self.given) * entry.confirm.seeds
        searched = MOST_DRAWS * entry.search.trials + entry.search.refine
        return entry.max_steps * (searched + entry.confirmations)

    @property
    def expected_cost(self) -> float:
        """A guess at how long it takes, in no unit, from the batch size B and the devices alone, so that the longest
        studies can be begun first.

        Steps fall as 1/B down to a floor, here as if the critical batch size were 256; a step costs a device its part
        of the examples, and an overhead, here of 64 more.
        """
        entry = self.workload.entry
        steps, step = 1 / self.batch_size + 1 / 256, self.batch_size / self.workload.devices + 64
        searched = entry.search.trials + entry.search.refine
        return steps * step * (searched + CONFIRM_BUDGET * entry.confirmations)

    def draws(self) -> list[Trial]:
        """The trials of the search in order, and after them as many replacements for those that diverge."""
        entry = self.workload.entry
        space = self.workload.space_at(self.batch_size)
        values = draw(space, self._seed("space"), MOST_DRAWS * entry.search.trials)
        order = self._seed("order")
        return [
            self._trial("search", number, point, self._seed("init", number), order, entry.max_steps)
            for number, point in enumerate(values)
        ]

    def refinement(self, best: Sequence[Trial]) -> list[Trial]:
        """The trials that are drawn about the best ones, their numbers after those of all draws."""
        entry = self.workload.entry
        if not entry.search.refine:
            return []
        space = self.workload.space_at(self.batch_size)
        region = region_of(space, [trial.metaparameters for trial in best], entry.search.trials)
        values = draw(space, self._seed("refine"), entry.search.refine, region)
        order = self._seed("order")
        return [
            self._trial("search", number, point, self._seed("init", number), order, entry.max_steps)
            for number, point in enumerate(values, MOST_DRAWS * entry.search.trials)
        ]

    def given_trials(self) -> tuple[list[Trial], list[int]]:
        """The trials of another search that are confirmed, and their steps to target there, the best first."""
        trials = [
            self._trial("search", each.number, each.metaparameters, 0, 0, self.workload.entry.max_steps)
            for each in self.given
        ]
        return trials, [each.steps for each in self.given]

    def confirmations(self, best: Sequence[Trial], steps: Sequence[int]) -> list[Trial]:
        """The best trials of the search again, which took so many steps, with seeds and data orders of their own."""
        budget = confirmation_budget(steps, self.workload.entry.max_steps)
        return [
            self._trial(
                "confirm",
                place * self.workload.entry.confirm.seeds + number,
                trial.metaparameters,
                self._seed("confirm", "init", trial.number, number),
                self._seed("confirm", "order", trial.number, number),
                budget,
                (trial.number, number),
            )
            for place, trial in enumerate(best)
            for number in range(self.workload.entry.confirm.seeds)
        ]

    def evaluations(self, validation_examples: int, until: int, whole_from: float = math.inf) -> Iterator[Evaluation]:
        """Where a trial is evaluated: at step 0, then at steps a share `resolution` apart, the last of them `until`.

        So the steps do not depend on what an evaluation costs. That bounds how many examples are looked at: no more
        than `cost` times those trained on since the evaluation before, but always `FEWEST_EXAMPLES`. From the step
        `whole_from` on all are looked at, and steps stand 5 % apart or less, whatever that costs.
        """
        evaluate = self.workload.entry.evaluate
        step = 0
        yield Evaluation(step, min(validation_examples, FEWEST_EXAMPLES))
        while step < until:
            whole = step >= whole_from
            resolution = min(evaluate.resolution, _DENSE if whole else _WIDEST)
            before, step = step, min(until, step + max(1, math.floor(resolution * step)))
            most = validation_examples if whole else int(evaluate.cost * (step - before) * self.batch_size)
            yield Evaluation(step, min(validation_examples, max(FEWEST_EXAMPLES, most)))

    def confirmation(self, validation_examples: int, budget: int, fewest: int) -> Iterator[Evaluation]:
        """Where a confirmation is evaluated, whole and densely around the crossing of the search, at `fewest` steps."""
        return self.evaluations(validation_examples, budget, _WHOLE_FROM * fewest)

    def probe_steps(self, until: int) -> dict[int, list[str]]:
        """The steps before `until` at which probes look, and which: 0, 1, f, f^2 .., f being a probe's `every`."""
        due: dict[int, list[str]] = {}
        for name, options in self.workload.entry.probes.items():
            factor = float(options.get("every", EVERY).removesuffix("x"))
            step, power = 0, 1.0
            while step < until:
                due.setdefault(step, []).append(name)
                while step >= power:
                    power *= factor
                step = math.ceil(power)
        return dict(sorted(due.items()))

    def _probes(self) -> dict[str, Any]:
        probes = self.workload.entry.probes
        return {name: [options, self.workload.sources["probes", name]] for name, options in probes.items()}

    def _seed(self, *names: object) -> int:
        workload = self.workload
        parts = (workload.model, workload.dataset, workload.optimizer, workload.schedule)
        return seed_of(workload.entry.name, *parts, self.batch_size, *names)

    def _trial(
        self,
        phase: Phase,
        number: int,
        values: dict[str, Value],
        init_seed: int,
        order_seed: int,
        max_steps: int,
        known_by: object = None,
    ) -> Trial:
        """known_by: what tells the trial apart in its id, where its number counts what may be asked for later."""
        apart = number if known_by is None else known_by
        what = [self.workload.identity(), self.batch_size, phase, apart, values, init_seed, order_seed, max_steps]
        if phase == "confirm":  # where probes look: one that looked at nothing has nothing to tell
            what.append(self._probes())
        return Trial(_hash(what), phase, number, values, init_seed, order_seed, max_steps)


@dataclass(frozen=True)
class Timing(_AtBatchSize):
    """A workload's step at one batch size, timed: of training (throughput), or of a forward pass alone (inference)."""

    measure: TimedMeasure

    @cached_property
    def id(self) -> str:
        return _hash([self._identity(), self.workload.entry.timing.processes])

    def processes(self) -> list[Trial]:
        """The fresh processes to time it in, a trial each."""
        return [
            Trial(_hash([self._identity(), number]), self.measure, number, self._metaparameters, number, number, 0)
            for number in range(self.workload.entry.timing.processes)
        ]

    @cached_property
    def _metaparameters(self) -> dict[str, Value]:
        """A corner of the space: nothing that takes time, such as momentum, is switched off, and the rate is gentle."""
        return {
            name: dimension.extremes()[0 if name == "learning_rate" else -1]
            if isinstance(dimension, Dimension)
            else dimension
            for name, dimension in self.workload.space_at(self.batch_size).items()
        }

    def _identity(self) -> list[Any]:
        """What makes a step take the time that it takes, and how well that is known; not where it leads."""
        whole, entry = self.workload.identity(), self.workload.entry
        step = {key: whole[key] for key in (*_TIMED_KEYS, *_STEP_KEYS, "devices") if key in whole}
        clock = entry.timing.model_dump(include={"precision", "seconds"})
        return [step, self.batch_size, self.measure, entry.input, self._metaparameters, clock]


# One of `Plan.units`.
PlanUnit = Study | Timing


@dataclass(frozen=True)
class Plan:
    """Everything a suite asks for: studies to train, and what is to be timed."""

    suite: Suite
    workloads: tuple[Workload, ...]
    studies: tuple[Study, ...]
    timings: tuple[Timing, ...]

    @property
    def units(self) -> tuple[PlanUnit, ...]:
        """What is measured apart from all else: studies, then timings, each in the order of the suite."""
        return (*self.studies, *self.timings)

    def confirming(self, given: Mapping[tuple[str, int], tuple[Given, ...]]) -> Plan:
        """The plan whose studies confirm what they are given, by workload and batch size, and search where it is
        nothing. Raises BenchError where a study has other metaparameters than it is given.
        """
        studies = []
        for study in self.studies:
            asked = set(study.workload.space)
            known = given.get((study.workload.name, study.batch_size), ())
            for names in (set(each.metaparameters) for each in known):
                if names != asked:
                    raise BenchError(
                        f"{study}: the base was confirmed with {', '.join(sorted(names))} and the suite has "
                        f"{', '.join(sorted(asked))}; accept a new base, or run without --confirm"
                    )
            studies.append(replace(study, given=known))
        return replace(self, studies=tuple(studies))

    def components(self) -> list[Component]:
        """Every component that a workload names, once."""
        named = {key: component for workload in self.workloads for key, component in workload.components().items()}
        return [named[key] for key in sorted(named)]

    def outside(self) -> list[Component]:
        """The components that are anybody's own code: what a run would run of it."""
        return [component for component in self.components() if component.origin]


def make(suite: Suite, *, timed: bool = False, data: Path | None = None) -> Plan:
    """Spreads a suite's lists out into workloads, and these into what is measured at each batch size.

    data: the folder of datasets; without it a plan does not know which files of one's own are trained on, and so has
    other ids where a suite names any.
    timed: times a training step of workloads of which nothing was to be timed, too, but for those whose batch grows.
    """
    workloads = tuple(
        Workload(name, one, model, dataset, optimizer, schedule, devices)
        for entry in suite.content.workloads
        for name, one, model, dataset, optimizer, schedule, devices in entry.combinations()
    )
    lie = {str(each.dataset): each.files_of_own(data) for each in workloads} if data else {}
    workloads = tuple(
        replace(
            each,
            sources={named: component.source for named, component in each.components().items()},
            contents=lie.get(str(each.dataset)),
        )
        for each in workloads
    )
    studies: list[Study] = []
    timings: list[Timing] = []
    for workload in workloads:
        measures: list[Measure] = workload.entry.measure
        if timed and measures == ["steps_to_target"] and not workload.entry.growth:
            measures = ["steps_to_target", "throughput"]
        for measure in measures:
            for size in workload.batch_sizes():
                if measure == "steps_to_target":
                    studies.append(Study(workload, size))
                else:
                    timings.append(Timing(workload, size, measure))
    return Plan(suite, workloads, tuple(studies), tuple(timings))


def apart_from_devices(name: str, devices: int) -> str:
    """A workload's name without what a list of devices adds to it: one name for all that differ in nothing else."""
    return name.removesuffix(f"-devices={devices}")


def titled(name: str, devices: int) -> str:
    """A workload's name, and on how many devices each trial trains, where on several and the name does not say so."""
    said = devices == 1 or apart_from_devices(name, devices) != name
    return name if said else f"{name} on {devices:,} devices"


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
