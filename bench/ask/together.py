"""Do the parts of a workload go together? What only its components can say, none of which is imported for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.ask import components
from bench.ask.description import STEP, Component
from bench.ask.document import Document, KeyPath
from bench.ask.located import as_list, at, place_of, shown, unknown
from bench.ask.search import Dimension, ScalingRule, Space, searched
from bench.ask.suite import MOST_EXAMPLES, PARTS, UNITS, BatchRange, Growth, Search, Spec, one_or_more, spec_of
from bench.errors import ComponentError, Problem, nearest
from bench.options import units


def problems(source: Document, here: KeyPath, workload: dict[str, Any]) -> Iterator[Problem]:
    """What only the components can say: their names, options, metaparameters, and how large a batch can be.

    It looks at whatever can be read of a workload, so that what is wrong elsewhere in it hides nothing.
    """
    found: dict[str, list[tuple[Spec, Component]]] = {}
    complete = True
    for key in PARTS:
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
                yield at(source, path, str(error))
            else:
                found[key].append((spec, component))
                yield from _check_options(source, (*path, spec.name), spec, component)
    for position, (spec, dataset) in enumerate(found["dataset"]):
        yield from _check_batch_sizes(source, (*here, "batch_sizes"), workload.get("batch_sizes"), spec, dataset)
        yield from _check_labels(source, here, _spec_path(source, (*here, "dataset"), position), spec, workload)
        yield from _check_unit(source, (*here, "target"), workload.get("target"), dataset)
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
        yield from _check_epochs(source, here, search, found["schedule"], found["dataset"])
        taking = [*(component for _, component in takers), STEP]
        yield from _check_rules(source, (*here, "search"), search, taking, sizes)


def _check_batch_sizes(source: Document, path: KeyPath, raw: Any, spec: Spec, dataset: Component) -> Iterator[Problem]:
    """None may be larger than the training set, nor may the subset of it that is asked for."""
    known, most = dataset.sizes.get("train"), dataset.train_examples(spec.options)
    places: dict[Any, Any] = {"from": raw.get("from")} if isinstance(raw, dict) else dict(enumerate(as_list(raw)))
    for place, size in places.items():
        if most is not None and isinstance(size, int) and size > most:
            message = (
                f"found {size:,}; {spec if most != known else spec.name} has {most:,} training examples to draw from"
            )
            yield at(source, (*path, place), message)
    subset = spec.options.get("subset")
    if known is not None and isinstance(subset, int) and most == known < subset:
        message = f"found the subset {subset:,}; {spec.name} has {known:,} training examples"
        yield at(source, (*path[:-1], "dataset"), message)


def _check_labels(
    source: Document, here: KeyPath, path: KeyPath, spec: Spec, workload: dict[str, Any]
) -> Iterator[Problem]:
    """Labels that are made noisy, or are smoothed, are those of the task."""
    task, search = spec.options.get("task"), workload.get("search")
    if isinstance(search, dict) and "label_smoothing" in search and task is not None:
        message = f"found it and a dataset with task: {task}, which has no labels; leave out one of them"
        yield at(source, (*here, "search", "label_smoothing"), message)
    if "label_noise" in spec.options and task is not None:
        message = f"found it with task: {task}, which has no labels; leave out one of them"
        yield at(source, (*path, spec.name, "label_noise"), message)


def _check_unit(source: Document, path: KeyPath, target: Any, dataset: Component) -> Iterator[Problem]:
    """Bits are those of what the tokens of a text are: a character of several bytes has the bits of all of them."""
    rights = [name for name, unit in UNITS.items() if unit.tokens and unit.tokens == dataset.tokens]
    for stated in target if isinstance(target, dict) and rights else ():
        if stated in UNITS and UNITS[stated].tokens not in (None, dataset.tokens):
            message = f"the tokens of {dataset.name} are {dataset.tokens}; give {rights[0]}"
            yield at(source, (*path, stated), message)


def _check_ghost_batch(
    source: Document, path: KeyPath, spec: Spec, workload: dict[str, Any], sizes: list[int]
) -> Iterator[Problem]:
    """What is normalised together, of a device's share, is cut into whole ghost batches, or is no larger than one."""
    ghost = spec.options.get("ghost_batch")
    if spec.options.get("norm") != "ghost" or type(ghost) is not int or ghost < 1:
        return
    counts = [count for count in one_or_more(workload.get("devices", 1)) if type(count) is int and count > 0]
    parts = one_or_more(workload.get("micro_batch"))
    for size, count, micro_batch in itertools.product(sizes, counts, parts):
        if size % count:
            continue
        share = size // count
        part = min(share, micro_batch) if type(micro_batch) is int and micro_batch > 0 else share
        uneven = next((each for each in (part, share % part) if each > ghost and each % ghost), None)
        if uneven or (workload.get("growth") and size % ghost):
            of_it = f", of which {uneven:,} pass at once" if uneven not in (None, size) else ""
            message = f"found {ghost:,}, which does not divide the batch size {size:,}{of_it}"
            yield at(source, (*path, spec.name, "ghost_batch"), message)
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
            yield at(source, path, message)
    if timed := [measure for measure in as_list(workload.get("measure")) if measure in ("throughput", "inference")]:
        message = f"found growth where {timed[0]} is measured, of a step whose batch stays; leave out one of them"
        yield at(source, path, message)


