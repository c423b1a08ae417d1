"""What a suite may ask of any dataset, and the units a target may be given in."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import study_of
from torch import nn

from bench.ask import components, plan
from bench.ask.check import check
from bench.ask.document import parse
from bench.errors import DataError, SuiteError
from bench.events import Way
from bench.examples import NOT_COUNTED, Data, Split
from bench.measure import build, cohort, evaluation
from bench.measure.alter import altered
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked
from bench.measure.losses import LOSSES
from bench.measure.rehearsal import rehearse

CPU = torch.device("cpu")
NOWHERE = Path("unused")

SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: {dataset}
    optimizer: sgd
    batch_sizes: {sizes}
    target: {{{target}}}
    max_steps: 20
    search: {{trials: 2, learning_rate: {{log_uniform: [0.01, 0.1]}}}}
    confirm: {{seeds: 1}}
    precision: fp64
"""


def suite(dataset="digits", model="softmax", sizes="[8]", target="validation_error: {at_most: 0.1}"):
    return SUITE.format(model=model, dataset=dataset, sizes=sizes, target=target)


def data_of(dataset):
    return build.data(study_of(suite(dataset)).workload, NOWHERE, CPU)


def rows(split):
    return {tuple(row) for row in split.inputs.flatten(1).tolist()}


# ---- subsets -------------------------------------------------------------------------------------------------------


def test_a_subset_has_so_many_training_examples_and_every_smaller_one_is_in_it():
    whole, large, small = map(data_of, ("digits", "{digits: {subset: 500}}", "{digits: {subset: 100}}"))
    assert (len(large.train), len(small.train)) == (500, 100)
    assert rows(small.train) < rows(large.train) < rows(whole.train)
    assert torch.equal(small.train.targets, large.train.targets[:100])
    assert torch.equal(small.validation.inputs, whole.validation.inputs)
    assert torch.equal(small.test.targets, whole.test.targets)


def test_a_subset_is_no_part_of_the_file_in_its_order():
    whole, half = data_of("digits"), data_of("{digits: {subset: 600}}")
    assert not torch.equal(half.train.inputs, whole.train.inputs[:600])


def test_batch_sizes_end_where_the_subset_does():
    (study,) = plan.make(check(parse(suite("{digits: {subset: 100}}", sizes="[100]")))).studies
    assert study.batch_size == 100
    with pytest.raises(SuiteError, match=r"found 101; digits\(subset=100\) has 100 training examples to draw from"):
        check(parse(suite("{digits: {subset: 100}}", sizes="[101]")))
    with pytest.raises(SuiteError, match=r"found 101; digits\(subset=100\) has 100 training examples to draw from"):
        check(parse(suite("{digits: {subset: 100}}", sizes="{from: 101, to: max}")))
    studies = plan.make(check(parse(suite("{digits: {subset: 100}}", sizes="{from: 8, to: max}")))).studies
    assert [study.batch_size for study in studies] == [8, 16, 32, 64]


def test_a_subset_larger_than_the_dataset_is_a_sentence():
    with pytest.raises(SuiteError, match="found the subset 1,198; digits has 1,197 training examples"):
        check(parse(suite("{digits: {subset: 1198}}")))
    study = study_of(suite("{random_images: {subset: 5000, shape: [1, 8, 8]}}"))
    assert rehearse([study], NOWHERE) == ["w: found the subset 5,000; there are 4,096 training examples"]


# ---- label noise ---------------------------------------------------------------------------------------------------


def many(classes=10, count=100_000):
    targets = torch.arange(count) % classes
    split = Split(torch.zeros(count, 1), targets)
    return Data(split, split, split, classes)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_training_labels_is_wrong_and_every_other_class_as_likely(share):
    data = many()
    noisy = altered(data, {"label_noise": share})
    wrong = noisy.train.targets != data.train.targets
    assert float(wrong.double().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / 100_000) ** 0.5)
    away = ((noisy.train.targets - data.train.targets) % 10)[wrong].bincount(minlength=10)
    assert away[0] == 0
    expected = int(wrong.sum()) / 9
    assert (away[1:] - expected).abs().max() <= 5 * expected**0.5
    assert torch.equal(noisy.validation.targets, data.validation.targets)
    assert torch.equal(noisy.test.targets, data.test.targets)
    assert torch.equal(noisy.train.inputs, data.train.inputs)


def test_what_is_wrong_at_a_share_is_wrong_alike_at_a_larger_one():
    data = many()
    little, much = (altered(data, {"label_noise": share}).train.targets for share in (0.1, 0.3))
    wrong = little != data.train.targets
    assert torch.equal(little[wrong], much[wrong])


def test_a_label_is_wrong_or_right_in_every_subset_alike():
    whole = data_of("{digits: {label_noise: 0.3}}")
    part = data_of("{digits: {label_noise: 0.3, subset: 200}}")
    labels = dict(zip(map(tuple, whole.train.inputs.flatten(1).tolist()), whole.train.targets.tolist(), strict=True))
    seen = map(tuple, part.train.inputs.flatten(1).tolist())
    assert [labels[row] for row in seen] == part.train.targets.tolist()


