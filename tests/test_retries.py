"""What is tried next of a study whose worker, or whose machine, went."""

from __future__ import annotations

from fakes import fake_study

from bench.events import Evaluated, Failed, Lost, Started
from bench.run.retries import MOST_INTERRUPTED, Retries

GONE = Lost("its job is gone", "interrupted")


def tries(steps):
    """On how many machines a study is begun that each go when it has evaluated the next of some steps."""
    study = fake_study()
    retries, trials = Retries(study), study.draws()[:4]
    for number, step in enumerate(steps):
        retries.apply(Started(trials))
        retries.apply(Evaluated(step, {trial.id: {} for trial in trials}))
        retries.apply(GONE)
        if retries.after(GONE) is None:
            return number + 1
    return len(steps)


def test_a_study_that_comes_no_further_on_any_machine_is_given_up():
    assert tries([40] * 100) == MOST_INTERRUPTED


def test_a_study_that_comes_further_each_time_goes_on_however_often_machines_go():
    assert tries(range(10, 110)) == 100


def test_a_device_that_fails_before_any_trial_began_may_be_the_place_and_is_tried_once_more():
    retries = Retries(fake_study())
    of_device = Failed("broken", "", of_device=True)
    outcomes = []
    for _ in range(2):
        retries.apply(of_device)
        outcomes.append(retries.after(of_device) is not None)
    assert outcomes == [True, False]
    retries = Retries(fake_study())
    assert retries.after(Failed("a model that cannot be built", "")) is None
