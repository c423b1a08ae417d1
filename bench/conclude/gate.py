"""Two sides and a suite's rules -> verdicts. A gate fails only on evidence, and never passes for want of it.

For each rule two questions are asked: is the candidate worse than tolerated (then it fails), and is it surely not
(then it passes)? Where neither can be said the verdict is inconclusive, with what would have been seen and how many
runs would settle it. The p-values of each question are adjusted for the false discovery rate, those of steps together
and those of times and memory together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.ask.plan import Plan, PlanUnit
from bench.ask.suite import AnyRule, Gate, StepsRule
from bench.conclude import evidence, settle
from bench.conclude.compare import TIMING, Measure, Values, higher_is_better, pair_logs, values_of
from bench.conclude.rules import Terms, ruling_of
from bench.conclude.sides import TIMING_CONDITIONS, Sample, Side
from bench.conclude.verdicts import FAILED, INCONCLUSIVE, NOT_COMPARABLE, Judgement, Ruling, error
from bench.errors import BenchError

GATED: tuple[Measure, ...] = ("steps_to_target", "throughput", "peak_memory")


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
    terms = Terms(rules.alpha, seeded, conditions, same_source)
    units = [unit for unit, _, _ in asked]
    rulings = [
        ruling_of(base, candidate, unit, measure, rule, terms)
        for unit, measure, rule in asked
        if not any(_beyond(unit, side, units) for side in (base, candidate))
    ]
    keys = {(study.workload.name, study.batch_size) for study in plan.units}
    rulings += [_gone(base.samples[key]) for key in base.samples if key not in keys]
    decided = _decided(rulings, rules.alpha)
    return Judgement(plan.suite.name, base, candidate, rules.alpha, tuple(decided), tuple(_apart(decided)))


def rules_of(plan: Plan, measures: tuple[Measure, ...]) -> tuple[Gate, list[tuple[PlanUnit, Measure, AnyRule]]]:
    """What a suite says of its gate, and each rule with its study; raises BenchError where none is for the measures."""
    rules = plan.suite.content.gate or Gate()
    timings = [timing for timing in plan.timings if timing.measure == "throughput"]
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


def _beyond(unit: PlanUnit, side: Side, units: Sequence[PlanUnit]) -> bool:
    """Whether a side ended before a batch size, at a smaller one that did not fit: there it is judged."""
    smaller = (
        side.samples.get((each.workload.name, each.batch_size))
        for each in units
        if each.workload.name == unit.workload.name and each.batch_size < unit.batch_size
    )
    return unit.workload.open_ended and any(sample and not sample.fits for sample in smaller)


def _gone(sample: Sample) -> Ruling:
    values = values_of(sample, "steps_to_target")
    ruling = Ruling(*sample.key, "steps_to_target", None, values, Values(()), devices=sample.devices)
    return error(ruling, NOT_COMPARABLE, "the base has it and the suite has not; accept a new base if it was to go")


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
    before, after = (
        sum(lower >= until for each in values.contenders for lower, _ in each.each)
        for values in (ruling.base, ruling.candidate)
    )
    if ruling.measure == "steps_to_target" and after > before:
        note = f"seeds that missed the target in {until:,.0f} steps: {after} of the candidate and {before} of the base"
        return replace(ruling, verdict="inconclusive", exit_code=INCONCLUSIVE, note=note)
    return replace(ruling, verdict="pass")


def _apart(rulings: Sequence[Ruling]) -> Iterator[str]:
    """Says where the candidate has other metaparameters than the base, so that tuning is part of the difference."""
    steps = [ruling for ruling in rulings if ruling.by is not None]
    apart = [ruling for ruling in steps if ruling.by and ruling.by.apart]
    if apart:
        yield (
            f"the candidate was tuned by itself in {len(apart)} of {len(steps)} studies: their tests allow for the "
            "noise of tuning; 'bench run SUITE --confirm BASE' measures it with the metaparameters of the base"
        )


def _unsettled(ruling: Ruling, alpha: float) -> Ruling:
    """An inconclusive ruling with what it could have seen, were it alone at this level, and what would settle it."""
    assert ruling.limit is not None
    timed, coarse = ruling.measure in TIMING, False
    if timed:
        seen, needed = settle.processes(pair_logs(ruling.base, ruling.candidate), ruling.limit, alpha)
    else:
        assert ruling.by is not None
        seen, needed = settle.seeds(ruling.by.spread, alpha), None
        if ruling.ratio and ruling.ratio.resolved:
            off, strata = math.log(ruling.ratio.value / ruling.limit), max(1, len(ruling.by.strata))
            needed = settle.more_seeds(ruling.by.spread, off, len(ruling.candidate.each), strata, alpha)
            coarse = ruling.by.spread is not None and settle.hidden(ruling.by.spread) >= abs(off)
    falls, unit = higher_is_better(ruling.measure), "processes" if timed else "seeds"
    detectable = ruling.limit * math.exp(-seen if falls else seen) if math.isfinite(seen) else None
    change = f"{'a fall' if falls else 'a rise'} to {detectable:.3g} times the base" if detectable else ""
    enough = (
        f"{needed:,} {unit} a side would settle it" if needed else f"no {settle.MOST_RUNS:,} {unit} would settle it"
    )
    notes = [
        f"could have seen {change}" if change else "too few met the target to tell the spread",
        "evaluations are too far apart to settle it; lower 'resolution'" if coarse else enough,
    ]
    return replace(ruling, exit_code=INCONCLUSIVE, detectable=detectable, needed=needed, note="; ".join(notes))
