"""The race, the replacements and the confirmation, on curves known in advance."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from fakes import Curve, FakeCohort, fake_study, fake_text, listen, look, study_of

from bench.ask.plan import Given
from bench.contracts import OutOfMemory
from bench.events import Known, Recalled
from bench.measure import study


def run(of, curves, known=None, validation_examples=1):
    """Runs a study whose search trials follow `curves` by number; confirmations meet the target from step 20 on."""

    def curve(trial):
        return curves[trial.number] if trial.phase == "search" else Curve(reaches=20)

    return listen(study.run(of, known or {}, validation_examples, lambda trials: FakeCohort(trials, curve), look))


def test_the_race_ends_once_the_earliest_crossing_is_settled():
    # Evaluated at 0 .. 10, 12, 14, 16, 19, 22, 26, 31: a crossing at 19 is settled at 28.5, and so at 31.
    told = run(fake_study(), [Curve(100), Curve(17), Curve(), Curve(18)])
    assert told.ended == {
        ("search", 0): ("overtaken", 19),
        ("search", 1): ("reached", 31),
        ("search", 2): ("overtaken", 19),
        ("search", 3): ("reached", 31),  # a tie is settled too
    }
    assert told.steps_to_target == 19


def test_the_best_three_are_known_before_the_race_ends_where_three_are_confirmed():
    told = run(fake_study(trials=6, seeds=1), [Curve(100), Curve(17), Curve(), Curve(20), Curve(21), Curve(24)])
    assert told.best == [(19, 1), (22, 3), (22, 4)]
    assert told.ended["search", 0] == told.ended["search", 2] == ("overtaken", 22)
    assert told.ended["search", 5] == ("overtaken", 22)


def test_a_trial_with_more_than_one_and_a_half_times_the_fewest_steps_is_not_waited_for():
    told = run(fake_study(seeds=1), [Curve(100), Curve(17), Curve(), Curve(30)])
    assert told.best == [(19, 1)]
    assert {told.ended["search", number] for number in (0, 2, 3)} == {("overtaken", 31)}


def test_first_passage_ends_the_race_at_the_first_evaluation_that_meets_the_target():
    told = run(fake_study(rule="first"), [Curve(100), Curve(17), Curve(), Curve(18)])
    assert told.ended["search", 1] == ("reached", 19)
    assert told.ended["search", 0] == ("overtaken", 19)


def test_trials_wait_at_the_best_crossing_and_are_brought_on_if_it_moves():
    # Trial 0 meets the target at 19 by chance and leaves it again; trial 1 meets it for good at 26.
    chance = {19: 0.05, 22: 0.5}
    curves = [Curve(), Curve(25), Curve(), Curve()]

    class Chance(FakeCohort):
        def advance(self, step, examples=None):
            seen = super().advance(step, examples)
            for trial in seen:
                if (trial.phase, trial.number) == ("search", 0) and step in chance:
                    seen[trial].readings["validation_error"] = chance[step]
            return seen

        def part(self, trials):
            apart = Chance(trials, self.curves.__getitem__)
            apart.step = self.step
            self.drop(trials)
            return apart

    told = listen(
        study.run(fake_study(), {}, 1, lambda trials: Chance(trials, lambda trial: curves[trial.number]), look)
    )
    assert told.steps_to_target == 26
    assert told.ended["search", 1] == ("reached", 44)
    assert told.ended["search", 0] == ("overtaken", 26)


def test_without_a_race_every_trial_goes_on_to_its_budget():
    told = run(fake_study(race="false"), [Curve(100), Curve(17), Curve(), Curve(18)])
    assert [outcome for outcome, _ in told.ended.values()] == ["reached", "reached", "exhausted", "reached"]
    assert {step for _, step in told.ended.values()} == {1000}
    assert told.steps_to_target == 19


def test_slack_lets_near_ties_be_seen_and_no_more():
    told = run(fake_study(race="{slack: 1.5}"), [Curve(24), Curve(17), Curve(), Curve(80)])
    assert told.ranked() == [(19, 1), (26, 0)]
    assert told.ended["search", 2] == told.ended["search", 3] == ("overtaken", 31)


def test_a_study_that_nothing_meets_exhausts_its_budget_and_confirms_nothing():
    told = run(fake_study(seeds=3), [Curve()] * 4)
    assert set(told.ended.values()) == {("exhausted", 1000)}
    assert told.steps_to_target is None
    assert all(trial.phase == "search" for trial in told.started)


def test_a_crossing_that_the_budget_does_not_let_settle_counts_at_the_budget():
    told = run(fake_study(max_steps=20), [Curve(17), Curve(), Curve(), Curve()])
    assert told.ended["search", 0] == ("reached", 20)
    assert told.steps_to_target == 19


def test_a_diverged_trial_is_recorded_at_its_step_and_replaced():
    told = run(fake_study(), [Curve(diverges=3), Curve(100), Curve(), Curve(), Curve(17)])
    assert told.ended["search", 0] == ("diverged", 3)
    assert told.ended["search", 4] == ("reached", 31)
    assert told.steps_to_target == 19


def test_replacements_are_replaced_and_at_most_twice_the_trials_are_drawn():
    told = run(fake_study(), [Curve(diverges=2)] * 8)
    assert len(told.started) == 8
    assert {outcome for outcome, _ in told.ended.values()} == {"diverged"}


def test_a_replacement_can_win_at_a_step_the_study_had_already_passed():
    told = run(fake_study(), [Curve(diverges=30), Curve(100), Curve(), Curve(), Curve(8)])
    assert told.steps_to_target == 8
    assert told.ended["search", 4] == ("reached", 12)


def test_a_trial_that_diverges_after_the_answer_is_known_is_not_replaced():
    told = run(fake_study(race="false"), [Curve(diverges=500), Curve(17), Curve(), Curve(), Curve(1)])
    assert ("search", 4) not in told.ended
    assert told.steps_to_target == 19


def test_a_trial_that_diverges_once_its_crossing_is_settled_still_reached_the_target():
    told = run(fake_study(race="false"), [Curve(reaches=10, diverges=400), Curve(17), Curve(), Curve()])
    assert told.ended["search", 0] == ("reached", 400)
    assert len(told.started) == 4


def test_a_trial_that_diverges_before_its_crossing_is_settled_has_diverged_and_is_replaced():
    told = run(fake_study(race="false"), [Curve(reaches=17, diverges=20), Curve(), Curve(), Curve(), Curve()])
    assert told.ended["search", 0] == ("diverged", 20)
    assert len(told.started) == 5


@pytest.mark.parametrize("rule", ["isotonic", "first"])
@pytest.mark.parametrize("seed", range(200))
def test_the_race_gives_the_answer_of_running_every_trial_to_its_budget(seed, rule):
    draw = random.Random(seed)

    def curve():
        kind = draw.random()
        noisy = draw.randint(0, 10**6) if draw.random() < 0.7 else None
        if kind < 0.3:
            return Curve(diverges=draw.randint(1, 300), noisy=noisy)
        if kind < 0.4:
            return Curve(reaches=draw.randint(1, 150), diverges=draw.randint(150, 300), noisy=noisy)
        return Curve(reaches=draw.choice([None, draw.randint(1, 300)]), noisy=noisy)

    curves = [curve() for _ in range(8)]
    of = {name: fake_study(race=race, seeds=1, rule=rule) for name, race in RACES.items()}
    told = {name: run(each, curves) for name, each in of.items()}
    confirmed = {
        name: [(trial.metaparameters, trial.max_steps) for trial in each.started if trial.phase == "confirm"]
        for name, each in told.items()
    }
    assert confirmed["race"] == confirmed["whole"] == confirmed["slack"]
    ranked = {name: each.ranked(rule) for name, each in told.items()}
    assert ranked["race"][:3] == ranked["whole"][: len(ranked["race"][:3])]
    searched = {
        name: {trial.number for trial in each.started if trial.phase == "search"} for name, each in told.items()
    }
    assert searched["race"] == searched["whole"] == searched["slack"]


RACES = {"race": "true", "whole": "false", "slack": "{slack: 1.25}"}


def test_the_race_takes_a_fraction_of_the_steps():
    curves = [Curve(17), *[Curve()] * 15]
    FakeCohort.steps_taken = 0
    run(fake_study(trials=16), curves)
    raced, FakeCohort.steps_taken = FakeCohort.steps_taken, 0
    run(fake_study(trials=16, race="false"), curves)
    # The winner goes on to 31, where its crossing at 19 is settled; the others wait at 19.
    assert (raced, FakeCohort.steps_taken) == (31 + 15 * 19, 16 * 1000)


def test_the_best_are_confirmed_with_their_values_for_three_times_the_steps_of_the_slowest():
    told = run(fake_study(seeds=3), [Curve(17), Curve(), Curve(20), Curve()])
    again = [trial for trial in told.started if trial.phase == "confirm"]
    assert [trial.max_steps for trial in again] == [66] * 6
    searched = {trial.number: trial.metaparameters for trial in told.started if trial.phase == "search"}
    assert [trial.metaparameters for trial in again] == [searched[0]] * 3 + [searched[2]] * 3
    assert len({trial.init_seed for trial in again} | {trial.order_seed for trial in again}) == 12
    # Evaluated at every step from 9 on, then at 5 % of the step.
    assert [told.ended["confirm", number] for number in range(6)] == [("reached", 30)] * 6
    assert {told.crossing(trial).at for trial in again} == {20}


def test_a_confirmation_that_never_meets_the_target_is_exhausted_at_its_budget():
    def curve(trial):
        return Curve(17) if trial.phase == "search" and trial.number == 0 else Curve()

    told = listen(study.run(fake_study(seeds=2), {}, 1, lambda trials: FakeCohort(trials, curve), look))
    assert told.ended["confirm", 0] == told.ended["confirm", 1] == ("exhausted", 57)


def test_a_lucky_trial_gives_its_confirmations_time_and_never_more_than_the_budget():
    def budget(reaches, **how):
        told = run(fake_study(seeds=1, **how), [Curve(reaches), Curve(), Curve(), Curve()])
        return next(trial.max_steps for trial in told.started if trial.phase == "confirm")

    assert budget(1) == 32
    assert budget(17) == 57
    assert budget(17, max_steps=40) == 40


def test_ties_go_to_the_lowest_trial():
    told = run(fake_study(seeds=1, top=1), [Curve(), Curve(17), Curve(18), Curve()])
    winner = next(trial for trial in told.started if trial.phase == "confirm")
    assert winner.metaparameters == told.started[1].metaparameters


def test_a_trial_is_tested_where_it_crosses_its_target_or_at_its_end():
    told = run(fake_study(seeds=2), [Curve(17), Curve(), Curve(diverges=2), Curve(), Curve()])
    tested = {
        name: [step for step, seen in steps.items() if "test_error" in seen] for name, steps in told.readings.items()
    }
    for trial in told.started:
        outcome = told.ended[trial.phase, trial.number][0]
        if outcome == "reached":
            assert tested[trial.id] == [told.crossing(trial).at]
        else:
            assert not tested.get(trial.id)


def known_of(told):
    """What an archive would know after those events."""
    known = {}
    for trial in told.started:
        outcome, step = told.ended[trial.phase, trial.number]
        known[trial.id] = Known(outcome, step, told.crossing(trial).at)
    return known


CURVES = [Curve(100), Curve(diverges=5), Curve(40), Curve(), Curve(90), Curve(), Curve(11), Curve(), Curve(), Curve()]


def test_a_study_of_which_everything_is_known_trains_nothing():
    first = run(fake_study(seeds=2), CURVES)
    of = fake_study(seeds=2)
    events = list(study.run(of, known_of(first), 1, lambda trials: pytest.fail("trained again"), look))
    recalled = [trial for event in events if isinstance(event, Recalled) for trial in event.trials]
    assert {trial.id for trial in recalled} == {trial.id for trial in first.started}


def test_a_trial_more_trains_that_trial_alone_and_only_as_far_as_the_best():
    first = run(fake_study(trials=4), CURVES)
    assert first.steps_to_target == 44
    more = run(fake_study(trials=6), CURVES, known_of(first))
    assert [trial.number for trial in more.started] == [5, 6]
    assert more.ended == {("search", 5): ("overtaken", 12), ("search", 6): ("reached", 19)}


def test_trials_that_another_trial_overtook_go_further_when_that_one_is_gone():
    first = run(fake_study(trials=7), CURVES)
    assert first.steps_to_target == 12
    fewer = run(fake_study(trials=4), CURVES, known_of(first))
    fresh = run(fake_study(trials=4), CURVES)
    assert fewer.steps_to_target == fresh.steps_to_target == 44


def test_each_trial_of_a_study_has_one_outcome_whatever_the_resolution():
    for validation_examples in (1, 100, 5000, 10**6):
        told = run(fake_study(seeds=2), CURVES, validation_examples=validation_examples)
        assert len(told.ended) == len(told.started)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(40))
def test_trials_that_do_not_fit_together_give_the_same_answer_in_chunks(monkeypatch, seed, room):
    draw = random.Random(seed)
    kinds = [lambda: Curve(diverges=draw.randint(1, 300)), lambda: Curve(draw.randint(1, 300)), Curve]
    curves = [draw.choice(kinds)() for _ in range(16)]
    whole = run(fake_study(trials=8, seeds=3), curves)
    monkeypatch.setattr(FakeCohort, "room", room)
    chunked = run(fake_study(trials=8, seeds=3), curves)
    assert chunked.steps_to_target == whole.steps_to_target
    assert {trial.id for trial in chunked.started} == {trial.id for trial in whole.started}
    confirmed = {key: value for key, value in whole.ended.items() if key[0] == "confirm"}
    assert confirmed == {key: value for key, value in chunked.ended.items() if key[0] == "confirm"}
    assert len(chunked.ended) == len(chunked.started)


def test_later_chunks_go_no_further_than_the_best_step_so_far(monkeypatch):
    monkeypatch.setattr(FakeCohort, "room", 2)
    told = run(fake_study(), [Curve(), Curve(17), Curve(), Curve(100)])
    assert told.ended["search", 2] == told.ended["search", 3] == ("overtaken", 19)


def test_a_trial_that_does_not_fit_alone_is_the_studys_to_report(monkeypatch):
    monkeypatch.setattr(FakeCohort, "room", 0)
    with pytest.raises(OutOfMemory):
        run(fake_study(), [Curve(17)] * 4)


def test_a_trial_that_ran_out_of_memory_while_it_was_tested_reaches_the_target_where_it_did(monkeypatch):
    tested = []

    def test(self, trials):
        tested.append(trials)
        if len(tested) == 1:
            raise OutOfMemory
        return {trial: {"test_error": 0.2} for trial in trials}

    monkeypatch.setattr(FakeCohort, "test", test)
    told = run(fake_study(), [Curve(50), Curve(100), Curve(), Curve()])
    assert told.ended["search", 0] == ("reached", 88)
    assert told.steps_to_target == 52


def test_a_refined_search_draws_about_the_best_and_they_may_win():
    of = study_of(fake_text(seeds=1).replace("search: {", "search: {refine: 3, "))

    def curve(trial):
        rates = {0: 30, 1: 40, 8: 25, 9: 300}
        return Curve(rates.get(trial.number)) if trial.phase == "search" else Curve(20)

    told = listen(study.run(of, {}, 1, lambda trials: FakeCohort(trials, curve), look))
    more = [trial for trial in told.started if trial.phase == "search" and trial.number >= 8]
    assert [trial.number for trial in more] == [8, 9, 10]
    assert told.best[0][1] == 8
    # The distance of four trials on every side of the best two, on a logarithmic scale of two decades.
    near = [trial.metaparameters["learning_rate"] for trial in told.started if trial.number in (0, 1)][:2]
    ends = min(near) / 10**0.5, max(near) * 10**0.5
    assert all(ends[0] <= trial.metaparameters["learning_rate"] <= ends[1] for trial in more)
    again = listen(study.run(of, known_of(told), 1, lambda trials: pytest.fail("trained again"), look))
    assert again.started == []


def test_a_study_that_is_given_what_to_confirm_trains_the_same_trials_without_a_search():
    searched = fake_study(trials=6, seeds=2)
    curves = [Curve(100), Curve(17), Curve(), Curve(20), Curve(21), Curve(24)]
    found = run(searched, curves)
    metaparameters = {trial.number: trial.metaparameters for trial in found.started if trial.phase == "search"}
    given = replace(searched, given=tuple(Given(number, steps, metaparameters[number]) for steps, number in found.best))
    told = run(given, curves)
    confirmed = [trial for trial in found.started if trial.phase == "confirm"]
    assert told.started == confirmed
    assert [told.readings[trial.id] for trial in confirmed] == [found.readings[trial.id] for trial in confirmed]
    assert given.id != searched.id
    assert given.most_steps < searched.most_steps
