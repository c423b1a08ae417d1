"""What may normalise a model's layers: each kind does what its paper says, and ghost batches are batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.ask.components import find
from bench.errors import ComponentError
from bench.models._norms import Norms

NAMES = ["mlp", "simple_cnn", "resnet8", "resnet18", "vgg11"]
KINDS = ["batch", "sync", "ghost", "layer", "group", "weight", "none"]


def built(name, norm, shape=(1, 8, 8), **options):
    torch.manual_seed(0)
    ghost = {"ghost_batch": 3} if norm == "ghost" else {}
    return find("models", name).load()(shape, 10, norm=norm, **ghost, **options)


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_norm_gives_logits_and_learns_in_every_parameter(name, norm):
    model = built(name, norm)
    logits = model(torch.randn(5, 1, 8, 8))
    torch.nn.functional.cross_entropy(logits, torch.arange(5)).backward()
    assert logits.shape == (5, 10)
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_only_batch_statistics_make_an_example_depend_on_the_others(name, norm):
    model, images = built(name, norm).double(), torch.randn(6, 1, 8, 8, dtype=torch.float64)
    together, alone = model(images)[:1], model(torch.cat([images[:1], torch.randn_like(images[1:])]))[:1]
    assert torch.allclose(together, alone) == (norm not in ("batch", "sync", "ghost"))


@pytest.mark.parametrize("name", ["mlp", "simple_cnn", "vgg11"])
@pytest.mark.parametrize("norm", KINDS)
def test_a_layer_is_drawn_alike_whatever_its_norm(name, norm):
    weights = [
        [module.weight for module in built(name, kind).modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        for kind in ("none", norm)
    ]
    assert all(torch.allclose(plain, normed) for plain, normed in zip(*weights, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_weight_norm_starts_as_the_network_without_a_norm(name):
    images = torch.randn(5, 1, 8, 8)
    assert torch.allclose(built(name, "none")(images), built(name, "weight")(images), rtol=1e-4, atol=1e-5)


def test_weight_norm_is_torchs_own():
    layer, own = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    own.load_state_dict(layer.state_dict())
    nn.utils.parametrizations.weight_norm(own)
    (normed,) = Norms("weight").normed(layer)
    images = torch.randn(2, 3, 8, 8)
    for each in (normed, own):
        each(images).square().sum().backward()
    for key, parameter in own.named_parameters():
        assert torch.allclose(dict(normed.named_parameters())[key].grad, parameter.grad, rtol=1e-4, atol=1e-5), key


@pytest.mark.parametrize("shape", [(12, 5), (12, 5, 4, 4)])
def test_a_ghost_batch_is_a_batch_of_its_own(shape):
    images = 2 + 3 * torch.randn(shape)
    ghost, own = Norms("ghost", 4).after(5), nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)
    apart = torch.cat([own(part) for part in images.split(4)])
    assert torch.allclose(ghost(images), apart, atol=1e-5)


def test_ghost_batches_move_the_running_statistics_by_the_mean_of_theirs():
    images = 2 + 3 * torch.randn(12, 5, 4, 4)
    ghost = Norms("ghost", 4).after(5)
    ghost(images)
    parts = [part.transpose(0, 1).flatten(1) for part in images.split(4)]
    mean = torch.stack([part.mean(1) for part in parts]).mean(0)
    variance = torch.stack([part.var(1) for part in parts]).mean(0)
    assert torch.allclose(ghost.running_mean, 0.1 * mean, atol=1e-6)
    assert torch.allclose(ghost.running_var, 0.9 + 0.1 * variance, rtol=1e-5)
    assert int(ghost.num_batches_tracked) == 1


@pytest.mark.parametrize("examples", [3, 4])
def test_a_batch_no_larger_than_a_ghost_batch_is_normalised_as_one(examples):
    ghost, own, images = Norms("ghost", 4).after(5), nn.BatchNorm2d(5), torch.randn(examples, 5, 4, 4)
    assert torch.allclose(ghost(images), own(images), atol=1e-5)
    assert torch.allclose(ghost.running_var, own.running_var)
    for each in (ghost, own):
        each.eval()
    assert torch.allclose(ghost(images), own(images), atol=1e-5)


def test_the_last_ghost_batch_holds_what_is_left():
    ghost, images = Norms("ghost", 4).after(5), torch.randn(10, 5, 4, 4)
    assert torch.allclose(ghost(images)[8:], nn.BatchNorm2d(5)(images[8:]), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (6, 1), (8, 2), (16, 4), (50, 10), (64, 16), (128, 32), (2048, 32)]
)
def test_groups_are_at_most_32_and_of_four_channels_or_more(channels, groups):
    assert Norms("group").after(channels).num_groups == groups


def test_the_norm_of_a_layer_is_over_all_channels_of_an_example():
    x = torch.randn(3, 16)
    assert torch.allclose(Norms("layer").after(16)(x), nn.LayerNorm(16)(x), atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "ghost_batch", "message"),
    [
        ("ghost", None, "norm: ghost has no 'ghost_batch'; give the number of examples normalised together"),
        ("batch", 32, "found ghost_batch with norm: batch; it belongs to norm: ghost"),
    ],
)
def test_a_ghost_batch_goes_with_the_ghost_norm_and_with_no_other(norm, ghost_batch, message):
    with pytest.raises(ComponentError) as told:
        find("models", "resnet8").load()((1, 8, 8), 10, norm=norm, ghost_batch=ghost_batch)
    assert str(told.value) == message


@pytest.mark.parametrize("examples", [33, 40, 64])
def test_a_ghost_batch_that_is_left_over_counts_by_its_examples(examples):
    activations = 3 * torch.randn(examples, 4)
    ghost = Norms("ghost", 32).after(4)
    ghost.momentum = 1.0
    ghost(activations)
    whole, rest = activations.split([examples // 32 * 32, examples % 32])
    parts = [*whole.split(32), *([rest] if len(rest) else [])]
    variances = [part.var(0) if len(part) > 1 else torch.zeros(4) for part in parts]
    expected = sum(len(part) / examples * variance for part, variance in zip(parts, variances, strict=True))
    assert torch.allclose(ghost.running_var, expected, rtol=1e-5)
    assert torch.allclose(ghost.running_mean, activations.mean(0), atol=1e-6)
