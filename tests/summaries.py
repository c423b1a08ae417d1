"""Studies as an analysis sees them, made by hand: no archive, no training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from bench.ask.plan import CONFIRM_BUDGET
from bench.ask.search import Space
from bench.ask.suite import Growth, Threshold
from bench.conclude.measures import Attempt, Candidate, Confirmed, Found, Summary
from bench.crossing import Crossed
from bench.keep.records import StudyRecord

_SPACE, _GROWTH = TypeAdapter(dict[str, Space]), TypeAdapter(Growth)
SPACE = {"learning_rate": {"log_uniform": [1e-6, 1e6]}}


def summary(
    batch_size: int,
    steps: int | None,
    *,
    workload: str = "w",
    seeds: Sequence[float] = (),
    others: Sequence[tuple[Mapping[str, Any], Sequence[float]]] = (),
    learning_rate: float = 0.1,
    momentum: float | None = None,
    metaparameters: Mapping[str, Any] | None = None,
    resolution: float = 0.05,
    budget: int | None = None,
    attempts: Sequence[tuple[int, Mapping[str, Any]]] = (),
    at_edge: Mapping[str, str] | None = None,
    optimizer: str = "sgd",
    status: str = "measured",
    outcomes: Mapping[str, int] | None = None,
    probed: Sequence[dict[str, dict[int, float]]] = (),
    test_error: float | None = None,
    train_seconds: float = 1.0,
    **content: Any,
) -> Summary:
    """One study: the search's answer at `steps` (None where no trial met the target), confirmed by `seeds`.

    seeds: steps to target of each fresh seed, math.inf for a miss; with none, no confirmation was asked for.
    others: other candidates that were confirmed, as (what differs from the winner's values, steps of each seed).
    momentum: a constant of the search; searched where `space` says so.
    attempts: the trials that met the target after the winner, as (steps, what differs from the winner's values).
    content: entries of the study's content instead of those below, such as `model`, `space` or `slack`.
    """
    fixed = {} if momentum is None else {"momentum": momentum}
    best = {"learning_rate": learning_rate, **fixed, **(metaparameters or {})}
    found = confirmed = None
    if steps is not None:
        tries = [(steps, best), *((later, {**best, **values}) for later, values in attempts)]
        found = Found(
            tuple(Attempt(crossed(each, resolution), values, number) for number, (each, values) in enumerate(tries))
        )
    if steps is not None and seeds and status == "measured":
        beside = [({**best, **values}, each) for values, each in others]
        budget = CONFIRM_BUDGET * steps if budget is None else budget
        confirmed = Confirmed(
            candidates=tuple(
                Candidate(values, tuple(crossed(value, resolution, budget) for value in each))
                for values, each in [(best, seeds), *beside]
            ),
            budget=budget,
            probed=tuple(probed),
            tested=() if test_error is None else (test_error,),
        )
    described = {
        "model": "softmax",
        "dataset": "digits",
        "optimizer": optimizer,
        "schedule": "constant",
        "precision": "fp32",
        "reading": "validation_error",
        "threshold": {"at_most": 0.1},
        "max_steps": 10_000,
        "trials": 16,
        "seeds": len(seeds),
        "slack": 1.0,
        "probes": {},
        "space": {**SPACE, **fixed},
        **content,
    }
    described |= {
        "threshold": Threshold(**described["threshold"]),
        "space": _SPACE.validate_python(described["space"]),
        **({"growth": _GROWTH.validate_python(described["growth"])} if described.get("growth") else {}),
    }
    study = StudyRecord(f"{workload}-{batch_size}", workload, batch_size, described, status == "measured", ())
    tally = {"reached": 1, "overtaken": 15} if found else {"exhausted": 16}
    return Summary(
        study,
        status,  # type: ignore[arg-type]
        dict(outcomes or tally),
        found,
        confirmed,
        train_seconds,
        at_edge=dict(at_edge or {}),  # type: ignore[arg-type]
    )


def crossed(steps: float, resolution: float, budget: float = 0) -> Crossed:
    """Steps to target that were read at an evaluation so far, as a share, behind the one before; a miss is math.inf."""
    return Crossed(round((1 - resolution) * steps), steps) if math.isfinite(steps) else Crossed(budget, steps)
