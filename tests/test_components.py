"""The contract of every file in models/, datasets/, optimizers/ and schedules/, found by listing."""

import inspect
import json
import math
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from bench.ask import components
from bench.ask.components import find, names
from bench.ask.libraries import torch_optimizers
from bench.ask.suite import Spec
from bench.errors import ComponentError
from bench.measure.build import gradients

FILES = [(kind, name) for kind in ("models", "datasets", "optimizers", "schedules") for name in names(kind)]
ON_DISK = ["cifar10", "fashion_mnist", "mnist"]
SHAPES = {"grey digits": (1, 8, 8), "grey": (1, 28, 28), "colour": (3, 32, 32)}


@pytest.mark.parametrize("kind", ["models", "datasets", "optimizers", "schedules"])
def test_every_file_that_does_not_begin_with_an_underscore_is_a_component(kind):
    folder = Path(components.__file__).parent.parent / kind
    assert names(kind) == sorted(file.stem for file in folder.iterdir() if file.is_file() and file.name[0] != "_")
    assert names(kind)


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_component_is_a_function_named_like_its_file_with_a_summary_in_a_line(kind, name):
    component = find(kind, name)
    function = component.load()
    assert inspect.isfunction(function)
    assert function.__name__ == name
    assert 0 < len(component.summary) < 120
    assert component.summary == inspect.getdoc(function).partition("\n")[0]


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_what_a_suite_may_set_is_keyword_only_and_known_without_importing(kind, name):
    component = find(kind, name)
    parameters = inspect.signature(component.load()).parameters.values()
    given = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    options = {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert len(given) + len(options) == len(parameters)
    asked_for = {"roles", "warmup_steps"} & {parameter.name for parameter in given}
    assert len(given) == (2 if kind == "models" else 1) + len(asked_for)
    described = {option.name: option for option in component.options if not option.harness}
    assert described.keys() == options.keys()
    for key, option in described.items():
        assert option.required == (options[key].default is inspect.Parameter.empty)
        assert option.required or option.problem(options[key].default) is None
        assert option.problem(object()) is not None


# What is no classifier of images, or draws as it trains, is tested on data of its kind in test_models.py.
OTHERS = ("noisy_quadratic", "autoencoder", "vae", "lstm", "transformer")


@pytest.mark.parametrize("name", [name for name in names("models") if name not in OTHERS])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_model_gives_a_logit_for_each_class_and_learns_in_every_parameter(name, shape):
    torch.manual_seed(0)
    model = find("models", name).load()(shape, 7)
    logits = model(torch.randn(5, *shape))
    assert logits.shape == (5, 7)
    torch.nn.functional.cross_entropy(logits, torch.arange(5)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize(
    ("name", "shape", "options", "parameters"),
    [
        ("softmax", (1, 28, 28), {}, 784 * 10 + 10),
        ("mlp", (1, 8, 8), {"hidden": [64]}, 64 * 64 + 64 + 64 * 10 + 10),
        ("mlp", (1, 8, 8), {"hidden": []}, 64 * 10 + 10),
        ("simple_cnn", (1, 28, 28), {}, 32 * 26 + 64 * 801 + 1024 * 3137 + 10 * 1025),
        ("simple_cnn", (1, 28, 28), {"variant": "narrow"}, 8 * 26 + 16 * 201 + 256 * 785 + 10 * 257),
        ("simple_cnn", (3, 32, 32), {"variant": "wide"}, 64 * 76 + 128 * 1601 + 2048 * 8193 + 10 * 2049),
        # First convolution; three blocks, the last two with a 1x1 shortcut; the last layer.
        ("resnet8", (3, 32, 32), {}, 464 + 2 * 2336 + (4672 + 9280 + 512) + (18560 + 36992 + 2048) + 650),
    ],
)
def test_a_model_has_the_parameters_its_paper_or_its_arithmetic_gives(name, shape, options, parameters):
    model = find("models", name).load()(shape, 10, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def quadratic_path(create, steps, **options):
    """The weight of the loss w^2/2 from w = 1, step by step; where the optimizer asks for roles, of a hidden matrix."""
    weight = torch.nn.Parameter(torch.tensor([[1.0]]))
    given = (["hidden"],) if "roles" in inspect.signature(create).parameters else ()
    optimizer = create([weight], *given, **options)

    def gradient():
        optimizer.zero_grad()
        (weight**2 / 2).sum().backward()

    path = []
    for _ in range(steps):
        if gradients(optimizer) > 1:
            optimizer.step(gradient)
        else:
            gradient()
            optimizer.step()
        path.append(weight.item())
    return path


@pytest.mark.parametrize("name", names("optimizers"))
def test_an_optimizer_lowers_the_loss_of_a_quadratic_at_its_learning_rate(name):
    create = find("optimizers", name).load()
    slow, fast = (abs(quadratic_path(create, 50, learning_rate=rate)[-1]) for rate in (0.001, 0.02))
    assert fast < slow < 1


@pytest.mark.parametrize(
    ("name", "options", "path"),
    [
        ("sgd", {}, [0.9, 0.81]),
        ("sgd", {"weight_decay": 1.0}, [0.8, 0.64]),
        # v = 0.5 v + w;  w -= 0.1 v
        ("momentum", {"momentum": 0.5}, [0.9, 0.76]),
        # v = 0.5 v + w;  w -= 0.1 (w + 0.5 v)
        ("nesterov", {"momentum": 0.5}, [0.85, 0.6975]),
        ("nesterov", {"momentum": 0.0}, [0.9, 0.81]),
        # The first step of Adam is the learning rate itself, whatever the gradient.
        ("adam", {}, [0.9]),
        ("adamw", {"weight_decay": 0.0}, [0.9]),
        ("adamw", {"weight_decay": 1.0}, [0.8]),
        # The learning rate itself, whatever the gradient; the decay's 0.1 w beside it.
        ("lion", {}, [0.9, 0.8]),
        ("lion", {"weight_decay": 1.0}, [0.8, 0.62]),
        # |w| / |g| is 1: v = 0.5 v + 0.1 * 0.01 w
        ("lars", {"momentum": 0.5, "trust": 0.01}, [0.999, 0.997501]),
        # As long as a tenth of the weight, whatever the gradient.
        ("lamb", {}, [0.9]),
        # The gradient at w + 0.5.
        ("sam", {"base": "sgd", "rho": 0.5}, [0.85, 0.715]),
        # 1 / (1 + eps)^(1/2); the root is kept for the second step.
        ("shampoo", {"eps": 3.0}, [0.95, 0.95 - 0.1 * 0.95 / (4 + 0.95**2) ** 0.5]),
        # z = 0.9 = x;  z = 0.81, x = 0.855
        ("schedule_free", {"base": "sgd"}, [0.9, 0.8505]),
    ],
)
def test_an_optimizer_steps_as_its_formula_says(name, options, path):
    create = find("optimizers", name).load()
    assert quadratic_path(create, len(path), learning_rate=0.1, **options) == pytest.approx(path, rel=1e-5)


@pytest.mark.parametrize("name", names("schedules"))
@pytest.mark.parametrize("horizon", [1, 7, 1000])
def test_a_schedule_starts_at_one_and_stays_between_nothing_and_one(name, horizon):
    factor = find("schedules", name).load()(horizon)
    assert factor(0) == 1
    assert all(0 <= factor(step) <= 1 for step in range(3 * horizon))


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("constant", {}, {0: 1, 99: 1, 500: 1}),
        ("linear", {}, {0: 1, 25: 0.75, 100: 0, 500: 0}),
        ("linear", {"decay_steps": 10, "end_factor": 0.2}, {5: 1 - 0.8 * 5 / 10, 10: 0.2, 11: 0.2}),
        ("cosine", {}, {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0, 500: 0}),
        ("cosine", {"decay_steps": 10, "end_factor": 0.2}, {5: 0.6, 10: 0.2, 11: 0.2}),
        ("wsd", {}, {0: 1, 80: 1, 85: 0.5, 95: 1 - math.sqrt(0.75), 100: 0, 500: 0}),
        ("wsd", {"shape": "linear", "decay_share": 0.5, "end_factor": 0.2}, {50: 1, 75: 0.6, 100: 0.2, 101: 0.2}),
        ("wsd", {"total_steps": 10, "shape": "linear", "decay_share": 0.4}, {6: 1, 7: 0.75, 10: 0, 99: 0}),
        ("wsd", {"decay_share": 0.0}, {0: 1, 99: 1, 100: 0}),
        ("wsd", {"decay_share": 1.0, "shape": "linear"}, {0: 1, 25: 0.75, 100: 0}),
        ("inverse_sqrt", {}, {0: 1, 3: 0.5, 99: 0.1, 9999: 0.01}),
        ("inverse_sqrt", {"constant_steps": 25}, {0: 1, 24: 1, 99: 0.5, 399: 0.25}),
        ("step", {}, {0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 500: 0.01}),
        ("step", {"milestones": [1, 30], "factor": 0.5}, {0: 1, 1: 0.5, 29: 0.5, 30: 0.25}),
        ("step", {"milestones": []}, {0: 1, 500: 1}),
    ],
)
def test_a_schedule_has_the_values_of_its_formula(name, options, values):
    factor = find("schedules", name).load()(100, **options)
    assert {step: factor(step) for step in values} == pytest.approx(values)


@pytest.mark.parametrize(
    ("warm_up", "values"),
    [
        ({"warmup_steps": 0}, [1, 1]),
        ({"warmup_steps": 1}, [1, 1]),
        ({"warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1]),
        # Batches of 100: the share of the examples that have been seen by the end of the step.
        ({"warmup_examples": 0}, [1, 1]),
        ({"warmup_examples": 99}, [1, 1]),
        ({"warmup_examples": 400}, [0.25, 0.5, 0.75, 1, 1]),
        ({"warmup_examples": 160}, [0.625, 1, 1]),
        # Epochs of 1,197 examples.
        ({"warmup_epochs": 0}, [1, 1]),
        ({"warmup_epochs": 400 / 1197}, [0.25, 0.5, 0.75, 1, 1]),
    ],
)
def test_a_warm_up_rises_to_one_by_equal_steps(warm_up, values):
    from fakes import fake_study

    from bench.measure import build

    factor = build.schedule(fake_study().workload, warm_up, batch_size=100)
    assert [factor(step) for step in range(len(values))] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "given", "steps"),
    [
        ("linear", {"decay_examples": 1280}, {"decay_steps": 20}),
        ("linear", {"decay_examples": 1270.5}, {"decay_steps": 20}),
        ("cosine", {"decay_epochs": 2}, {"decay_steps": 37}),
        ("cosine", {"decay_examples": 1}, {"decay_steps": 1}),
        ("wsd", {"total_epochs": 0.5}, {"total_steps": 9}),
        ("inverse_sqrt", {"constant_examples": 640}, {"constant_steps": 10}),
    ],
)
@pytest.mark.parametrize("searched", [True, False])
def test_what_a_schedule_takes_in_steps_is_given_in_examples_or_epochs_too(schedule, given, steps, searched):
    from bench.measure import build

    # Of 64 examples a step, and 1,197 an epoch.
    options = json.dumps({} if searched else given)
    workload = with_schedule(f"{{{schedule}: {options}}}").workload
    found = build.schedule(workload, given if searched else {}, batch_size=64)
    expected = find("schedules", schedule).load()(1000, **steps)
    assert [found(step) for step in range(60)] == [expected(step) for step in range(60)]


@pytest.mark.parametrize("batch_size", [16, 64, 256])
def test_a_decay_in_examples_ends_after_as_many_examples_at_every_batch_size(batch_size):
    from bench.measure import build

    factor = build.schedule(with_schedule("linear").workload, {"decay_examples": 5120}, batch_size)
    last = 5120 // batch_size
    assert factor(last - 1) > 0
    assert factor(last) == 0


def test_epochs_of_a_dataset_of_unknown_size_are_refused():
    from bench.measure import build

    study = with_schedule("linear")
    unknown = replace(study.workload, dataset=Spec(name="random_images"))
    with pytest.raises(ComponentError, match=r"random_images does not say .* give decay_examples and not deca"):
        build.schedule(unknown, {"decay_epochs": 2}, batch_size=64)


def with_schedule(schedule):
    from fakes import fake_text, study_of

    return study_of(fake_text(trials=1) + f"    schedule: {schedule}\n")


@pytest.mark.parametrize(
    ("options", "searched"),
    [
        ("{warmup_steps: 40}", {}),
        ("{warmup_steps: 40, constant_steps: 40}", {}),
        ("{}", {"warmup_steps": 40}),
        # Batches of 64.
        ("{warmup_examples: 2560}", {}),
        ("{}", {"warmup_examples": 2560}),
    ],
)
def test_inverse_sqrt_with_a_warm_up_is_the_transformers_schedule_with_a_peak_of_one(options, searched):
    from bench.measure import build

    factor = build.schedule(with_schedule(f"{{inverse_sqrt: {options}}}").workload, searched, batch_size=64)
    published = [min(t**-0.5, t * 40**-1.5) for t in range(1, 400)]  # Vaswani et al. 2017, eq. 3
    assert [factor(step) for step in range(399)] == pytest.approx([lr / 40**-0.5 for lr in published])
    assert max(map(factor, range(399))) == 1


def test_a_warm_up_of_less_than_a_step_changes_no_inverse_sqrt():
    from bench.measure import build

    study = with_schedule("{inverse_sqrt: {warmup_examples: 9}}")
    factor = build.schedule(study.workload, {}, batch_size=64)
    assert [factor(step) for step in (0, 3, 99)] == [1, 0.5, 0.1]


def test_a_schedule_of_ones_own_may_ask_for_the_steps_of_its_warm_up():
    from bench.measure import build

    assert {option.name for option in find("schedules", "user_models:after_warm_up").options if option.harness} == {
        "warmup_steps",
        "warmup_examples",
        "warmup_epochs",
    }
    study = with_schedule("{'user_models:after_warm_up': {warmup_examples: 320}}")
    factor = build.schedule(study.workload, {}, batch_size=64)
    assert [factor(step) for step in range(8)] == [0.2, 0.4, 0.6, 0.8, 1, 0.5, 0.5, 0.5]


def check_dataset(name, folder):
    """The promises of a dataset: its sizes, its scale, its classes, and no example in two splits."""
    data = find("datasets", name).load()(folder)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    assert {key: len(split) for key, split in splits.items()} == find("datasets", name).sizes
    assert data.classes == 10
    for split in splits.values():
        assert split.inputs.shape == (len(split), *data.example_shape)
        assert split.inputs.is_floating_point()
        assert split.inputs.is_contiguous()
        assert split.inputs.isfinite().all()
        assert split.targets.dtype == torch.int64
        assert split.targets.unique().tolist() == list(range(10))
    # Normalised by the statistics of the whole training images, of which `train` is the most part.
    assert data.train.inputs.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (data.train.inputs.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01
    return {key: {bytes(image.numpy()) for image in split.inputs} for key, split in splits.items()}


def test_digits_keeps_the_contract_and_no_image_stands_in_two_splits():
    images = check_dataset("digits", Path("unused"))
    assert sum(map(len, images.values())) == len(set.union(*images.values())) == 1797


def test_digits_is_split_alike_every_time():
    load = find("datasets", "digits").load()
    first, second = (load(Path("unused")).train for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.targets, second.targets)


@pytest.mark.data
@pytest.mark.parametrize("name", ON_DISK)
def test_a_dataset_on_disk_keeps_the_contract(name):
    folder = Path(os.environ.get("BENCH_DATA", "/nonexistent"))
    where = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "cifar-10-batches-py"}[name]
    if not (folder / where).is_dir():
        pytest.skip(f"BENCH_DATA names no folder with {where}")
    images = check_dataset(name, folder)
    # The sets themselves hold a few images twice; a split that overlapped would share thousands.
    assert sum(map(len, images.values())) - len(set.union(*images.values())) < 50


@pytest.mark.parametrize("kind", ["models", "datasets", "optimizers", "schedules"])
def test_an_unknown_name_is_answered_with_what_there_is(kind):
    with pytest.raises(ComponentError, match="found 'qqq'; there is "):
        find(kind, "qqq")


@pytest.mark.parametrize("name", torch_optimizers())
def test_every_class_of_torch_optim_is_found_with_a_learning_rate_and_no_word_of_the_harness(name):
    options = {option.name for option in find("optimizers", name).options}
    assert "learning_rate" in options
    assert options.isdisjoint({"lr", "params", "foreach", "fused", "capturable", "differentiable", "maximize"})


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_image_sets_of_figure_1_are_split_as_published(name):
    sizes = import_module(f"bench.datasets.{name}").SIZES
    assert (sizes["train"], sizes["validation"]) == (55_000, 5_000)
