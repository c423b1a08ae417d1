"""Holds bench to workloads with exact answers, measured as any other is: plan, runner, archive, measures.

`CHECKS`, at the end, is the list of what is held to what.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch

from bench.conclude.curve_fit import fit_curve
from bench.conclude.fit import fit
from bench.conclude.gate import gate
from bench.conclude.points import curve_of
from bench.conclude.sides import Side, sample_of
from bench.errors import sentence
from bench.measure import build, clock, cohort, environment
from bench.prove import exact
from bench.prove.studies import measured, planned
from bench.stats import Interval, ratio_of_means


@dataclass(frozen=True)
class Check:
    """One number that was measured, what it should be, and how far from that it may lie."""

    what: str
    measured: str
    exact: str
    tolerance: str
    passed: bool


# ---- the clock ------------------------------------------------------------------------------------------------------


def clock_time(device: torch.device) -> Iterator[Check]:
    """The clock around work whose length another clock knows."""
    around, seconds = _around_busy_gpu if device.type == "cuda" else _around_busy_loop, 0.2
    measured, known = around(device, seconds)
    yield Check(
        f"the clock around {seconds:g} s of work",
        f"{measured:.5f} s",
        f"{known:.5f} s",
        "1 %",
        abs(measured / known - 1) <= 0.01,
    )


def _around_busy_loop(device: torch.device, seconds: float) -> tuple[float, float]:
    """Seconds by the clock, and by the system's raw one, of a loop that is busy: a process that sleeps is woken late.

    Both count one oscillator, the raw one without the system's corrections: what this can show is a clock in another
    unit, stopped, or corrected beyond belief, not an oscillator that is off.
    """
    started = clock.now(device)
    begun = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    while (known := time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - begun) < seconds:
        pass
    return clock.now(device) - started, known


def _around_busy_gpu(device: torch.device, seconds: float) -> tuple[float, float]:
    """Seconds by the clock, and by the device's own events, of a kernel that spins while the host goes on at once.

    Another kernel is under way when the clock is first read: one that did not wait for it would count it in.
    """
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def spin(cycles: int) -> None:
        begun.record()
        torch.cuda._sleep(cycles)
        ended.record()

    spin(10_000_000)
    ended.synchronize()
    cycles = int(10_000_000 * seconds / (begun.elapsed_time(ended) / 1000))
    spin(cycles)
    started = clock.now(device)
    spin(cycles)
    measured = clock.now(device) - started
    ended.synchronize()  # for the sake of a clock that did not wait
    return measured, begun.elapsed_time(ended) / 1000


# ---- the trade-off between steps and examples -----------------------------------------------------------------------


def synthetic_curves(device: torch.device) -> Iterator[Check]:  # noqa: ARG001 (a fit knows no device)
    """S = S_min + E_min/B where it is so: the fit gives back what the curve was made of."""
    for steps, examples in ((100.0, 1e4), (1_294.0, 2.8e6), (50.0, 1e7)):
        sizes = [2.0**power for power in range(4, 19)]
        found = fit(sizes, [steps + examples / size for size in sizes])
        apart = max(abs(found.minimum_steps / steps - 1), abs(found.minimum_examples / examples - 1))
        yield Check(
            f"fit of S = S_min + E_min/B where B_crit = {examples / steps:,.0f}",
            f"S_min {found.minimum_steps:.9g}, E_min {found.minimum_examples:.9g}",
            f"S_min {steps:.9g}, E_min {examples:.9g}",
            "1e-6 of it",
            apart <= 1e-6,
        )


def published_curve(device: torch.device) -> Iterator[Check]:  # noqa: ARG001
    """The 85M model of Zhang et al. 2024, arXiv 2410.21676: S_min, E_min and the 20 % critical batch size."""
    steps = (46_000, 23_000, 13_282, 7_000, 3_840, 2_528, 1_917, 1_600, 1_600)
    found = fit([64 * 2**power for power in range(len(steps))], steps)
    published = {
        "S_min": (found.minimum_steps, 1_293.827),
        "E_min": (found.minimum_examples, 2_834_258.1),
        "critical batch size": (found.overhead_batch(0.2, 256), 745.320),
    }
    for name, (found_here, answer) in published.items():
        passed = abs(found_here / answer - 1) <= 5e-7
        yield Check(f"{name} of the published 85M curve", f"{found_here:,.3f}", f"{answer:,.3f}", "six digits", passed)


# ---- the two ways to train ------------------------------------------------------------------------------------------


def stacked_against_one_by_one(device: torch.device) -> Iterator[Check]:
    """The same trials both ways in float64: the largest difference of any weight after 50 steps."""
    both = []
    for training in ("stacked", "one_by_one"):
        study = planned(_BOTH_WAYS.format(training=training)).studies[0]
        data, trials = build.data(study.workload, Path(), device), study.draws()[:4]
        trained = cohort.maker(study, data, device)(trials)
        trained.train(50)
        both.append([trained.weights(trial) for trial in trials])
    apart = max(
        float((stacked[name] - weights).abs().max())
        for stacked, alone in zip(*both, strict=True)
        for name, weights in alone.items()
    )
    yield Check("stacked against one by one, largest difference of a weight", f"{apart:.1e}", "0", "1e-9", apart < 1e-9)


_BOTH_WAYS = """
suite: calibrate
workloads:
  - name: both-ways
    model: {{mlp: {{hidden: [32]}}}}
    dataset: teacher_student
    optimizer: momentum
    schedule: linear
    batch_sizes: [16]
    target: {{validation_loss: {{below: 0.6}}}}
    max_steps: 100
    search: {{trials: 4, learning_rate: {{log_uniform: [1e-4, 1e-2]}}}}
    precision: fp64
    training: {training}
