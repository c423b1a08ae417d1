"""`bench calibrate`: what it holds to what, and that a wrong bench does not pass."""

from __future__ import annotations

import itertools

import pytest
import torch

from bench.cli import main
from bench.conclude.fit import fit
from bench.errors import CalibrationError, DataError, DeviceError
from bench.measure import build, clock
from bench.prove import calibrate

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "check",
    [
        calibrate.clock_time,
        calibrate.synthetic_curves,
        calibrate.published_curve,
        calibrate.stacked_against_one_by_one,
        calibrate.noise_scale,
        calibrate.gradient_noise,
        lambda device: calibrate.steps_to_target(device, batch_sizes=[256], seeds=5),
        lambda device: calibrate.tuned_study(device, batch_sizes=[16, 64, 256, 1024]),
        calibrate.grid_invariance,
        lambda device: calibrate.gate_of_equals(device, runs=2),
    ],
    ids=[
        *("clock", "curves", "published", "both ways", "noise scale", "gradient noise", "steps", "tuned", "grids"),
        "equals",
    ],
)
def test_every_check_passes_here(check):
    made = list(check(CPU))
    assert made
    assert [each for each in made if not each.passed] == []


def test_a_clock_that_runs_slow_does_not_pass(monkeypatch):
    true = clock.now
    monkeypatch.setattr(clock, "now", lambda device: 0.98 * true(device))
    assert [each.passed for each in calibrate.clock_time(CPU)] == [False]


def test_a_fit_that_is_off_does_not_pass(monkeypatch):
    monkeypatch.setattr(calibrate, "fit", lambda sizes, steps: fit(sizes, [1.001 * each for each in steps]))
    for check in (calibrate.synthetic_curves, calibrate.published_curve):
        assert not all(each.passed for each in check(CPU))


def test_evaluations_read_one_step_late_do_not_pass(monkeypatch):
    # Twice the steps between evaluations, called by the number that was planned.
    true = calibrate.exact.NoisyQuadratic.path
    monkeypatch.setattr(calibrate.exact.NoisyQuadratic, "path", lambda self: itertools.islice(true(self), 0, None, 2))
    made = list(calibrate.steps_to_target(CPU, batch_sizes=[256], seeds=5))
    assert [each.passed for each in made] == [False, False]


@pytest.mark.parametrize(
    ("factor", "check"),
    [
        (2.0, lambda device: calibrate.steps_to_target(device, batch_sizes=[16])),
        (2.0, calibrate.gradient_noise),
        (0.5, calibrate.gradient_noise),
    ],
)
def test_twice_or_half_the_noise_does_not_pass(monkeypatch, factor, check):
    def noisier(self, inputs):
        loss = 0.5 * (self.curvatures * self.point.square()).sum()
        if self.training:
            deviations = (factor * self.curvatures / len(inputs)).sqrt()
            loss = loss + (torch.randn_like(self.point) * deviations * self.point).sum()
        return loss.expand(len(inputs))

    monkeypatch.setattr("bench.models.noisy_quadratic._NoisyQuadratic.forward", noisier)
    assert not next(check(CPU)).passed


def test_a_learning_rate_a_tenth_too_small_does_not_pass(monkeypatch):
    true = build.optimizer

    def slower(workload, model, classes, point, *views):
        return true(workload, model, classes, {**point, "learning_rate": 0.9 * point["learning_rate"]}, *views)

    monkeypatch.setattr(build, "optimizer", slower)
    assert not next(calibrate.steps_to_target(CPU, batch_sizes=[1024])).passed


def test_a_check_that_cannot_be_made_fails_and_the_others_go_on(monkeypatch):
    def breaks(device):
        raise DataError("no data")
        yield

    def raises(device):
        raise ZeroDivisionError("by nothing\nwhich a frame further up says at length")
        yield

    monkeypatch.setattr(calibrate, "CHECKS", [breaks, raises, calibrate.published_curve])
    made = list(calibrate.calibrate())
    assert [each.passed for each in made] == [False, False, True, True, True]
    assert "no data" in made[0].measured
    assert made[1].measured == "nothing (ZeroDivisionError: by nothing)"


def test_a_device_that_is_not_there_is_a_sentence():
    with pytest.raises(DeviceError, match="this machine has"):
        list(calibrate.calibrate("cuda:99"))


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
def test_the_command_says_line_by_line_and_by_exit_code_what_was_missed(monkeypatch, capsys, good, code):
    made = calibrate.Check("one and one", "2", "2" if good else "3", "0", good)
    monkeypatch.setattr(calibrate, "CHECKS", [lambda device: iter([made])])
    monkeypatch.setattr("sys.argv", ["bench", "calibrate"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == code
    printed = capsys.readouterr()
    assert printed.out.startswith("pass  one and one" if good else "FAIL  one and one")
    assert bool(printed.err) == (code == CalibrationError.exit_code)
