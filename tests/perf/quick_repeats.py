"""Repeats the quick study with fresh seeds, and says how often its intervals cover; and looks at it more or less often.

    python tests/perf/quick_repeats.py FOLDER --repeats 40         # coverage: fresh names, and so fresh seeds
    python tests/perf/quick_repeats.py FOLDER --grids              # the same seeds, evaluated differently

A number's pooled value is the median of all repeats' estimates: no repeat knows it, and there is no other truth.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import yaml

from bench.analyses.advice import advice
from bench.conclude.curve_fit import fit_curve
from bench.conclude.measures import summaries
from bench.conclude.points import curve_of
from bench.keep.archive import Archive
from bench.prove.studies import measured, planned

QUICK = Path(__file__).parents[2] / "suites" / "quick.yaml"
GRIDS = {"cost 0.06": 0.06, "cost 0.3": 0.3, "cost 1": 1, "cost 4": 4, "every step": None}


def suite(name: str, cost: float | None = 4.0) -> str:
    """The quick suite's study under a name of its own; every step is evaluated where there is no cost."""
    content = yaml.safe_load(QUICK.read_text())
    (workload,) = content["workloads"]
    workload |= {"name": name, "evaluate": {"cost": cost} if cost else {"resolution": 1e-6, "cost": 1e6}}
    workload = {key: value for key, value in workload.items() if key not in ("measure", "timing", "probes")}
    return yaml.safe_dump({"suite": "quick", "workloads": [workload]})


def numbers(path: Path) -> Iterator[tuple[str, float, float, float]]:
    """(what, value, low, high) of all that an archive states with an interval."""
    with Archive.reading(path) as archive:
        rows = summaries(archive)
    for row in rows:
        steps = row.confirmed.steps
        yield f"steps at {row.study.batch_size}", steps.median, steps.low, steps.high
    fitted = fit_curve(curve_of(rows))
    for name in ("minimum_steps", "minimum_examples", "critical_batch"):
        found = getattr(fitted, name)
        yield name, found.value, found.low, found.high


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--grids", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.grids:
        for name in ("digits-mlp-sgd", "second", "third"):
            for place, (grid, cost) in enumerate(GRIDS.items()):
                path = asked.folder / f"{name}-{place}.sqlite"
                measured(planned(suite(name, cost)), path=path)
                told = "; ".join(
                    f"{what} {value:.4g} [{low:.4g}, {high:.4g}]" for what, value, low, high in numbers(path)
                )
                with Archive.reading(path) as archive:
                    notes = [note for table in advice(summaries(archive)) for note in table.notes]
                print(f"{name}, {grid}: {told}\n    {' '.join(notes)}", flush=True)
        return
    found: dict[str, list[tuple[float, float, float]]] = {}
    for repeat in range(asked.repeats):
        path = asked.folder / f"repeat-{repeat}.sqlite"
        measured(planned(suite(f"repeat-{repeat}")), path=path)
        for what, *rest in numbers(path):
            found.setdefault(what, []).append(tuple(rest))
    print(f"| of {asked.repeats} repeats | pooled | sd of log | covers | width, high/low |\n|---|--:|--:|--:|--:|")
    for what, each in found.items():
        pooled = statistics.median(value for value, _, _ in each if not math.isnan(value))
        logs = [math.log(value) for value, _, _ in each if 0 < value < math.inf]
        covers = sum(low <= pooled <= high for _, low, high in each)
        width = statistics.median(high / low if low > 0 else math.inf for _, low, high in each)
        print(f"| {what} | {pooled:.4g} | {statistics.stdev(logs):.2f} | {covers}/{len(each)} | {width:.2f} |")


if __name__ == "__main__":
    main()