"""


# ---- probes ---------------------------------------------------------------------------------------------------------


def noise_scale(device: torch.device) -> Iterator[Check]:
    """The noise scale of the linear teacher, to a student that all but stands still and is looked at over and over."""
    summary = measured(planned(_LINEAR_TEACHER), device)[0]
    seeds = summary.confirmed.probed if summary.confirmed else ()
    traces, squares = (
        [value for seen in seeds for _, value in sorted(seen.get(f"noise_scale.{name}", {}).items())]
        for name in ("noise_trace", "gradient_squared")
    )
    found = ratio_of_means(traces, squares, confidence=0.999)
    answer = exact.LinearTeacher(dimensions=32).noise_scale
    yield Check(
        f"noise scale of the linear teacher in {len(traces)} looks",
        f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]",
        f"{answer:g}",
        "5 %, and its 99.9% interval holds it",
        abs(found.value / answer - 1) <= 0.05 and found.low <= answer <= found.high,
    )


# A rate of 1e-6 moves nothing, and the student meets the target as it stands: each seed is looked at twice, at the
# start and at its first step. A look at so few examples gives a ratio that is off by a third, and the average of such
# ratios is a tenth too large.
_LINEAR_TEACHER = """
suite: calibrate
workloads:
  - name: linear-teacher
    model: linear_student
    dataset: {teacher_student: {dimensions: 32, noise: 1.0}}
    optimizer: sgd
    batch_sizes: [32]
    target: {validation_loss: {below: 10}}
    max_steps: 128
    search: {trials: 1, learning_rate: 1e-6}
    confirm: {seeds: 250}
    probes: {noise_scale: {small: 8, large: 128}}
"""


def gradient_noise(device: torch.device) -> Iterator[Check]:
    """The noise of the noisy quadratic's gradient: steps to target alone hardly tell a half of it from the whole."""
    model = exact.NoisyQuadratic(dimensions=2_000, batch_size=16, learning_rate=0.8)
    text = _noisy_quadratic("sgd", model, target=2.0, most_steps=1_000, seeds=5)
    summary = measured(planned(f"{text}    probes: {{noise_scale: {{small: 8, large: 512, every: 1.3x}}}}\n"), device)[
        0
    ]
    seeds = summary.confirmed.probed if summary.confirmed else ()
    traces = [value for seen in seeds for value in seen["noise_scale.noise_trace"].values()]
    found = sum(traces) / len(traces)
    yield Check(
        f"trace of the noisy quadratic's gradient noise in {len(traces)} looks",
        f"{found:.3f}",
        f"{model.noise_trace:.3f}",
        "5 %",
        abs(found / model.noise_trace - 1) <= 0.05,
    )


