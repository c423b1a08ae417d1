"""What this machine offers, what is missing, and how to get it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from bench.errors import first_line
from bench.measure.environment import cores, cpu_name, version

PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pydantic", "psutil", "typer", "rich", "pyyaml"),
    "tabulate",
)
# Where torchvision keeps what each dataset reads.
_FILES = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "cifar100": "cifar-100-python/train",
    "emnist": "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte",
    "kmnist": "KMNIST/raw/train-images-idx3-ubyte",
    "stl10": "stl10_binary/train_X.bin",
    "svhn": "train_32x32.mat",
    "usps": "usps.bz2",
}
# What is not downloaded: a file, or a folder of images.
_OWN_FILES = {
    "imagenet": "imagenet/train",
    "tinyshakespeare": "tinyshakespeare/input.txt",
    "wikitext2": "wikitext-2/train.txt",
    "wikitext103": "wikitext-103/train.txt",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `advice` says what to do where something is missing."""

    what: str
    found: str
    advice: str = ""


def examine(data_folder: Path) -> list[Finding]:
    """Devices, versions, data. Imports torch and torchvision, to see that they work together."""
    return [
        Finding("python", platform.python_version()),
        *(
            Finding(name, version(name) or "missing", "" if version(name) else f"pip install {name}")
            for name in PACKAGES
        ),
        _torchvision(),
        Finding("cpu", f"{cpu_name()}, {cores()} cores"),
        *_cuda(),
        Finding("data folder", str(data_folder), "" if data_folder.is_dir() else "made when a dataset is downloaded"),
        Finding("digits", "inside scikit-learn"),
        *(
            _dataset(name, data_folder / file, "downloaded when first used; without internet ")
            for name, file in _FILES.items()
        ),
        *(_dataset(name, data_folder / file, "") for name, file in _OWN_FILES.items()),
    ]


def _torchvision() -> Finding:
    try:
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:
        # torchvision is built against one torch: beside another, or a CPU-only one, its operators do not register.
        return Finding(
            "torchvision works", f"no: {first_line(error)}", "install both together: pip install torch torchvision"
        )
    return Finding("torchvision works", f"yes, {torchvision.__version__}")


def _cuda() -> list[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Finding("torch works", f"no: {first_line(error)}", "install it again: pip install torch torchvision")]
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        return [
            Finding(
                "cuda", f"no device ({built})", "trains on the CPU; check the driver with nvidia-smi if there is a GPU"
            )
        ]
    return [
        Finding(
            f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {torch.cuda.mem_get_info(index)[1] / 2**30:.0f} GiB"
        )
        for index in range(torch.cuda.device_count())
    ]


def _dataset(name: str, file: Path, fetched: str) -> Finding:
    if file.exists():
        return Finding(name, "present")
    return Finding(
        name,
        "absent",
        f"{fetched}put {file.name} and its siblings into {file.parent}",
    )
