"""A study that is cut off goes on from where it was kept, and says bit for bit what it would have said."""

from __future__ import annotations

import copy
import random
import resource
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes import Curve, FakeCohort, fake_study, look, study_of

from bench.contracts import OutOfMemory, Task
from bench.events import Ended, Evaluated, Failed, Finished, Known, Started
from bench.keep import checkpoints
from bench.measure import checkpoint, cohort, study
from bench.measure.journal import Journal
from bench.measure.order import Order
from bench.measure.task import carry_out

CPU = torch.device("cpu")

SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: {optimizer}
    schedule: linear
    batch_sizes: [64]
    target: {{validation_error: {{at_most: {target}}}}}
    max_steps: 60
    race: {race}
    training: {training}
    precision: {precision}
    evaluate: {{resolution: 0.1, cost: 100}}
    search: {{trials: 3, learning_rate: {{log_uniform: [0.01, 1]}}{search}}}
    confirm: {{seeds: 2}}
    probes: {probes}
"""

DROPOUT, BATCH_NORM = "user_models:with_dropout", "user_models:with_batch_norm"


def make(
    model="softmax",
    optimizer="momentum",
    training="one_by_one",
    precision="fp32",
    target=0.3,
    race="true",
    probes="{}",
    search="",
    more="",
):
    values = {"model": model, "optimizer": optimizer, "training": training, "precision": precision}
    return study_of(SUITE.format(**values, target=target, race=race, probes=probes, search=search) + more)


@pytest.fixture(autouse=True)
def kept_at_every_evaluation(monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "TIMES_WRITING", 0.0)


@pytest.fixture
def steps_taken(monkeypatch):
    """Counts the steps that cohorts take, each order of examples apart."""
    taken = []
    take = Order.take
    monkeypatch.setattr(Order, "take", lambda self, steps: taken.append(steps) or take(self, steps))
    return lambda: sum(taken)


def events(of, path=None):
    return carry_out(Task(of, {}, Path(), checkpoint=path), CPU)


def unseated(told):
    """Events without the time that trials have been in their seats."""
    return [replace(event, seated_seconds=0.0) if isinstance(event, Started) else event for event in told]


def untimed(told):
    """Events without the time that they took."""
    return [replace(event, train_seconds=0.0) if isinstance(event, Ended) else event for event in unseated(told)]


def cut_off(of, path, after):
    """What a study says until, and with, its evaluation of that number, and nothing of what it would have said."""
    said = []
    with closing(events(of, path)) as going_on:
        for event in going_on:
            said.append(event)
            after -= isinstance(event, Evaluated)
            if after == 0:
                break
    return said


def evaluations(told):
    return sum(isinstance(event, Evaluated) for event in told)


def assert_goes_on_alike(of, path, kills=3):
    """Cut off at random evaluations, each further than the last, a study says what one says that was not."""
    whole = list(events(of))
    assert isinstance(whole[-1], Finished), whole[-1]
    assert any(isinstance(event, Ended) and event.trial.phase == "confirm" for event in whole)
    seen = 0
    for after in sorted(random.Random(of.id).sample(range(2, evaluations(whole)), kills)):
        said = cut_off(of, path, after)
        assert untimed(said) == untimed(whole[: len(said)])
        assert path.exists()
        seen = len(said)
    assert 0 < seen < len(whole)
    assert untimed(events(of, path)) == untimed(whole)


def test_trials_that_go_on_have_been_in_their_seats_since_they_took_them_but_for_the_time_between(
    tmp_path, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])

    def seated(until):
        """A run of which each event takes a second, as far as a number of evaluations."""
        told = []
        with closing(events(of, tmp_path / "s.pt")) as going_on:
            for event in going_on:
                if isinstance(event, Started):
                    told.append(event.seated_seconds)
                now[0] += 1
                until -= isinstance(event, Evaluated)
                if until == 0:
                    return told
        return told

    of = make(race="false")
    assert seated(4) == [0]  # kept when the fourth evaluation was made, five seconds after the start
    now[0] += 1000
    assert seated(6) == [5]
    now[0] += 1000
    assert seated(6)[0] == 5 + 7


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("model", [DROPOUT, BATCH_NORM])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
def test_a_study_killed_at_random_evaluations_yields_bit_for_bit_what_it_would_have_yielded(
    tmp_path, training, optimizer, model, precision
):
    assert_goes_on_alike(make(model, optimizer, training, precision), tmp_path / "c" / "s.pt")


@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
@pytest.mark.parametrize(
    "changes",
    [
        {"race": "false"},
        {"race": "{slack: 1.5}"},
        {"probes": "{gradient_norm: {every: 1.5x}, weight_distance: {}, noise_scale: {small: 4, large: 32}}"},
    ],
    ids=["whole curves", "slack", "probes"],
)
def test_whole_curves_near_ties_and_probes_go_on_alike(tmp_path, training, changes):
    assert_goes_on_alike(make(DROPOUT, "momentum", training, **changes), tmp_path / "s.pt")


@pytest.mark.parametrize("optimizer", ["NAdam", "RMSprop", "nesterov", "adamw"])
def test_optimizers_of_torch_have_back_every_number_as_it_was(tmp_path, optimizer):
    assert_goes_on_alike(make(BATCH_NORM, optimizer, precision="fp64"), tmp_path / "s")


@pytest.mark.parametrize(
    "more",
    ["    micro_batch: 24\n", "    micro_batch: auto\n", "    channels_last: true\n", "    deterministic: true\n"],
)
def test_steps_that_are_taken_in_other_ways_go_on_alike(tmp_path, more):
    assert_goes_on_alike(make(BATCH_NORM, more=more), tmp_path / "s.pt")


AUGMENTED = "    augment: {crop: 1, flip: true, cutout: 2}\n"


@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
@pytest.mark.parametrize(
    "changes",
    [
        {"more": AUGMENTED},
        {"more": "    order: single\n"},
        {"more": "    order: with_replacement\n"},
        {"more": "    decay: matrices\n", "search": ", weight_decay: 0.01"},
    ],
    ids=["augmented", "single", "with replacement", "decay"],
)
def test_orders_and_augmentations_go_on_alike(tmp_path, training, changes):
    assert_goes_on_alike(make(training=training, **changes), tmp_path / "s.pt")


@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
@pytest.mark.parametrize(
    "optimizer",
    ["lars", "lamb", "lion", "muon", "shampoo", "{schedule_free: {base: adamw}}", "{sam: {base: momentum}}"],
)
def test_optimizers_of_bench_go_on_alike_with_an_average_of_the_weights_beside(tmp_path, training, optimizer):
    values = {"model": "{mlp: {hidden: [16]}}", "optimizer": optimizer, "training": training, "precision": "fp64"}
    assert_goes_on_alike(make(**values, target=0.6, search=", ema: 0.9, clip: 1.0"), tmp_path / "s.pt")


@pytest.mark.parametrize(
    "growth",
    ["{double_at: [500, 1500]}", "{adaptive: noise_scale, most: 512}", "{adaptive: norm_test, most: 512, eta: 0.5}"],
)
def test_batches_that_grow_go_on_alike(tmp_path, growth):
    assert_goes_on_alike(make(more=f"    growth: {growth}\n", target=0.2), tmp_path / "s.pt")


def test_a_buffer_that_a_models_own_state_leaves_out_goes_on_too(tmp_path):
    assert_goes_on_alike(make("user_models:with_passing_buffer"), tmp_path / "s.pt")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_low_precision_goes_on_alike_its_scale_of_the_loss_too(tmp_path, precision):
    assert_goes_on_alike(make(BATCH_NORM, precision=precision), tmp_path / "s.pt")


@pytest.mark.parametrize("training", ["stacked", "one_by_one"])
def test_trials_that_do_not_fit_together_go_on_in_their_chunks(tmp_path, monkeypatch, training):
    kind = {"stacked": cohort.Stacked, "one_by_one": cohort.OneByOne}[training]

    class Small(kind):
        def __init__(self, study, data, device, trials, way):
            self.together = len(trials)
            super().__init__(study, data, device, trials, way)

        def advance(self, step, examples=None):
            if step > 20 and self.together > 1:
                raise OutOfMemory
            return super().advance(step, examples)

    monkeypatch.setattr(cohort, kind.__name__, Small)
    assert_goes_on_alike(make(DROPOUT, training=training, target=0.15), tmp_path / "s.pt", kills=5)


def test_a_study_that_goes_on_takes_only_the_steps_that_are_left_and_its_time_goes_on(tmp_path, steps_taken):
    of = make(race="false", target=0.2)
    list(events(of))
    whole = steps_taken()
    said = cut_off(of, tmp_path / "s.pt", 9)
    before = steps_taken() - whole
    again = list(events(of, tmp_path / "s.pt"))
    assert before > 0
    assert steps_taken() == 2 * whole
    assert unseated(said) == unseated(again[: len(said)])
    seconds = [event.train_seconds for event in again if isinstance(event, Ended)]
    assert min(seconds) > 0


def test_a_study_shorter_than_the_interval_never_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 1000.0)
    assert isinstance(list(events(make(), tmp_path / "c" / "s.pt"))[-1], Finished)
    assert list(tmp_path.iterdir()) == []


def test_writing_takes_at_most_a_share_of_the_time(tmp_path, monkeypatch):
    written, now = [], [0.0]

    def write(path, content):
        written.append(now[0])
        now[0] += 30.0

    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 60.0)
    monkeypatch.setattr(checkpoint, "TIMES_WRITING", 20.0)
    monkeypatch.setattr(checkpoint, "_write", write)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    keeper = checkpoint._Keeper(tmp_path, {}, [])
    for _ in range(200):
        now[0] += 10.0
        keeper.evaluated(Journal([], {}, None, None))
    assert written == [60.0, 690.0, 1320.0, 1950.0]


# ---- the journal, on curves known in advance ------------------------------------------------------------------------


def fake_run(of, curves, calls=(), states=None, evaluated=lambda _: None):
    def curve(trial):
        return curves[trial.number] if trial.phase == "search" else Curve(reaches=20)

    journal = Journal(calls, states or {}, lambda trials: FakeCohort(trials, curve), look, evaluated)
    return study.run(of, {}, 1, journal.make, journal.look)


@pytest.mark.parametrize("room", [1, 3, 10**6])
@pytest.mark.parametrize("seed", range(12))
def test_a_journal_leads_to_the_same_events_from_wherever_it_was_cut_off(monkeypatch, seed, room):
    monkeypatch.setattr(FakeCohort, "room", room)
    draw = random.Random(seed)
    kinds = [lambda: Curve(diverges=draw.randint(1, 300)), lambda: Curve(draw.randint(1, 300)), Curve]
    curves = [draw.choice(kinds)() for _ in range(16)]
    of = fake_study(trials=8, seeds=3, race=draw.choice(["true", "false", "{slack: 1.2}"]))
    kept = []

    def keep(journal):
        kept.append((len(journal.calls), copy.deepcopy(journal.states()), FakeCohort.steps_taken))
        keep.calls = journal.calls

    FakeCohort.steps_taken = 0
    whole = list(fake_run(of, curves))
    steps, FakeCohort.steps_taken = FakeCohort.steps_taken, 0
    assert list(fake_run(of, curves, evaluated=keep)) == whole
    for calls, states, taken in draw.sample(kept, min(len(kept), 12)):
        FakeCohort.steps_taken = taken
        assert list(fake_run(of, curves, keep.calls[:calls], states)) == whole
        assert FakeCohort.steps_taken == steps


# ---- the file -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path):
    """A study, where it was kept when it was cut off, and what it would have said."""
    of, path = make(DROPOUT, "adam"), tmp_path / "s.pt"
    cut_off(of, path, 8)
    return of, path, untimed(events(of))


def test_the_one_before_the_newest_is_kept_and_gone_on_from_where_the_newest_is_torn(cut, steps_taken, caplog):
    of, path, whole = cut
    newest, _, begun = checkpoints.files(path)
    assert not begun.exists()
    list(events(of))
    from_the_start = steps_taken()
    newest.write_bytes(newest.read_bytes()[:-100])
    assert untimed(events(of, path)) == whole
    assert steps_taken() - from_the_start < from_the_start
    assert "s.pt: cannot be gone on from" in caplog.text
    assert "goes on from the checkpoint before" in caplog.text
    assert "Traceback" not in caplog.text


def test_where_both_are_torn_the_study_begins_again_and_says_so(cut, caplog):
    of, path, whole = cut
    for file in checkpoints.files(path)[:2]:
        file.write_bytes(b"torn")
    assert untimed(events(of, path)) == whole
    assert "begins again from its first step" in caplog.text


def alike(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(alike(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    return left == right


@pytest.mark.parametrize("how", ["flipped", "cut short"])
def test_a_file_that_is_not_what_was_written_is_read_as_it_was_or_not_at_all(cut, caplog, how):
    of, path, _ = cut
    newest, previous, _ = checkpoints.files(path)
    previous.unlink()
    good, content = newest.read_bytes(), torch.load(newest, weights_only=True)
    identity = {key: content[key] for key in ("study", "environment", "source")}
    draw, refused = random.Random(5), 0
    for _ in range(150):
        place = draw.randrange(len(good))
        turned = bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :]
        newest.write_bytes(good[:place] + (turned if how == "flipped" else b""))
        caplog.clear()
        found = checkpoint._read(path, identity, lambda make, look: study.run(of, {}, 300, make, look))
        if "cannot be gone on from" in caplog.text:
            refused += 1
            assert found == ([], {}, [])
        else:
            assert alike(list(found), [content["calls"], content["states"], content["seated_seconds"]])
    assert refused > 100


@pytest.mark.parametrize("key", ["study", "environment", "source"])
def test_what_was_written_elsewhere_or_by_another_program_is_refused(cut, monkeypatch, caplog, key):
    of, path, whole = cut
    for file in checkpoints.files(path)[:2]:
        content = torch.load(file, weights_only=True)
        torch.save({**content, key: "another"}, file)
    assert untimed(events(of, path)) == whole
    assert f"it is of another {key}" in caplog.text


def test_a_checkpoint_that_runs_code_when_it_is_read_is_refused_and_runs_none(cut, caplog, tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    of, path, whole = cut
    for file in checkpoints.files(path)[:2]:
        torch.save({"study": of.id, "calls": Hostile()}, file)
    assert untimed(events(of, path)) == whole
    assert "cannot be gone on from" in caplog.text
    assert not (tmp_path / "ran").exists()


def test_a_study_of_which_more_is_known_by_now_does_not_go_on_from_what_it_did_without(cut, caplog):
    of, path, _ = cut
    known = {of.draws()[1].id: Known("exhausted", 60, None)}
    fresh = untimed(carry_out(Task(of, known, Path()), CPU))
    assert untimed(carry_out(Task(of, known, Path(), checkpoint=path), CPU)) == fresh
    assert "it holds another study's calls" in caplog.text


def test_a_full_disk_is_a_line_once_and_the_study_goes_on(tmp_path, caplog):
    of = make(DROPOUT)
    whole = untimed(events(of))
    cut_off(of, tmp_path / "s.pt", 4)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        told = untimed(events(of, tmp_path / "s.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told == whole
    assert caplog.text.count("File too large") == 1
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_state_too_large_to_write_is_a_line_and_ends_none_of_several_ranks(tmp_path, monkeypatch, caplog):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("bench.measure.checkpoint._write", no_memory)
    monkeypatch.setattr("bench.measure.parallel.size", lambda: 2)
    monkeypatch.setattr("bench.measure.checkpoint.EVERY_SECONDS", 0.0)
    checkpoint._Keeper(tmp_path / "s.pt", {}, []).evaluated(SimpleNamespace(calls=[], states=list))
    assert caplog.text.count("not kept while it goes on") == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "user_models:drawing"}, "Drawing keeps 'generator' outside its registered buffers"),
        ({"model": "user_models:counting"}, "Counting keeps 'calls' outside its registered buffers"),
        ({"optimizer": "user_models:falling"}, "Falling keeps 'taken' outside"),
    ],
)
def test_a_model_or_optimizer_that_keeps_what_cannot_be_restored_is_said_and_not_kept(
    tmp_path, caplog, changes, sentence
):
    of = make(**changes)
    assert isinstance(list(events(of, tmp_path / "s.pt"))[-1], Finished)
    assert caplog.text.count("not kept while it goes on") == 1
    assert sentence in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_does_not_fit_is_removed_and_said_in_a_sentence(cut):
    of, path, _ = cut
    for file in checkpoints.files(path)[:2]:
        content = torch.load(file, weights_only=True)
        states = {number: (left, {**state, "runs": {}}) for number, (left, state) in content["states"].items()}
        torch.save({**content, "states": states}, file)
    *_, last = events(of, path)
    assert isinstance(last, Failed)
    assert "s.pt: cannot be gone on from: its state does not fit" in last.message
    assert not any(file.exists() for file in checkpoints.files(path))
