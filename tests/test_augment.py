"""Augmentation and orders: known images, uniform draws, and the same numbers however trials are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fakes import study_of

from bench.ask.plan import Timing
from bench.ask.suite import Augment
from bench.errors import ComponentError, SuiteError
from bench.events import Way
from bench.examples import Split
from bench.measure import augment, build
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked
from bench.measure.order import Order, blocks
from bench.measure.rehearsal import rehearse
from bench.measure.timing import _Work

CPU = torch.device("cpu")
WAY = Way("stacked", "asked")

SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: {dataset}
    optimizer: momentum
    batch_sizes: [16]
    precision: fp64
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 300
    search: {{trials: 3, learning_rate: {{log_uniform: [0.001, 0.05]}}}}
    confirm: {{seeds: 3}}
    {more}
"""


def make(more="augment: {crop: 2, flip: true, cutout: 3}", model="softmax", dataset="digits"):
    study = study_of(SUITE.format(model=model, dataset=dataset, more=more))
    return study, build.data(study.workload, Path(), CPU)


def numbers(*rows):
    return torch.tensor(rows)


# An image whose pixels are all different, and none of them zero: 1 .. 12.
IMAGE = torch.arange(1.0, 13).view(1, 1, 3, 4)


def test_a_crop_shifts_the_image_and_fills_with_zeros():
    crop = Augment(crop=1)
    assert torch.equal(augment.augmented(IMAGE, numbers([1, 1]), crop), IMAGE)
    up_and_left = augment.augmented(IMAGE, numbers([2, 2]), crop)
    assert up_and_left[0, 0].tolist() == [[6, 7, 8, 0], [10, 11, 12, 0], [0, 0, 0, 0]]
    down = augment.augmented(IMAGE, numbers([0, 1]), crop)
    assert down[0, 0].tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_crop_is_the_padded_image_cut_at_its_offsets():
    images = torch.randn(40, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    drawn = Order(40, 40, 0, draws=augment.draws(Augment(crop=4), (3, 7, 5))).take(1)[0, :, 1:]
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    expected = [padded[n, :, y : y + 7, x : x + 5] for n, (y, x) in enumerate(drawn.tolist())]
    assert torch.equal(augment.augmented(images, drawn, Augment(crop=4)), torch.stack(expected))


def test_a_flip_mirrors_left_and_right_where_it_is_drawn():
    flipped, same = augment.augmented(IMAGE.expand(2, 1, 3, 4), numbers([1], [0]), Augment(flip=True))
    assert flipped[0].tolist() == [[4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]
    assert torch.equal(same, IMAGE[0])


def test_a_cut_out_is_a_square_about_its_centre_that_may_reach_over_the_edge():
    corner, middle = augment.augmented(IMAGE.expand(2, 1, 3, 4), numbers([0, 0], [1, 2]), Augment(cutout=3))
    assert corner[0].tolist() == [[0, 0, 3, 4], [0, 0, 7, 8], [9, 10, 11, 12]]
    assert middle[0].tolist() == [[1, 0, 0, 0], [5, 0, 0, 0], [9, 0, 0, 0]]


def test_all_three_are_done_one_after_the_other():
    every = Augment(crop=1, flip=True, cutout=1)
    done = augment.augmented(IMAGE, numbers([2, 1, 1, 0, 3]), every)
    # Cropped to the two lower rows, then mirrored, then the pixel at (0, 3) cut out.
    assert done[0, 0].tolist() == [[8, 7, 6, 0], [12, 11, 10, 9], [0, 0, 0, 0]]


def test_targets_are_not_augmented_even_where_they_are_the_images():
    split = Split(IMAGE, IMAGE)
    inputs, targets = augment.gathered(split, numbers([0, 1]), Augment(flip=True))
    assert torch.equal(targets, IMAGE)
    assert torch.equal(inputs, IMAGE.flip(3))


def test_every_value_is_drawn_as_often_as_any_other():
    draws = augment.draws(Augment(crop=4, flip=True, cutout=8), (3, 32, 32))
    assert draws == [9, 9, 2, 32, 32]
    drawn = Order(100, 100, seed=5, draws=draws).take(200)[..., 1:].flatten(0, 1)
    for column, count in zip(drawn.unbind(1), draws, strict=True):
        seen = column.bincount(minlength=count)
        assert len(seen) == count
        expected = len(drawn) / count
        # Five deviations of a binomial count.
        assert (seen - expected).abs().max() < 5 * expected**0.5


def test_what_is_drawn_depends_on_the_seed_alone_and_leaves_the_order_as_it_was():
    def order(seed=3, draws=(9, 2)):
        return Order(50, 7, seed, draws=draws)

    pieces = order()
    whole = order().take(40)
    assert torch.equal(whole, torch.cat([pieces.take(1), *map(pieces.take, blocks(30, 7)), pieces.take(9)]))
    assert torch.equal(whole[..., 0], order(draws=()).take(40))
    assert not torch.equal(whole[..., 1:], order(seed=4).take(40)[..., 1:])


@pytest.mark.parametrize("confirm", [False, True])
def test_stacked_and_one_by_one_see_the_same_images_to_the_last_bit(confirm, monkeypatch):
    study, data = make()
    trials = study.confirmations([study.draws()[0]], [10]) if confirm else study.draws()[:3]
    seen = {"one": [], "stacked": []}
    for name, kind in (("one", OneByOne), ("stacked", Stacked)):
        plain = augment.augmented

        def listening(images, drawn, change, name=name, plain=plain):
            seen[name].append(plain(images, drawn, change))
            return seen[name][-1]

        with monkeypatch.context() as patch:
            patch.setattr(augment, "augmented", listening)
            kind(study, data, CPU, trials, WAY).train(4)
    if confirm:  # one by one: trial after trial; stacked: step after step, the trials side by side
        one = torch.stack(seen["one"]).unflatten(0, (3, 4))
        stacked = torch.stack(seen["stacked"]).unflatten(1, (3, 16)).transpose(0, 1)
        assert torch.equal(one, stacked)
        assert not torch.equal(one[0], one[1])
    else:
        assert all(torch.equal(*pair) for pair in zip(seen["one"], seen["stacked"] * 3, strict=True))


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("model", ["mlp", "{simple_cnn: {variant: narrow}}"])
def test_stacked_and_one_by_one_agree_with_augmentation(model, confirm):
    study, data = make(model=model)
    trials = study.confirmations([study.draws()[0]], [10])[:2] if confirm else study.draws()[:2]
    one, stacked = OneByOne(study, data, CPU, trials, WAY), Stacked(study, data, CPU, trials, WAY)
    left, right = one.advance(10), stacked.advance(10)
    for trial in trials:
        assert left[trial].readings == pytest.approx(right[trial].readings, rel=1e-9)


def test_training_sees_augmented_images_and_evaluation_does_not(monkeypatch):
    study, data = make()
    trials = study.draws()[:1]
    calls = []
    plain = augment.augmented
    monkeypatch.setattr(augment, "augmented", lambda *given: calls.append(1) or plain(*given))
    cohort = OneByOne(study, data, CPU, trials, WAY)
    cohort.advance(3)
    cohort.test(trials)
    assert len(calls) == 3


def test_a_timed_training_step_includes_augmentation_and_a_forward_pass_alone_does_not(monkeypatch):
    study, data = make()
    calls = []
    plain = augment.augmented
    monkeypatch.setattr(augment, "augmented", lambda *given: calls.append(1) or plain(*given))
    for what, expected in (("throughput", 2), ("inference", 2)):
        timing = Timing(study.workload, 16, what)
        work = _Work(timing, timing.processes()[0], data, CPU)
        work.prepare(2)
        work.run(2)
        assert len(calls) == expected


@pytest.mark.parametrize(
    ("more", "dataset", "sentence"),
    [
        ("augment: {flip: true}", "teacher_student", "augment is for images"),
        ("augment: {crop: 9}", "digits", "augment: found crop: 9; the images have 8 x 8 pixels"),
        ("augment: {cutout: 9}", "digits", "augment: found cutout: 9; the images have 8 x 8 pixels"),
    ],
)
def test_what_cannot_be_augmented_is_a_sentence_before_training(more, dataset, sentence):
    model = "softmax" if dataset == "digits" else "linear_student"
    study = study_of(
        SUITE.format(model=model, dataset=dataset, more=more).replace("validation_error", "validation_loss")
    )
    assert [problem for problem in rehearse([study], Path()) if sentence in problem]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("augment: {}", "should say what is done, such as {crop: 4, flip: true, cutout: 8}"),
        ("augment: {crops: 4}", "unknown; did you mean 'crop'?"),
        ("augment: 4", "found 4; should be what is done to training images, such as {crop: 4"),
        ("order: shuffled", "found 'shuffled'; should be 'reshuffle', 'single' or 'with_replacement'"),
    ],
)
def test_a_suite_that_augments_or_orders_badly_is_answered(more, sentence):
    with pytest.raises(SuiteError) as raised:
        make(more)
    assert sentence in str(raised.value)


