"""Models on the kind of data each is for: shapes, sizes, what they may see, and both ways of training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from fakes import study_of

from bench.ask.components import find, names
from bench.errors import ComponentError
from bench.events import Way
from bench.examples import Data, Split
from bench.measure import build, cohort, limits
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked
from bench.measure.feeds import streamed
from bench.measure.step import Step

CPU = torch.device("cpu")
LENGTH, VOCABULARY = 6, 11
TEXT = ["lstm", "transformer"]
RECONSTRUCTION = ["autoencoder", "vae"]
DRAWING = ["noisy_quadratic", "vae"]
LARGE = ["resnet18", "resnet34", "resnet50", "vgg11"]
SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: digits
    optimizer: sgd
    precision: fp64
    batch_sizes: [4]
    target: {{validation_loss: {{at_most: 0.1}}}}
    max_steps: 300
    search: {{trials: 2, learning_rate: {{log_uniform: [0.001, 0.003]}}}}
    confirm: {{seeds: 2}}
"""


def built(name, shape, classes=10, **options):
    torch.manual_seed(0)
    return find("models", name).load()(shape, classes, **options)


def data_for(name):
    """A few examples of the kind a model is for, in double precision."""
    draw = torch.Generator().manual_seed(1)
    side = 4 if name in LARGE else 8
    inputs = torch.randn(16, 1, side, side, generator=draw, dtype=torch.float64)
    targets = torch.randint(10, (16,), generator=draw)
    if name in TEXT:
        tokens = torch.randint(VOCABULARY, (16, LENGTH + 1), generator=draw)
        split = Split(tokens[:, :-1], tokens[:, 1:])
        return Data(split, split, split, VOCABULARY)
    split = Split(inputs, inputs if name in RECONSTRUCTION else targets)
    loss = {"autoencoder": "half_squared_error", "vae": "output", "noisy_quadratic": "output"}.get(name)
    return Data(split, split, split, 10, loss or "cross_entropy")


def both(name, options=""):
    of, data = study_of(SUITE.format(model=f"{{{name}: {{{options}}}}}")), data_for(name)
    trials = of.draws()[:2]
    cohorts = (kind(of, data, CPU, trials, Way("stacked", "asked")) for kind in (OneByOne, Stacked))
    return *cohorts, trials


def apart(one, stacked, trials):
    """The largest difference between two cohorts' parameters and buffers."""
    return max(
        float((mine[name].double() - value.double()).abs().max())
        for trial in trials
        for mine in [one.weights(trial)]
        for name, value in stacked.weights(trial).items()
    )


