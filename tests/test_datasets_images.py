"""Image sets of torchvision, read from tiny files in the formats that it expects."""

from __future__ import annotations

import bz2
import pickle
import struct
from urllib.error import URLError

import numpy
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets, transforms

from bench.ask import plan
from bench.ask.check import check
from bench.ask.components import find
from bench.ask.document import parse
from bench.datasets import cifar100, imagenet, kmnist, stl10, svhn, usps
from bench.datasets._folders import opened
from bench.datasets._torchvision import any_images
from bench.errors import ComponentError, DataError
from bench.measure import feeds
from bench.measure.rehearsal import rehearse

RANDOM = numpy.random.default_rng(0)


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=numpy.uint8)


def idx(path, values):
    """Writes MNIST's format: the kind of number, the sides, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


def write_kmnist(folder, count, test):
    for part, number in (("train", count), ("t10k", test)):
        idx(folder / "KMNIST" / "raw" / f"{part}-images-idx3-ubyte", pixels(number, 28, 28))
        idx(folder / "KMNIST" / "raw" / f"{part}-labels-idx1-ubyte", numpy.arange(number, dtype=numpy.uint8) % 10)


def write_emnist(folder, count, test, split="letters"):
    for part, number in (("train", count), ("test", test)):
        begun = folder / "EMNIST" / "raw"
        idx(begun / f"emnist-{split}-{part}-images-idx3-ubyte", pixels(number, 28, 28))
        idx(begun / f"emnist-{split}-{part}-labels-idx1-ubyte", 1 + numpy.arange(number, dtype=numpy.uint8) % 26)


def write_svhn(folder, count, test):
    for part, number in (("train", count), ("test", test)):
        labels = (1 + numpy.arange(number) % 10)[:, None]  # of 1 .. 10, 10 the digit 0
        savemat(folder / f"{part}_32x32.mat", {"X": pixels(32, 32, 3, number), "y": labels})


def write_cifar100(folder, count, test):
    inside = folder / "cifar-100-python"
    inside.mkdir()
    for part, number in (("train", count), ("test", test)):
        labels = [place % 100 for place in range(number)]
        (inside / part).write_bytes(pickle.dumps({"data": pixels(number, 3072), "fine_labels": labels}))
    (inside / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(place) for place in range(100)]}))


def write_usps(folder, count, test):
    for name, number in (("usps.bz2", count), ("usps.t.bz2", test)):
        rows = RANDOM.uniform(-1, 1, (number, 256))
        lines = (
            " ".join([str(1 + place % 10), *(f"{column}:{value:.4f}" for column, value in enumerate(row, start=1))])
            for place, row in enumerate(rows)
        )
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def write_stl10(folder, count, test):
    inside = folder / "stl10_binary"
    inside.mkdir()
    for part, number in (("train", count), ("test", test)):
        (inside / f"{part}_X.bin").write_bytes(pixels(number, 3, 96, 96).tobytes())
        (inside / f"{part}_y.bin").write_bytes((1 + numpy.arange(number, dtype=numpy.uint8) % 10).tobytes())


SETS = {
    "cifar100": (cifar100, write_cifar100, (3, 32, 32), 100),
    "kmnist": (kmnist, write_kmnist, (1, 28, 28), 10),
    "stl10": (stl10, write_stl10, (3, 96, 96), 10),
    "svhn": (svhn, write_svhn, (3, 32, 32), 10),
    "usps": (usps, write_usps, (1, 16, 16), 10),
}


@pytest.fixture
def unchecked(monkeypatch):
    """torchvision asks for the very files published; these are others."""
    for name in ("CIFAR10", "SVHN", "STL10"):
        monkeypatch.setattr(getattr(datasets, name), "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *given: True)
    monkeypatch.setattr(datasets.STL10, "_STL10__load_folds", lambda self, folds: None)


@pytest.mark.parametrize("name", SETS)
def test_an_image_set_is_read_split_and_normalised(name, tmp_path, monkeypatch, unchecked):
    module, write, shape, classes = SETS[name]
    write(tmp_path, 250, 100)
    monkeypatch.setitem(module.SIZES, "validation", 50)
    data = find("datasets", name).load()(tmp_path)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [200, 50, 100]
    assert data.example_shape == shape
    assert data.classes == classes
    whole = torch.cat([data.train.inputs, data.validation.inputs])
    assert whole.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (whole.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2
    assert whole.is_contiguous()
    # Every label is there, with its image: as many of each as were written.
    labels = torch.cat([data.train.targets, data.validation.targets])
    assert torch.equal(labels.bincount(minlength=classes), (torch.arange(250) % classes).bincount(minlength=classes))
    assert data.test.targets.unique().tolist() == list(range(min(classes, 100)))
    assert torch.equal(find("datasets", name).load()(tmp_path).train.targets, data.train.targets)


def test_images_keep_their_labels_when_a_split_is_drawn(tmp_path, monkeypatch, unchecked):
    write_kmnist(tmp_path, 20, 10)
    for part, number in (("train", 20), ("t10k", 10)):  # an image as bright as its label, but for one pixel
        bright = numpy.arange(number, dtype=numpy.uint8) % 10
        images = numpy.broadcast_to(bright[:, None, None] * 20, (number, 28, 28)).copy()
        idx(tmp_path / "KMNIST" / "raw" / f"{part}-images-idx3-ubyte", images)
    monkeypatch.setitem(kmnist.SIZES, "validation", 5)
    data = find("datasets", "kmnist").load()(tmp_path)
    for split in (data.train, data.validation, data.test):
        order = split.inputs[:, 0, 0, 0].argsort()
        assert split.targets[order].tolist() == sorted(split.targets.tolist())


def test_the_published_sizes_add_up():
    sizes = {name: find("datasets", name).sizes for name in [*SETS, "imagenet"]}
    whole = {name: (each["train"] + each["validation"], each["test"]) for name, each in sizes.items()}
    assert whole == {
        "cifar100": (50_000, 10_000),
        "kmnist": (60_000, 10_000),
        "stl10": (5_000, 8_000),
        "svhn": (73_257, 26_032),
        "usps": (7_291, 2_007),
        "imagenet": (1_281_167, 50_000),
    }


def test_the_letters_of_emnist_are_counted_from_nothing(tmp_path):
    write_emnist(tmp_path, 260, 52)
    data = find("datasets", "emnist").load()(tmp_path, split="letters")
    assert (len(data.train), len(data.validation), len(data.test), data.classes) == (234, 26, 52, 26)
    assert data.test.targets.unique().tolist() == list(range(26))


@pytest.mark.parametrize("name", [*SETS, "emnist"])
def test_an_image_set_that_is_not_there_is_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DataError, match=r"is not in '.*' and could not be downloaded .*; put the files that "):
        find("datasets", name).load()(tmp_path)


def offline(*given, **options):
    raise URLError("no network in a test")


# ---- any other by its class ----------------------------------------------------------------------------------------


def test_a_set_with_train_is_scaled_to_a_size(tmp_path):
    write_kmnist(tmp_path, 30, 10)
    data = any_images(datasets.KMNIST, tmp_path, size=8)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [27, 3, 10]
    assert data.example_shape == (3, 8, 8)
    assert data.classes == 10
    assert torch.cat([data.train.inputs, data.validation.inputs]).mean(dim=(0, 2, 3)).abs().max() < 1e-4


def test_a_set_with_split_is_read_by_the_names_of_its_parts(tmp_path, unchecked):
    write_svhn(tmp_path, 40, 20)
    data = any_images(datasets.SVHN, tmp_path, size=16)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [36, 4, 20]
    assert data.example_shape == (3, 16, 16)


def test_a_set_without_class_numbers_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "fer2013").mkdir()
    write = "\n".join(["emotion,pixels", *(f"{n % 7}," + " ".join(["9"] * 48 * 48) for n in range(3))])
    (tmp_path / "fer2013" / "train.csv").write_text(write)
    (tmp_path / "fer2013" / "test.csv").write_text("pixels\n" + " ".join(["9"] * 48 * 48))
    monkeypatch.setattr(datasets.fer2013, "check_integrity", lambda *given, **options: True)
    with pytest.raises(DataError, match="FER2013 gives NoneTypes, and not a class number each"):
        any_images(datasets.FER2013, tmp_path, size=8)


def test_a_set_without_parts_that_are_known_is_a_sentence(tmp_path):
    class Folds:
        def __init__(self, root, split="first", transform=None):
            raise ValueError(f"Unknown value '{split}' for argument split. Valid values are first, second.")

    with pytest.raises(DataError, match="Folds has no part called train or trainval or train-standard: Unknown value"):
        any_images(Folds, tmp_path, size=8)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("torchvision:FGVCAircaft", "of torchvision's datasets, did you mean 'FGVCAircraft'?"),
        ("torchvision:EuroSAT", "a dataset of torchvision fits where its constructor takes train or split, but not"),
        ("torchvision:EMNIST", "a dataset of torchvision fits where its constructor takes train or split, but not"),
    ],
)
def test_a_class_of_torchvision_that_does_not_fit_is_a_sentence_without_importing(name, sentence):
    with pytest.raises(ComponentError) as raised:
        find("datasets", name)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("name", "own"),
    [("FGVCAircraft", {"annotation_level"}), ("Food101", set()), ("KMNIST", set()), ("QMNIST", {"what", "compat"})],
)
def test_a_class_of_torchvision_takes_a_size_and_what_is_its_own(name, own):
    component = find("datasets", f"torchvision:{name}")
    required = {option.name: option.required for option in component.options if not option.harness}
    assert required == {"size": True, **dict.fromkeys(own, False)}
    assert component.load() is getattr(datasets, name)


SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: {dataset}
    optimizer: sgd
    batch_sizes: [4]
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 10
    {more}
    search: {{trials: 1, learning_rate: 0.1}}
"""