def test_positions_of_a_text_that_are_not_asked_for_are_not_made_wrong():
    targets = torch.tensor([[NOT_COUNTED, NOT_COUNTED, 1]] * 50)
    split = Split(torch.zeros(50, 3, dtype=torch.int64), targets)
    noisy = altered(Data(split, split, split, classes=4), {"label_noise": 1.0}).train.targets
    assert (noisy[:, :2] == NOT_COUNTED).all()
    assert noisy[:, 2].unique().tolist() == [0, 2, 3]


def test_label_noise_is_for_classes_alone():
    with pytest.raises(DataError, match="label_noise is for datasets whose targets are classes"):
        data_of("{teacher_student: {label_noise: 0.1}}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("subset: 0", "found 0; should be greater than 0"),
        ("label_noise: 1.5", "found 1.5; should be at most 1"),
        ("task: colouring", "found 'colouring'; should be 'reconstruction'"),
    ],
)
def test_options_of_any_dataset_are_checked(options, sentence):
    with pytest.raises(SuiteError) as raised:
        check(parse(suite(f"{{digits: {{{options}}}}}")))
    assert sentence in str(raised.value)


def test_a_dataset_of_ones_own_may_have_another_use_for_the_word(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(
        "import torch\nfrom bench.examples import Data, Split\n"
        "def own(folder, *, subset: str = 'all'):\n"
        "    '''Has parts with names.'''\n"
        "    split = Split(torch.zeros(len(subset), 1), torch.zeros(len(subset), dtype=torch.int64))\n"
        "    return Data(split, split, split, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    study = study_of(suite("{own_data:own: {subset: abcdefghi}}"))
    assert len(build.data(study.workload, NOWHERE, CPU).train) == 9
    (option,) = [each for each in components.find("datasets", "own_data:own").options if each.name == "subset"]
    assert not option.harness


# ---- reconstruction ------------------------------------------------------------------------------------------------

IMAGES = "{digits: {task: reconstruction}}"
LOSS = "validation_loss: {below: 5}"


def test_to_reconstruct_every_example_is_its_own_target():
    data = data_of(IMAGES)
    assert (data.loss, data.classes, data.example_shape) == ("reconstruction", 64, (1, 8, 8))
    assert all(torch.equal(split.inputs, split.targets) for split in (data.train, data.validation, data.test))


def test_a_reconstruction_loses_half_its_squared_error_over_an_example_or_what_the_model_says():
    loss = LOSSES["reconstruction"]
    targets = torch.tensor([[[1.0, 2.0]], [[0.0, 3.0]]])
    assert loss.each(targets + torch.tensor([1.0, 2.0]), targets).tolist() == [2.5, 2.5]
    assert float(loss.mean(targets + torch.tensor([1.0, 2.0]), targets)) == 2.5
    said = torch.tensor([3.0, 5.0])
    assert loss.each(said, targets).tolist() == [3, 5]
    assert float(loss.mean(said, targets)) == 4
    assert loss.error is None


@pytest.mark.parametrize("model", ["user_models:reconstructing", "user_models:own_loss"])
def test_models_that_reconstruct_train_alike_stacked_and_one_by_one(model):
    study = study_of(suite(IMAGES, model, target=LOSS))
    assert rehearse([study], NOWHERE) == []
    data = build.data(study.workload, NOWHERE, CPU)
    rates = (0.001, 0.002)  # a sum over an example has large gradients
    drawn = zip(study.draws()[:2], rates, strict=True)
    trials = [replace(trial, metaparameters={"learning_rate": rate}) for trial, rate in drawn]
    one, stacked = (kind(study, data, CPU, trials, Way("stacked", "")) for kind in (OneByOne, Stacked))
    first, left, right = one.advance(1), one.advance(15), stacked.advance(1) and stacked.advance(15)
    for trial in trials:
        assert left[trial].readings == pytest.approx(right[trial].readings, rel=1e-9)
        assert left[trial].readings.keys() == {"train_loss", "validation_loss"}
        assert left[trial].readings["validation_loss"] < first[trial].readings["validation_loss"]


def test_the_mean_of_the_images_is_the_best_point_to_be_near():
    study = study_of(suite(IMAGES, "user_models:own_loss", target=LOSS))
    data = build.data(study.workload, NOWHERE, CPU)
    spread = data.validation.inputs - data.train.inputs.mean(0)
    best = float(0.5 * spread.square().flatten(1).sum(1).mean())
    (trial,) = study.draws()[:1]
    fast = replace(trial, metaparameters={"learning_rate": 0.1})
    seen = OneByOne(study, data, CPU, [fast], Way("one by one", "")).advance(100)[fast]
    assert seen.readings["validation_loss"] == pytest.approx(best, rel=0.1)


@pytest.mark.parametrize(
    ("dataset", "model", "target", "sentence"),
    [
        (
            IMAGES,
            "softmax",
            LOSS,
            "softmax gave (2, 64) for 2 examples of digits(task=reconstruction); it takes (2, 1,",
        ),
        (IMAGES, "user_models:reconstructing", "validation_error: {below: 0.1}", "knows no right and wrong answers"),
        (IMAGES, "user_models:reconstructing", "validation_perplexity: {below: 2}", "knows no right and wrong answers"),
        ("{bigram: {task: reconstruction}}", "user_models:following", LOSS, "this dataset's are tokens"),
    ],
)
def test_what_cannot_be_reconstructed_is_a_sentence(dataset, model, target, sentence):
    (told,) = rehearse([study_of(suite(dataset, model, target=target))], NOWHERE)
    assert sentence in told


# ---- the units of a target -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        ("validation_perplexity: {at_most: 20}", math.log(20)),
        ("validation_bits_per_character: {at_most: 2}", 2 * math.log(2)),
        ("validation_bits_per_byte: {at_most: 2}", 2 * math.log(2)),
        ("validation_loss: {at_most: 1.5}", 1.5),
    ],
)
def test_a_target_in_other_units_is_tested_on_the_loss_that_is_stored(target, loss):
    workload = study_of(suite(target=target)).workload
    assert workload.reading == "validation_loss"
    assert workload.threshold.at_most == pytest.approx(loss, rel=1e-15)
    assert workload.threshold.met(loss - 1e-9)
    assert not workload.threshold.met(loss + 1e-9)


