"""What this machine offers, what is missing, and how to get it."""

from __future__ import annotations

import ast
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.ask import components
from bench.ask.source import assigned, locate, require, tree_of
from bench.errors import first_line
from bench.measure.environment import cores, cpu_name, version

# A requirement as a package's metadata give it: `duckdb>=1.1; extra == 'archive'`.
_REQUIREMENT = re.compile(r"""(?P<name>[\w.-]+)[^;]*(;.*extra == ['"](?P<extra>[\w-]+)['"])?""")


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
        *_packages(),
        _torchvision(),
        Finding("cpu", f"{cpu_name()}, {cores()} cores"),
        *_cuda(),
        Finding("data folder", str(data_folder), "" if data_folder.is_dir() else "made when a dataset is downloaded"),
        Finding("digits", "inside scikit-learn"),
        *_datasets(data_folder),
    ]


def _packages() -> Iterator[Finding]:
    """What bench needs, and what its extras do, as it was installed; but for what only its own tests need."""
    try:
        requirements = metadata.requires("bench") or []
    except metadata.PackageNotFoundError:
        yield Finding("bench", "not installed", "pip install -e . in its folder")
        return
    read = [match.group("name", "extra") for match in map(_REQUIREMENT.match, requirements) if match]
    for name, extra in read:
        if extra == "dev":
            continue
        if found := version(name):
            yield Finding(name, found)
        elif extra:
            yield Finding(name, "absent", f"an extra: pip install 'bench[{extra}]'")
        else:
            yield Finding(name, "missing", f"pip install {name}")


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


def _datasets(data_folder: Path) -> Iterator[Finding]:
    """The datasets that are read from the data folder, by the file that each names in its source."""
    for name in components.names("datasets"):
        tree = tree_of(require(locate(f"bench.datasets.{name}"), name))
        for constant, otherwise in (("DOWNLOADED_FILE", "downloaded when first used; without internet "), ("FILE", "")):
            match assigned(tree, constant):
                case ast.Constant(value=str(place)):
                    file = data_folder / place
                    advice = f"{otherwise}put {file.name} and its siblings into {file.parent}"
                    yield Finding(name, "present") if file.exists() else Finding(name, "absent", advice)
