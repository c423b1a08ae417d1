"""Models of timm: found without importing it, and a sentence where it is absent."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from fakes import study_of
from test_models import SUITE

from bench.ask import components
from bench.ask.components import find
from bench.errors import ComponentError
from bench.examples import Data, Split
from bench.measure import build

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


def images(*shape):
    split = Split(torch.randn(2, *shape), torch.arange(2))
    return Data(split, split, split, 7)


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_where_timm_is_absent_a_sentence_names_the_extra():
    with pytest.raises(ComponentError, match=r"timm is not installed: pip install 'bench\[timm\]'"):
        find("models", "timm:resnet10t")


def test_a_library_that_is_absent_is_a_sentence_that_names_its_extra(monkeypatch):
    monkeypatch.setattr(components, "locate", lambda module: None)
    with pytest.raises(ComponentError, match=r"timm is not installed: pip install 'bench\[timm\]'"):
        find.__wrapped__("models", "timm:resnet10t")


@needs_timm
def test_a_model_of_timm_is_found_without_importing_it():
    code = (
        "import sys; from bench.ask import components; print(components.find('models', 'timm:resnet10t').name); "
        "print(sorted({'timm', 'torch'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["timm:resnet10t", "[]"]


@needs_timm
def test_a_typo_is_answered_with_the_nearest_model_and_an_option_of_the_harness_is_none():
    with pytest.raises(ComponentError, match="of timm's models, did you mean 'resnet10t'"):
        find("models", "timm:resnet10tt")
    component = find("models", "timm:resnet10t")
    assert all(component.option(name) is None for name in ("pretrained", "num_classes", "in_chans", "img_size"))
    assert component.option("drop_rate") is not None
    assert component.option("init_scale").harness


@needs_timm
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "shape"), [("timm:resnet10t", (1, 32, 32)), ("timm:vit_tiny_patch16_224", (1, 32, 32))]
)
def test_a_model_of_timm_is_given_the_channels_the_classes_and_where_it_needs_it_the_side(name, shape):
    of, data = study_of(SUITE.format(model=name)), images(*shape)
    model = build.model(of.workload, data, torch.device("cpu"), seed=0)
    assert model(data.to(torch.device("cpu"), torch.float64).train.inputs).shape == (2, 7)


@needs_timm
@pytest.mark.filterwarnings("default")
def test_init_scale_of_a_model_of_timm_leaves_biases_norms_and_positions():
    models = [
        build.model(study_of(SUITE.format(model=text)).workload, images(3, 32, 32), torch.device("cpu"), seed=0)
        for text in ("timm:vit_tiny_patch16_224", "{'timm:vit_tiny_patch16_224': {init_scale: 0.5}}")
    ]
    plain, scaled = (dict(model.named_parameters()) for model in models)
    for key, drawn in plain.items():
        factor = 0.5 if drawn.ndim > 1 and key not in ("cls_token", "pos_embed") else 1.0
        assert torch.equal(scaled[key], factor * drawn), key


def test_the_extra_is_in_the_project():
    assert 'timm = ["timm' in (Path(__file__).parent.parent / "pyproject.toml").read_text()