NORMS = ["norm: batch", "norm: ghost, ghost_batch: 2", "norm: layer", "norm: group", "norm: weight", "norm: none"]
OPTIONS = [
    *((name, "") for name in names("models") if name not in DRAWING),
    *((name, norm) for name in ("mlp", "simple_cnn", "resnet8") for norm in NORMS),
    ("resnet18", "norm: weight"),
    ("vgg11", "norm: batch, hidden: [16]"),
    *((name, "tied: false") for name in TEXT),
    *((name, "init_scale: 0.5") for name in ("mlp", "lstm", "transformer")),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_a_model_trains_alike_stacked_and_one_by_one(name, options):
    one, stacked, trials = both(name, options)
    drawn = one.weights(trials[0])
    for cohort_of in (one, stacked):
        cohort_of.train(1 if name in LARGE else 3)
    assert any(not torch.equal(drawn[key], value) for key, value in one.weights(trials[0]).items())
    assert apart(one, stacked, trials) < 1e-9


@pytest.mark.parametrize("name", DRAWING)
def test_a_model_that_draws_as_it_trains_is_trained_one_by_one_and_says_why(name):
    of = study_of(SUITE.format(model=name))
    made = cohort.maker(of, data_for(name), CPU)(of.draws()[:2])
    assert made.way.name == "one by one"
    assert made.way.reason.endswith("trains otherwise stacked: it keeps state, or draws at random")


@pytest.mark.parametrize("name", [name for name in names("models") if name not in [*DRAWING, *LARGE]])
def test_every_other_model_can_be_stacked(name):
    of = study_of(SUITE.format(model=name).replace("precision:", "training: stacked\n    precision:"))
    assert cohort.maker(of, data_for(name), CPU)(of.draws()[:2]).way == Way("stacked", "the suite says so")


# ---- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "parameters"),
    [
        # As published with torchvision's weights.
        ("resnet18", (3, 224, 224), 1000, {}, 11_689_512),
        ("resnet34", (3, 224, 224), 1000, {}, 21_797_672),
        ("resnet50", (3, 224, 224), 1000, {}, 25_557_032),
        ("vgg11", (3, 224, 224), 1000, {}, 132_863_336),
        # 11.2, 21.3 and 23.5 million for CIFAR-10: another first convolution, 3x3 for 7x7, and 10 classes for 1,000.
        ("resnet18", (3, 32, 32), 10, {}, 11_689_512 - 990 * 513 - 64 * 3 * (49 - 9)),
        ("resnet34", (3, 32, 32), 10, {}, 21_797_672 - 990 * 513 - 64 * 3 * (49 - 9)),
        ("resnet50", (3, 32, 32), 10, {}, 25_557_032 - 990 * 2049 - 64 * 3 * (49 - 9)),
        ("resnet18", (1, 28, 28), 10, {"stem": "large"}, 11_689_512 - 990 * 513 - 64 * 2 * 49),
        # 9.2 million with batch norm, 2,752 filters shifted and scaled, without the convolutions' biases.
        ("vgg11", (3, 32, 32), 10, {"norm": "batch"}, 9_225_610 + 2752),
        ("autoencoder", (1, 28, 28), 10, {}, 2 * (784_000 + 500_000 + 125_000 + 7_500) + 2 * 1750 + 30 + 784),
        ("vae", (1, 28, 28), 10, {}, 785 * 500 + 501 * 40 + 21 * 500 + 501 * 784),
    ],
)
def test_a_model_has_the_parameters_that_are_published_or_its_arithmetic_gives(
    name, shape, classes, options, parameters
):
    assert size(built(name, shape, classes, **options)) == parameters


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "width", "depth"),
    [({"variant": "narrow"}, 64, 4), ({"variant": "shallow"}, 128, 1), ({}, 128, 4), ({"variant": "wide"}, 256, 4)],
)
@pytest.mark.parametrize("tied", [True, False])
def test_a_transformer_has_twelve_matrices_of_its_width_a_block(options, width, depth, tied):
    embeddings = VOCABULARY * width * (1 if tied else 2) + LENGTH * width
    expected = embeddings + depth * (12 * width**2 + 13 * width) + 2 * width
    assert size(built("transformer", (LENGTH,), VOCABULARY, tied=tied, **options)) == expected


@pytest.mark.parametrize(
    ("options", "width", "depth"),
    [({"variant": "narrow"}, 64, 2), ({"variant": "shallow"}, 128, 1), ({}, 128, 2), ({"variant": "wide"}, 256, 2)],
)
def test_an_lstm_has_eight_matrices_of_its_width_a_layer(options, width, depth):
    expected = VOCABULARY * width + VOCABULARY + depth * (8 * width**2 + 4 * width)
    assert size(built("lstm", (LENGTH,), VOCABULARY, **options)) == expected


# ---- language models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_gives_logits_at_every_position_and_learns_in_every_parameter(name, tied):
    model, data = built(name, (LENGTH,), VOCABULARY, tied=tied), data_for(name)
    logits = model(data.train.inputs)
    assert logits.shape == (16, LENGTH, VOCABULARY)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.train.targets.flatten()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", TEXT)
def test_a_language_model_sees_no_token_that_comes_later(name):
    model, tokens = built(name, (LENGTH,), VOCABULARY), data_for(name).train.inputs
    for changed in range(LENGTH):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % VOCABULARY
        difference = (model(tokens) - model(other)).detach().abs().amax((0, 2))
        assert not difference[:changed].any()
        assert difference[changed:].all()


@pytest.mark.parametrize("name", TEXT)
def test_a_language_model_knows_nothing_at_first(name):
    data = data_for(name)
    logits = built(name, (LENGTH,), VOCABULARY)(data.train.inputs)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.train.targets.flatten())
    assert loss.item() == pytest.approx(math.log(VOCABULARY), rel=0.05)


