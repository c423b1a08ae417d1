"""A suite: what a YAML file may say, as types."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    PositiveInt,
    Tag,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from bench.ask.search import Finite, Space, searched
from bench.ask.source import Tokens
from bench.crossing import CrossingRule

DEFAULT_MAX_TRIALS = 100_000
# Where a range of batch sizes ends if the dataset does not say how many examples it has.
MOST_EXAMPLES = 2**24


class Unit(NamedTuple):
    """What a loss is also given in: a number of it as a loss, and a loss as such a number.

    tokens: what those of a text are, where it is a number for each of these and no others.
    """

    loss: Callable[[float], float]
    number: Callable[[float], float]
    tokens: Tokens | None = None


def _bits(tokens: Tokens) -> Unit:
    return Unit(lambda bits: bits * math.log(2), lambda loss: loss / math.log(2), tokens)


def _perplexity(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


# What a target may also be given in, where the loss is a cross-entropy, in nats.
UNITS = {
    "validation_perplexity": Unit(math.log, _perplexity),
    "validation_bits_per_character": _bits("characters"),
    "validation_bits_per_byte": _bits("bytes"),
}
# What a workload is made of, each a component.
PARTS = ("model", "dataset", "optimizer", "schedule")
Reading = Literal[
    "validation_error",
    "validation_loss",
    "ema_validation_error",
    "ema_validation_loss",
    "validation_perplexity",
    "validation_bits_per_character",
    "validation_bits_per_byte",
]
TARGETS = get_args(Reading)
READINGS = tuple(name for name in TARGETS if name not in UNITS)
Measure = Literal["steps_to_target", "throughput", "inference"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp64"]
Training = Literal["auto", "stacked", "one_by_one"]
OrderName = Literal["reshuffle", "single", "with_replacement"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Spec(Strict):
    """A component and the options a suite gives it: `mlp`, or `{mlp: {hidden: [64]}}`."""

    name: str
    options: dict[str, Any] = {}

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        return f"{self.name}({options})" if options else self.name


def spec_of(raw: Any) -> Spec:
    """The component that a suite's word or mapping names; raises ValueError where it names none."""
    if isinstance(raw, str):
        return Spec(name=raw)
    if isinstance(raw, dict) and len(raw) == 1:
        ((name, options),) = raw.items()
        if isinstance(name, str) and (options is None or isinstance(options, dict)):
            return Spec(name=name, options=options or {})
    if isinstance(raw, Spec):
        return raw
    raise ValueError("should be a name, or {name: {option: value}}")


def one_or_more(raw: Any) -> list[Any]:
    """A list as it is, and a scalar as a list of one."""
    return raw if isinstance(raw, list) else [raw]


def _distinct(values: list[Any]) -> list[Any]:
    seen: set[str] = set()
    for value in map(str, values):
        if value in seen:
            raise ValueError(f"should name each once, and {value} stands twice")
        seen.add(value)
    return values


class Listed(list[Any]):
    """The values of a key that a workload has one of, where a suite gives several: it makes a workload of each."""


