"""`bench doctor`: what it looks for, and what it advises where that is missing."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from bench.ask import components
from bench.prove import doctor

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """What is found where nothing is installed and no data lie."""
    monkeypatch.setattr(doctor, "version", lambda package: None)
    return {finding.what: finding for finding in doctor.examine(tmp_path)}


def names(requirements):
    return [re.match(r"[\w-]+", requirement)[0] for requirement in requirements]


def test_every_package_that_bench_needs_is_looked_for(bare):
    for name in names(PROJECT["dependencies"]):
        assert (bare[name].found, bare[name].advice) == ("missing", f"pip install {name}")


def test_packages_of_an_extra_are_told_as_its_own(bare):
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for name in names(requirements) if extra != "dev" else []:
            assert (bare[name].found, bare[name].advice) == ("absent", f"an extra: pip install 'bench[{extra}]'")
    assert "mypy" not in bare


def test_a_bench_that_is_not_installed_is_said(monkeypatch, tmp_path):
    def unknown(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(doctor.metadata, "requires", unknown)
    findings = {finding.what: finding for finding in doctor.examine(tmp_path)}
    assert (findings["bench"].found, findings["bench"].advice) == ("not installed", "pip install -e . in its folder")


def test_a_dataset_says_itself_by_which_file_it_is_known_to_be_there(bare, tmp_path, monkeypatch):
    assert bare["mnist"].advice == (
        f"downloaded when first used; without internet put train-images-idx3-ubyte and its siblings into "
        f"{tmp_path / 'MNIST' / 'raw'}"
    )
    assert bare["imagenet"].advice == f"put train and its siblings into {tmp_path / 'imagenet'}"
    read = {"cifar10", "cifar100", "emnist", "fashion_mnist", "imagenet", "kmnist", "mnist", "stl10", "svhn"}
    read |= {"tinyshakespeare", "usps", "wikitext103", "wikitext2"}
    assert read == {name for name in components.names("datasets") if name in bare} - {"digits"}
    (tmp_path / "imagenet" / "train").mkdir(parents=True)
    assert {finding.what: finding.found for finding in doctor.examine(tmp_path)}["imagenet"] == "present"