# ---- steps to target ------------------------------------------------------------------------------------------------


def steps_to_target(
    device: torch.device, batch_sizes: Sequence[int] = (16, 64, 1024), seeds: int = 11
) -> Iterator[Check]:
    """The noisy quadratic model by SGD and by momentum: the median over seeds against the expected loss.

    The target is so low that a learning rate a tenth too small, or twice the noise, is out of tolerance somewhere.
    """
    rates = {"sgd": {"learning_rate": 0.8}, "momentum": {"learning_rate": 0.1, "momentum": 0.9}}
    target, most_steps = 0.4, 5_000
    for optimizer, metaparameters in rates.items():
        for batch_size in batch_sizes:
            model = exact.NoisyQuadratic(2_000, batch_size, **metaparameters)
            made = planned(_noisy_quadratic(optimizer, model, target, most_steps, seeds))
            evaluated = [step for step, _ in made.studies[0].confirmation(1, most_steps, 0)]
            low, high = model.evaluated_between(target, evaluated, seeds)
            steps = measured(made, device)[0].steps_to_target
            yield Check(
                f"steps to target of the noisy quadratic by {optimizer} at batch size {batch_size:,}",
                "none" if steps is None else f"{steps:,.0f}",
                f"{model.steps_to_target(target, most_steps):,}",
                f"an evaluation from {low:,} to {high:,}",
                steps is not None and low <= steps <= high,
            )


def tuned_study(device: torch.device, batch_sizes: Sequence[int] = (16, 64, 256, 1024, 4096)) -> Iterator[Check]:
    """The noisy quadratic with its learning rate searched at each batch size: steps and B_crit against those of the
    learning rate that is best for the expected loss.
    """
    target, rates = 0.1, numpy.geomspace(0.05, 1.9, 80)
    text = _TUNED.format(batch_sizes=list(batch_sizes), target=target, low=rates[0], high=rates[-1])
    summaries = measured(planned(text), device)
    exact_steps = [exact.tuned_steps(_TUNED_DIMENSIONS, size, target, rates) for size in batch_sizes]
    for summary, steps in zip(summaries, exact_steps, strict=True):
        found = summary.confirmed.steps if summary.confirmed else None
        # An evaluation stands at most 5 % of the step behind, and what is confirmed is the best of a few rates.
        near = found is not None and (found.low <= steps <= found.high or abs(found.median / steps - 1) <= 0.1)
        yield Check(
            f"tuned steps to target of the noisy quadratic at batch size {summary.study.batch_size:,}",
            "none" if found is None else f"{found.median:,.0f} [{found.low:,.0f}, {found.high:,.0f}]",
            f"{steps:,}",
            "its 90 % interval, or 10 %",
            near,
        )
    fitted, answer = fit_curve(curve_of(summaries)), fit(batch_sizes, exact_steps).critical_batch
    found_batch = fitted.critical_batch if fitted else Interval(math.nan, math.nan, math.nan)
    yield Check(
        "B_crit of the tuned noisy quadratic",
        f"{found_batch.value:.1f} [{found_batch.low:.1f}, {found_batch.high:.1f}]",
        f"{answer:.1f}",
        "its 90 % interval, or 10 %",
        found_batch.low <= answer <= found_batch.high or abs(found_batch.value / answer - 1) <= 0.1,
    )


_TUNED_DIMENSIONS = 200
_TUNED = f"""
suite: calibrate
workloads:
  - name: tuned
    model: {{{{noisy_quadratic: {{{{dimensions: {_TUNED_DIMENSIONS}}}}}}}}}
    dataset: noisy_quadratic
    optimizer: sgd
    batch_sizes: {{batch_sizes}}
    target: {{{{validation_loss: {{{{below: {{target}}}}}}}}}}
    max_steps: 5000
    search: {{{{trials: 16, refine: 8, learning_rate: {{{{log_uniform: [{{low}}, {{high}}]}}}}}}}}
"""