class _OrEach:
    """In an annotation: one value of a type, or a list of them. The list stands in a suite alone: `Entry.combinations`
    gives each workload its value.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        one = handler(source)
        several = core_schema.list_schema(one, min_length=1)
        return core_schema.tagged_union_schema(
            {"one": one, "several": core_schema.no_info_after_validator_function(self._listed, several)},
            discriminator=lambda raw: "several" if isinstance(raw, list) else "one",
        )

    @staticmethod
    def _listed(values: list[Any]) -> Listed:
        return Listed(_distinct(values))


_SPEC_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]}
Specs = Annotated[
    list[Annotated[Spec, BeforeValidator(spec_of)]],
    BeforeValidator(one_or_more),
    AfterValidator(_distinct),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [*_SPEC_SCHEMA["anyOf"], {"type": "array", "items": _SPEC_SCHEMA, "minItems": 1}]}),
]
Steps = Annotated[int, Field(gt=0, le=10**9)]
_DEVICES_SCHEMA = {"type": "integer", "minimum": 1, "maximum": 1024}
DeviceCounts = Annotated[
    list[Annotated[int, Field(gt=0, le=1024)]],
    BeforeValidator(one_or_more),
    AfterValidator(_distinct),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_DEVICES_SCHEMA, {"type": "array", "items": _DEVICES_SCHEMA, "minItems": 1}]}),
]


class Threshold(Strict):
    """When a reading counts as trained: `at_most` includes the number, `below` (as in Shallue et al.) does not.

    rule: how steps to target are read off a trial's readings, see `crossing.py`.
    """

    at_most: Annotated[Finite, Field(ge=0)] | None = None
    below: Annotated[Finite, Field(gt=0)] | None = None
    rule: CrossingRule = "isotonic"

    def bound(self) -> dict[str, float]:
        """The threshold alone, such as {at_most: 0.05}."""
        return self.model_dump(include={"at_most", "below"}, exclude_none=True)

    def met(self, value: float) -> bool:
        """Whether a reading meets the threshold; NaN never does."""
        return value <= self.at_most if self.at_most is not None else value < (self.below or 0.0)

    def __str__(self) -> str:
        bound = f"<= {self.at_most:g}" if self.at_most is not None else f"< {self.below:g}"
        return bound if self.rule == "isotonic" else f"{bound} (first passage)"


def _one_threshold(threshold: Threshold) -> Threshold:
    if (threshold.at_most is None) == (threshold.below is None):
        raise ValueError("should be either {at_most: number} or {below: number}")
    return threshold


def _with_rule(raw: Any) -> Any:
    """A target whose rule stands beside its reading, as one whose rule stands in the threshold."""
    if not isinstance(raw, dict) or "rule" not in raw:
        return raw
    others = {name: value for name, value in raw.items() if name != "rule"}
    if any(isinstance(value, dict) and "rule" in value for value in others.values()):
        raise ValueError("should have its rule once, beside the reading")
    return {
        name: {**value, "rule": raw["rule"]} if isinstance(value, dict) else value for name, value in others.items()
    }


def _one_reading(target: dict[str, Threshold]) -> dict[str, Threshold]:
    if len(target) != 1:
        raise ValueError(f"should name one reading, of {', '.join(TARGETS)}")
    ((reading, threshold),) = target.items()
    number = threshold.at_most or threshold.below or 0
    if reading.endswith("validation_error") and number > 1:
        raise ValueError("an error is a share of the examples, at most 1: write 5 % as 0.05")
    if reading == "validation_perplexity" and number <= 1:
        raise ValueError("a perplexity is above 1, that of a model which knows what comes")
    return target


OneThreshold = Annotated[Threshold, AfterValidator(_one_threshold)]
Target = Annotated[dict[Reading, OneThreshold], BeforeValidator(_with_rule), AfterValidator(_one_reading)]


def _rule_beside_the_reading(schema: dict[str, Any]) -> None:
    """Has a target's schema allow a rule where files have it."""
    schema["properties"] = {"rule": {"enum": list(get_args(CrossingRule)), "default": "isotonic"}}
    schema["propertyNames"]["enum"].append("rule")


def _sizes_tag(raw: Any) -> str:
    return "a list" if isinstance(raw, list) else "a range" if isinstance(raw, dict | BatchRange) else "neither"


def _race_tag(raw: Any) -> str:
    return "a switch" if isinstance(raw, bool) else "a mapping" if isinstance(raw, dict | Race) else "neither"