def rehearsed(folder, dataset, more="", model="softmax"):
    made = plan.make(check(parse(SUITE.format(dataset=dataset, model=model, more=more))))
    return rehearse(made.units, folder)


def test_a_suite_may_name_a_class_of_torchvision(tmp_path):
    write_kmnist(tmp_path, 30, 10)
    assert rehearsed(tmp_path, "{torchvision:KMNIST: {size: 8, subset: 20}}") == []
    with pytest.raises(Exception, match="torchvision:KMNIST has no 'size'; it needs one"):
        rehearsed(tmp_path, "torchvision:KMNIST")


def test_a_suite_with_a_set_of_torchvision_runs_no_code_of_anybodys_own():
    text = SUITE.format(dataset="{torchvision:KMNIST: {size: 8}}", model="softmax", more="")
    assert plan.make(check(parse(text))).outside() == []


# ---- folders -------------------------------------------------------------------------------------------------------


def write_folders(folder, parts, classes=("cat", "dog")):
    for part, number in parts.items():
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for place in range(number):
                Image.fromarray(pixels(12, 10, 3)).save(folder / part / name / f"{place}.png")


def test_imagenet_is_read_from_disk_or_held(tmp_path, monkeypatch):
    write_folders(tmp_path / "imagenet", {"train": 5, "val": 2})
    for name, size in (("train", 8), ("validation", 2), ("test", 4)):
        monkeypatch.setitem(imagenet.SIZES, name, size)
    read = find("datasets", "imagenet").load()(tmp_path, size=8)
    held = read.each(feeds.held)
    assert [len(split) for split in (held.train, held.validation, held.test)] == [8, 2, 4]
    assert held.train.inputs.dtype == torch.uint8
    for one, other in ((read.train, held.train), (read.validation, held.validation), (read.test, held.test)):
        assert len(one) == len(other)
        assert torch.equal(one.first(8).inputs, other.first(8).inputs)
        assert torch.equal(one.first(8).targets, other.first(8).targets)
    # No image is in two splits.
    pictures = {bytes(image.numpy()) for split in (held.train, held.validation) for image in split.inputs}
    assert len(pictures) == 10


