"""Sides of a comparison made by hand, of summaries made by hand."""

from __future__ import annotations

from dataclasses import replace

from bench.ask import check, document, plan
from bench.conclude import gate as judge
from bench.conclude import sides
from bench.conclude.measures import Process, Timed
from bench.conclude.sides import Side
from bench.keep.records import StudyRecord

HERE = {"device": "a processor", "device_type": "cpu", "threads": 1, "cuda": None, "torch": "2.15.0", "commit": "abc"}

SUITE = """
suite: gated
gate: {gate}
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: {sizes}
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 10000
    measure: {measure}
    devices: {devices}
    search: {{trials: 16, learning_rate: {{log_uniform: [0.01, 1]}}}}
    confirm: {{seeds: {seeds}}}
"""


def plan_of(gate="{steps_to_target: {tolerance: 0.25}}", sizes=(32,), seeds=0, devices=1):
    timed = any(measure in gate for measure in ("throughput", "step_seconds", "peak_memory"))
    measure = "[steps_to_target, throughput]" if timed else "[steps_to_target]"
    asked = sizes if isinstance(sizes, str) else list(sizes)
    text = SUITE.format(gate=gate, sizes=asked, seeds=seeds, measure=measure, devices=devices)
    return plan.make(check.check(document.parse(text)))


def gate(plan, base, candidate, *arguments, **keywords):
    """What the gate says of a candidate that is the suite's, by its ids."""
    studies, timings = (
        {(unit.workload.name, unit.batch_size): unit.id for unit in units} for units in (plan.studies, plan.timings)
    )
    samples = {
        key: replace(sample, study=studies.get(key, sample.study), timing=sample.timing and timings.get(key))
        for key, sample in candidate.samples.items()
    }
    return judge.gate(plan, base, replace(candidate, samples=samples), *arguments, **keywords)


def side(*summaries, name="base", **environment):
    """A side of studies, as if they had been measured here, but for what `environment` says."""
    here = {**HERE, **environment}
    found = [sides.sample_of(summary) for summary in summaries]
    samples = [replace(sample, timed_in=(here,)) if sample.timed_in else sample for sample in found]
    return Side(name, "gated", (here,), {sample.key: sample for sample in samples})


def timed(seconds, memory=None, precision="fp32", infeasible=False):
    """Processes by their step times; memory in bytes, if it matters."""
    study = StudyRecord("timed", "w", 32, {"measure": "throughput", "precision": precision}, True, ())
    processes = [
        Process((each,), {"peak_memory_bytes": peak}, True, HERE)
        for each, peak in zip(seconds, memory or [1e9] * len(seconds), strict=True)
    ]
    return Timed(study, tuple(processes), infeasible=infeasible)
