"""Everything an archive shows, as one JSON document or as flat rows. Missing values are null, never a stand-in."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, get_args

from bench.analyses._show import raw_median, seconds
from bench.analyses.critical_batch import power_law_table, table_of
from bench.ask import components
from bench.ask.forecast import forecast, step_seconds
from bench.ask.plan import Plan, Study, apart_from_devices
from bench.conclude.measures import Summary, stated_target, summaries
from bench.conclude.points import Curve, curve_of
from bench.conclude.scaling import fit_curve
from bench.conclude.sides import record, sample_of
from bench.errors import BenchError, ComponentError, nearest
from bench.events import Outcome
from bench.keep.archive import Archive
from bench.show import terminal
from bench.table import Format as TableFormat
from bench.table import Table, harmless, plain

Format = TableFormat | Literal["csv", "json"]


def document(archive: Archive) -> dict[str, Any]:
    """{"suite", "environment", "workloads": [{"name", ..., "studies": [...]}]}; `environment` is a list where a suite
    was measured in more than one. Under "raw" a study has what a comparison reads of it, as in a baseline.
    """
    environments = list(archive.environments().values())
    rows = summaries(archive)
    return {
        "suite": archive.suite_name(),
        "environment": environments[0] if len(environments) == 1 else environments or None,
        "workloads": [
            _workload(name, list(group), environments)
            for name, group in groupby(rows, key=lambda row: row.study.workload)
        ],
    }


def as_json(archive: Archive, analysis: str | None = None) -> str:
    """The document, and under "analyses" what each concludes: {name: [{"title", "records", "notes"}]}."""
    found = _concluded(summaries(archive), analysis)
    analyses = {name: [_raw(table) for table in tables if table.records] for name, tables in found.items()}
    whole = {**document(archive), "analyses": {name: raw for name, raw in analyses.items() if raw}}
    return json.dumps(whole, indent=2, allow_nan=False)


def _raw(table: Table) -> dict[str, Any]:
    return {"title": table.title, "records": table.records, "notes": table.notes}


_SINGLE = ("examples_to_target", "test_error", "train_seconds", "peak_memory_bytes")
_TIMES, _ENDS = ("step_seconds", "seconds_to_target", "latency_seconds"), ("median", "low", "high")


def as_csv(archive: Archive) -> str:
    """A row a study, the JSON document's values under dotted names; the same columns whatever the outcome was."""
    rows = []
    searched = sorted({name for row in summaries(archive) for name in row.study.content.get("space", {})})
    for workload in document(archive)["workloads"]:
        for study in workload["studies"]:
            outcomes = {f"outcomes.{name}": study["outcomes"].get(name, 0) for name in get_args(Outcome)}
            steps = {f"steps_to_target.{name}": value for name, value in study["steps_to_target"].items()}
            best = {f"best.{name}": (study["best"] or {}).get(name) for name in searched}
            edges = {"at_edge": " ".join(f"{name}:{edge}" for name, edge in (study["at_edge"] or {}).items())}
            single = {name: study[name] for name in ("batch_size", "status", *_SINGLE)}
            times = {f"{name}.{end}": (study[name] or {}).get(end) for name in _TIMES for end in _ENDS}
            row = {
                "suite": archive.suite_name(),
                "workload": workload["name"],
                "devices": workload["devices"],
                **single,
                **outcomes,
                **steps,
                **times,
                **best,
            }
            rows.append(row | edges)
    return _csv(rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows under the names of all of them; a row that lacks one has an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: harmless(value) for name, value in row.items()} for row in rows])
    return plain(text.getvalue().rstrip("\n"))