def _check_devices(source: Document, here: KeyPath, workload: dict[str, Any], sizes: list[int]) -> Iterator[Problem]:
    """Several devices share a batch evenly, and a trial that has them trains by itself."""
    counts = [count for count in one_or_more(workload.get("devices", 1)) if isinstance(count, int) and count > 1]
    if not counts:
        return
    for count in counts:
        uneven = next((size for size in sizes if size % count), None)
        if uneven:
            message = f"found {count}, which cannot share a batch of {uneven:,} evenly"
            yield at(source, (*here, "devices"), message)
    if workload.get("training") == "stacked":
        message = "found training: stacked, which trains many trials on one device; on several, leave it out"
        yield at(source, (*here, "devices"), message)
    if workload.get("growth"):
        yield at(source, (*here, "devices"), "found growth; a batch that grows is trained on one device")
    if workload.get("input") == "loader":
        yield at(source, (*here, "devices"), "found input: loader; several devices have their examples on them")
    if "inference" in as_list(workload.get("measure")):
        yield at(source, (*here, "devices"), "found inference among what is measured; it is timed on one device")


def _check_needs(source: Document, here: KeyPath, workload: dict[str, Any]) -> Iterator[Problem]:
    """What only some measures need."""
    measures = workload.get("measure", ["steps_to_target"])
    if isinstance(measures, list) and "steps_to_target" in measures:
        for key in ("target", "max_steps"):
            if key not in workload:
                yield at(source, here, f"has no '{key}'; to measure steps to target a workload needs one")
        search, target = workload.get("search"), workload.get("target")
        averaged = isinstance(search, dict) and "ema" in search
        for reading in target if isinstance(target, dict) and not averaged else ():
            if str(reading).startswith("ema_"):
                message = "found no 'ema' under 'search', which asks for the average that it reads: {ema: 0.99}"
                yield at(source, (*here, "target", reading), message)
    elif isinstance(workload.get("probes"), dict) and workload["probes"]:
        message = "found probes and no steps_to_target among what is measured; probes look at its confirmations"
        yield at(source, (*here, "probes"), message)


def _check_decay(
    source: Document, here: KeyPath, workload: dict[str, Any], optimizers: list[tuple[Spec, Component]]
) -> Iterator[Problem]:
    """What leaves some parameters without decay needs some decay."""
    if "matrices" not in one_or_more(workload.get("decay")):
        return
    search = workload.get("search")
    for spec, component in optimizers:
        given = {**spec.options, **(search if isinstance(search, dict) else {})}.get("weight_decay")
        if component.option("weight_decay") is None:
            message = f"found matrices; {component.name} has no weight_decay, so leave it out"
            yield at(source, (*here, "decay"), message)
        elif not given:
            message = f"found matrices and no weight_decay for {component.name}; give one under 'search', such as 0.01"
            yield at(source, (*here, "decay"), message)


def _check_probes(source: Document, here: KeyPath, workload: dict[str, Any]) -> Iterator[Problem]:
    probes, confirm = workload.get("probes"), workload.get("confirm")
    if not isinstance(probes, dict) or not probes:
        return
    if isinstance(confirm, dict) and confirm.get("seeds") == 0:
        message = "found probes and confirm: {seeds: 0}; probes look at the confirmations, so ask for one seed or more"
        yield at(source, (*here, "probes"), message)
    for name, options in probes.items():
        path = (*here, "probes", name)
        try:
            component = components.find("probes", str(name))
        except ComponentError as error:
            yield at(source, path, str(error))
        else:
            given = options if isinstance(options, dict) else {}
            yield from _check_options(source, path, Spec(name=str(name), options=given), component)
            yield from _check_two_batches(source, path, component.with_defaults(given))


def _check_two_batches(source: Document, path: KeyPath, options: dict[str, Any]) -> Iterator[Problem]:
    """A probe of a large batch and of its small parts has nothing to compare where there is one part."""
    small, large = options.get("small"), options.get("large")
    if type(small) is int and type(large) is int and 0 < large < 2 * small:
        yield at(source, path, f"found small {small} and large {large}; large should be twice small or more")


def _spec_path(source: Document, path: KeyPath, position: int) -> KeyPath:
    placed = place_of(source, path)
    return (*path, position) if (*placed, position) in source.lines else path