class Search(BaseModel):
    """How many trials, and the space of every metaparameter of the optimizer and the schedule.

    refine: how many more trials are drawn, once the best of these are known, from the part of the space that they span.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Space] = Field(init=False)

    trials: Annotated[int, Field(gt=0, le=1_000_000)] = 16
    refine: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @property
    def space(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Confirm(Strict):
    """How many of the best trials are trained again, and with how many fresh seeds each.

    Choosing one trial by a single noisy run often chooses the wrong one; `top` of them are therefore confirmed, and the
    headline is the smallest of their medians.
    """

    seeds: Annotated[int, Field(ge=0, le=1_000)] = 5
    top: Annotated[int, Field(gt=0, le=100)] = 3


class Evaluate(Strict):
    """How far apart evaluations stand, as a share of the step, and how many validation examples they take.

    `resolution` is the largest share by which a step to target may be overstated in the search; confirmations are
    evaluated at 5 % of the step or less. `cost` bounds the examples evaluated in the search, as a multiple of the
    examples trained on: where batches are small, a search is evaluated on an evenly spaced part of the validation set,
    of 500 examples at least.
    """

    resolution: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.05
    cost: Annotated[float, Field(ge=0.001, allow_inf_nan=False)] = 1.0


class Race(Strict):
    """Trials go on to `slack` times the step at which the first of them met the target."""

    slack: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)]


class Interconnect(Strict):
    """What a prediction for several devices takes the links between them to be, for a ring all-reduce."""

    bandwidth_bytes_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 25e9
    latency_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10e-6


class TimingOptions(Strict):
    """How a step is timed: in so many fresh processes, each until its median is known to `precision`, a share of it, or
    `seconds` have passed.

    latency_bound: seconds that a forward pass may take, for the batch size recommended by `inference`.
    """

    processes: Annotated[int, Field(gt=0, le=1_000)] = 5
    precision: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.02
    seconds: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = 1.0
    latency_bound: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    interconnect: Interconnect = Field(
        Interconnect(),
        description="a mapping, such as {bandwidth_bytes_per_second: 25.0e9, latency_seconds: 1.0e-5}",
    )


def _last_size(raw: Any) -> Any:
    if raw == "max" or (type(raw) is int and raw > 0):
        return raw
    raise ValueError("should be a whole number above 0, or max")


class BatchRange(Strict):
    """Batch sizes `factor` apart, up to a number, or, `to: max`, up to the last that fits."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_alias=True, serialize_by_alias=True)

    first: Annotated[PositiveInt, Field(alias="from")]
    to: Annotated[PositiveInt | Literal["max"], BeforeValidator(_last_size)]
    factor: Annotated[int, Field(ge=2, le=1024)] = 2

    def sizes(self, most: int) -> list[int]:
        """first, first x factor, ... up to `to`, and never above `most`."""
        last = most if self.to == "max" else min(self.to, most)
        sizes = itertools.accumulate(
            itertools.repeat(self.factor), lambda size, factor: size * factor, initial=self.first
        )
        return list(itertools.takewhile(lambda size: size <= last, sizes))


class Augment(Strict):
    """What is done to training images, drawn afresh for each example and step (`augment.py`)."""

    crop: PositiveInt | None = None
    flip: bool = False
    cutout: PositiveInt | None = None


def _something(augment: Augment) -> Augment:
    if not (augment.crop or augment.flip or augment.cutout):
        raise ValueError("should say what is done, such as {crop: 4, flip: true, cutout: 8}")
    return augment


def _rising(values: list[int]) -> list[int]:
    if any(after <= before for before, after in itertools.pairwise(values)):
        raise ValueError("should be numbers that rise")
    return values


class Doubling(Strict):
    """The batch doubles each time that so many examples have been seen; the batch size is where it starts.

    Smith et al. 2018, arXiv 1711.00489: instead of a decay of the learning rate, which stays as its schedule has it.
    """

    double_at: Annotated[list[PositiveInt], Field(min_length=1, max_length=24), AfterValidator(_rising)]

    def largest(self, batch_size: int) -> int:
        """The batch at the end of one that starts at a batch size."""
        return batch_size << len(self.double_at)


