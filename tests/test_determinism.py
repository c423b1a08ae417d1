"""`deterministic: true`: what torch offers is set, and what has no such way is said."""

from __future__ import annotations

import json

import pytest
import torch
from fakes import fake_text, study_of
from test_run import TESTS, bench, write

from bench.contracts import Task
from bench.events import Failed
from bench.keep.archive import Archive
from bench.measure import precision
from bench.measure.task import carry_out
from bench.prove import determinism

TEXT = fake_text(max_steps=20, trials=1)


@pytest.fixture(autouse=True)
def as_before():
    yield
    precision.prepare_determinism(False)


def test_two_runs_of_one_study_are_compared_bit_for_bit(tmp_path):
    out, _ = bench("doctor", "--determinism", folder=tmp_path)
    assert "observed the same, bit for bit" in out


@pytest.mark.parametrize(
    ("model", "sentence"), [("out_of_memory", "does not fit in memory"), ("raising", "a fault in the model")]
)
def test_two_runs_that_observed_nothing_are_not_called_equal(tmp_path, monkeypatch, model, sentence):
    own = f"model: {{'user_models:{model}': {{after: 0}}}}"
    monkeypatch.setattr(determinism, "_SUITE", determinism._SUITE.replace("model: {mlp: {hidden: [64]}}", own))
    monkeypatch.syspath_prepend(str(TESTS))
    _, err = bench("doctor", "--determinism", folder=tmp_path, code=5)
    assert sentence in err


def test_every_trial_is_kept_and_exported_with_its_seeds_and_the_flags_it_ran_under(tmp_path):
    for strict in ("false", "true"):
        path = write(tmp_path, sizes=[64], trials=1, max_steps=10)
        path.write_text(f"{path.read_text()}    deterministic: {strict}\n")
        bench("run", "small.yaml", "--label", strict, folder=tmp_path)
        place = tmp_path / "results" / "small" / f"{strict}.sqlite"
        with Archive.reading(place) as archive:
            (where,) = archive.environments().values()
            seeds = {row[1]: row[5:7] for row in archive.rows("trials")}
        flags = {"deterministic", "cudnn_deterministic", "cudnn_benchmark"}
        assert {name: where[name] for name in flags} == {
            "deterministic": strict == "true",
            "cudnn_deterministic": strict == "true",
            "cudnn_benchmark": False,
        }
        bench("export", place, f"{strict}.json", folder=tmp_path)
        rows = json.loads((tmp_path / f"{strict}.json").read_text())
        assert rows
        assert {row["deterministic"] for row in rows} == {strict == "true"}
        assert {row["trial"]: (row["init_seed"], row["order_seed"]) for row in rows} == seeds


def test_a_study_that_asks_for_it_is_trained_with_deterministic_algorithms_and_is_another_study(tmp_path):
    plain, strict = study_of(TEXT), study_of(TEXT + "    deterministic: true\n")
    assert plain.id != strict.id
    for study, expected in ((strict, True), (plain, False)):
        events = carry_out(Task(study, {}, tmp_path), torch.device("cpu"))
        assert not any(isinstance(event, Failed) for event in events)
        assert torch.are_deterministic_algorithms_enabled() is expected
