"""YAML -> Suite, or everything that is wrong with it at once, each with its line.

What the types say is checked first; then what only the components can say: their names, their options, their
metaparameters, and how large a batch can be. No component is imported for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from bench import components, document
from bench.description import STEP, Component
from bench.document import Document, KeyPath, dotted
from bench.errors import ComponentError, Problem, SuiteError, expected, nearest
from bench.options import WARM_UPS
from bench.search import DIMENSIONS, Dimension, HalfLife, Scaled, ScalingRule, Space
from bench.suite import (
    MOST_EXAMPLES,
    TARGETS,
    Adaptive,
    Augment,
    BatchRange,
    Confirm,
    Doubling,
    Entry,
    Evaluate,
    Gate,
    Growth,
    Interconnect,
    Measure,
    Race,
    Rule,
    Rules,
    Search,
    Spec,
    StepsRule,
    Suite,
    SuiteFile,
    Threshold,
    ThroughputRule,
    TimingOptions,
    one_or_more,
    spec_of,
)


def load(path: Path) -> Suite:
    """Reads and checks a suite; raises SuiteError with every problem. Runs no code of the components it names."""
    return check(document.read(path))


def check(source: Document) -> Suite:
    """Checks what was read; raises SuiteError with every problem."""
    if not isinstance(source.data, dict):
        no_suite = Problem(1, "", "holds no mapping; a suite has the keys suite and workloads")
        raise SuiteError(source.file, [*source.problems, no_suite])
    data, problems = _with_defaults(source)
    content = None
    try:
        content = SuiteFile.model_validate(data)
        problems += _check_size(source, content) or [*_check_names(source, content), *_check_gate(source, content)]
    except ValidationError as error:
        problems += [_problem(source, detail, data) for detail in error.errors()]
    for index, workload in enumerate(_list(data.get("workloads"))):
        problems += _check_entry(source, ("workloads", index), workload) if isinstance(workload, dict) else []
    # What could not be read as a value is said once, and not again as what it is no value of.
    told = {(problem.line, problem.path) for problem in source.problems}
    problems = source.problems + [problem for problem in problems if (problem.line, problem.path) not in told]
    if problems or content is None:
        raise SuiteError(source.file, problems)
    return Suite(text=source.text, content=content)


_SECTIONS = ("search", "confirm", "evaluate", "probes", "timing")


def _with_defaults(source: Document) -> tuple[dict[str, Any], list[Problem]]:
    """The data with `defaults` in place where a workload says nothing; sections are joined key by key."""
    data = dict(source.data)
    defaults = data.get("defaults", {})
    if not isinstance(defaults, dict):
        return data, []
    known = [key for key in Entry.model_fields if key != "name"]
    shared = {key: value for key, value in defaults.items() if key in known}
    problems = [
        _at(source, ("defaults", key), "unknown here; a name belongs to one workload, so give it there")
        if key == "name"
        else _at(source, ("defaults", key), f"unknown; {nearest(key, known)}")
        for key in defaults
        if key not in known
    ]
    problems += [
        _at(source, ("defaults", section), f"found {_shown(shared[section])}; should be {_SHAPES[section]}")
        for section in _SECTIONS
        if not isinstance(shared.get(section, {}), dict)
    ]
    merged = []
    for workload in _list(data.get("workloads")):
        if not isinstance(workload, dict):
            merged.append(workload)
            continue
        whole = {**shared, **workload}
        for section in _SECTIONS:
            if isinstance(shared.get(section), dict) and isinstance(workload.get(section), dict):
                whole[section] = {**shared[section], **workload[section]}
        merged.append(whole)
    return {**data, "workloads": merged} if merged else data, problems


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _place(source: Document, path: KeyPath) -> KeyPath:
    """Where a value stands in the file: in the workload, or in the defaults it was taken from."""
    if path[:1] != ("workloads",) or len(path) < 3:
        return path
    own = path[: 4 if path[2] in _SECTIONS else 3]
    taken = own not in source.lines and ("defaults", *own[2:]) in source.lines
    return ("defaults", *path[2:]) if taken else path


def _at(source: Document, path: KeyPath, message: str) -> Problem:
    place = _place(source, path)
    return Problem(source.line(place), dotted(place), message)


_KNOWN_KEYS: dict[str, type[BaseModel]] = {
    "batch_sizes": BatchRange,
    "search": Search,
    "confirm": Confirm,
    "evaluate": Evaluate,
    "race": Race,
    "timing": TimingOptions,
    "interconnect": Interconnect,
    "augment": Augment,
    # By the names of their branches: these have no key of their own.
    "a scaled value": Scaled,
    "a half-life": HalfLife,
    "growth by doubling": Doubling,
    "adaptive growth": Adaptive,
    "steps_to_target": StepsRule,
    "throughput": ThroughputRule,
    "peak_memory": Rule,
}
_SHAPES = {
    "workloads": "a list of workloads, each begun by '- name:'",
    "defaults": "what workloads share, such as {dataset: digits}",
    "batch_sizes": "a list, such as [8, 16, 32], or a range, such as {from: 8, to: max, factor: 2}",
    "measure": f"a list of {', '.join(get_args(Measure))}",
    "target": "a reading and its threshold, such as {validation_error: {at_most: 0.05}}",
    **dict.fromkeys(TARGETS, "{at_most: number} or {below: number}"),
    "augment": "what is done to training images, such as {crop: 4, flip: true, cutout: 8}",
    "search": "a mapping, such as {trials: 16, learning_rate: {log_uniform: [0.001, 1]}}",
    "confirm": "a mapping, such as {seeds: 5}",
    "evaluate": "a mapping, such as {resolution: 0.05, cost: 1}",
    "timing": "a mapping, such as {processes: 5, precision: 0.02, seconds: 1}",
    "interconnect": "a mapping, such as {bandwidth_bytes_per_second: 25.0e9, latency_seconds: 1.0e-5}",
    "probes": "a mapping of probes to their options, such as {noise_scale: {small: 8, large: 512}}",
    "gate": "a mapping of measures to rules, such as {steps_to_target: {tolerance: 0.25}}",
    **dict.fromkeys(Rules.model_fields, "a rule, such as {tolerance: 0.1}"),
    **dict.fromkeys(DIMENSIONS, "[low, high]"),
    "choice": "a list of values, such as [0, 0.9]",
}
_SHAPE_ERRORS = ("dict_type", "list_type", "model_type", "too_long", "too_short", "tuple_type")
_PATTERNS = {
    "suite": "should be lower-case letters, digits, - and _, a letter or digit first",
    "name": "should be letters, digits, spaces and . _ + -, a letter or digit first",
}


def _problem(source: Document, detail: Any, data: dict[str, Any]) -> Problem:
    """One of pydantic's errors as one of our sentences."""
    # pydantic's location also names the branch of a union it tried: only what is in the file is kept.
    path: KeyPath = ()
    value: Any = data
    for part in detail["loc"]:
        inside = part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value))
        if inside:
            value, path = value[part], (*path, part)
    kind, key = detail["type"], str(path[-1]) if path else ""
    if kind == "missing" and isinstance(value, dict):
        owner = key if path and isinstance(path[-1], str) else "a workload" if path else "a suite"
        return _at(source, path, f"has no '{detail['loc'][-1]}'; {owner} needs one")
    if kind == "extra_forbidden":
        section = next((_KNOWN_KEYS[str(part)] for part in reversed(detail["loc"][:-1]) if part in _KNOWN_KEYS), None)
        gate = (Rules if "workloads" in path else Gate) if path[0] == "gate" else None
        section = section or gate or (Threshold if "target" in path else Entry if "workloads" in path else SuiteFile)
        known = [field.alias or name for name, field in section.model_fields.items()]
        return _at(source, path, f"unknown; {nearest(key, known)}")
    if kind == "literal_error" and "target" in path:
        return _at(source, path, f"unknown reading; {nearest(key, TARGETS)}")
    if kind == "space" and isinstance(value, dict) and len(value) == 1:
        ((word, _),) = value.items()
        return _at(source, (*path, word), f"unknown; {nearest(word, [*DIMENSIONS, 'half_life'])}")
    if kind == "string_pattern_mismatch":
        message = _PATTERNS[key]
    elif kind in _SHAPE_ERRORS and path[:1] == ("workloads",) and len(path) == 2:
        message = "should be a workload, a mapping begun by 'name:'"
    elif kind in (*_SHAPE_ERRORS, "missing") and key in _SHAPES:
        message = f"should be {_SHAPES[key]}"
    else:
        message = expected(detail)
    return _at(source, path, f"found {_shown(value)}; {message}")