def _workload(name: str, rows: Sequence[Summary], environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    content = rows[0].study.content
    described = {key: content[key] for key in ("model", "dataset", "optimizer", "schedule")}
    described["devices"] = rows[0].study.devices
    target = stated_target(content) if rows[0].trained else None
    described |= {"growth": content["growth"]} if rows[0].grows else {}
    return {"name": name, **described, "target": target, "studies": [_study(row, environments) for row in rows]}


def _study(row: Summary, environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found, confirmed = row.found, row.confirmed
    steps = confirmed.steps if confirmed else None
    return {
        "batch_size": row.study.batch_size,
        "status": row.status,
        "outcomes": row.outcomes,
        "steps_to_target": {
            "search": found.steps if found else None,
            "median": _number(steps.median) if steps else None,
            "low": _number(steps.low) if steps else None,
            "high": _number(steps.high) if steps else None,
            "confidence": steps.confidence if steps else None,
            "reached": confirmed.reached if confirmed else None,
            "seeds": confirmed.seeds if confirmed else None,
            "budget": confirmed.budget if confirmed else None,
            "resolution": found.resolution if found else None,
        },
        "examples_to_target": _number(row.examples_to_target),
        "best": found.metaparameters if found else None,
        "at_edge": found.at_edge if found else None,
        "test_error": confirmed.test_error if confirmed else None,
        "probes": [_paths(seen) for seen in confirmed.probed] if confirmed else [],
        "train_seconds": row.train_seconds,
        "step_seconds": raw_median(row.timed.seconds if row.timed else None),
        "seconds_to_target": raw_median(row.seconds_to_target),
        "peak_memory_bytes": max(row.timed.peak_memory_bytes, default=None) if row.timed else None,
        "latency_seconds": raw_median(row.inference.seconds if row.inference else None),
        "raw": record(sample_of(row), environments),
    }


def _paths(seen: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, list[float]]]:
    """What probes saw of one seed: {reading: {"steps", "values"}}."""
    return {name: {"steps": list(path), "values": [path[step] for step in path]} for name, path in sorted(seen.items())}


def _number(value: float | None) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else value


# What was measured stands first and what to do about it last; the others between them, by name.
_FIRST, _LAST = ["steps_to_target"], ["advice"]


def analyses() -> list[str]:
    """The names of the analyses, in the order in which they are shown."""
    between = [name for name in components.names("analyses") if name not in (*_FIRST, *_LAST)]
    return [*_FIRST, *between, *_LAST]


def tables(archive: Archive, analysis: str | None = None) -> list[Table]:
    """What an analysis makes of the archive, or each of bench's own that applies, as tables for people; raises
    ComponentError where there is no analysis of that name. One from outside bench is only run where it is named.
    """
    return [table for found in _concluded(summaries(archive), analysis).values() for table in found]


def _concluded(rows: Sequence[Summary], analysis: str | None) -> dict[str, list[Table]]:
    if analysis and ":" not in analysis and analysis not in (known := components.known("analyses")):
        raise ComponentError(f"found no analysis '{analysis}'; {nearest(analysis, known)}")
    names = [analysis] if analysis else analyses()
    return {name: _analysed(name, rows) for name in names}


def _analysed(name: str, rows: Sequence[Summary]) -> list[Table]:
    """What an analysis makes of the rows; raises ComponentError where one from outside bench fails."""
    component = components.find("analyses", name)
    analyse = component.load()
    if not component.source:
        return list(analyse(rows))
    try:
        found = list(analyse(rows))
    except Exception as error:
        raise ComponentError(f"{name} ({component.origin}) failed: {type(error).__name__}: {error}") from error
    if not all(isinstance(table, Table) for table in found):
        raise ComponentError(f"{name} ({component.origin}) gave something else; an analysis gives a list of Table")
    return found


def pictures(archive: Archive, width: int) -> list[str]:
    """Steps to target against batch size as text, for each workload that was measured."""
    groups = groupby(summaries(archive), key=lambda row: row.study.workload)
    curves = [curve_of(list(group)) for _, group in groups]
    if not any(curve.points for curve in curves):
        raise BenchError(f"{archive.path}: holds nothing to draw, since no steps to target were measured")
    return [terminal.drawn(curve, width) for curve in curves if curve.points]


def fit_tables(curves: Sequence[Curve], overhead: float, reference: float | None) -> list[Table]:
    """The critical batch size of each curve, and where they have a size, its power law.

    reference: see `fit_curve`, one for all curves, for they are compared; where none is given, the largest of the
    curves' smallest batch sizes.
    """
    reference = reference or max(curve.points[0].batch_size for curve in curves)
    fits = [fit for curve in curves if (fit := fit_curve(curve, overhead, reference))]
    found = [table_of(fit) for fit in fits]
    sized = [(fit.curve.size, fit) for fit in fits if fit.curve.size is not None]
    if len({size for size, _ in sized}) > 1:
        found.append(power_law_table(sized))
    return found


def rendered(found: Sequence[Table], output: Format, width: int | None) -> str:
    """Tables one after the other; as JSON their records, as CSV their cells under a column that names the table."""
    if output == "json":
        return json.dumps([_raw(table) for table in found], indent=2, allow_nan=False)
    if output == "csv":
        rows = [
            {"table": table.title, **dict(zip(table.columns, row, strict=True))}
            for table in found
            for row in table.rows
        ]
        return _csv(rows)
    return "\n\n".join(table.render(output, width) for table in found)


def forecast_table(studies: Sequence[Study], archive: Archive, devices: int) -> Table:
    """How long studies, in the order in which they are begun, take at most on so many devices, from the step times that
    an archive holds of their workloads; those without one are named. Raises BenchError where one takes more devices
    than there are, or no step time is held.
    """
    if wide := [study.workload for study in studies if study.workload.devices > devices]:
        widest = max(wide, key=lambda workload: workload.devices)
        raise BenchError(
            f"--devices: found {devices:,}; a study of {widest.name} takes {widest.devices:,} at once, so as many or "
            "more would be right"
        )
    known: dict[str, dict[int, float]] = {}
    for row in summaries(archive):
        if row.timed and row.timed.seconds:
            known.setdefault(row.study.workload, {})[row.study.batch_size] = row.timed.seconds.median
    steps = [(study, _step_seconds(study, known)) for study in studies]
    timed = [(study, step) for study, step in steps if step is not None]
    unknown = dict.fromkeys(study.workload.name for study, step in steps if step is None)
    if not timed:
        raise BenchError(f"{archive.path}: holds no step time of {', '.join(unknown)}; measure it with 'bench time'")
    made = forecast(((study.most_steps * step, study.workload.devices) for study, step in timed), devices)
    notes = [
        "For as many steps as the plan has at most, each as long as it was timed, with its devices to itself (on a CPU "
        "all cores, where a study has one); evaluation is not counted. No schedule ends before the least."
    ]
    if split := dict.fromkeys(study.workload.name for study, _ in timed if study.workload.name not in known):
        notes.append(
            "step time not known, and taken to be that of its part of the batch on one device, without communication "
            f"('bench time' measures it): {', '.join(split)}"
        )
    if unknown:
        notes.append(f"left out, since their step time is not known ('bench time' measures it): {', '.join(unknown)}")
    columns = ["ends after", "least", "devices used", "device time", "longest study"]
    return Table(
        f"{len(timed):,} studies on {devices:,} devices",
        columns,
        [
            [
                seconds(made.makespan_seconds),
                seconds(made.least_seconds),
                f"{made.utilisation:.0%}",
                seconds(made.device_seconds),
                seconds(made.longest_seconds),
            ]
        ],
        set(columns),
        notes,
    )


def _step_seconds(study: Study, known: Mapping[str, Mapping[int, float]]) -> float | None:
    """A step of a study, from those timed of its workload; else one of a device's part, from those of the same workload
    on one device.
    """
    name, devices = study.workload.name, study.workload.devices
    if name in known:
        return step_seconds(known[name], study.batch_size)
    alone = known.get(f"{apart_from_devices(name, devices)}-devices=1")
    return step_seconds(alone, study.batch_size / devices) if alone else None


def plan_tables(plan: Plan) -> list[Table]:
    """Every study with what it can cost at most, and every trial with what it draws."""
    devices = ["devices"] if any(workload.devices > 1 for workload in plan.workloads) else []
    studies = Table(
        f"{plan.suite.name}: {len(plan.studies)} studies",
        ["study", "workload", *devices, "batch size", "trials", "seeds", "steps at most", "examples at most"],
        [
            [
                study.id,
                study.workload.name,
                *(f"{study.workload.devices:,}" for _ in devices),
                f"{study.batch_size:,}",
                f"{study.workload.entry.search.trials:,}",
                f"{study.workload.entry.confirm.seeds:,}",
                f"{study.most_steps:,}",
                f"{study.most_steps * study.batch_size:,}",
            ]
            for study in plan.studies
        ],
        {*devices, "batch size", "trials", "seeds", "steps at most", "examples at most"},
        ["At most: each trial diverges at its last step and is replaced, and each confirmation misses."],
    )
    trials = Table(
        "trials of the search",
        ["trial", "workload", "batch size", "number", "steps at most", "examples at most", "metaparameters"],
        [
            [
                trial.id,
                study.workload.name,
                f"{study.batch_size:,}",
                str(trial.number),
                f"{trial.max_steps:,}",
                f"{trial.max_steps * study.batch_size:,}",
                ", ".join(
                    f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in trial.metaparameters.items()
                ),
            ]
            for study in plan.studies
            for trial in study.draws()[: study.workload.entry.search.trials]
        ],
        {"batch size", "number", "steps at most", "examples at most"},
    )
    timings = Table(
        "timings",
        ["study", "workload", *devices, "batch size", "what", "processes", "seconds at most"],
        [
            [
                timing.id,
                timing.workload.name,
                *(f"{timing.workload.devices:,}" for _ in devices),
                f"{timing.batch_size:,}",
                timing.what,
                f"{timing.workload.entry.timing.processes:,}",
                f"{2 * timing.workload.entry.timing.seconds * timing.workload.entry.timing.processes:g}",
            ]
            for timing in plan.timings
        ],
        {*devices, "batch size", "processes", "seconds at most"},
        ["At most: warm-up and windows; a few windows of steps that take longer than that are timed all the same."],
    )
    return [table for table in (studies, trials, timings) if table.rows]
