"""What each rule of a gate compares, and when it cannot: a ruling before p-values are adjusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.ask.plan import PlanUnit, Study
from bench.ask.suite import AnyRule, StepsRule
from bench.conclude import evidence, settle
from bench.conclude.compare import (
    TIMING,
    Contrast,
    Measure,
    Values,
    contradiction,
    contrast,
    higher_is_better,
    identical,
    pair_logs,
    paired,
    processes_ratio,
    ratio_of,
    values_of,
)
from bench.conclude.sides import Sample, Side, given_by, other_devices, other_target, unlike
from bench.conclude.verdicts import FAILED, INCOMPLETE, NOT_COMPARABLE, Ruling, error
from bench.stats import Interval

# Fewer processes on a side give Student's t no spread worth the name.
FEWEST_PROCESSES = 3
# Steps of the reference this many times their neighbours, or a part as small, are a slip of somebody's pen.
SLIP = 5.0

# A candidate that is not the suite's says nothing of the suite.
OTHER = "measured of another suite, source or data (--data says where it lies); run the suite"


@dataclass(frozen=True)
class Terms:
    """What all rulings share: how many rules ask for seeds, and what must be alike."""

    alpha: float
    seeded: int
    conditions: tuple[str, ...]
    same_source: bool


def ruling_of(
    base: Side,
    candidate: Side,
    study: PlanUnit,
    measure: Measure,
    rule: AnyRule,
    terms: Terms,
) -> Ruling:
    """What can be said before p-values are adjusted: errors, what needs no test, or the raw p-values."""
    key = study.workload.name, study.batch_size
    before, after = base.samples.get(key), candidate.samples.get(key)
    limit = _limit(measure, rule.tolerance)
    values, devices = (values_of(before, measure), values_of(after, measure)), study.workload.devices
    ruling = Ruling(*key, measure, rule.tolerance, *values, limit, devices=devices)
    if after is None:
        return error(ruling, INCOMPLETE, "the candidate lacks it; run the suite")
    if before is None:
        return error(ruling, NOT_COMPARABLE, "the base lacks it; accept a new base")
    if reason := other_devices(before, after):
        return error(ruling, NOT_COMPARABLE, reason)
    if problem := _invalid(measure, before, ruling.base):
        return error(ruling, NOT_COMPARABLE, f"the base does not validate: {problem}")
    if measure in TIMING:
        return _timing(ruling, before, after, study, terms)
    if before.training == after.training == "infeasible" and study.workload.open_ended:
        return _same(ruling)
    if before.training == "measured" and after.training == "infeasible":
        return _unfit(ruling, _elsewhere(base, candidate))
    if before.training == "infeasible":
        return error(ruling, NOT_COMPARABLE, "the base's study was infeasible; accept a base in which it fits")
    if after.training != "measured":
        return error(ruling, INCOMPLETE, f"the candidate's study was {after.training}; run the suite")
    if before.training != "measured":
        return error(ruling, NOT_COMPARABLE, f"the base's study was {before.training}; run it, or accept a new base")
    if reason := other_target(before, after):
        return error(ruling, NOT_COMPARABLE, reason)
    asked, found = study.workload.entry.confirm.seeds, min((len(each.each) for each in after.contenders), default=0)
    if after.found is not None and found < asked:
        return error(ruling, INCOMPLETE, f"the candidate has {found} seeds of {asked}; run the suite")
    assert isinstance(study, Study)
    if terms.same_source and after.study not in (study.id, replace(study, given=given_by(before)).id):
        return error(ruling, INCOMPLETE, OTHER)
    return _steps(ruling, before, after, isinstance(rule, StepsRule) and rule.rule == "rcp", terms)


def _limit(measure: Measure, tolerance: float | None) -> float | None:
    if tolerance is None:
        return None
    return 1 - tolerance if higher_is_better(measure) else 1 + tolerance


def _invalid(measure: Measure, sample: Sample, values: Values) -> str | None:
    """What makes reference data unbelievable: a value that is no amount, beyond its budget, or far from all others."""
    for value in values.each:
        if math.isnan(value) or value <= 0 or (math.isinf(value) and measure in TIMING):
            return f"found {value:g} among its values"
        if math.isfinite(value) and value > values.budget:
            return f"found {value:,.0f} steps, beyond its budget of {values.budget:,.0f}"
    measured = measure == "steps_to_target" and sample.status == "measured"
    if measured and 0 < sample.seeds != len(values.each) and sample.found is not None:
        return f"found {len(values.each)} seeds where {sample.seeds} were asked for"
    if measure in TIMING:
        return None  # a machine has such moments: they widen the interval until nothing is said, and are no error
    samples = [each.steps for each in values.contenders] or [values.each]
    return next((told for told in map(_slip, samples) if told), None)


def _slip(values: Sequence[float]) -> str | None:
    """Why one of some values cannot be right: it is far from all others."""
    known = [value for value in values if math.isfinite(value)]
    for place, value in enumerate(known):
        others = known[:place] + known[place + 1 :]
        middle = statistics.median(others) if len(others) > 1 else value
        if not middle / SLIP <= value <= middle * SLIP:
            return f"found {value:,.4g} where its neighbours have {middle:,.4g}"
    return None


def _elsewhere(base: Side, candidate: Side) -> str | None:
    here, there = ({environment.get("device") for environment in side.environments} for side in (base, candidate))
    return None if here == there and len(here) == 1 else "the candidate does not fit, on another device than the base"


def _unfit(ruling: Ruling, apart: str | None) -> Ruling:
    """What does not fit in memory where the base did fails, unless it had another memory."""
    if apart:
        return error(ruling, NOT_COMPARABLE, apart)
    return replace(ruling, verdict="fail", exit_code=FAILED, note="no longer fits in memory")


def _timing(ruling: Ruling, before: Sample, after: Sample, timing: PlanUnit, terms: Terms) -> Ruling:
    base, candidate = ruling.base.each, ruling.candidate.each
    if not candidate and not after.infeasible:
        return error(ruling, INCOMPLETE, "the candidate was not timed; run 'bench time'")
    if not base and not before.infeasible:
        return error(ruling, NOT_COMPARABLE, "the base was not timed; run 'bench time' there, or accept a new base")
    if terms.same_source and after.timing != timing.id:
        return error(ruling, INCOMPLETE, OTHER)
    if reason := unlike(before, after, terms.conditions):
        return error(ruling, NOT_COMPARABLE, reason)
    if before.infeasible and after.infeasible and timing.workload.open_ended:
        return _same(ruling)
    if before.infeasible:
        return error(ruling, NOT_COMPARABLE, "the base did not fit in memory; accept a base in which it fits")
    if after.infeasible:
        return _unfit(ruling, None)
    if not all(math.isfinite(value) and value > 0 for value in candidate):
        return error(ruling, INCOMPLETE, "the candidate has a value that is no amount; time it again")
    if identical(ruling.measure, before, after):
        return _same(ruling)
    if min(len(base), len(candidate)) < FEWEST_PROCESSES or not paired(ruling.base, ruling.candidate):
        note = f"{len(base)} and {len(candidate)} processes; time both in as many, {FEWEST_PROCESSES} or more"
        return error(ruling, INCOMPLETE if len(candidate) < FEWEST_PROCESSES else NOT_COMPARABLE, note)
    return _tested(ruling)


def _steps(ruling: Ruling, before: Sample, after: Sample, rcp: bool, terms: Terms) -> Ruling:
    alpha, seeded = terms.alpha, terms.seeded
    base, candidate = ruling.base.each, ruling.candidate.each
    if before.found is None:
        return error(ruling, NOT_COMPARABLE, f"no trial of the base met the target in {before.max_steps:,} steps")
    if reason := contradiction(before, after):
        return error(ruling, NOT_COMPARABLE, f"the base does not validate: {reason}")
    if identical(ruling.measure, before, after):
        return _same(ruling)
    if any(math.isnan(value) or value <= 0 for value in candidate):
        return error(ruling, INCOMPLETE, "the candidate has a value that is no amount; run the suite again")
    if after.found is None and base:
        return _never(ruling, after)
    if rcp:
        return _rcp(ruling, alpha)
    by = contrast(ruling.base, ruling.candidate) if base and candidate else None
    asked = evidence.sizes(by.strata) if by and by.strata else ((len(candidate), len(base)),)
    if evidence.least_p(asked) > alpha / seeded:
        needed = next(
            n for n in range(1, settle.MOST_RUNS) if evidence.least_p([(n, n)] * len(asked)) <= alpha / seeded
        )
        few = INCOMPLETE if len(candidate) < needed else NOT_COMPARABLE
        rules = f"{seeded} rules" if seeded > 1 else "one rule"
        note = f"{len(base)} and {len(candidate)} seeds cannot carry {rules}; confirm with {needed} on both sides"
        return error(ruling, few, note)
    return _tested(ruling, by)


def _same(ruling: Ruling) -> Ruling:
    return replace(ruling, verdict="identical", ratio=Interval(1.0, 1.0, 1.0))


def _never(ruling: Ruling, after: Sample) -> Ruling:
    """A candidate no trial of which met the target fails if every seed of the base, at the limit, would have had the
    time to: no test stands behind it, so there must be room.
    """
    slowest = max(ruling.base.each)
    if after.max_steps >= slowest * (ruling.limit or 1.0):
        note = f"no trial of the candidate met the target in {after.max_steps:,} steps"
        return replace(ruling, verdict="fail", exit_code=FAILED, note=f"{note}; the base needs {slowest:,.0f} at most")
    note = f"no trial of the candidate met the target in {after.max_steps:,} steps, too few to tell; raise max_steps"
    return error(ruling, INCOMPLETE, note)


def _rcp(ruling: Ruling, alpha: float) -> Ruling:
    base, candidate = ruling.base.each, ruling.candidate.each
    if min(len(base), len(candidate)) < 4:
        note = f"{len(base)} and {len(candidate)} seeds; reference convergence points need 4 of each"
        return error(ruling, INCOMPLETE if len(candidate) < 4 else NOT_COMPARABLE, note)
    if math.inf in base or math.inf in candidate:
        missed = "candidate" if math.inf in candidate else "base"
        note = f"a seed of the {missed} missed the target, and a mean needs them all"
        return error(ruling, INCOMPLETE if missed == "candidate" else NOT_COMPARABLE, note)
    bound, mean = evidence.rcp_bound(base, len(candidate), alpha), statistics.fmean(sorted(candidate)[1:-1])
    note = f"the mean without fastest and slowest is {mean:.4g}, and reference convergence points allow {bound:.4g}"
    ratio = ratio_of(ruling.base, ruling.candidate, contrast(ruling.base, ruling.candidate))
    return replace(ruling, ratio=ratio, p_worse=evidence.rcp_p(base, candidate), note=note)


def _tested(ruling: Ruling, by: Contrast | None = None) -> Ruling:
    assert ruling.limit is not None
    if by is None:
        ratio = processes_ratio(ruling.base, ruling.candidate)
        more, less = map(float, evidence.pairs_p(pair_logs(ruling.base, ruling.candidate), ruling.limit))
    else:
        ratio = ratio_of(ruling.base, ruling.candidate, by)
        more, less = by.p_values(ruling.limit)
    worse, within = (less, more) if higher_is_better(ruling.measure) else (more, less)
    return replace(ruling, ratio=ratio, p_worse=worse, p_within=within, by=by)
