"""What a run says of a study while it goes on."""

from __future__ import annotations

from fakes import fake_study

from bench.events import Ended, Evaluated, Finished, Known, Recalled, Retried, Started
from bench.run.live import _State


def told(study, *events):
    """What is said of a study after its events."""
    state = _State(study)
    for event in events:
        state.apply(event)
    return state.line()


def reached(trial, step):
    return Evaluated(step, {trial.id: {"validation_error": 0.05}}), Ended(trial, "reached", step, 0.1)


def test_a_seed_that_a_fresh_worker_recalls_has_confirmed_once():
    study = fake_study(trials=1, seeds=5)
    (winner,) = study.draws()[:1]
    again = study.confirmations([winner], [5])
    line = told(
        study,
        *(Started((winner,)), *reached(winner, 5)),
        *(Started(tuple(again)), *(event for trial in again[:3] for event in reached(trial, 6))),
        Retried("it fell"),
        Recalled({winner: Known("reached", 5, 5)}),
        Recalled({trial: Known("reached", 6, 6) for trial in again[:3]}),
        *(Started(tuple(again[3:])), *(event for trial in again[3:4] for event in reached(trial, 6))),
        *(Ended(again[4], "exhausted", 15, 0.1), Finished()),
    )
    assert "done, 5 steps to target, 4 of 5 seeds confirm" in line
