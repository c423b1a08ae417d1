"""A gate fails on evidence alone, and never passes for want of it; the studies are summaries made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy
import pytest
from scipy import stats
from sides_by_hand import gate, plan_of, side, timed
from summaries import summary

from bench.conclude import gate as stages
from bench.conclude.evidence import rcp_p
from bench.conclude.sides import Contender, Side
from bench.conclude.verdicts import FAILED, INCOMPLETE, INCONCLUSIVE, NOT_COMPARABLE, PASSED
from bench.errors import BenchError

STEPS = "{steps_to_target: {tolerance: 0.25}}"
BASE = [100, 104, 98, 110, 102]


def study(seeds, size=32, steps=90, digest="", **changes):
    """A study confirmed by `seeds`; the digest tells trainings apart."""
    made = summary(size, steps, seeds=seeds, **changes)
    return replace(made, confirmed=made.confirmed and replace(made.confirmed, digest=digest))


def judge(base, candidate, rules=STEPS, sizes=(32,), **environment):
    """The judgement of studies against studies."""
    return gate(plan_of(rules, sizes), side(*base), side(*candidate, name="candidate", **environment))


def ruling(*arguments, **keywords):
    (only,) = judge(*arguments, **keywords).rulings
    return only


def worse(factor, seeds=BASE):
    return [factor * value for value in seeds]


# ---- steps to target -----------------------------------------------------------------------------------------------


def test_a_candidate_within_the_tolerance_beyond_doubt_passes():
    found = ruling([study(BASE, resolution=0)], [study(worse(1.02), resolution=0)])
    assert (found.verdict, found.exit_code) == ("pass", PASSED)
    off = numpy.log(worse(1.02)) - math.log(1.25)
    assert found.p_within == pytest.approx(stats.ttest_ind(off, numpy.log(BASE), alternative="less").pvalue, rel=0.05)


def test_a_candidate_worse_than_tolerated_beyond_doubt_fails():
    found = ruling([study(BASE)], [study(worse(1.6))])
    assert (found.verdict, found.exit_code) == ("fail", FAILED)
    assert found.ratio.low > 1.25


def test_what_chance_explains_is_inconclusive_and_says_what_would_settle_it():
    judgement = judge([study(BASE, resolution=0.01)], [study(worse(1.22), resolution=0.01)])
    (found,) = judgement.rulings
    assert (found.verdict, judgement.exit_code) == ("inconclusive", INCONCLUSIVE)
    assert 1.25 < found.detectable < 1.6
    assert 5 < found.needed <= 1000
    assert f"{found.needed:,} seeds a side would settle it" in found.note


def test_the_seeds_said_to_settle_it_do():
    found = ruling([study(BASE, resolution=0.01)], [study(worse(1.2), resolution=0.01)])
    times = found.needed / len(BASE)
    more = BASE * math.ceil(times)
    assert ruling([study(more, resolution=0.01)], [study(worse(1.2, more), resolution=0.01)]).verdict == "pass"


def test_what_evaluations_hide_no_seeds_would_settle():
    found = ruling([study(BASE, resolution=0.2)], [study(worse(1.22), resolution=0.2)])
    assert (found.verdict, found.needed) == ("inconclusive", None)
    assert "evaluations are too far apart to settle it; lower 'resolution'" in found.note


def test_equal_trainings_are_identical_whatever_their_spread():
    found = ruling(
        [study([90, 260, math.inf, 100, 120], digest="x")], [study([90, 260, math.inf, 100, 120], digest="x")]
    )
    assert (found.verdict, found.exit_code) == ("identical", PASSED)


def test_equal_steps_of_other_trainings_are_tested():
    assert ruling([study(BASE, digest="x")], [study(BASE, digest="y")]).verdict == "pass"


def test_misses_count_by_their_order():
    assert ruling([study(BASE)], [study([math.inf] * 5)]).verdict == "fail"
    assert ruling([study([math.inf] * 5)], [study([math.inf] * 5)]).verdict == "inconclusive"


def test_a_candidate_that_never_meets_a_target_the_base_meets_fails():
    found = ruling([study(BASE)], [summary(32, None)])
    assert (found.verdict, found.exit_code) == ("fail", FAILED)
    assert "no trial of the candidate met the target in 10,000 steps" in found.note
    short = ruling([study(BASE)], [summary(32, None, max_steps=110)])
    assert (short.verdict, short.exit_code) == ("error", INCOMPLETE)


def test_a_candidate_that_never_meets_a_target_is_no_failure_without_clear_room_for_the_slowest_seed_of_the_base():
    found = ruling([study([*BASE[:4], 130])], [summary(32, None, max_steps=140)])
    assert (found.verdict, found.exit_code) == ("error", INCOMPLETE)
    found = ruling([summary(32, 90)], [summary(32, None)])
    assert (found.verdict, found.exit_code) == ("error", INCOMPLETE)


def test_a_candidate_that_misses_more_seeds_than_the_base_is_no_pass():
    base = [100, 104, 98, 110, 102, 101, 99, 103, 105, 97]
    found = ruling([study(base)], [study([*worse(0.5, base[:9]), math.inf])])
    assert (found.verdict, found.exit_code) == ("inconclusive", INCONCLUSIVE)
    assert found.note == "seeds that missed the target in 270 steps: 1 of the candidate and 0 of the base"


def test_steps_to_target_may_be_compared_across_devices():
    assert ruling([study(BASE)], [study(worse(1.01))], device="another").verdict == "pass"


def contenders(best, rates=(0.1, 0.2, 0.3), **changes):
    """A study that confirmed three learning rates, the others a little slower than the best."""
    others = [({"learning_rate": rate}, worse(1.1, best)) for rate in rates[1:]]
    return study(best, learning_rate=rates[0], others=others, **changes)


def test_seeds_of_every_candidate_are_evidence():
    alone, three = ruling([study(BASE)], [study(worse(1.5))]), ruling([contenders(BASE)], [contenders(worse(1.5))])
    assert three.p_worse < alone.p_worse**2 < 1e-6
    assert "apart" not in " ".join(judge([contenders(BASE)], [contenders(worse(1.5))]).notes)


def test_a_candidate_that_was_tuned_by_itself_is_told_and_judged_with_the_noise_of_tuning():
    judgement = judge([contenders(BASE)], [contenders(worse(1.02), (0.4, 0.5, 0.6))])
    assert judgement.verdict == "pass"
    (note,) = judgement.notes
    assert note.startswith(
        "the candidate was tuned by itself in 1 of 1 studies: their tests allow for the noise of tuning"
    )
    assert judge([contenders(BASE)], [contenders(worse(2), (0.4, 0.5, 0.6))]).verdict == "fail"


def test_seeds_that_were_overtaken_are_no_misses():
    late = [(95, 100), (99, 104), (110, math.inf), (110, math.inf), (110, math.inf)]
    both = []
    for factor, name in ((1, "base"), (1.02, "candidate")):
        made = side(study(worse(factor)), name=name)
        (best,) = made.samples["w", 32].contenders
        beaten = Contender({"learning_rate": 0.2}, 1, 95, tuple(late))
        sample = replace(made.samples["w", 32], contenders=(best, beaten), trajectory=name)
        both.append(replace(made, samples={sample.key: sample}))
    (found,) = gate(plan_of(), *both).rulings
    assert (found.verdict, found.note) == ("pass", "")


def test_a_base_whose_steps_were_read_by_another_rule_is_not_comparable():
    found = ruling([replace(study(BASE), rule="first")], [study(BASE)])
    assert (found.verdict, found.exit_code) == ("error", NOT_COMPARABLE)
    assert found.note == "steps to target were read by the rule first and are by isotonic"


def test_a_lone_regression_among_seven_rules_is_seen():
    sizes = (1, 2, 4, 8, 16, 32, 64)
    base = [study(BASE, size) for size in sizes]
    judgement = judge(base, [*base[:6], study(worse(2), 64)], sizes=sizes)
    assert [found.verdict for found in judgement.rulings] == ["pass"] * 6 + ["fail"]
    assert judgement.exit_code == FAILED


def test_rules_for_time_do_not_tax_those_for_steps():
    sizes = (1, 2, 4, 8, 16, 32, 64)
    rules = "{steps_to_target: {tolerance: 0.25}, throughput: {tolerance: 0.05}}"
    base = [clocked(SECONDS, size=size) for size in sizes]
    slow = replace(study(worse(100), 64, budget=10**6), timed=base[-1].timed)
    judgement = judge(base, [*base[:6], slow], rules, sizes)
    assert len(judgement.rulings) == 14
    assert [found.verdict for found in judgement.rulings[:7]] == ["pass"] * 6 + ["fail"]


# ---- what is no pass -----------------------------------------------------------------------------------------------

MANY = "{steps_to_target: {tolerance: 0.25}, alpha: 0.01}"

ERRORS = {
    "the candidate lacks it": ([study(BASE)], [], STEPS, INCOMPLETE),
    "the base lacks it": ([], [study(BASE)], STEPS, NOT_COMPARABLE),
    "the candidate's study was not measured": (
        [study(BASE)],
        [study(BASE, status="not measured")],
        STEPS,
        INCOMPLETE,
    ),
    "the base's study was infeasible": ([study(BASE, status="infeasible")], [study(BASE)], STEPS, NOT_COMPARABLE),
    "the target was validation_error <= 0.1 of digits and is validation_error <= 0.2": (
        [study(BASE)],
        [study(BASE, threshold={"at_most": 0.2})],
        STEPS,
        NOT_COMPARABLE,
    ),
    "no trial of the base met the target": ([summary(32, None)], [study(BASE)], STEPS, NOT_COMPARABLE),
    "5 and 3 seeds cannot carry one rule; confirm with 5 on both sides": (
        [study(BASE)],
        [study(BASE[:3])],
        MANY,
        INCOMPLETE,
    ),
    "3 and 5 seeds cannot carry one rule": ([study(BASE[:3])], [study(BASE)], MANY, NOT_COMPARABLE),
    "0 and 0 seeds cannot carry one rule": ([summary(32, 90)], [summary(32, 90)], STEPS, INCOMPLETE),
    "found 1,040 where its neighbours have 101": (
        [study([100, 1040, 98, 110, 102], budget=9999)],
        [study(worse(2))],
        STEPS,
        NOT_COMPARABLE,
    ),
    "found 9.8 where its neighbours have 103": (
        [study([100, 104, 9.8, 110, 102])],
        [study(BASE)],
        STEPS,
        NOT_COMPARABLE,
    ),
    "found 1,040 steps, beyond its budget of 300": (
        [study([1040] * 5, budget=300)],
        [study(BASE)],
        STEPS,
        NOT_COMPARABLE,
    ),
}


@pytest.mark.parametrize("sentence", ERRORS)
def test_what_cannot_be_judged_is_an_error_with_its_exit_code(sentence):
    base, candidate, rules, exit_code = ERRORS[sentence]
    judgement = judge(base, candidate, rules)
    (found,) = judgement.rulings
    assert (found.verdict, judgement.exit_code) == ("error", exit_code)
    assert sentence in found.note


def test_not_a_number_is_an_error_on_either_side():
    good = side(study(BASE))
    for place, code in ((0, NOT_COMPARABLE), (1, INCOMPLETE)):
        sides = [good, good]
        (best,) = good.samples["w", 32].contenders
        spoiled = replace(best, each=((90, 100.0), (90, math.nan), (90, 98), (90, 110), (90, 102)))
        sample = replace(good.samples["w", 32], contenders=(spoiled,), trajectory="x")
        sides[place] = Side("broken", "gated", good.environments, {sample.key: sample})
        judgement = gate(plan_of(), *sides)
        assert (judgement.verdict, judgement.exit_code) == ("error", code)


def test_a_candidate_with_fewer_seeds_than_the_suite_asks_for_is_incomplete():
    judgement = gate(plan_of(seeds=5), side(study(BASE)), side(study(BASE[:4])))
    assert (judgement.verdict, judgement.exit_code) == ("error", INCOMPLETE)
    assert "the candidate has 4 seeds of 5" in judgement.rulings[0].note


@pytest.mark.parametrize("rules", [STEPS, "{throughput: {tolerance: 0.05}}"])
def test_a_candidate_of_another_suite_or_source_is_incomplete_and_two_sources_side_by_side_are_not(rules):
    both = side(clocked(SECONDS)), side(clocked(SECONDS))
    found = stages.gate(plan_of(rules), *both)
    assert (found.verdict, found.exit_code) == ("error", INCOMPLETE)
    assert "measured of another suite, source or data" in found.rulings[0].note
    assert stages.gate(plan_of(rules), *both, same_source=False).verdict == "pass"


TOLD = (Contender({"learning_rate": 0.1}, 0, 90, ((9, 10.0),) * 5),)


@pytest.mark.parametrize("changes", [{"contenders": TOLD}, {"budget": 999}, {"test_errors": (0.5,)}])
def test_a_base_that_tells_other_numbers_of_equal_trainings_is_not_believed(changes):
    base = side(study(BASE, digest="x"))
    edited = replace(base, samples={key: replace(each, **changes) for key, each in base.samples.items()})
    judgement = gate(plan_of(), edited, base)
    assert (judgement.verdict, judgement.exit_code) == ("error", NOT_COMPARABLE)
    assert "the base does not validate: it holds other numbers" in judgement.rulings[0].note


def test_a_workload_that_left_the_suite_is_not_passed_over():
    judgement = judge([study(BASE), study(BASE, 64)], [study(BASE)])
    assert [found.verdict for found in judgement.rulings] == ["pass", "error"]
    assert judgement.exit_code == NOT_COMPARABLE


def test_a_regression_comes_before_an_error_and_what_was_not_measured_before_what_cannot_be_compared():
    base = [study(BASE, size) for size in (1, 2)]
    assert judge(base, [study(worse(2), 1)], sizes=(1, 2)).exit_code == FAILED
    assert judge(base, [study(BASE, 1)], sizes=(1, 2, 4)).exit_code == INCOMPLETE


def test_a_suite_without_rules_cannot_gate():
    with pytest.raises(
        BenchError, match="has no 'gate' for steps_to_target or throughput or peak_memory; give it rules"
    ):
        gate(plan_of("null"), side(), side())


# ---- time and memory -----------------------------------------------------------------------------------------------

SPEED = "{throughput: {tolerance: 0.05}}"
SECONDS = [0.0100, 0.0102, 0.0101, 0.0099, 0.0103]


def clocked(seconds, memory=None, precision="fp32", **changes):
    return replace(study(BASE, **changes), timed=timed(seconds, memory, precision))


def test_a_candidate_as_fast_beyond_doubt_passes_and_a_slower_one_fails():
    assert ruling([clocked(SECONDS)], [clocked(SECONDS[::-1])], SPEED).verdict == "pass"
    found = ruling([clocked(SECONDS)], [clocked(worse(1.15, SECONDS[::-1]))], SPEED)
    assert (found.verdict, found.exit_code) == ("fail", FAILED)
    assert found.ratio.value == pytest.approx(1 / 1.15, rel=0.01)
    assert found.limit == 0.95


def test_a_noisy_machine_is_inconclusive_and_says_what_would_settle_it():
    noisy = [0.0130, 0.0090, 0.0140, 0.0085, 0.0150]
    found = ruling([clocked(SECONDS)], [clocked(noisy)], SPEED)
    assert found.verdict == "inconclusive"
    assert found.detectable < 0.8
    assert "a fall to" in found.note
    assert "processes" in found.note


def test_what_was_timed_and_not_trained_can_be_gated_for_speed_alone():
    quick, slow = (clocked(seconds, status="not measured") for seconds in (SECONDS, worse(1.15, SECONDS)))
    both = "{steps_to_target: {tolerance: 0.25}, throughput: {tolerance: 0.05}}"
    found = gate(plan_of(both), side(quick), side(slow), measures=("throughput",))
    assert [each.verdict for each in found.rulings] == ["fail"]
    assert gate(plan_of(both), side(quick), side(slow)).exit_code == FAILED
    assert gate(plan_of(both), side(quick), side(quick)).exit_code == INCOMPLETE


def test_steps_of_a_candidate_that_was_only_timed_are_missing_and_its_target_is_no_other():
    timings = timed(SECONDS)
    only_timed = replace(study(BASE), study=timings.study, found=None, confirmed=None, timed=timings)
    found = ruling([study(BASE)], [only_timed])
    assert (found.exit_code, found.note) == (INCOMPLETE, "the candidate's study was not measured; run the suite")
    found = ruling([only_timed], [study(BASE)])
    assert found.exit_code == NOT_COMPARABLE
    assert found.note == "the base's study was not measured; run it, or accept a new base"


@pytest.mark.parametrize("moment", [0.0200, 0.1030, 0.0010])
def test_one_pair_in_a_bad_moment_of_the_machine_is_no_evidence_and_no_error(moment):
    troubled = [*SECONDS[:4], moment]
    assert ruling([clocked(SECONDS)], [clocked(troubled)], SPEED).verdict == "inconclusive"
    assert ruling([clocked(troubled)], [clocked(SECONDS)], SPEED).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("base", "candidate", "sentence", "code"),
    [
        (clocked(SECONDS), study(BASE), "the candidate was not timed", INCOMPLETE),
        (study(BASE), clocked(SECONDS), "the base was not timed", NOT_COMPARABLE),
        (clocked(SECONDS), clocked(SECONDS[:2]), "5 and 2 processes; time both in as many, 3 or more", INCOMPLETE),
        (clocked(SECONDS), clocked(SECONDS[:4]), "5 and 4 processes; time both in as many", NOT_COMPARABLE),
        (
            clocked(SECONDS),
            clocked([*SECONDS[:4], math.nan]),
            "the candidate has a value that is no amount",
            INCOMPLETE,
        ),
        (clocked([*SECONDS[:4], math.nan]), clocked(SECONDS), "found nan among its values", NOT_COMPARABLE),
        (clocked(SECONDS), clocked(SECONDS, precision="bf16"), "the precision was fp32 and is bf16", NOT_COMPARABLE),
    ],
)
def test_times_that_cannot_be_compared_are_an_error(base, candidate, sentence, code):
    judgement = judge([base], [candidate], SPEED)
    (found,) = judgement.rulings
    assert (found.verdict, judgement.exit_code) == ("error", code)
    assert sentence in found.note


@pytest.mark.parametrize("changed", [{"device": "another"}, {"torch": "2.16.0"}, {"threads": 2}])
def test_times_of_another_device_torch_or_number_of_threads_are_not_comparable(changed):
    judgement = judge([clocked(SECONDS)], [clocked(SECONDS)], SPEED, **changed)
    assert (judgement.verdict, judgement.exit_code) == ("error", NOT_COMPARABLE)
    assert "timed under unlike conditions" in judgement.rulings[0].note


def test_what_else_an_environment_says_does_not_matter():
    assert ruling([clocked(SECONDS)], [clocked(SECONDS)], SPEED, commit="def").verdict == "pass"


def test_memory_that_never_varies_is_identical_within_or_beyond_the_tolerance():
    rules = "{peak_memory: {tolerance: 0.1}}"
    for memory, verdict in ((1e9, "identical"), (1.05e9, "pass"), (1.2e9, "fail")):
        assert ruling([clocked(SECONDS)], [clocked(SECONDS, [memory] * 5)], rules).verdict == verdict


def fell_over():
    """A process that ended by memory: it has a peak and no time."""
    found = timed(SECONDS[:1], [2e9], infeasible=True)
    return replace(study(BASE), timed=replace(found, processes=(replace(found.processes[0], windows=()),)))


@pytest.mark.parametrize("rules", [SPEED, "{peak_memory: {tolerance: 0.1}}"])
def test_what_no_longer_fits_in_memory_fails_and_a_base_that_did_not_is_none(rules):
    found = ruling([clocked(SECONDS)], [fell_over()], rules)
    assert (found.verdict, found.exit_code, found.note) == ("fail", FAILED, "no longer fits in memory")
    found = ruling([fell_over()], [clocked(SECONDS)], rules)
    assert (found.verdict, found.exit_code) == ("error", NOT_COMPARABLE)
    assert ruling([clocked(SECONDS)], [fell_over()], rules, device="another").exit_code == NOT_COMPARABLE


def test_a_training_that_no_longer_fits_fails_on_the_device_of_the_base():
    found = ruling([study(BASE)], [study(BASE, status="infeasible")])
    assert (found.verdict, found.note) == ("fail", "no longer fits in memory")
    found = ruling([study(BASE)], [study(BASE, status="infeasible")], device="another")
    assert (found.verdict, found.exit_code) == ("error", NOT_COMPARABLE)


OPEN = "{from: 32, to: max, factor: 2}"


def open_ended(last, candidate_last, rules=STEPS):
    """Verdicts by batch size, of sides that were tried up to the first size that did not fit."""
    plan = plan_of(rules, OPEN)
    sides = [
        side(
            *(
                study(BASE, size, status="infeasible" if size == end else "measured")
                for size in (32, 64, 128)
                if size <= end
            )
        )
        for end in (last, candidate_last)
    ]
    return [(found.batch_size, found.verdict) for found in gate(plan, *sides).rulings]


def test_batch_sizes_up_to_what_fits_are_judged_up_to_the_first_that_did_not():
    assert open_ended(128, 128) == [(32, "pass"), (64, "pass"), (128, "identical")]
    assert open_ended(128, 64) == [(32, "pass"), (64, "fail")]
    assert open_ended(64, 128) == [(32, "pass"), (64, "error")]


# ---- MLPerf's rule ---------------------------------------------------------------------------------------------------

RCP = "{steps_to_target: {rule: rcp}}"
REFERENCE = [16, 14, 16, 17, 16, 16, 15, 16, 15, 16]


@pytest.mark.parametrize(
    ("candidates", "verdict"), [([15, 15, 15, 16, 16], "pass"), ([14, 14, 15, 15, 15], "fail"), ([20] * 5, "pass")]
)
def test_reference_convergence_points_allow_what_is_not_suspiciously_fast(candidates, verdict):
    found = ruling([study(REFERENCE, steps=14)], [study(candidates, steps=14)], RCP)
    assert found.verdict == verdict
    assert "allow 15.21" in found.note


def test_reference_convergence_points_are_adjusted_with_the_rules_beside_them():
    sizes = (1, 2, 4, 8)
    borderline = [15, 15, 15, 15, 15]
    assert ruling([study(REFERENCE, steps=14)], [study(borderline, steps=14)], RCP).verdict == "fail"
    base = [study(REFERENCE, size, steps=14) for size in sizes]
    candidate = [*(study([16] * 5, size, steps=14) for size in sizes[:3]), study(borderline, 8, steps=14)]
    last = judge(base, candidate, RCP, sizes).rulings[-1]
    alone = rcp_p(REFERENCE, borderline)
    assert last.p_worse == pytest.approx(4 * alone)
    assert last.verdict == "pass"


def test_a_typo_in_the_reference_cannot_make_the_bound_vacuous():
    typo = [160 if place == 3 else value for place, value in enumerate(REFERENCE)]
    found = ruling([study(typo, steps=60)], [study([5, 5, 5, 5, 5], steps=5)], RCP)
    assert (found.verdict, found.exit_code) == ("error", NOT_COMPARABLE)
    assert "found 160 where its neighbours have 16" in found.note


@pytest.mark.parametrize(
    ("candidates", "sentence"),
    [([15, 15, 16], "3 seeds; reference convergence points need 4"), ([15, 15, 16, math.inf], "missed the target")],
)
def test_reference_convergence_points_need_every_seed_of_four(candidates, sentence):
    found = ruling([study(REFERENCE, steps=14)], [study(candidates, steps=14)], RCP)
    assert (found.verdict, found.exit_code) == ("error", INCOMPLETE)
    assert sentence in found.note