def _check_options(source: Document, path: KeyPath, spec: Spec, component: Component) -> Iterator[Problem]:
    for key, value in spec.options.items():
        option = component.option(key)
        if option is None:
            known = [option.name for option in component.options]
            yield at(source, (*path, key), f"unknown option of {component.name}; {nearest(key, known)}")
        elif problem := option.problem(value):
            yield at(source, (*path, key), f"found {shown(value)}; {problem}")
    if component.kind in ("models", "datasets"):
        for option in component.options:
            if option.required and option.name not in spec.options:
                yield at(source, path, f"{component.name} has no '{option.name}'; it needs one")


def _check_search(
    source: Document, path: KeyPath, raw: dict[str, Any], takers: list[tuple[Spec, Component]], complete: bool
) -> Iterator[Problem]:
    """A metaparameter must be one of some component listed, and each component must get those it requires.

    Where a component could not be found (`complete` is false), nothing is said of keys that might be its.
    """
    for key in raw.keys() - Search.model_fields.keys():
        able = [*(component for _, component in takers), STEP]
        taking = [(component, option) for component in able if (option := component.option(key))]
        if not taking and complete:
            known = sorted(
                {option.name for component in able for option in component.options} | set(Search.model_fields)
            )
            named = ", ".join(component.name for _, component in takers)
            yield at(source, (*path, key), unknown(key, known, f" metaparameter of {named}"))
        for value in _extremes(raw[key]):
            for component, option in taking:
                if problem := option.problem(value):
                    if isinstance(value, float) and value.is_integer() and not option.problem(int(value)):
                        problem = "should be whole numbers, as in {integer: [low, high]}"
                    yield at(source, (*path, key), f"found {shown(value)}; for {component.name} it {problem}")
    refine = raw.get("refine")
    if type(refine) is int and refine > 0 and not searched({key: _space(value) for key, value in raw.items()}):
        message = f"found {refine:,} and no metaparameter with a range; there is nothing to refine, so leave it out"
        yield at(source, (*path, "refine"), message)
    for spec, component in takers:
        for option in component.options:
            given = [name for name in units(option.name) if name in raw or name in spec.options]
            if option.required and not given:
                yield at(source, path, f"has no '{option.name}'; {component.name} needs one")
            if len(given) > 1:
                yield at(source, path, f"found {' and '.join(given)} for {spec.name}; give one of them")
            if option.name in raw and option.name in spec.options:
                yield at(source, (*path, option.name), f"given here and as an option of {spec.name}; give it once")


def _check_epochs(
    source: Document,
    here: KeyPath,
    search: dict[str, Any],
    schedules: list[tuple[Spec, Component]],
    datasets: list[tuple[Spec, Component]],
) -> Iterator[Problem]:
    """What is given in epochs needs datasets that say how many training examples they have."""
    unknown = next((spec.name for spec, dataset in datasets if dataset.train_examples(spec.options) is None), None)
    for spec, component in schedules if unknown else ():
        named = [(*here, "search", name) for name in component.done_by_harness(search)]
        named += [(*here, "schedule", spec.name, name) for name in component.done_by_harness(spec.options)]
        for path in named:
            if str(path[-1]).endswith("_epochs"):
                instead = f"{str(path[-1]).removesuffix('_epochs')}_examples"
                message = f"{unknown} does not say how many training examples it has; give {instead}"
                yield at(source, path, message)


def _check_rules(
    source: Document, path: KeyPath, raw: dict[str, Any], takers: list[Component], sizes: list[int]
) -> Iterator[Problem]:
    """A scaling rule must give its takers what they allow at every batch size; the first where it does not is told."""
    for key, value in raw.items():
        rule = _space(value)
        taking = [(component, option) for component in takers if (option := component.option(key))]
        if not isinstance(rule, ScalingRule) or not taking:
            continue
        for size in sizes:
            try:
                resolved = rule.resolve(size)
            except ValueError as error:
                yield at(source, (*path, key), str(error))
                break
            values = resolved.extremes() if isinstance(resolved, Dimension) else [resolved]
            told = [
                f"gives {given:.7g} at batch size {size:,}; for {component.name} it {problem}"
                for given in values
                for component, option in taking
                if (problem := option.problem(given))
            ]
            yield from (at(source, (*path, key), sentence) for sentence in told)
            if told:
                break


def _sizes(raw: Any, most: dict[str, int]) -> list[int]:
    """Every batch size asked for, as far as that can be read; most: the training examples of each dataset."""
    if isinstance(raw, dict):
        try:
            return BatchRange.model_validate(raw).sizes(max(most.values(), default=MOST_EXAMPLES))
        except ValidationError:
            return []
    return [size for size in as_list(raw) if type(size) is int and size > 0]


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
