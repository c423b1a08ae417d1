"""The race, the replacements and the confirmation, on curves known in advance."""

from __future__ import annotations

import random

import pytest
from fakes import Curve, FakeCohort, fake_study, listen, look

from bench.contracts import OutOfMemory
from bench.events import Known, Recalled
from bench.measure import study


def run(of, curves, known=None, validation_examples=1):
    """Runs a study whose search trials follow `curves` by number; confirmations reach the target at step 20."""

    def curve(trial):
        return curves[trial.number] if trial.phase == "search" else Curve(reaches=20)

    return listen(study.run(of, known or {}, validation_examples, lambda trials: FakeCohort(trials, curve), look))


def test_the_race_ends_at_the_first_evaluation_that_meets_the_target():
    told = run(fake_study(), [Curve(100), Curve(17), Curve(), Curve(18)])
    assert told.ended == {
        ("search", 0): ("overtaken", 19),
        ("search", 1): ("reached", 19),
        ("search", 2): ("overtaken", 19),
        ("search", 3): ("reached", 19),
    }
    assert told.steps_to_target == 19


def test_without_a_race_every_trial_goes_on_to_its_budget():
    told = run(fake_study(race="false"), [Curve(100), Curve(17), Curve(), Curve(18)])
    assert [outcome for outcome, _ in told.ended.values()] == ["reached", "reached", "exhausted", "reached"]
    assert {step for _, step in told.ended.values()} == {1000}
    assert told.steps_to_target == 19


def test_slack_lets_near_ties_be_seen_and_no_more():
    told = run(fake_study(race="{slack: 1.5}"), [Curve(27), Curve(17), Curve(), Curve(80)])
    assert told.ended["search", 1] == ("reached", 19)
    assert told.ended["search", 0] == ("reached", 31)
    assert told.ended["search", 2] == told.ended["search", 3] == ("overtaken", 31)


def test_a_study_that_nothing_meets_exhausts_its_budget_and_confirms_nothing():
    told = run(fake_study(seeds=3), [Curve()] * 4)
    assert set(told.ended.values()) == {("exhausted", 1000)}
    assert told.steps_to_target is None
    assert all(trial.phase == "search" for trial in told.started)


def test_a_diverged_trial_is_recorded_at_its_step_and_replaced():
    told = run(fake_study(), [Curve(diverges=3), Curve(100), Curve(), Curve(), Curve(17)])
    assert told.ended["search", 0] == ("diverged", 3)
    assert told.ended["search", 4] == ("reached", 19)
    assert told.steps_to_target == 19


def test_replacements_are_replaced_and_at_most_twice_the_trials_are_drawn():
    told = run(fake_study(), [Curve(diverges=2)] * 8)
    assert len(told.started) == 8
    assert {outcome for outcome, _ in told.ended.values()} == {"diverged"}


def test_a_replacement_can_win_at_a_step_the_study_had_already_passed():
    told = run(fake_study(), [Curve(diverges=30), Curve(100), Curve(), Curve(), Curve(8)])
    assert told.steps_to_target == 8
    assert told.ended["search", 4] == ("reached", 8)


def test_a_trial_that_diverges_after_the_answer_is_known_is_not_replaced():
    told = run(fake_study(race="false"), [Curve(diverges=500), Curve(17), Curve(), Curve(), Curve(1)])
    assert ("search", 4) not in told.ended
    assert told.steps_to_target == 19


def test_a_trial_that_reached_the_target_and_then_diverged_still_reached_it():
    told = run(fake_study(race="false"), [Curve(reaches=10, diverges=400), Curve(17), Curve(), Curve()])
    assert told.ended["search", 0] == ("reached", 400)
    assert len(told.started) == 4


@pytest.mark.parametrize("seed", range(200))
def test_the_race_gives_the_answer_of_running_every_trial_to_its_budget(seed):
    draw = random.Random(seed)

    def curve():
        kind = draw.random()
        if kind < 0.3:
            return Curve(diverges=draw.randint(1, 300))
        if kind < 0.4:
            return Curve(reaches=draw.randint(1, 150), diverges=draw.randint(150, 300))
        return Curve(reaches=draw.choice([None, draw.randint(1, 300)]))

    curves = [curve() for _ in range(8)]
    raced = run(fake_study(race="true"), curves)
    whole = run(fake_study(race="false"), curves)
    slack = run(fake_study(race="{slack: 1.25}"), curves)
    assert raced.steps_to_target == whole.steps_to_target == slack.steps_to_target
    assert {trial.number for trial in raced.started} == {trial.number for trial in whole.started}


def test_the_race_takes_a_fraction_of_the_steps():
    curves = [Curve(17), *[Curve()] * 15]
    FakeCohort.steps_taken = 0
    run(fake_study(trials=16), curves)
    raced, FakeCohort.steps_taken = FakeCohort.steps_taken, 0
    run(fake_study(trials=16, race="false"), curves)
    assert (raced, FakeCohort.steps_taken) == (16 * 19, 16 * 1000)


def test_the_winner_is_confirmed_with_its_values_for_three_times_its_steps():
    told = run(fake_study(seeds=3), [Curve(17), Curve(), Curve(), Curve()])
    again = [trial for trial in told.started if trial.phase == "confirm"]
    assert [trial.max_steps for trial in again] == [57, 57, 57]
    assert all(trial.metaparameters == told.started[0].metaparameters for trial in again)
    assert len({trial.init_seed for trial in again} | {trial.order_seed for trial in again}) == 6
    assert [told.ended["confirm", number] for number in range(3)] == [("reached", 22)] * 3


def test_a_confirmation_that_never_meets_the_target_is_exhausted_at_its_budget():
    def curve(trial):
        return Curve(17) if trial.phase == "search" else Curve()

    told = listen(study.run(fake_study(seeds=2), {}, 1, lambda trials: FakeCohort(trials, curve), look))
    assert told.ended["confirm", 0] == told.ended["confirm", 1] == ("exhausted", 57)


def test_ties_go_to_the_lowest_trial():
    told = run(fake_study(seeds=1), [Curve(), Curve(17), Curve(18), Curve()])
    winner = next(trial for trial in told.started if trial.phase == "confirm")
    assert winner.metaparameters == told.started[1].metaparameters


def test_every_ended_trial_but_the_overtaken_has_a_test_reading():
    told = run(fake_study(seeds=2), [Curve(17), Curve(), Curve(diverges=2), Curve(), Curve()])
    tested = {name for name, steps in told.readings.items() if any("test_error" in seen for seen in steps.values())}
    for trial in told.started:
        outcome = told.ended[trial.phase, trial.number][0]
        assert (trial.id in tested) == (outcome == "reached")


def known_of(told):
    """What an archive would know after those events."""
    known = {}
    for trial in told.started:
        outcome, step = told.ended[trial.phase, trial.number]
        met = [at for at, seen in told.readings.get(trial.id, {}).items() if seen.get("validation_error", 1) <= 0.1]
        known[trial.id] = Known(outcome, step, min(met, default=None))
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
    assert more.ended == {("search", 5): ("overtaken", 12), ("search", 6): ("reached", 12)}


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
    assert told.ended["search", 0] == ("reached", 52)
    assert told.steps_to_target == 52
