"""Two sides and a suite's rules -> verdicts. A gate fails only on evidence, and never passes for want of it.

For each rule two questions are asked: is the candidate worse than tolerated (then it fails), and is it surely not
(then it passes)? Where neither can be said the verdict is inconclusive, with what would have been seen and how many
runs would settle it. The p-values of each question are adjusted for the false discovery rate, those of steps together
and those of times and memory together.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench import evidence, settle
from bench.compare import (
    TIMING,
    Measure,
    Values,
    contradiction,
    higher_is_better,
    identical,
    p_values,
    pair_logs,
    paired,
    ratio_of,
    values_of,
)
from bench.errors import BenchError
from bench.plan import Plan, Study, Timing
from bench.sides import TIMING_CONDITIONS, Sample, Side, unlike
from bench.stats import Interval
from bench.suite import AnyRule, Gate, StepsRule

PASSED, FAILED, INCONCLUSIVE, NOT_COMPARABLE, INCOMPLETE = 0, 1, 3, 4, 5

GATED: tuple[Measure, ...] = ("steps_to_target", "throughput", "peak_memory")

# Fewer processes on a side give Student's t no spread worth the name.
FEWEST_PROCESSES = 3
# Steps of the reference this many times their neighbours, or a part as small, are a slip of somebody's pen.
SLIP = 5.0

# A candidate that is not the suite's says nothing of the suite.
OTHER = "measured of another suite or source; run the suite"

Verdict = Literal["fail", "error", "inconclusive", "pass", "identical"]
VERDICTS: tuple[Verdict, ...] = ("fail", "error", "inconclusive", "pass", "identical")


@dataclass(frozen=True)
class Ruling:
    """One rule applied to one study.

    limit: the ratio, the candidate's over the base's, at which the rule is broken; None for `rcp`.  p_worse, p_within:
    adjusted p-values for "worse than the limit" and for "not so bad"; None where nothing was tested, as is of `rcp` the
    second.  detectable: the
    ratio that would have been failed four times of five, were this rule alone broken; needed: the seeds or processes a
    side that would settle it if all else stayed as it is, None for more than a thousand.  note: why, in a sentence.
    exit_code: what the verdict alone would have the gate exit with.
    """

    workload: str
    batch_size: int
    measure: Measure
    tolerance: float | None
    base: Values
    candidate: Values
    limit: float | None = None
    verdict: Verdict = "inconclusive"
    note: str = ""
    ratio: Interval | None = None
    p_worse: float | None = None
    p_within: float | None = None
    detectable: float | None = None
    needed: int | None = None
    exit_code: int = PASSED


@dataclass(frozen=True)
class Judgement:
    """What a gate says of a candidate: a ruling for each rule, in the suite's order.

    notes: how it was measured, a sentence each.
    """

    suite: str
    base: Side
    candidate: Side
    alpha: float
    rulings: tuple[Ruling, ...]
    notes: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        return sum(ruling.verdict == verdict for ruling in self.rulings)

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return next(verdict for verdict in VERDICTS if self.count(verdict))

    @property
    def exit_code(self) -> int:
        """A regression before an error, and what was not measured before what cannot be compared."""
        codes = {ruling.exit_code for ruling in self.rulings}
        return next((code for code in (FAILED, INCOMPLETE, NOT_COMPARABLE, INCONCLUSIVE) if code in codes), PASSED)


def gate(
    plan: Plan,
    base: Side,
    candidate: Side,
    measures: tuple[Measure, ...] = GATED,
    conditions: tuple[str, ...] = TIMING_CONDITIONS,
    *,
    same_source: bool = True,
) -> Judgement:
    """Holds the candidate to the rules of a suite, for every study of the suite and what else the base has.

    measures: those whose rules apply.  conditions: what must be alike for times to be compared.  same_source: whether
    the candidate must have been measured of the suite's very words and of the code that is here. Raises BenchError
    where the suite has no rule for the measures.
    """
    rules, asked = rules_of(plan, measures)
    seeded = sum(isinstance(rule, StepsRule) and rule.rule == "ranks" for _, _, rule in asked)
    terms = _Terms(rules.alpha, seeded, conditions, same_source)
    units = [unit for unit, _, _ in asked]
    rulings = [
        _ruling(base, candidate, unit, measure, rule, terms)
        for unit, measure, rule in asked
        if not any(_beyond(unit, side, units) for side in (base, candidate))
    ]
    keys = {(study.workload.name, study.batch_size) for study in plan.units}
    rulings += [_gone(base.samples[key]) for key in base.samples if key not in keys]
    return Judgement(plan.suite.name, base, candidate, rules.alpha, tuple(_decided(rulings, rules.alpha)))


def rules_of(plan: Plan, measures: tuple[Measure, ...]) -> tuple[Gate, list[tuple[Study | Timing, Measure, AnyRule]]]:
    """What a suite says of its gate, and each rule with its study; raises BenchError where none is for the measures."""
    rules = plan.suite.content.gate or Gate()
    timings = [timing for timing in plan.timings if timing.what == "throughput"]
    asked = [
        (unit, measure, rule)
        for measure in measures
        for unit in (timings if measure in TIMING else plan.studies)
        if (rule := rules.rules(unit.workload.name).get(measure))
    ]
    if not asked:
        names = " or ".join(measures)
        raise BenchError(f"{plan.suite.name}: has no 'gate' for {names}; give it rules, such as {{tolerance: 0.1}}")
    return rules, asked


@dataclass(frozen=True)
class _Terms:
    """What all rulings share: how many rules ask for seeds, and what must be alike."""

    alpha: float
    seeded: int
    conditions: tuple[str, ...]
    same_source: bool


def _error(ruling: Ruling, exit_code: int, note: str) -> Ruling:
    return replace(ruling, verdict="error", exit_code=exit_code, note=note)


def _beyond(unit: Study | Timing, side: Side, units: Sequence[Study | Timing]) -> bool:
    """Whether a side ended before a batch size, at a smaller one that did not fit: there it is judged."""
    smaller = (
        side.samples.get((each.workload.name, each.batch_size))
        for each in units
        if each.workload.name == unit.workload.name and each.batch_size < unit.batch_size
    )
    return unit.workload.open_ended and any(sample and not sample.fits for sample in smaller)


def _gone(sample: Sample) -> Ruling:
    ruling = Ruling(*sample.key, "steps_to_target", None, values_of(sample, "steps_to_target"), Values(()))
    return _error(ruling, NOT_COMPARABLE, "the base has it and the suite has not; accept a new base if it was to go")


def _ruling(
    base: Side,
    candidate: Side,
    study: Study | Timing,
    measure: Measure,
    rule: AnyRule,
    terms: _Terms,
) -> Ruling:
    """What can be said before p-values are adjusted: errors, what needs no test, or the raw p-values."""
    key = study.workload.name, study.batch_size
    before, after = base.samples.get(key), candidate.samples.get(key)
    limit = _limit(measure, rule.tolerance)
    ruling = Ruling(*key, measure, rule.tolerance, values_of(before, measure), values_of(after, measure), limit)
    if after is None:
        return _error(ruling, INCOMPLETE, "the candidate lacks it; run the suite")
    if before is None:
        return _error(ruling, NOT_COMPARABLE, "the base lacks it; accept a new base")
    if problem := _invalid(measure, before, ruling.base):
        return _error(ruling, NOT_COMPARABLE, f"the base does not validate: {problem}")
    if measure in TIMING:
        return _timing(ruling, before, after, study, terms)
    if before.status == after.status == "infeasible" and study.workload.open_ended:
        return _same(ruling)
    if before.status == "measured" and after.status == "infeasible":
        return _unfit(ruling, _elsewhere(base, candidate))
    if before.status == "infeasible":
        return _error(ruling, NOT_COMPARABLE, "the base's study was infeasible; accept a base in which it fits")
    if after.status != "measured":
        return _error(ruling, INCOMPLETE, f"the candidate's study was {after.status}; run the suite")
    if before.status != "measured":
        return _error(ruling, NOT_COMPARABLE, f"the base's study was {before.status}; run it, or accept a new base")
    if before.target != after.target:
        return _error(ruling, NOT_COMPARABLE, f"the target was {before.target} and is {after.target}")
    if after.found is not None and len(after.steps) < study.workload.entry.confirm.seeds:
        asked = study.workload.entry.confirm.seeds
        return _error(ruling, INCOMPLETE, f"the candidate has {len(after.steps)} seeds of {asked}; run the suite")
    if terms.same_source and after.study != study.id:
        return _error(ruling, INCOMPLETE, OTHER)
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
    known = [value for value in values.each if math.isfinite(value)]
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
        return _error(ruling, NOT_COMPARABLE, apart)
    return replace(ruling, verdict="fail", exit_code=FAILED, note="no longer fits in memory")


def _timing(ruling: Ruling, before: Sample, after: Sample, timing: Study | Timing, terms: _Terms) -> Ruling:
    base, candidate = ruling.base.each, ruling.candidate.each
    if not candidate and not after.infeasible:
        return _error(ruling, INCOMPLETE, "the candidate was not timed; run 'bench time'")
    if not base and not before.infeasible:
        return _error(ruling, NOT_COMPARABLE, "the base was not timed; run 'bench time' there, or accept a new base")
    if terms.same_source and after.timing != timing.id:
        return _error(ruling, INCOMPLETE, OTHER)
    if reason := unlike(before, after, terms.conditions):
        return _error(ruling, NOT_COMPARABLE, reason)
    if before.infeasible and after.infeasible and timing.workload.open_ended:
        return _same(ruling)
    if before.infeasible:
        return _error(ruling, NOT_COMPARABLE, "the base did not fit in memory; accept a base in which it fits")
    if after.infeasible:
        return _unfit(ruling, None)
    if not all(math.isfinite(value) and value > 0 for value in candidate):
        return _error(ruling, INCOMPLETE, "the candidate has a value that is no amount; time it again")
    if identical(ruling.measure, before, after):
        return _same(ruling)
    if min(len(base), len(candidate)) < FEWEST_PROCESSES or not paired(ruling.base, ruling.candidate):
        note = f"{len(base)} and {len(candidate)} processes; time both in as many, {FEWEST_PROCESSES} or more"
        return _error(ruling, INCOMPLETE if len(candidate) < FEWEST_PROCESSES else NOT_COMPARABLE, note)
    return _tested(ruling)


def _steps(ruling: Ruling, before: Sample, after: Sample, rcp: bool, terms: _Terms) -> Ruling:
    alpha, seeded = terms.alpha, terms.seeded
    base, candidate = ruling.base.each, ruling.candidate.each
    if before.found is None:
        return _error(ruling, NOT_COMPARABLE, f"no trial of the base met the target in {before.max_steps:,} steps")
    if reason := contradiction(before, after):
        return _error(ruling, NOT_COMPARABLE, f"the base does not validate: {reason}")
    if identical(ruling.measure, before, after):
        return _same(ruling)
    if any(math.isnan(value) or value <= 0 for value in candidate):
        return _error(ruling, INCOMPLETE, "the candidate has a value that is no amount; run the suite again")
    if after.found is None and base:
        return _never(ruling, after)
    if rcp:
        return _rcp(ruling, alpha)
    if not base or not candidate or evidence.least_p(len(candidate), len(base)) > alpha / seeded:
        needed = next(n for n in range(1, settle.MOST_RUNS) if evidence.least_p(n, n) <= alpha / seeded)
        few = INCOMPLETE if len(candidate) < needed else NOT_COMPARABLE
        rules = f"{seeded} rules" if seeded > 1 else "one rule"
        note = f"{len(base)} and {len(candidate)} seeds cannot carry {rules}; confirm with {needed} on both sides"
        return _error(ruling, few, note)
    return _tested(ruling)


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
    return _error(ruling, INCOMPLETE, note)


def _rcp(ruling: Ruling, alpha: float) -> Ruling:
    base, candidate = ruling.base.each, ruling.candidate.each
    if min(len(base), len(candidate)) < 4:
        note = f"{len(base)} and {len(candidate)} seeds; reference convergence points need 4 of each"
        return _error(ruling, INCOMPLETE if len(candidate) < 4 else NOT_COMPARABLE, note)
    if math.inf in base or math.inf in candidate:
        missed = "candidate" if math.inf in candidate else "base"
        note = f"a seed of the {missed} missed the target, and a mean needs them all"
        return _error(ruling, INCOMPLETE if missed == "candidate" else NOT_COMPARABLE, note)
    bound, mean = evidence.rcp_bound(base, len(candidate), alpha), statistics.fmean(sorted(candidate)[1:-1])
    note = f"the mean without fastest and slowest is {mean:.4g}, and reference convergence points allow {bound:.4g}"
    ratio = ratio_of(ruling.measure, ruling.base, ruling.candidate)
    return replace(ruling, ratio=ratio, p_worse=evidence.rcp_p(base, candidate), note=note)


def _tested(ruling: Ruling) -> Ruling:
    assert ruling.limit is not None
    more, less = p_values(ruling.measure, ruling.base, ruling.candidate, ruling.limit)
    worse, within = (less, more) if higher_is_better(ruling.measure) else (more, less)
    ratio = ratio_of(ruling.measure, ruling.base, ruling.candidate)
    return replace(ruling, ratio=ratio, p_worse=worse, p_within=within)


def _decided(rulings: Sequence[Ruling], alpha: float) -> list[Ruling]:
    """Adjusts p-values over steps, and over times and memory: what is timed too must not cost steps their power."""
    decided = list(rulings)
    for timed in (False, True):
        tested = [
            place
            for place, ruling in enumerate(rulings)
            if ruling.p_worse is not None and (ruling.measure in TIMING) == timed
        ]
        _decide(decided, tested, alpha)
    return decided


def _decide(rulings: list[Ruling], tested: Sequence[int], alpha: float) -> None:
    """Replaces the rulings at some places, which were tested, by what they come to together."""
    worse = evidence.adjusted([rulings[place].p_worse or 0.0 for place in tested])
    asked = [place for place in tested if rulings[place].p_within is not None]
    within = dict(zip(asked, evidence.adjusted([rulings[place].p_within or 0.0 for place in asked]), strict=True))
    for place, p_worse in zip(tested, worse, strict=True):
        p_within = within.get(place)
        ruling = replace(rulings[place], p_worse=p_worse, p_within=p_within)
        if p_worse <= alpha:
            ruling = replace(ruling, verdict="fail", exit_code=FAILED)
        elif p_within is None:
            ruling = replace(ruling, verdict="pass")  # of reference convergence points, which refuse or allow
        elif p_within <= alpha:
            ruling = _passed(ruling)
        else:
            ruling = _unsettled(ruling, alpha / len(tested))
        rulings[place] = ruling


def _passed(ruling: Ruling) -> Ruling:
    """A pass, but where the candidate misses more: ranks may hide a seed that fails among others that are sooner."""
    until = min(ruling.base.budget, ruling.candidate.budget)
    before, after = (sum(value > until for value in values.each) for values in (ruling.base, ruling.candidate))
    if ruling.measure == "steps_to_target" and after > before:
        note = f"seeds that missed the target in {until:,.0f} steps: {after} of the candidate and {before} of the base"
        return replace(ruling, verdict="inconclusive", exit_code=INCONCLUSIVE, note=note)
    return replace(ruling, verdict="pass")


def _unsettled(ruling: Ruling, alpha: float) -> Ruling:
    """An inconclusive ruling with what it could have seen, were it alone at this level, and what would settle it."""
    assert ruling.limit is not None
    timed = ruling.measure in TIMING
    if timed:
        seen, needed = settle.processes(pair_logs(ruling.base, ruling.candidate), ruling.limit, alpha)
    else:
        seen, needed = settle.seeds(ruling.candidate.each, ruling.base.each, ruling.ratio, ruling.limit, alpha)
    falls, unit = higher_is_better(ruling.measure), "processes" if timed else "seeds"
    detectable = ruling.limit * math.exp(-seen if falls else seen) if math.isfinite(seen) else None
    change = f"{'a fall' if falls else 'a rise'} to {detectable:.3g} times the base" if detectable else ""
    notes = [
        f"could have seen {change}" if change else "too few met the target to tell the spread",
        f"{needed:,} {unit} a side would settle it" if needed else f"no {settle.MOST_RUNS:,} {unit} would settle it",
    ]
    return replace(ruling, exit_code=INCONCLUSIVE, detectable=detectable, needed=needed, note="; ".join(notes))
