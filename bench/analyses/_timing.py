"""What the analyses of timings have in common: shares of the hardware's limits, and reasons to doubt a time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from bench.ask.plan import TimedMeasure
from bench.ask.suite import TimingOptions
from bench.conclude.measures import Process, Summary, Timed, by_workload

# What a time depends on, of an environment.
_WHERE = ("device", "threads", "torch", "node")
# What a share is made of; what was timed elsewhere may be without.
_LIMITS = {
    *("operations", "parameter_bytes", "gradient_bytes", "state_bytes"),
    *("product_operations_per_second", "copy_bytes_per_second"),
}
# Above these a time is doubted.
_OTHERS_SHARE = 0.1
_APART = 0.05
_WAITING = 0.1
# Ten standard deviations, were windows Gaussian, in median absolute deviations; and a distance that matters.
_OUTLYING, _OUTLYING_SHARE = 14.826, 0.1
# A limit that is used by less than this is not what holds a step up.
_BINDS = 0.2


def timed(summaries: Sequence[Summary], what: TimedMeasure) -> Iterator[tuple[str, list[Timed]]]:
    """(title, its timings) of each workload that was timed so."""
    for name, rows in by_workload(summaries, timed=True):
        found = [row.timed if what == "throughput" else row.inference for row in rows]
        timings = [each for each in found if each is not None]
        if timings:
            yield name, timings


class Shares(NamedTuple):
    """Of what a large product and a large copy reach on the device, the shares that a step does; and which binds."""

    compute: float
    memory: float

    @property
    def binding(self) -> Literal["compute", "memory", "neither"]:
        if max(self) < _BINDS:
            return "neither"
        return "compute" if self.compute >= self.memory else "memory"


def shares(timing: Timed) -> Shares | None:
    """None where nothing was timed.

    A step must at least read its parameters forward and backward, write and read their gradients, and read and write
    parameters and optimizer state; a forward pass must read its parameters. What layers hand to one another comes on
    top and is not counted: memory's share is a lower bound.
    """
    found = [
        _shares(timing, process) for process in timing.processes if process.windows and process.once.keys() >= _LIMITS
    ]
    if not found:
        return None
    return Shares(*(statistics.median(values) for values in zip(*found, strict=True)))


def _shares(timing: Timed, process: Process) -> Shares:
    once, step = process.once, process.step_seconds
    moved = once["parameter_bytes"]
    if timing.study.measure == "throughput":
        moved = 4 * once["parameter_bytes"] + 2 * once["gradient_bytes"] + 2 * once["state_bytes"]
    return Shares(
        once["operations"] / step / once["product_operations_per_second"],
        moved / step / once["copy_bytes_per_second"],
    )


def doubt_notes(timings: Sequence[Timed]) -> list[str]:
    """Reasons to doubt the times of a workload, each with the batch sizes it concerns and what to do about it."""
    sizes: dict[str, list[str]] = {}
    for timing in timings:
        for doubt in _doubts(timing):
            sizes.setdefault(doubt, []).append(f"{timing.study.batch_size:,}")
    return [f"doubt: at batch size {', '.join(of)}: {doubt}." for doubt, of in sizes.items()]


def _doubts(timing: Timed) -> list[str]:
    settings: TimingOptions = timing.study.content["timing"]
    processes = [process for process in timing.processes if process.windows]
    if not processes:
        return []
    found = []
    if others := sum(process.once.get("others_share", 0.0) > _OTHERS_SHARE for process in processes):
        found.append(f"other programs used over {_OTHERS_SHARE:.0%} of the machine{_of(others, processes)}; end them")
    if sharing := sum(process.once.get("gpu_processes", 0) > 0 for process in processes):
        found.append(
            f"other processes were on the GPU{_of(sharing, processes)}; end them, or take another with --device"
        )
    if throttled := sum(process.once.get("throttling", 0) > 0 for process in processes):
        found.append(
            f"the GPU's clock was held back{_of(throttled, processes)}; let it cool, or lower its clock for good"
        )
    if moved := sum(_clock_moved(process) for process in processes):
        found.append(f"the GPU's clock changed while it was timed{_of(moved, processes)}; fix it with nvidia-smi -lgc")
    if saving := sum(process.environment.get("governor") == "powersave" for process in processes):
        found.append(f"the processor's clock is governed by 'powersave'{_of(saving, processes)}; choose 'performance'")
    if restless := sum(not process.once.get("steady", 1.0) for process in processes):
        found.append(f"it was not steady after the warm-up{_of(restless, processes)}; give it more seconds")
    places = {tuple(str(process.environment.get(key)) for key in _WHERE) for process in processes}
    if len(places) > 1:
        found.append(f"processes ran in {len(places)} environments; time it anew with another --label")
    if slow := sum(map(_slow_start, processes)):
        found.append(f"the first windows were slower than the rest{_of(slow, processes)}; give it more seconds")
    if outlying := sum(map(_has_outliers, processes)):
        found.append(f"some windows lie far from the rest{_of(outlying, processes)}; something else ran, time it again")
    if vague := sum(not process.precise for process in processes):
        asked = f"{settings.precision:.0%} in {settings.seconds:g} s"
        found.append(
            f"the median is not known to {asked}{_of(vague, processes)}; give it more seconds, or a quiet machine"
        )
    if starved := sum(map(_starved, processes)):
        found.append(f"steps waited for their examples{_of(starved, processes)}; use input: device, or more processors")
    if len(processes) < settings.processes:
        found.append(f"{len(processes)} of {settings.processes} processes were timed; run the suite again")
    return found


def _of(count: int, processes: Sequence[Process]) -> str:
    return "" if count == len(processes) else f" in {count} of {len(processes)} processes"


def _clock_moved(process: Process) -> bool:
    before, after = (process.once.get(f"clock_{when}_mhz", 0.0) for when in ("before", "after"))
    return abs(before - after) > _APART * max(before, after)


def _slow_start(process: Process) -> bool:
    tenth = len(process.windows) // 10
    if tenth < 1:
        return False
    first, rest = process.windows[:tenth], process.windows[tenth:]
    return statistics.median(first) > (1 + _APART) * max(statistics.median(rest), statistics.quantiles(rest, n=4)[2])


def _has_outliers(process: Process) -> bool:
    middle = process.step_seconds
    deviation = statistics.median(abs(window - middle) for window in process.windows)
    least = max(_OUTLYING * deviation, _OUTLYING_SHARE * middle)
    return any(abs(window - middle) > least for window in process.windows)


def waiting_share(process: Process) -> float | None:
    """The share of a step by which one whose examples lie on the device is shorter; None where they all do."""
    resident = process.once.get("resident_step_seconds")
    return None if resident is None else max(0.0, 1 - resident / process.step_seconds)


def _starved(process: Process) -> bool:
    return (waiting_share(process) or 0.0) > _WAITING


def where(timings: Sequence[Timed]) -> str:
    """Where a workload was timed: device, threads, version."""
    seen = [process.environment for timing in timings for process in timing.processes if process.environment]
    if not seen:
        return "nowhere yet"
    device, threads, torch = (seen[0].get(key, "unknown") for key in ("device", "threads", "torch"))
    nodes = len({each.get("node") for each in seen})
    return f"{device}, {threads} host threads, torch {torch}{f', on {nodes} nodes' if nodes > 1 else ''}"