def _shown(value: Any) -> str:
    """A value as the suite might have it, in short."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_size(source: Document, content: SuiteFile) -> list[Problem]:
    count = sum(entry.trial_count(_most_examples(entry)) for entry in content.workloads)
    if count <= content.max_trials:
        return []
    message = f"found {count:,} trials; at most {content.max_trials:,} unless the suite gives a larger max_trials"
    return [_at(source, ("workloads",), message)]


def _most_examples(entry: Entry) -> int:
    """Of the datasets that say how much they have, the most; those that cannot be found are told of elsewhere."""
    most = 0
    for spec in entry.dataset:
        try:
            known = components.find("datasets", spec.name).train_examples(spec.options)
            most = max(most, known or MOST_EXAMPLES)
        except ComponentError:
            most = MOST_EXAMPLES
    return most


def _check_names(source: Document, content: SuiteFile) -> list[Problem]:
    problems = []
    names: dict[str, int] = {}
    for index, entry in enumerate(content.workloads):
        # The entry's own name too: it is what seeds are made of.
        for name in dict.fromkeys([entry.name, *(name for name, *_ in entry.combinations())]):
            first = names.setdefault(name, index)
            if first != index:
                message = f"makes a workload '{name}', and so does workloads[{first}]; give one another name"
                problems.append(_at(source, ("workloads", index, "name"), message))
    return problems


def _check_gate(source: Document, content: SuiteFile) -> list[Problem]:
    gate = content.gate
    if gate is None:
        return []
    names = [name for entry in content.workloads for name, *_ in entry.combinations()]
    problems = [
        _at(source, ("gate", "workloads", name), f"unknown workload; {nearest(name, names)}")
        for name in gate.workloads
        if name not in names
    ]
    for entry in content.workloads:
        for name, *_ in entry.combinations():
            for measure in gate.rules(name):
                needed = "steps_to_target" if measure == "steps_to_target" else "throughput"
                if needed not in entry.measure:
                    own = getattr(gate.workloads.get(name), measure, None)
                    path = ("gate", "workloads", name, measure) if own else ("gate", measure)
                    message = f"a rule for '{name}', which does not measure {needed}; add it to its 'measure'"
                    problems.append(_at(source, path, message))
    if not any(gate.rules(name) for name in names):
        problems.append(_at(source, ("gate",), f"holds no rule; should be {_SHAPES['gate']}"))
    return problems


def _check_entry(source: Document, here: KeyPath, workload: dict[str, Any]) -> Iterator[Problem]:
    """What only the components can say: their names, options, metaparameters, and how large a batch can be.

    It looks at whatever can be read of a workload, so that what is wrong elsewhere in it hides nothing.
    """
    found: dict[str, list[tuple[Spec, Component]]] = {}
    complete = True
    for key in ("model", "dataset", "optimizer", "schedule"):
        found[key] = []
        for position, raw in enumerate(one_or_more(workload.get(key, "constant" if key == "schedule" else None))):
            path = _spec_path(source, (*here, key), position)
            try:
                spec = spec_of(raw)
                component = components.find(f"{key}s", spec.name)
            except ValueError:
                complete = False
            except ComponentError as error:
                complete = False
                yield _at(source, path, str(error))
            else:
                found[key].append((spec, component))
                yield from _check_options(source, (*path, spec.name), spec, component)
    for spec, dataset in found["dataset"]:
        yield from _check_batch_sizes(source, (*here, "batch_sizes"), workload.get("batch_sizes"), spec, dataset)
    most = {str(spec): dataset.train_examples(spec.options) or MOST_EXAMPLES for spec, dataset in found["dataset"]}
    sizes = _sizes(workload.get("batch_sizes"), most)
    for position, (spec, _) in enumerate(found["model"]):
        yield from _check_ghost_batch(source, _spec_path(source, (*here, "model"), position), spec, workload, sizes)
    yield from _check_growth(source, (*here, "growth"), workload, most, sizes)
    yield from _check_devices(source, here, workload, sizes)
    yield from _check_needs(source, here, workload)
    yield from _check_probes(source, here, workload)
    yield from _check_decay(source, here, workload, found["optimizer"])
    search = workload.get("search", {})
    if isinstance(search, dict) and found["optimizer"] and found["schedule"]:
        takers = found["optimizer"] + found["schedule"]
        yield from _check_search(source, (*here, "search"), search, takers, complete)
        taking = [*(component for _, component in takers), STEP]
        yield from _check_rules(source, (*here, "search"), search, taking, sizes)


def _check_batch_sizes(source: Document, path: KeyPath, raw: Any, spec: Spec, dataset: Component) -> Iterator[Problem]:
    """None may be larger than the training set, nor may the subset of it that is asked for."""
    known, most = dataset.sizes.get("train"), dataset.train_examples(spec.options)
    places: dict[Any, Any] = {"from": raw.get("from")} if isinstance(raw, dict) else dict(enumerate(_list(raw)))
    for place, size in places.items():
        if most is not None and isinstance(size, int) and size > most:
            message = (
                f"found {size:,}; {spec if most != known else spec.name} has {most:,} training examples to draw from"
            )
            yield _at(source, (*path, place), message)
    subset = spec.options.get("subset")
    if known is not None and isinstance(subset, int) and most == known < subset:
        message = f"found the subset {subset:,}; {spec.name} has {known:,} training examples"
        yield _at(source, (*path[:-1], "dataset"), message)


def _check_ghost_batch(
    source: Document, path: KeyPath, spec: Spec, workload: dict[str, Any], sizes: list[int]
) -> Iterator[Problem]:
    """What is normalised together is cut into whole ghost batches, or is no larger than one."""
    ghost, micro_batch = spec.options.get("ghost_batch"), workload.get("micro_batch")
    if spec.options.get("norm") != "ghost" or type(ghost) is not int or ghost < 1:
        return
    for size in sizes:
        part = min(size, micro_batch) if type(micro_batch) is int and micro_batch > 0 else size
        uneven = next((each for each in (part, size % part) if each > ghost and each % ghost), None)
        if uneven or (workload.get("growth") and size % ghost):
            parts = f", of which {uneven:,} pass at once" if uneven not in (None, size) else ""
            message = f"found {ghost:,}, which does not divide the batch size {size:,}{parts}"
            yield _at(source, (*path, spec.name, "ghost_batch"), message)
            return


def _check_growth(
    source: Document, path: KeyPath, workload: dict[str, Any], most: dict[str, int], sizes: list[int]
) -> Iterator[Problem]:
    """A batch that grows is never larger than the training set, and its steps have no one time."""
    try:
        growth = _GROWTH.validate_python(workload.get("growth"))
    except ValidationError:
        return
    if growth is None:
        return
    for dataset, examples in most.items():
        largest = max(map(growth.largest, sizes), default=0)
        # A batch size that is itself too large is told of where it stands.
        if largest > examples >= max(sizes):
            message = f"grows to {largest:,}; {dataset} has {examples:,} training examples to draw from"
            yield _at(source, path, message)
    if timed := [measure for measure in _list(workload.get("measure")) if measure in ("throughput", "inference")]:
        message = f"found growth where {timed[0]} is measured, of a step whose batch stays; leave out one of them"
        yield _at(source, path, message)


def _check_devices(source: Document, here: KeyPath, workload: dict[str, Any], sizes: list[int]) -> Iterator[Problem]:
    """Several devices share a batch evenly, and a trial that has them trains by itself."""
    counts = [count for count in one_or_more(workload.get("devices", 1)) if isinstance(count, int) and count > 1]
    if not counts:
        return
    for count in counts:
        uneven = next((size for size in sizes if size % count), None)
        if uneven:
            message = f"found {count}, which cannot share a batch of {uneven:,} evenly"
            yield _at(source, (*here, "devices"), message)
    if workload.get("training") == "stacked":
        message = "found training: stacked, which trains many trials on one device; on several, leave it out"
        yield _at(source, (*here, "devices"), message)
    if workload.get("growth"):
        yield _at(source, (*here, "devices"), "found growth; a batch that grows is trained on one device")
    if workload.get("input") == "loader":
        yield _at(source, (*here, "devices"), "found input: loader; several devices have their examples on them")
    if "inference" in _list(workload.get("measure")):
        yield _at(source, (*here, "devices"), "found inference among what is measured; it is timed on one device")


def _check_needs(source: Document, here: KeyPath, workload: dict[str, Any]) -> Iterator[Problem]:
    """What only some measures need."""
    measures = workload.get("measure", ["steps_to_target"])
    if isinstance(measures, list) and "steps_to_target" in measures:
        for key in ("target", "max_steps"):
            if key not in workload:
                yield _at(source, here, f"has no '{key}'; to measure steps to target a workload needs one")
        search, target = workload.get("search"), workload.get("target")
        averaged = isinstance(search, dict) and "ema" in search
        for reading in target if isinstance(target, dict) and not averaged else ():
            if str(reading).startswith("ema_"):
                message = "found no 'ema' under 'search', which asks for the average that it reads: {ema: 0.99}"
                yield _at(source, (*here, "target", reading), message)
    elif isinstance(workload.get("probes"), dict) and workload["probes"]:
        message = "found probes and no steps_to_target among what is measured; probes look at its confirmations"
        yield _at(source, (*here, "probes"), message)


def _check_decay(
    source: Document, here: KeyPath, workload: dict[str, Any], optimizers: list[tuple[Spec, Component]]
) -> Iterator[Problem]:
    """What leaves some parameters without decay needs some decay."""
    if workload.get("decay") != "matrices":
        return
    search = workload.get("search")
    for spec, component in optimizers:
        given = {**spec.options, **(search if isinstance(search, dict) else {})}.get("weight_decay")
        if component.option("weight_decay") is None:
            message = f"found matrices; {component.name} has no weight_decay, so leave it out"
            yield _at(source, (*here, "decay"), message)
        elif not given:
            message = f"found matrices and no weight_decay for {component.name}; give one under 'search', such as 0.01"
            yield _at(source, (*here, "decay"), message)


def _check_probes(source: Document, here: KeyPath, workload: dict[str, Any]) -> Iterator[Problem]:
    probes, confirm = workload.get("probes"), workload.get("confirm")
    if not isinstance(probes, dict) or not probes:
        return
    if isinstance(confirm, dict) and confirm.get("seeds") == 0:
        message = "found probes and confirm: {seeds: 0}; probes look at the confirmations, so ask for one seed or more"
        yield _at(source, (*here, "probes"), message)
    for name, options in probes.items():
        path = (*here, "probes", name)
        try:
            component = components.find("probes", str(name))
        except ComponentError as error:
            yield _at(source, path, str(error))
        else:
            given = options if isinstance(options, dict) else {}
            yield from _check_options(source, path, Spec(name=str(name), options=given), component)


def _spec_path(source: Document, path: KeyPath, position: int) -> KeyPath:
    placed = _place(source, path)
    return (*path, position) if (*placed, position) in source.lines else path


def _check_options(source: Document, path: KeyPath, spec: Spec, component: Component) -> Iterator[Problem]:
    for key, value in spec.options.items():
        option = component.option(key)
        if option is None:
            known = [option.name for option in component.options]
            yield _at(source, (*path, key), f"unknown option of {component.name}; {nearest(key, known)}")
        elif problem := option.problem(value):
            yield _at(source, (*path, key), f"found {_shown(value)}; {problem}")
    if component.kind in ("models", "datasets"):
        for option in component.options:
            if option.required and option.name not in spec.options:
                yield _at(source, path, f"{component.name} has no '{option.name}'; it needs one")


def _check_search(
    source: Document, path: KeyPath, raw: dict[str, Any], takers: list[tuple[Spec, Component]], complete: bool
) -> Iterator[Problem]:
    """A metaparameter must be one of some component listed, and each component must get those it requires.

    Where a component could not be found (`complete` is false), nothing is said of keys that might be its.
    """
    for key in raw.keys() - {"trials"}:
        able = [*(component for _, component in takers), STEP]
        taking = [(component, option) for component in able if (option := component.option(key))]
        if not taking and complete:
            known = sorted({option.name for component in able for option in component.options} | {"trials"})
            named = ", ".join(component.name for _, component in takers)
            yield _at(source, (*path, key), f"unknown metaparameter of {named}; {nearest(key, known)}")
        for value in _extremes(raw[key]):
            for component, option in taking:
                if problem := option.problem(value):
                    if isinstance(value, float) and value.is_integer() and not option.problem(int(value)):
                        problem = "should be whole numbers, as in {integer: [low, high]}"
                    yield _at(source, (*path, key), f"found {_shown(value)}; for {component.name} it {problem}")
    for spec, component in takers:
        for option in component.options:
            if option.required and option.name not in raw and option.name not in spec.options:
                yield _at(source, path, f"has no '{option.name}'; {component.name} needs one")
            if option.name in raw and option.name in spec.options:
                yield _at(source, (*path, option.name), f"given here and as an option of {spec.name}; give it once")
        if component.kind == "schedules" and all(name in raw or name in spec.options for name in WARM_UPS):
            both = " and ".join(WARM_UPS)
            yield _at(source, path, f"found {both} for {spec.name}; a warm-up is given as one of them")


def _check_rules(
    source: Document, path: KeyPath, raw: dict[str, Any], takers: list[Component], sizes: list[int]
) -> Iterator[Problem]:
    """A scaling rule must give its takers a value that they allow at every batch size; the first where not is told."""
    for key, value in raw.items():
        rule = _space(value)
        taking = [(component, option) for component in takers if (option := component.option(key))]
        if not isinstance(rule, ScalingRule) or not taking:
            continue
        for size in sizes:
            try:
                resolved = rule.resolve(size)
            except ValueError as error:
                yield _at(source, (*path, key), str(error))
                break
            told = [
                f"gives {resolved:.7g} at batch size {size:,}; for {component.name} it {problem}"
                for component, option in taking
                if (problem := option.problem(resolved))
            ]
            yield from (_at(source, (*path, key), sentence) for sentence in told)
            if told:
                break


def _sizes(raw: Any, most: dict[str, int]) -> list[int]:
    """Every batch size asked for, as far as that can be read; most: the training examples of each dataset."""
    if isinstance(raw, dict):
        try:
            return BatchRange.model_validate(raw).sizes(max(most.values(), default=MOST_EXAMPLES))
        except ValidationError:
            return []
    return [size for size in _list(raw) if type(size) is int and size > 0]


_SPACE: TypeAdapter[Any] = TypeAdapter(Space)
_GROWTH: TypeAdapter[Any] = TypeAdapter(Growth | None)


def _space(raw: Any) -> Any:
    """What a metaparameter is given as; None where it cannot be read."""
    try:
        return _SPACE.validate_python(raw)
    except ValidationError:
        return None


def _extremes(raw: Any) -> list[Any]:
    """The values that decide whether a component takes all of a metaparameter's; none where it cannot be read, or where
    they depend on the batch size.
    """
    dimension = _space(raw)
    if dimension is None or isinstance(dimension, ScalingRule):
        return []
    return dimension.extremes() if isinstance(dimension, Dimension) else [dimension]