def test_images_of_a_folder_look_as_torchvision_would_have_them(tmp_path):
    write_folders(tmp_path / "pets", dict.fromkeys(("train", "validation", "test"), 2))
    seen = find("datasets", "image_folder").load()(tmp_path, path="pets", size=8).train.first(4)
    look = transforms.Compose(
        [
            *(transforms.Resize(8), transforms.CenterCrop(8), transforms.ToTensor()),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images, targets = zip(*datasets.ImageFolder(tmp_path / "pets" / "train", look), strict=True)
    assert torch.equal(seen.inputs, torch.stack(images))
    assert seen.targets.tolist() == list(targets)


def test_part_of_imagenet_is_a_sentence(tmp_path):
    write_folders(tmp_path / "imagenet", {"train": 2, "val": 2})
    with pytest.raises(DataError, match="train: has 4 images; ImageNet has 1,281,167"):
        find("datasets", "imagenet").load()(tmp_path)


def test_a_folder_is_refused_by_the_kind_of_an_error_that_says_nothing(tmp_path, monkeypatch):
    def silent(folder):
        raise RuntimeError

    monkeypatch.setattr(datasets, "ImageFolder", silent)
    with pytest.raises(DataError, match=r"one for each class: RuntimeError$"):
        opened(tmp_path, 32)