def test_examples_of_no_image_have_nothing_to_draw():
    assert augment.draws(None, (5,)) == []
    with pytest.raises(ComponentError, match="shape \\[5\\]"):
        augment.draws(Augment(flip=True), (5,))


# ---- orders --------------------------------------------------------------------------------------------------------


def test_a_single_order_is_one_shuffled_epoch_again_and_again():
    rows = Order(10, 4, 1, "single").take(10).flatten()
    assert sorted(rows[:10].tolist()) == list(range(10))
    assert torch.equal(rows, rows[:10].repeat(4))
    assert torch.equal(rows[:10], Order(10, 4, 1).take(3).flatten()[:10])
    assert not torch.equal(Order(10, 4, 1).take(10).flatten(), rows)


def test_with_replacement_every_example_is_as_likely_at_every_draw():
    rows = Order(10, 4, 1, "with_replacement").take(5_000).flatten()
    seen = rows.bincount(minlength=10)
    assert (seen - 2_000).abs().max() < 5 * 2_000**0.5
    # An example follows itself as often as any other: nothing is left out until an epoch is over.
    assert int((rows[1:] == rows[:-1]).sum()) == pytest.approx(2_000, abs=5 * 2_000**0.5)


def test_draws_with_replacement_do_not_depend_on_how_they_are_asked_for():
    whole, pieces = (Order(10, 4, 1, "with_replacement") for _ in range(2))
    assert torch.equal(whole.take(9), torch.cat([pieces.take(1), pieces.take(8)]))