def grid_invariance(device: torch.device) -> Iterator[Check]:
    """The same trials evaluated at every step and as seldom as a suite may ask for: steps to target must not change."""
    model = exact.NoisyQuadratic(2_000, batch_size=64, learning_rate=0.8)
    text = _noisy_quadratic("sgd", model, target=0.4, most_steps=5_000, seeds=11)
    found = {}
    for grid in ("resolution: 1.0e-6", "resolution: 0.05", "resolution: 1"):
        (summary,) = measured(planned(text.replace("resolution: 0.02", grid)), device)
        found[grid] = summary.steps_to_target or math.inf
    dense = found["resolution: 1.0e-6"]
    for grid, steps in list(found.items())[1:]:
        yield Check(
            f"steps to target evaluated with {grid}, against every step",
            f"{steps:,.0f}",
            f"{dense:,.0f}",
            "10 %",
            abs(steps / dense - 1) <= 0.1,
        )


def gate_of_equals(device: torch.device, runs: int = 3) -> Iterator[Check]:
    """Runs that differ in nothing but their seeds, each held to each other by a gate without tolerance: with alpha 5 %,
    more than one failure in three pairs is seldom chance.
    """
    plans = [planned(_EQUALS.format(name=f"equal-{number}")) for number in range(runs)]
    sides = []
    for of in plans:
        samples = {
            ("equal", row.study.batch_size): replace(sample_of(row), workload="equal") for row in measured(of, device)
        }
        sides.append(Side("a run", "calibrate", (), samples))
    held_to = planned(_EQUALS.format(name="equal"))
    pairs = list(itertools.combinations(sides, 2))
    failed = sum(gate(held_to, base, other, same_source=False).count("fail") > 0 for base, other in pairs)
    yield Check(
        f"gate of {len(pairs)} pairs of equal runs, tolerance 0",
        f"{failed} failed",
        "0",
        "at most 1",
        failed <= 1,
    )


_EQUALS = f"""
suite: calibrate
workloads:
  - name: {{name}}
    model: {{{{noisy_quadratic: {{{{dimensions: {_TUNED_DIMENSIONS}}}}}}}}}
    dataset: noisy_quadratic
    optimizer: sgd
    batch_sizes: [64, 256]
    target: {{{{validation_loss: {{{{below: 0.1}}}}}}}}
    max_steps: 5000
    search: {{{{trials: 8, learning_rate: {{{{log_uniform: [0.1, 1.9]}}}}}}}}
gate:
  steps_to_target: {{{{tolerance: 0}}}}
"""


def _noisy_quadratic(optimizer: str, model: exact.NoisyQuadratic, target: float, most_steps: int, seeds: int) -> str:
    momentum = f", momentum: {model.momentum}" if model.momentum else ""
    return f"""
suite: calibrate
workloads:
  - name: noisy-quadratic
    model: {{noisy_quadratic: {{dimensions: {model.dimensions}}}}}
    dataset: noisy_quadratic
    optimizer: {optimizer}
    batch_sizes: [{model.batch_size}]
    target: {{validation_loss: {{below: {target}}}}}
    max_steps: {most_steps}
    search: {{trials: 1, learning_rate: {model.learning_rate}{momentum}}}
    confirm: {{seeds: {seeds}}}
    evaluate: {{resolution: 0.02}}
"""


# ---- all of it ------------------------------------------------------------------------------------------------------

CHECKS = (
    clock_time,
    synthetic_curves,
    published_curve,
    stacked_against_one_by_one,
    noise_scale,
    gradient_noise,
    steps_to_target,
    tuned_study,
    grid_invariance,
    gate_of_equals,
)


def calibrate(device: str = "cpu") -> Iterator[Check]:
    """Every check, each as soon as it is made; raises DeviceError where the device is not there."""
    (name,) = environment.devices([device])
    on = torch.device(name)
    torch.set_num_threads(1)  # as a worker has
    if on.type == "cuda":
        torch.cuda.set_device(on)
    for each in CHECKS:
        try:
            yield from each(on)
        except Exception as error:  # a check that cannot be made is one that failed, and the others go on
            yield Check(each.__name__.replace("_", " "), f"nothing ({sentence(error)})", "-", "-", passed=False)