def test_the_lstm_is_torchs_own():
    layer = built("lstm", (LENGTH,), VOCABULARY, variant="shallow", width=8).layers[0]
    own = torch.nn.LSTM(8, 8, batch_first=True)
    # torch has the gates in the order enter, forget, new, leave too.
    own.load_state_dict(
        {
            "weight_ih_l0": layer.of_input.weight,
            "bias_ih_l0": layer.of_input.bias,
            "weight_hh_l0": layer.of_state.weight,
            "bias_hh_l0": torch.zeros(32),
        }
    )
    inputs = torch.randn(3, LENGTH, 8)
    assert torch.allclose(layer(inputs), own(inputs)[0], atol=1e-6)


def test_attention_is_torchs_own():
    block = built("transformer", (LENGTH,), VOCABULARY, width=8, heads=2, depth=1).blocks[0]
    tokens, later = torch.randn(3, LENGTH, 8), torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    parts = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in block.queries_keys_values(tokens).chunk(3, dim=-1)]
    own = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
    assert torch.allclose(block._attend(tokens, later), own, atol=1e-6)


def test_heads_that_cannot_share_the_width_are_answered_with_a_sentence():
    with pytest.raises(ComponentError, match="found width 64 and 3 heads"):
        built("transformer", (LENGTH,), VOCABULARY, width=64, heads=3)


@pytest.mark.parametrize(
    ("name", "forward"),
    [
        # Of each token every matrix once, and of each pair of positions a score and a mixture, 2 x width each.
        ("transformer", LENGTH * 2 * (4 * 12 * 128**2 + VOCABULARY * 128) + 4 * LENGTH**2 * 4 * 128),
        # Of each token every matrix once, but that the first has no state before it.
        ("lstm", 2 * 2 * 4 * 128**2 * (2 * LENGTH - 1) + LENGTH * 2 * VOCABULARY * 128),
    ],
)
def test_the_operations_of_a_language_models_step_are_those_of_its_sizes(name, forward):
    of, data = study_of(SUITE.format(model=name)), data_for(name)
    step = Step(of.workload, data, CPU, seed=0, metaparameters={"learning_rate": 0.1}, batch_size=4)
    few = data.train.inputs[:2], data.train.targets[:2]
    assert limits.operations(step, *few, training=False) == pytest.approx(forward, rel=1e-9)
    assert limits.operations(step, *few, training=True) == pytest.approx(3 * forward, rel=1e-9)


def test_tokens_stay_whole_numbers_when_they_are_read_as_they_are_needed():
    tokens = streamed(data_for("lstm").train).to(CPU, torch.float64).first(4)
    assert tokens.inputs.dtype == tokens.targets.dtype == torch.int64
    assert streamed(data_for("mlp").train).to(CPU, torch.float64).first(4).inputs.dtype == torch.float64


# ---- reconstruction ------------------------------------------------------------------------------------------------


def test_an_autoencoder_gives_the_examples_shape_through_its_code():
    model = built("autoencoder", (1, 8, 8), hidden=[20], code=3)
    outputs = model(torch.randn(50, 1, 8, 8)).detach()
    assert outputs.shape == (50, 1, 8, 8)
    # What comes out of three numbers through tanh is of more than three directions, but no layer is narrower.
    narrowest = min(layer.out_features for layer in model if isinstance(layer, torch.nn.Linear))
    assert narrowest == 3


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_vae_gives_the_evidence_lower_bound_that_sampling_gives(likelihood):
    model = built("vae", (1, 2, 2), hidden=5, latent=2, likelihood=likelihood).double()
    pixels = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    mean, log_variance = model.encoder(pixels.flatten(1)).detach().chunk(2, dim=1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(2).double(), 1.0)
    latent = posterior.sample((20_000,))
    decoded = model.decoder(latent).detach()
    if likelihood == "gaussian":
        surprise = -torch.distributions.Normal(decoded, 1.0).log_prob(pixels.flatten(1))
    else:
        surprise = -torch.distributions.Bernoulli(logits=decoded).log_prob((pixels.flatten(1) > 0).double())
    bound = (surprise.sum(-1) + (posterior.log_prob(latent) - prior.log_prob(latent)).sum(-1)).mean()
    given = model(pixels.expand(20_000, 1, 2, 2)).detach()
    assert given.shape == (20_000,)
    assert given.mean().item() == pytest.approx(bound.item(), rel=0.02)