@pytest.mark.parametrize("kind", [OneByOne, Stacked])
@pytest.mark.parametrize("name", ["single", "with_replacement"])
def test_trials_train_in_the_order_that_the_suite_names(name, kind):
    study, data = make(f"order: {name}")
    cohort = kind(study, data, CPU, study.draws()[:1], WAY)
    ((seed, order),) = cohort._orders.items()
    assert torch.equal(order.take(200), Order(len(data.train), 16, seed, name).take(200))


# ---- identity ------------------------------------------------------------------------------------------------------


def ids(more):
    study, _ = make(more)
    timing = Timing(study.workload, 16, "throughput")
    return study.id, study.draws()[0].id, timing.id


def test_what_the_suite_does_not_say_is_no_part_of_an_id():
    assert ids("order: reshuffle") == ids("")
    assert "augment" not in make("")[0].workload.identity()
    assert "order" not in make("")[0].workload.identity()


def test_an_augmentation_makes_other_trials_and_another_timing_and_an_order_other_trials():
    plain, flipped, cropped, single = map(
        ids, ("", "augment: {flip: true}", "augment: {flip: true, crop: 1}", "order: single")
    )
    assert len({plain[0], flipped[0], cropped[0], single[0]}) == len({plain[1], flipped[1], cropped[1], single[1]}) == 4
    # An order takes no time, but orders may be listed, and each is then a workload with a timing of its own.
    assert len({plain[2], flipped[2], cropped[2], single[2]}) == 4


def test_seeds_are_those_of_the_trials_that_are_not_augmented():
    plain, flipped = (make(more)[0].draws()[0] for more in ("", "augment: {flip: true}"))
    assert (plain.init_seed, plain.order_seed) == (flipped.init_seed, flipped.order_seed)
