"""Training itself: the loop, the order of examples, and evaluation that leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import study_of
from torch import nn
from torch.nn import functional

from bench.contracts import Task
from bench.events import Way
from bench.measure import build
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.evaluation import observing
from bench.measure.order import Order, blocks
from bench.measure.rehearsal import rehearse
from bench.measure.task import carry_out

CPU = torch.device("cpu")

SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: {optimizer}
    schedule: {schedule}
    batch_sizes: [{batch_size}]
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 1000
    search: {{trials: 3, learning_rate: {rate}}}
    confirm: {{seeds: 3}}
"""


def make(model="softmax", optimizer="sgd", schedule="constant", batch_size=32, rate="{log_uniform: [0.01, 0.5]}"):
    study = study_of(
        SUITE.format(model=model, optimizer=optimizer, schedule=schedule, batch_size=batch_size, rate=rate)
    )
    return study, build.data(study.workload, Path(), CPU)


def one_by_one(study, data, trials):
    return OneByOne(study, data, CPU, trials, Way("one by one", "asked"))


def test_workloads_of_two_precisions_on_one_dataset_are_rehearsed_apart():
    studies = []
    for precision in ("fp32", "fp64", "fp32"):
        text = SUITE.format(model="softmax", optimizer="sgd", schedule="constant", batch_size=32, rate=0.1)
        text = text.replace("name: w", f"name: w{len(studies)}") + f"    precision: {precision}\n"
        studies.append(study_of(text))
    assert rehearse(studies, Path()) == []


@pytest.mark.parametrize("norm", ["batch", "ghost, ghost_batch: 4"])
@pytest.mark.parametrize(
    ("more", "batch_size", "said"),
    [
        ("", 1, "batch size 1"),
        ("micro_batch: 4", 9, "batch size 9 in micro-batches of 4"),
        ("micro_batch: 3", 9, None),
        ("probes: {noise_scale: {small: 1, large: 8}}", 8, "noise_scale with small: 1"),
        ("probes: {noise_scale: {small: 2, large: 8}}", 8, None),
    ],
)
def test_one_example_alone_is_refused_by_a_rehearsal_where_its_statistics_are_needed(norm, more, batch_size, said):
    model = f"{{mlp: {{norm: {norm}}}}}"
    text = SUITE.format(model=model, optimizer="sgd", schedule="constant", batch_size=batch_size, rate=0.1)
    told = rehearse([study_of(f"{text}    {more}\n")], Path())
    assert [problem.partition(": ")[2].partition(", as ")[2].partition(" has it: Val")[0] for problem in told] == (
        [said] if said else []
    )


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ("{SGD: {nesterov: true}}", "SGD(nesterov=True) cannot be made with learning_rate 0.1: ValueError: Nesterov"),
        ("{Adafactor: {eps: 0.5}}", "Adafactor(eps=0.5) cannot be made with learning_rate 0.1: TypeError: 'float'"),
    ],
)
def test_an_optimizer_that_cannot_be_made_is_named_by_a_rehearsal(optimizer, said):
    text = SUITE.format(model="softmax", optimizer=optimizer, schedule="constant", batch_size=8, rate=0.1)
    (told,) = rehearse([study_of(text)], Path())
    assert told.startswith(f"w: {said}")


def test_what_is_planned_is_not_trained_by_other_code():
    study = study_of(SUITE.format(model="softmax", optimizer="sgd", schedule="constant", batch_size=8, rate=0.1))
    other = replace(study.workload, sources={**study.workload.sources, ("models", "softmax"): "another"})
    (failed,) = carry_out(Task(replace(study, workload=other), {}, Path()), torch.device("cpu"))
    assert failed.message == "w at batch size 8: softmax was changed since the run began; run the suite again"


IMAGES = "{random_images: {shape: [3, 32, 32], examples: 32, classes: 5}}"


def rehearsed(model, dataset="digits"):
    text = SUITE.format(model=model, optimizer="sgd", schedule="constant", batch_size=8, rate=0.1)
    return rehearse([study_of(text.replace("dataset: digits", f"dataset: {dataset}"))], Path())


@pytest.mark.filterwarnings("error")
def test_a_model_of_torchvision_with_auxiliary_outputs_is_made_without_them_unless_the_suite_asks():
    assert rehearsed("torchvision:googlenet", IMAGES) == []
    (told,) = rehearsed("{'torchvision:googlenet': {aux_logits: true, init_weights: false}}", IMAGES)
    assert " gave a GoogLeNetOutputs for 2 examples of random_images" in told
    assert told.endswith("; it takes one tensor, (2, 5)")


def test_a_model_whose_parameters_have_no_shape_yet_is_refused_in_a_sentence():
    (told,) = rehearsed("user_models:lazy")
    assert told.endswith(
        "lazy has no shape for 1.weight before it sees an example; give it one: nn.Linear, not LazyLinear"
    )


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_every_example_is_seen_once_an_epoch_and_every_batch_is_full():
    order = Order(examples=10, batch_size=4, seed=1)
    rows = torch.cat([order.take(3), order.take(2)])
    assert rows.shape == (5, 4)
    assert sorted(rows.flatten()[:10].tolist()) == sorted(rows.flatten()[10:].tolist()) == list(range(10))