def test_a_vae_draws_in_training_and_takes_the_mean_in_evaluation():
    model, pixels = built("vae", (1, 8, 8)), torch.randn(5, 1, 8, 8)
    assert not torch.equal(model(pixels), model(pixels))
    model.eval()
    assert torch.equal(model(pixels), model(pixels))


def test_a_vae_learns_in_every_parameter():
    model = built("vae", (1, 8, 8))
    model(torch.randn(5, 1, 8, 8)).mean().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


# ---- the stem ------------------------------------------------------------------------------------------------------


def test_a_residual_network_quarters_large_images_at_its_stem_and_leaves_small_ones():
    for shape, stem, side in (((3, 32, 32), None, 4), ((3, 96, 96), None, 3), ((3, 32, 32), "large", 1)):
        model = built("resnet18", shape, stem=stem)
        seen = []
        model.layer4.register_forward_hook(lambda *given, seen=seen: seen.append(given[2].shape[-1]))
        model(torch.randn(2, *shape))
        assert seen == [side]


def test_a_large_residual_network_is_torchvisions_own():
    import torchvision

    model = built("resnet18", (3, 224, 224), 10)
    torch.manual_seed(0)
    own = torchvision.models.resnet18(num_classes=10)
    assert all(torch.equal(left, right) for left, right in zip(model.parameters(), own.parameters(), strict=True))


# ---- init_scale ----------------------------------------------------------------------------------------------------


def pair(name, scale):
    """A model as it is drawn, and with init_scale."""
    plain, scaled = (
        study_of(SUITE.format(model=f"{{{name!r}: {options}}}")) for options in ("{}", f"{{init_scale: {scale}}}")
    )
    data = data_for(name)
    if name.startswith(("torchvision:", "timm:")):
        data = replace(data, train=Split(torch.randn(4, 3, 32, 32), data.train.targets[:4]))
    return (dict(build.model(of.workload, data, CPU, seed=5).named_parameters()) for of in (plain, scaled))


@pytest.mark.parametrize(
    "name",
    [*(name for name in names("models") if name != "noisy_quadratic"), "torchvision:resnet18", "user_models:net"],
)
def test_init_scale_multiplies_weight_matrices_and_convolutions_and_nothing_else(name):
    plain, scaled = pair(name, 0.25)
    assert plain.keys() == scaled.keys()
    kept = {"embedding.weight", "positions"}
    for key, drawn in plain.items():
        factor = 0.25 if drawn.ndim > 1 and key not in kept else 1.0
        assert torch.equal(scaled[key], factor * drawn), key


def test_init_scale_of_a_normalised_weight_is_the_scale_of_the_weight():
    of = study_of(SUITE.format(model="{mlp: {norm: weight, init_scale: 4.0}}"))
    plain = study_of(SUITE.format(model="{mlp: {norm: weight}}"))
    scaled, drawn = (build.model(each.workload, data_for("mlp"), CPU, seed=5)[1].weight for each in (of, plain))
    assert torch.allclose(scaled, 4 * drawn)


def test_init_scale_where_there_is_nothing_to_scale_is_a_sentence():
    of = study_of(SUITE.format(model="{noisy_quadratic: {init_scale: 2.0}}"))
    with pytest.raises(ComponentError, match="which has no weight matrix and no convolution to scale"):
        build.model(of.workload, data_for("noisy_quadratic"), CPU, seed=0)


def test_a_suite_without_init_scale_keeps_its_ids():
    assert study_of(SUITE.format(model="mlp")).id != study_of(SUITE.format(model="{mlp: {init_scale: 1.0}}")).id
    assert study_of(SUITE.format(model="mlp")).workload.identity()["model"] == {"name": "mlp", "options": {}}