def test_a_target_in_other_units_keeps_its_strictness():
    assert study_of(suite(target="validation_perplexity: {below: 20}")).workload.threshold.below == math.log(20)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("validation_perplexity: {at_most: 1}", "a perplexity is above 1"),
        ("validation_perplexity: 3", "found 3; should be {at_most: number} or {below: number}"),
        ("validation_perplexty: {at_most: 3}", "unknown reading; did you mean 'validation_perplexity'?"),
        ("validation_bits_per_character: {below: 0}", "should be greater than 0"),
    ],
)
def test_a_target_that_cannot_be_met_or_is_misspelt_is_answered(target, sentence):
    with pytest.raises(SuiteError) as raised:
        check(parse(suite(target=target)))
    assert sentence in str(raised.value)


BITS = "validation_bits_per_{}: {{at_most: 1.5}}"


@pytest.mark.parametrize(
    ("dataset", "tokens"),
    [
        ("{text: {path: z.txt}}", "byte"),
        ("wikitext2", "byte"),
        ("wikitext103", "byte"),
        ("tinyshakespeare", "character"),
        ("bigram", None),  # its tokens are neither
    ],
)
def test_bits_are_those_of_what_the_tokens_of_a_text_are(dataset, tokens):
    for unit in ("byte", "character"):
        source = parse(suite(dataset, "user_models:following", target=BITS.format(unit)))
        if tokens in (unit, None):
            check(source)
            continue
        with pytest.raises(SuiteError) as raised:
            check(source)
        (told,) = raised.value.problems
        name = "text" if "text:" in dataset else dataset
        right = BITS.format(tokens).partition(":")[0]
        assert told.path == f"workloads[0].target.validation_bits_per_{unit}"
        assert told.message == f"the tokens of {name} are {tokens}s; give {right}"


# ---- evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "classes", "most"), [(256, 256, 61), (64, 65, 961), (1, 10, 4_000)])
def test_few_examples_are_evaluated_at_once_where_each_has_many_outputs(length, classes, most):
    # [9,000 examples]; where length is 1 they have one class each.
    shape = (9_000,) if length == 1 else (9_000, length)
    split = Split(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64))
    data = Data(split, split, split, classes)
    assert data.outputs_an_example == length * classes
    taken = []

    def forward(inputs):
        taken.append(len(inputs))
        return torch.zeros(1, classes).expand(*inputs.shape, classes).unsqueeze(0)

    (seen,) = evaluation.evaluate(forward, LOSSES["cross_entropy"], split, "validation", 1, data.outputs_an_example)
    assert max(taken) == most
    assert sum(taken) == 9_000
    assert seen["validation_loss"] == pytest.approx(math.log(classes), rel=1e-6)


def test_stacked_trials_share_what_is_evaluated_at_once():
    split = Split(torch.zeros(100, 1), torch.zeros(100, dtype=torch.int64))
    taken = []

    def forward(inputs):
        taken.append(len(inputs))
        return torch.zeros(8, len(inputs), 10)

    evaluation.evaluate(forward, LOSSES["cross_entropy"], split, "validation", 8, outputs_an_example=100_000)
    assert taken == [5] * 20


def test_the_error_of_a_text_is_the_share_of_next_tokens_that_are_not_the_likeliest():
    study = study_of(suite("{bigram: {vocabulary: 8, length: 4}}", "user_models:following"))
    data = build.data(study.workload, NOWHERE, CPU)
    (trial,) = study.draws()[:1]
    trained = cohort.maker(study, data, CPU)([trial])
    readings = trained.advance(5)[trial].readings
    table = nn.Embedding(8, 8, dtype=torch.float64)
    table.load_state_dict(trained.weights(trial))
    right = (table(data.validation.inputs).argmax(-1) == data.validation.targets).double().mean()
    assert readings["validation_error"] == pytest.approx(1 - float(right))
