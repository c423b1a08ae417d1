"""`deterministic: true`: what torch offers is set, and what has no such way is said."""

from __future__ import annotations

import pytest
import torch
from fakes import SUITE, study_of
from test_run import bench

from bench import measure, precision
from bench.contracts import Failed, Task

TEXT = SUITE.format(max_steps=20, race="true", trials=1, seeds=0)


@pytest.fixture(autouse=True)
def as_before():
    yield
    precision.prepare_determinism(False)


def test_two_runs_of_one_study_are_compared_bit_for_bit(tmp_path):
    out, _ = bench("doctor", "--determinism", folder=tmp_path)
    assert "observed the same, bit for bit" in out


def test_a_study_that_asks_for_it_is_trained_with_deterministic_algorithms_and_is_another_study(tmp_path):
    plain, strict = study_of(TEXT), study_of(TEXT + "    deterministic: true\n")
    assert plain.id != strict.id
    for study, expected in ((strict, True), (plain, False)):
        events = measure.carry_out(Task(study, {}, tmp_path), torch.device("cpu"))
        assert not any(isinstance(event, Failed) for event in events)
        assert torch.are_deterministic_algorithms_enabled() is expected
