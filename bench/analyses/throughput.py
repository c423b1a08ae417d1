"""How fast one ordinary training step is, how much memory it takes, and how far from the hardware's limit it is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.analyses._timing import doubt_notes, shares, timed, waiting_share, where
from bench.conclude.measures import Summary, Timed
from bench.numbers import memory, number, raw, raw_median, seconds, seconds_interval
from bench.table import Table

_COLUMNS = [
    *("batch size", "step time", "examples/s", "of the best", "peak memory", "compute", "memory", "binding"),
    *("first step", "waiting", "energy"),
]
_OPTIONAL = {"waiting", "energy"}
_SPARE = ["first step", "of the best", "memory"]
_TEXT = {"binding"}


def throughput(summaries: Sequence[Summary]) -> list[Table]:
    """Step time, examples a second, peak memory and use of the hardware, a table for each workload that was timed."""
    return [_table(name, timings) for name, timings in timed(summaries, "throughput")]


def _table(name: str, timings: Sequence[Timed]) -> Table:
    best = max((_rate(timing) for timing in timings), default=0.0)
    rows = [_row(timing, best) for timing in timings]
    notes, records = _notes(timings), [_record(timing) for timing in timings]
    table = Table(_title(name, timings), _COLUMNS, rows, set(_COLUMNS) - _TEXT, notes, _SPARE, records)
    return table.without_empty(_OPTIONAL)


def _title(name: str, timings: Sequence[Timed]) -> str:
    content = timings[0].study.content
    how = [content["precision"], *(key for key in ("compile", "channels_last") if content[key])]
    if content["micro_batch"]:
        sizes = {int(size) for timing in timings if (size := timing.median("micro_batch"))}
        how.append(f"micro-batches of {', '.join(f'{size:,}' for size in sorted(sizes)) or content['micro_batch']}")
    if content["input"] == "loader":
        how.append("examples through a DataLoader")
    return (
        f"{name}: a training step; {content['model']}, {content['dataset']}, {content['optimizer']}; {', '.join(how)}"
    )


def _rate(timing: Timed) -> float:
    """Examples a second."""
    return timing.study.batch_size / timing.seconds.median if timing.seconds else 0.0


def _row(timing: Timed, best: float) -> list[str]:
    size, step, used = timing.study.batch_size, timing.seconds, shares(timing)
    peak = memory(max(timing.peak_memory_bytes)) if timing.peak_memory_bytes else ""
    if step is None:
        word = "out of memory" if timing.infeasible else "not measured"
        return [f"{size:,}", word, "", "", peak, *[""] * (len(_COLUMNS) - 5)]
    waiting = _waiting(timing)
    energy = _energy(timing)
    return [
        f"{size:,}",
        seconds_interval(step),
        number(_rate(timing), 4),
        f"{_rate(timing) / best:.0%}",
        peak,
        *([f"{used.compute:.0%}", f"{used.memory:.0%}", used.binding] if used else [""] * 3),
        seconds(timing.median("first_step_seconds") or 0.0),
        "" if waiting is None else f"{waiting:.0%}",
        "" if energy is None else f"{number(energy * 1000)} mJ",
    ]


def _waiting(timing: Timed) -> float | None:
    """The median over processes of the share of a step that waited for its examples."""
    seen = [share for each in timing.processes if each.windows and (share := waiting_share(each)) is not None]
    return statistics.median(seen) if seen else None


def _energy(timing: Timed) -> float | None:
    """Joules an example, where the device tells: what it drew over all windows and what little lies between them."""
    seen = [
        process.once["energy_joules"] / (len(process.windows) * process.once["window_steps"])
        for process in timing.processes
        if process.windows and process.once.keys() >= {"energy_joules", "window_steps"}
    ]
    return statistics.median(seen) / timing.study.batch_size if seen else None


def _notes(timings: Sequence[Timed]) -> list[str]:
    processes = max(len(timing.processes) for timing in timings)
    measured = [timing.seconds for timing in timings if timing.seconds]
    level = f", with its {measured[0].confidence:.0%} interval" if measured and measured[0].confidence else ""
    notes = [
        f"on {where(timings)}.",
        f"step time: median over {processes} fresh processes{level}; compute, memory: shares of what a large matrix "
        "product and a large copy reach here at this precision, memory's from parameters, gradients and optimizer "
        "state alone; peak memory: of the device's allocator, on a CPU the process's growth.",
    ]
    fits = [timing.study.batch_size for timing in timings if timing.seconds]
    too_large = [timing.study.batch_size for timing in timings if timing.infeasible]
    if too_large and fits:
        notes.append(f"the largest batch size tried that fits is {max(fits):,}; {min(too_large):,} does not.")
    return [*notes, *doubt_notes(timings)]


def _record(timing: Timed) -> dict[str, object]:
    used = shares(timing)
    return {
        "batch_size": timing.study.batch_size,
        "infeasible": timing.infeasible,
        "step_seconds": raw_median(timing.seconds),
        "examples_per_second": raw(_rate(timing)) if timing.seconds else None,
        "peak_memory_bytes": max(timing.peak_memory_bytes, default=None),
        "compute_share": used.compute if used else None,
        "memory_share": used.memory if used else None,
        "binding": used.binding if used else None,
        "joules_per_example": _energy(timing),
        "processes": [{"windows": list(process.windows), **process.once} for process in timing.processes],
    }