class Adaptive(Strict):
    """The batch grows, up to `most`, with what is seen of the gradients' noise (growth.py); the batch size is where it
    starts.

    eta: of the norm test, how large the noise of a batch's gradient may be as a share of that gradient.
    """

    adaptive: Literal["noise_scale", "norm_test"]
    most: PositiveInt
    eta: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None

    def largest(self, batch_size: int) -> int:
        """The largest batch of one that starts at a batch size: a whole number of these."""
        return batch_size * max(1, self.most // batch_size)


def _eta_of_the_norm_test(growth: Adaptive) -> Adaptive:
    if (growth.eta is None) == (growth.adaptive == "norm_test"):
        raise ValueError("should have an eta, such as 0.5, for norm_test, and none for noise_scale")
    return growth


def _growth_tag(raw: Any) -> str:
    if isinstance(raw, Doubling) or (isinstance(raw, dict) and "double_at" in raw):
        return "growth by doubling"
    adaptive = isinstance(raw, Adaptive) or (isinstance(raw, dict) and "adaptive" in raw)
    return "adaptive growth" if adaptive else "neither"


Growth = Annotated[
    Annotated[Doubling, Tag("growth by doubling")]
    | Annotated[Adaptive, AfterValidator(_eta_of_the_norm_test), Tag("adaptive growth")],
    Discriminator(
        _growth_tag,
        custom_error_type="growth",
        custom_error_message="should be {double_at: [500, 2000]}, in examples, or {adaptive: noise_scale, most: 4096}",
    ),
]

# Probe -> its options: `{noise_scale: {small: 8}}`, or `{noise_scale: }` for those it has by itself.
Probes = dict[str, Annotated[dict[str, Any], BeforeValidator(lambda raw: {} if raw is None else raw)]]

RaceOrNot = Annotated[
    Annotated[bool, Tag("a switch")] | Annotated[Race, Tag("a mapping")],
    Discriminator(
        _race_tag, custom_error_type="race", custom_error_message="should be true, false or a mapping, {slack: 1.25}"
    ),
]


def _word(value: Any) -> str:
    """A value as a suite has it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _micro_batch(raw: Any) -> Any:
    if raw in (None, "auto") or (isinstance(raw, int) and not isinstance(raw, bool) and raw > 0):
        return raw
    raise ValueError("should be a whole number of examples, or auto")


_MICRO_BATCH_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}
MicroBatch = Annotated[
    Any,
    AfterValidator(_micro_batch),
    WithJsonSchema({"anyOf": [*_MICRO_BATCH_SCHEMA["anyOf"], {"type": "array", "items": _MICRO_BATCH_SCHEMA}]}),
]

BatchSizes = Annotated[
    Annotated[list[PositiveInt], Field(min_length=1), AfterValidator(_distinct), Tag("a list")]
    | Annotated[BatchRange, Tag("a range")],
    Discriminator(
        _sizes_tag,
        custom_error_type="sizes",
        custom_error_message="should be a list, such as [8, 16, 32], or a range, such as {from: 8, to: max, factor: 2}",
    ),
]


class Entry(Strict):
    """One workload, or, with lists of components, one for each combination.

    A key's description ends the sentence "should be ..", and is what editors show of it.
    """

    # In the file, whatever else a workload needs may stand in defaults.
    model_config = ConfigDict(json_schema_extra={"required": ["name"]})

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$", max_length=80)] = Field(
        description="what tables call the workload, such as cnn"
    )
    model: Specs = Field(description="a model or a list of them, such as mlp or {mlp: {hidden: [64]}}")
    dataset: Specs = Field(description="a dataset or a list of them, such as digits or {mnist: {subset: 50000}}")
    optimizer: Specs = Field(description="an optimizer or a list of them, such as sgd or [nesterov, adam]")
    schedule: Specs = Field(
        [Spec(name="constant")],
        description="a schedule of the learning rate or a list of them, such as constant or cosine",
    )
    batch_sizes: BatchSizes = Field(
        description="a list, such as [8, 16, 32], or a range, such as {from: 8, to: max, factor: 2}"
    )
    measure: Annotated[list[Measure], Field(min_length=1), AfterValidator(_distinct)] = Field(
        ["steps_to_target"], description=f"a list of {', '.join(get_args(Measure))}"
    )
    # What steps to target need, and what is only timed does not: see together.py.
    target: Target = Field(
        {},
        description="a reading and its threshold, such as {validation_error: {at_most: 0.05}}",
        json_schema_extra=_rule_beside_the_reading,
    )
    max_steps: Steps = Field(
        1_000_000, description="the steps after which a trial has missed its target, such as 20000"
    )
    max_seconds: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="the seconds after which trials that train together have timed out, which is no miss"
    )
    search: Search = Field(
        Search(), description="a mapping, such as {trials: 16, learning_rate: {log_uniform: [0.001, 1]}}"
    )
    confirm: Confirm = Field(Confirm(), description="a mapping, such as {top: 3, seeds: 5}")
    evaluate: Evaluate = Field(Evaluate(), description="a mapping, such as {resolution: 0.05, cost: 1}")
    probes: Probes = Field(
        {}, description="a mapping of probes to their options, such as {noise_scale: {small: 8, large: 512}}"
    )
    race: RaceOrNot = Field(
        True, description="true, false for whole curves, or a mapping, such as {slack: 1.25}, to see near-ties"
    )
    growth: Growth | None = Field(
        None, description="{double_at: [500, 2000]}, in examples, or {adaptive: noise_scale, most: 4096}"
    )
    precision: Annotated[Precision, _OrEach()] = Field(
        "fp32", description="what a trial computes in: fp32, tf32, bf16, fp16 or fp64"
    )
    training: Training = Field(
        "auto", description="how a study's trials train: stacked, one_by_one, or auto, which chooses"
    )
    devices: DeviceCounts = Field(
        [1], description="on how many devices each trial trains, its batch split evenly, or a list, such as [1, 2, 4]"
    )
    deterministic: Annotated[bool, _OrEach()] = Field(
        False, description="true for torch's deterministic algorithms, or an error where there is none"
    )
    timing: TimingOptions = Field(
        TimingOptions(), description="a mapping, such as {processes: 5, precision: 0.02, seconds: 1}"
    )
    compile: Annotated[bool, _OrEach()] = Field(False, description="true for a step compiled by torch.compile")
    channels_last: Annotated[bool, _OrEach()] = Field(
        False, description="true for images with their channels last in memory"
    )
    micro_batch: Annotated[MicroBatch, _OrEach()] = Field(
        None, description="how many examples of a batch the model takes at a time, or auto: as many as fit"
    )
    decay: Annotated[Literal["all", "matrices"], _OrEach()] = Field(
        "all", description="what weight_decay acts on: all, or matrices, which leaves biases, norms and gains alone"
    )
    input: Literal["device", "loader"] = Field(
        "device", description="where training examples lie: device, or loader, read by processes as steps take them"
    )
    augment: Annotated[Augment, AfterValidator(_something)] | None = Field(
        None, description="what is done to training images, such as {crop: 4, flip: true, cutout: 8}"
    )
    order: Annotated[OrderName, _OrEach()] = Field(
        "reshuffle", description="the order of examples: reshuffle, single (shuffled once) or with_replacement"
    )

    def combinations(self) -> Iterator[tuple[str, Entry, Spec, Spec, Spec, Spec, int]]:
        """(name, entry, model, dataset, optimizer, schedule, devices) of every workload the entry stands for; of each,
        the entry has one value of whatever else was listed.

        What was listed is added to the entry's name, and nothing else is: `digits-sgd`, `digits-micro_batch=8`.
        """
        lists = (self.model, self.dataset, self.optimizer, self.schedule)
        for combination, (said, entry), devices in itertools.product(
            itertools.product(*lists), self._entries(), self.devices
        ):
            listed = [str(spec) for spec, choices in zip(combination, lists, strict=True) if len(choices) > 1]
            listed += said + ([f"devices={devices}"] if len(self.devices) > 1 else [])
            yield "-".join([self.name, *listed]), entry, *combination, devices

    def _listed(self) -> dict[str, Listed]:
        """Keys that have a list in place of one value."""
        return {key: value for key in Entry.model_fields if isinstance(value := getattr(self, key), Listed)}

    def _entries(self) -> Iterator[tuple[list[str], Entry]]:
        """The entry for each combination of what stands in lists, and what a name says of it: `order=single`."""
        lists = self._listed()
        for values in itertools.product(*lists.values()):
            chosen = dict(zip(lists, values, strict=True))
            said = [f"{key}={_word(value)}" for key, value in chosen.items() if len(lists[key]) > 1]
            yield said, self.model_copy(update=chosen)

    @property
    def candidates(self) -> int:
        """How many trials of a search are confirmed at most: trials that differ in their seeds alone are one."""
        search = self.search
        return min(self.confirm.top, search.trials + search.refine) if searched(search.space) else 1

    @property
    def confirmations(self) -> int:
        """How many trials that is, with a fresh seed each."""
        return self.candidates * self.confirm.seeds

    def trial_count(self, most: int) -> int:
        """How many trials it asks for, where no dataset has more than so many examples."""
        lists: list[Sequence[Any]] = [self.model, self.dataset, self.optimizer, self.schedule, self.devices]
        workloads = math.prod(map(len, [*lists, *self._listed().values()]))
        trained = (
            self.search.trials + self.search.refine + self.confirmations if "steps_to_target" in self.measure else 0
        )
        timed = self.timing.processes * len(set(self.measure) - {"steps_to_target"})
        return workloads * len(self.sizes(most)) * (trained + timed)

    def sizes(self, most: int) -> list[int]:
        """The batch sizes, those of a range up to `most`."""
        return self.batch_sizes.sizes(most) if isinstance(self.batch_sizes, BatchRange) else self.batch_sizes


class Rule(Strict):
    """How much worse a candidate may be, as a share of the base: `{tolerance: 0.1}`."""

    tolerance: Annotated[Finite, Field(ge=0, le=10)]


class ThroughputRule(Strict):
    """How much of the base's throughput a candidate may lose, as a share of it."""

    tolerance: Annotated[Finite, Field(ge=0, lt=1)]


class StepsRule(Strict):
    """How many more steps to target a candidate may need, as a share of the base's; or `{rule: rcp}`, MLPerf's test
    that it does not need suspiciously few, which no slowdown breaks. Not both: a workload has one rule for a measure,
    and `rcp` refuses equal runs more often than alpha (bench/conclude/evidence.py).
    """

    tolerance: Annotated[Finite, Field(ge=0, le=10)] | None = None
    rule: Literal["ranks", "rcp"] = "ranks"


def _rule_or_tolerance(rule: StepsRule) -> StepsRule:
    if (rule.tolerance is None) != (rule.rule == "rcp"):
        raise ValueError("should be {tolerance: number}, or {rule: rcp}, which takes no tolerance")
    return rule


AnyRule = Rule | ThroughputRule | StepsRule


class Rules(Strict):
    """The rules of a gate, by measure."""

    steps_to_target: Annotated[StepsRule, AfterValidator(_rule_or_tolerance)] | None = None
    throughput: ThroughputRule | None = None
    peak_memory: Rule | None = None


class Gate(Rules):
    """What fails a candidate: rules for every workload, and those of single workloads in their place.

    `alpha`: how often, at most, a gate may fail where nothing is worse than tolerated; for steps to target, and again
    for times and memory.
    """

    alpha: Annotated[Finite, Field(gt=0, lt=0.5)] = 0.05
    workloads: dict[str, Rules] = {}

    def rules(self, workload: str) -> dict[str, AnyRule]:
        """The rule of each measure that a workload is held to."""
        own = self.workloads.get(workload, Rules())
        found = {name: getattr(own, name) or getattr(self, name) for name in Rules.model_fields}
        return {name: rule for name, rule in found.items() if rule}


class SuiteFile(Strict):
    """A suite: workloads to measure, what they share, and what a candidate is held to."""

    suite: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80)] = Field(
        description="the suite's name, such as quick"
    )
    description: str = Field("", description="the question that the suite answers")
    max_trials: PositiveInt = Field(DEFAULT_MAX_TRIALS, description="the most trials that the suite may ask for")
    defaults: dict[str, Any] = Field({}, description="what workloads share, such as {dataset: digits}")
    workloads: Annotated[list[Entry], Field(min_length=1)] = Field(
        description="a list of workloads, each begun by '- name:'"
    )
    gate: Gate | None = Field(
        None, description="a mapping of measures to rules, such as {steps_to_target: {tolerance: 0.25}}"
    )


class Suite(Strict):
    """A checked suite and the text it was read from."""

    text: str
    content: SuiteFile

    @property
    def name(self) -> str:
        return self.content.suite
