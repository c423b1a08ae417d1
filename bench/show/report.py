"""Everything an archive shows, as one JSON document or as flat rows. Missing values are null, never a stand-in."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from bench.analyses.critical_batch import power_law_table, table_of
from bench.ask import components
from bench.conclude.curve_fit import fit_curve
from bench.conclude.measures import Summary, by_workload, stated_target, summaries
from bench.conclude.points import Curve, curve_of
from bench.conclude.sides import record, sample_of
from bench.errors import BenchError, ComponentError, nearest
from bench.events import Outcome
from bench.keep.archive import Archive
from bench.numbers import raw_median
from bench.show import terminal
from bench.table import Format as TableFormat
from bench.table import Table, harmless, plain

Format = TableFormat | Literal["csv", "json"]


def document(archive: Archive) -> dict[str, Any]:
    """{"suite", "environment", "workloads": [{"name", ..., "studies": [...]}]}; `environment` is a list where a suite
    was measured in more than one. Under "raw" a study has what a comparison reads of it, as in a baseline.
    """
    environments = list(archive.environments().values())
    return {
        "suite": archive.suite_name(),
        "environment": environments[0] if len(environments) == 1 else environments or None,
        "workloads": [_workload(group, environments) for _, group in by_workload(summaries(archive), timed=True)],
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


def _workload(rows: Sequence[Summary], environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    content = rows[0].study.content
    described = {key: content[key] for key in ("model", "dataset", "optimizer", "schedule")}
    described["devices"] = rows[0].study.devices
    target = None
    if rows[0].trained:
        reading, threshold = stated_target(content)
        target = {reading: threshold.bound()}
    described |= {"growth": content["growth"].model_dump(exclude_none=True)} if rows[0].grows else {}
    return {
        "name": rows[0].study.workload,
        **described,
        "target": target,
        "studies": [_study(row, environments) for row in rows],
    }


def _study(row: Summary, environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found, confirmed = row.found, row.confirmed
    steps = confirmed.steps if confirmed else None
    return {
        "batch_size": row.study.batch_size,
        "status": row.status,
        "outcomes": row.outcomes,
        "steps_to_target": {
            "rule": row.rule if row.trained else None,
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
        "best": row.best,
        "at_edge": row.at_edge if row.best else None,
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
    if not component.origin:
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
    curves = [curve_of(rows) for _, rows in by_workload(summaries(archive))]
    if not any(curve.points for curve in curves):
        raise BenchError(f"{archive.path}: holds nothing to draw, since no steps to target were measured")
    return [terminal.drawn(curve, width) for curve in curves if curve.points]


def fit_tables(curves: Sequence[Curve], overhead: float, reference: float | None) -> list[Table]:
    """The critical batch size of each curve, and where they have sizes, its power law.

    reference: see `fit_curve`, one for all curves, for they are compared; where none is given, the largest of the
    curves' smallest batch sizes.
    """
    reference = reference or max(curve.points[0].batch_size for curve in curves)
    found = [table for curve in curves if (table := table_of(curve, overhead, reference))]
    fits = [fit for curve in curves if curve.sizes and (fit := fit_curve(curve, overhead, reference))]
    if len({fit.curve.sizes for fit in fits}) > 1:
        found.append(power_law_table(fits))
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