def test_the_order_depends_on_the_seed_and_not_on_how_it_is_asked_for():
    whole, pieces = Order(100, 7, seed=3), Order(100, 7, seed=3)
    assert torch.equal(whole.take(60), torch.cat([pieces.take(1), *map(pieces.take, blocks(40, 7)), pieces.take(19)]))
    assert not torch.equal(Order(100, 7, seed=3).take(5), Order(100, 7, seed=4).take(5))


def test_a_batch_as_large_as_the_training_set_holds_every_example():
    assert sorted(Order(50, 50, seed=0).take(1).flatten().tolist()) == list(range(50))


def test_training_is_the_loop_a_person_would_write():
    study, data = make(optimizer="momentum", schedule="linear", batch_size=64)
    trial = study.draws()[0]
    cohort = one_by_one(study, data, [trial])
    cohort.advance(10)
    cohort.advance(50)

    torch.manual_seed(trial.init_seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, fused=True)
    for step, row in enumerate(Order(len(data.train), 64, trial.order_seed).take(50)):
        optimizer.param_groups[0]["lr"] = trial.metaparameters["learning_rate"] * (1 - step / 1000)
        optimizer.zero_grad()
        functional.cross_entropy(model(data.train.inputs[row]), data.train.targets[row]).backward()
        optimizer.step()
    expected = {f"{name}": value for name, value in model.state_dict().items()}
    assert same(cohort.weights(trial), expected)


@pytest.mark.parametrize("model", ["resnet8", "user_models:with_dropout", "user_models:with_batch_norm"])
def test_weights_are_bitwise_the_same_however_often_they_are_evaluated(model):
    study, data = make(model=model)
    trial = study.draws()[0]
    often, once = (one_by_one(study, data, [trial]) for _ in range(2))
    for step in range(1, 9):
        often.advance(step)
        often.test([trial])
    once.advance(8)
    assert same(often.weights(trial), once.weights(trial))


def test_trials_with_dropout_train_as_they_would_alone():
    study, data = make(model="user_models:with_dropout")
    trials = study.draws()[:3]
    together = one_by_one(study, data, trials)
    for step in (3, 7, 20):
        together.advance(step)
    for trial in trials:
        alone = one_by_one(study, data, [trial])
        alone.advance(20)
        assert same(together.weights(trial), alone.weights(trial))


def test_evaluation_leaves_modes_and_random_state_as_they_were():
    study, data = make(model="user_models:with_batch_norm")
    trial = study.draws()[0]
    cohort = one_by_one(study, data, [trial])
    run = cohort._runs[trial]
    frozen = run.model[2]
    frozen.eval()
    state = torch.get_rng_state()
    run.evaluate("validation", data.validation)
    assert not frozen.training
    assert run.model.training
    assert torch.equal(state, torch.get_rng_state())


def test_observing_puts_the_modes_back_when_what_is_inside_fails():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2).eval())
    with pytest.raises(RuntimeError), observing(model, CPU):
        model(torch.zeros(1, 3))
    assert [model.training, model[0].training, model[1].training] == [True, True, False]


def test_the_errors_of_an_evaluation_are_counted_over_the_whole_split():
    study, data = make()
    trial = study.draws()[0]
    cohort = one_by_one(study, data, [trial])
    readings = cohort.advance(5)[trial].readings
    model = cohort._runs[trial].model
    outputs = model(data.validation.inputs).detach()
    wrong = int((outputs.argmax(1) != data.validation.targets).sum())
    assert readings["validation_error"] == wrong / 300
    assert readings["validation_loss"] == pytest.approx(
        float(functional.cross_entropy(outputs, data.validation.targets)), rel=1e-5
    )


def test_a_trial_that_diverges_is_dropped_at_the_step_its_loss_was_not_finite():
    study, data = make(rate="1.0e+38", batch_size=16)
    trial = study.draws()[0]
    seen = one_by_one(study, data, [trial]).advance(40)[trial]

    torch.manual_seed(trial.init_seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    step = 0
    for row in Order(len(data.train), 16, trial.order_seed).take(40):
        step += 1
        loss = functional.cross_entropy(model(data.train.inputs[row]), data.train.targets[row])
        if not loss.isfinite():
            break
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e38 * parameter.grad
    assert seen.diverged_at == step
    assert seen.readings == {}


def test_the_trials_of_a_search_share_their_order_and_confirmations_do_not():
    study, data = make()
    searched = one_by_one(study, data, study.draws()[:3])
    confirmed = one_by_one(study, data, study.confirmations([study.draws()[0]], [10]))
    assert len(searched._orders) == 1
    assert len(confirmed._orders) == 3


def test_time_on_the_clock_grows_with_training_and_not_with_evaluation():
    study, data = make()
    trial = study.draws()[0]
    cohort = one_by_one(study, data, [trial])
    cohort.advance(5)
    before = cohort.train_seconds(trial)
    assert before > 0
    cohort.test([trial])
    assert cohort.train_seconds(trial) == before
