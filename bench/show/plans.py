"""What a plan asks for and how long it takes, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.ask.forecast import forecast, step_seconds
from bench.ask.plan import Plan, Study, Timing, Workload
from bench.ask.suite import Entry, Search
from bench.conclude.measures import summaries
from bench.errors import BenchError
from bench.keep.archive import Archive
from bench.numbers import seconds
from bench.table import Table


def forecast_table(studies: Sequence[Study], archive: Archive, devices: int) -> Table:
    """How long studies, in the order in which they are begun, take at most on so many devices, from the step times that
    an archive holds of their workloads as they now are; those without one are named. Raises BenchError where there are
    no studies, one takes more devices than there are, or no step time is held.
    """
    if not studies:
        raise BenchError("--devices: the suite trains nothing; without it the plan says what is timed")
    if wide := [study.workload for study in studies if study.workload.devices > devices]:
        widest = max(wide, key=lambda workload: workload.devices)
        raise BenchError(
            f"--devices: found {devices:,}; a study of {widest.name} takes {widest.devices:,} at once, so as many or "
            "more would be right"
        )
    held = {
        row.timed.study.id: row.timed.seconds.median for row in summaries(archive) if row.timed and row.timed.seconds
    }
    workloads = {study.workload.name: study.workload for study in studies}
    known = {name: _timed(workload, held) for name, workload in workloads.items()}
    alone = {name: _timed(replace(workload, devices=1), held) for name, workload in workloads.items()}
    steps = [(study, _step_seconds(study, known[study.workload.name], alone[study.workload.name])) for study in studies]
    timed = [(study, step) for study, step in steps if step is not None]
    unknown = dict.fromkeys(study.workload.name for study, step in steps if step is None)
    if not timed:
        raise BenchError(f"{archive.path}: holds no step time of {', '.join(unknown)}; measure it with 'bench time'")
    made = forecast(((study.most_steps * step, study.workload.devices) for study, step in timed), devices)
    notes = [
        "For as many steps as the plan has at most, each as long as it was timed, with its devices to itself (on a CPU "
        "all cores, where a study has one); evaluation is not counted. No schedule ends before the least."
    ]
    if split := dict.fromkeys(study.workload.name for study, _ in timed if not known[study.workload.name]):
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


def _timed(workload: Workload, held: Mapping[str, float]) -> dict[int, float]:
    """The seconds of a workload's step by batch size, of those held, which are by the ids of timings."""
    timings = [Timing(workload, size, "throughput") for size in workload.batch_sizes()]
    return {timing.batch_size: held[timing.id] for timing in timings if timing.id in held}


def _step_seconds(study: Study, known: Mapping[int, float], alone: Mapping[int, float]) -> float | None:
    """A step of a study, from those known of its workload; else one of a device's part, from those of the same workload
    on one device alone.
    """
    if known:
        return step_seconds(known, study.batch_size)
    return step_seconds(alone, study.batch_size / study.workload.devices) if alone else None


def _searched(search: Search) -> str:
    return f"{search.trials:,} + {search.refine:,}" if search.refine else f"{search.trials:,}"


def _confirmed(entry: Entry) -> str:
    return f"{entry.candidates:,} x {entry.confirm.seeds:,}" if entry.confirmations else "0"


def plan_tables(plan: Plan) -> list[Table]:
    """Every study with what it can cost at most, and every trial with what it draws."""
    devices = ["devices"] if any(workload.devices > 1 for workload in plan.workloads) else []
    studies = Table(
        f"{plan.suite.name}: {len(plan.studies)} studies",
        ["study", "workload", *devices, "batch size", "trials", "confirmations", "steps at most", "examples at most"],
        [
            [
                study.id,
                study.workload.name,
                *(f"{study.workload.devices:,}" for _ in devices),
                f"{study.batch_size:,}",
                _searched(study.workload.entry.search),
                _confirmed(study.workload.entry),
                f"{study.most_steps:,}",
                f"{study.most_steps * study.batch_size:,}",
            ]
            for study in plan.studies
        ],
        {*devices, "batch size", "trials", "confirmations", "steps at most", "examples at most"},
        [
            "At most: each trial diverges at its last step and is replaced, and each confirmation misses.",
            "confirmations: the best trials of the search x fresh seeds.",
        ],
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
                timing.measure,
                f"{timing.workload.entry.timing.processes:,}",
                f"{2 * timing.workload.entry.timing.seconds * timing.workload.entry.timing.processes:g}",
            ]
            for timing in plan.timings
        ],
        {*devices, "batch size", "processes", "seconds at most"},
        ["At most: warm-up and windows; a few windows of steps that take longer than that are timed all the same."],
    )
    return [table for table in (studies, trials, timings) if table.rows]
