"""What probes saw at the two ends of the winner's path; the noise scales have analyses of their own."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.conclude.measures import Summary, by_workload
from bench.numbers import number
from bench.table import Table

_COLUMNS = ["batch size", "reading", "at start", "at end"]
# Estimates that mean something only averaged and divided: see `noise_scale`.
_ELSEWHERE = ("noise_scale.", "curvature_noise.")


def probes(summaries: Sequence[Summary]) -> list[Table]:
    """Each reading at the first and at the last step looked at, medians over seeds, for each workload with any."""
    tables = []
    for name, studies in by_workload(summaries):
        records = [record for summary in studies for record in _records(summary)]
        tables += [_table(name, records)] if records else []
    return tables


def _records(summary: Summary) -> list[dict[str, float | str]]:
    seeds = summary.confirmed.probed if summary.confirmed else ()
    names = sorted({name for seen in seeds for name in seen if not name.startswith(_ELSEWHERE)})
    records: list[dict[str, float | str]] = []
    for name in names:
        paths = [seen[name] for seen in seeds if name in seen]
        records.append(
            {
                "batch_size": summary.study.batch_size,
                "reading": name,
                "start": statistics.median(path[min(path)] for path in paths),
                "end": statistics.median(path[max(path)] for path in paths),
                "seeds": len(paths),
            }
        )
    return records


def _table(name: str, records: list[dict[str, float | str]]) -> Table:
    rows = [
        [
            f"{record['batch_size']:,}",
            str(record["reading"]),
            number(float(record["start"])),
            number(float(record["end"])),
        ]
        for record in records
    ]
    notes = ["along the best trial's path, medians over fresh seeds; the JSON of 'bench show' has the whole paths."]
    return Table(f"{name}: probes", _COLUMNS, rows, {"batch size", "at start", "at end"}, notes, records=records)
