"""Examples that are read as they are needed: the same readings to the last bit, in little memory, and nothing left."""

from __future__ import annotations

import multiprocessing
import weakref
from contextlib import closing
from dataclasses import replace

import numpy
import pytest
import torch
from fakes import study_of
from PIL import Image

from bench.ask.components import find
from bench.ask.plan import Timing
from bench.contracts import Task
from bench.errors import DataError
from bench.events import Ended, Evaluated, Finished
from bench.examples import Data, Pixels, Split
from bench.measure import augment, build, feeds, limits, timing
from bench.measure.alter import altered
from bench.measure.rehearsal import rehearse
from bench.measure.task import carry_out

# Python 3.12 warns where readers are forked from pytest, whose process has threads; a worker of bench has none that
# hold a lock.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CPU = torch.device("cpu")
SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: {dataset}
    optimizer: sgd
    batch_sizes: [6]
    target: {{validation_loss: {{below: 0.0001}}}}
    max_steps: 12
    search: {{trials: 2, learning_rate: {{log_uniform: [0.01, 0.1]}}, ema: 0.9}}
    evaluate: {{resolution: 0.5}}
    confirm: {{seeds: 1}}
    race: false
    {more}
"""
PETS = "{image_folder: {path: pets, size: 8%s}}"


def write_pets(folder):
    draw = numpy.random.default_rng(0)
    for part, count in (("train", 10), ("validation", 4), ("test", 3)):
        for name in ("cat", "dog"):
            place = folder / "pets" / part / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 256, (12, 10, 3), dtype=numpy.uint8)).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("data")
    write_pets(made)
    (made / "mine.txt").write_bytes(bytes(range(256)) * 4)
    return made


def study(dataset=PETS % "", more="", model="softmax"):
    return study_of(SUITE.format(dataset=dataset, more=more, model=model))


def told(of, folder):
    """Everything that is told of a study but the seconds it took; that it came to its end; and that nothing reads."""
    events = list(carry_out(Task(of, {}, folder), CPU))
    assert isinstance(events[-1], Finished), events[-1]
    assert multiprocessing.active_children() == []
    return [
        (event.trial, event.outcome, event.step) if isinstance(event, Ended) else event
        for event in events
        if isinstance(event, Evaluated | Ended)
    ]


@pytest.mark.parametrize(
    ("dataset", "model", "more"),
    [
        (PETS % "", "softmax", "augment: {crop: 1, flip: true, cutout: 2}\n    training: stacked"),
        (PETS % ", subset: 15, label_noise: 0.3", "simple_cnn", "precision: fp64\n    training: one_by_one"),
        (PETS % ", task: reconstruction", "autoencoder", "precision: bf16"),
        ("digits", "'user_models:with_dropout'", "growth: {double_at: [20]}\n    augment: {flip: true}"),
        ("{text: {path: mine.txt, length: 4}}", "{lstm: {width: 4}}", "probes: {noise_scale: {small: 2, large: 8}}"),
    ],
)
def test_a_study_reads_the_same_to_the_last_bit_from_disk_as_from_memory(folder, dataset, model, more, monkeypatch):
    monkeypatch.setattr(feeds, "_READ_BYTES", 2_000)  # ten images, or a hundred
    monkeypatch.setattr(feeds, "_PIECE_BYTES", 4_000)
    held = study(dataset, more, model)
    read = study(dataset, f"{more}\n    input: loader", model)
    assert held.id == read.id
    assert told(held, folder) == told(read, folder)


class Squares:
    """Images that are computed as they are asked for: as many as one likes take no memory."""

    def __getitem__(self, numbers):
        return (numbers * numbers % 251).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()


def squares(count):
    return feeds.Streamed(Squares(), torch.arange(count), torch.arange(count) % 2)


def test_a_set_of_any_size_is_read_in_the_same_memory(monkeypatch):
    alive, most = set(), 0

    class Counted(Split):
        def __init__(self, *given):
            nonlocal most
            super().__init__(*given)
            alive.add(id(self))
            weakref.finalize(self, alive.discard, id(self))
            most = max(most, len(alive) * len(self))

    monkeypatch.setattr(feeds, "Split", Counted)
    monkeypatch.setattr(feeds, "_PIECE_BYTES", 64 * 100)
    examples = squares(1_000_000)  # 64 MB of which a hundred images are a piece
    steps = torch.randint(1_000_000, (400, 10), generator=torch.Generator().manual_seed(0))
    seen = 0
    for piece, rows in examples.pieces(steps):
        for row, numbers in zip(rows, steps[seen:], strict=False):
            assert torch.equal(piece.take(row).inputs[:, 0, 0, 0], numbers * numbers % 251)
            seen += 1
    assert seen == 400
    assert most <= 300  # the piece that is trained on, the next, and the one before
    examples.close()
    assert multiprocessing.active_children() == []


def test_what_is_read_does_not_stay_in_the_memory_that_processes_share(monkeypatch):
    joined, shared = torch.cat, []
    monkeypatch.setattr(torch, "cat", lambda parts: shared.extend(map(torch.Tensor.is_shared, parts)) or joined(parts))
    monkeypatch.setattr(feeds, "_READ_BYTES", 64 * 10)
    examples = squares(100)
    assert len(examples.take(torch.arange(100))) == 100
    examples.close()
    assert shared == [False] * 10


def test_batches_without_end_come_in_order_and_draw_no_random_numbers_of_a_trials():
    examples, before = squares(1_000), torch.get_rng_state()

    def rows():
        number = 0
        while True:
            yield torch.tensor([number, 999 - number, 5])
            number += 1

    batches = examples.batches(rows())
    for number in range(30):
        batch = next(batches)
        wanted = torch.tensor([number, 999 - number, 5])
        assert torch.equal(batch.inputs[:, 0, 0, 0].long(), wanted.square() % 251)
        assert torch.equal(batch.targets, wanted % 2)
    # What was asked for and not taken is in nobody's way.
    assert [len(part) for part in examples.in_order(400)] == [400, 400, 200]
    assert torch.equal(torch.get_rng_state(), before)
    batches.close()
    examples.close()
    assert multiprocessing.active_children() == []


def test_a_reading_that_another_was_begun_beside_does_not_end_as_if_it_were_whole():
    examples = squares(1_000)
    one = examples.in_order(100)
    next(one)
    assert len(next(examples.in_order(300))) == 300
    with pytest.raises(RuntimeError, match="read again before it was read to its end"):
        next(one)
    examples.close()


def test_what_is_changed_of_a_dataset_is_changed_alike_read_or_held():
    seen = Pixels(torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.25))
    data = Data(squares(50), squares(10), squares(10), 2).each(lambda examples: replace(examples, pixels=seen))
    for options in ({"subset": 20}, {"label_noise": 0.3}, {"task": "reconstruction"}, {"subset": 9, "label_noise": 1}):
        read = altered(data, options)
        held = altered(data.each(feeds.held), options)
        one, other = (each.train.take(torch.arange(len(each.train))) for each in (read, held))
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert read.train.example_shape == held.train.example_shape
        assert read.train.target_shape == held.train.target_shape
        assert read.outputs_an_example == held.outputs_an_example


def test_what_is_timed_reads_no_more_afterwards_and_lies_on_the_device_augmented_as_it_was_read(folder, monkeypatch):
    images = []
    monkeypatch.setattr(augment, "augmented", lambda given, *_: images.append(given) or given)
    monkeypatch.setattr(limits, "ceilings", lambda *_: {})
    of = Timing(study(more="input: loader\n    augment: {crop: 1}").workload, 6, "throughput")
    data = build.data(of.workload, folder, CPU)
    with feeds.reading(data), closing(timing._Work(of, of.processes()[0], data, CPU)) as work:
        work.run(2)
        assert len(multiprocessing.active_children()) == 1
    assert multiprocessing.active_children() == []
    assert work.readings(2)["resident_step_seconds"] > 0
    assert multiprocessing.active_children() == []
    assert [len(each) for each in images] == [6, 6] + [6] * 2 * 3  # three windows of two steps


def test_what_does_not_fit_in_memory_is_a_sentence(monkeypatch):
    class Full:
        def __init__(self, *, awaited):
            assert not awaited  # other ranks load it likewise, and each says so

        def __enter__(self):
            raise feeds.OutOfMemory

        def __exit__(self, *given):
            return False

    monkeypatch.setattr(feeds, "out_of_memory_named", Full)
    with pytest.raises(DataError, match="1,000 examples of 64 bytes do not fit in the memory of cpu; with input: load"):
        squares(1_000).held()


def test_a_rehearsal_reads_no_more_than_it_tries(tmp_path):
    write_pets(tmp_path)
    for part in ("train", "validation", "test"):  # those it does not look at
        (tmp_path / "pets" / part / "dog" / "1.png").write_bytes(b"no image")
    assert rehearse([study(), study(more="input: loader")], tmp_path) == []


def test_any_dataset_is_read_by_processes_where_the_suite_says_so(folder):
    data = build.data(study("digits", "input: loader").workload, folder, CPU)
    whole = find("datasets", "digits").load()(folder).to(CPU, torch.float32)
    assert isinstance(data.train, feeds.Streamed)
    assert torch.equal(data.train.take(torch.tensor([3, 1])).inputs, whole.train.inputs[[3, 1]])
