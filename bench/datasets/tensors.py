"""Arrays of one's own, from a NumPy or safetensors file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy
import torch
from torch import Tensor

from bench.errors import DataError, first_line
from bench.examples import Data, Split

_SPLITS = ("train", "validation", "test")
_WHOLE = (torch.int16, torch.int32, torch.int64)


def tensors(folder: Path, *, path: str) -> Data:
    """`train_inputs`, `train_targets` and so on for validation and test, from the .npz or .safetensors file `path`.

    It lies in the data folder. Inputs are values [n, ...], or whole numbers, the tokens of a text. Targets that are
    whole numbers are classes (of a text [n, length] the token after each), and their cross-entropy is lowered; others
    are values, and it is half their squared error. Nothing of the file is run: arrays of objects are refused. Raises
    DataError where the file is not so.
    """
    file = folder / path
    read = _read(file)
    wanted = [f"{split}_{part}" for split in _SPLITS for part in ("inputs", "targets")]
    if missing := [name for name in wanted if name not in read]:
        raise DataError(f"{file}: has no {', '.join(missing)}; it holds {', '.join(sorted(read)) or 'nothing'}")
    train, validation, test = (
        Split(_plain(file, read, f"{split}_inputs"), _plain(file, read, f"{split}_targets")) for split in _SPLITS
    )
    for name, split in zip(_SPLITS, (train, validation, test), strict=True):
        if not 0 < len(split) == len(split.inputs):
            raise DataError(f"{file}: has {len(split.inputs):,} {name}_inputs for {len(split):,} {name}_targets")
        if (split.inputs.shape[1:], split.targets.shape[1:]) != (train.inputs.shape[1:], train.targets.shape[1:]):
            raise DataError(f"{file}: the examples of {name} have another shape than those of train")
    every = torch.cat([split.targets.flatten() for split in (train, validation, test)])
    if every.is_floating_point():
        if train.targets.ndim == 1:  # a model gives one number an example as [n, 1]
            train, validation, test = (
                Split(each.inputs, each.targets.unsqueeze(1)) for each in (train, validation, test)
            )
        return Data(train, validation, test, train.targets.shape[1:].numel(), loss="half_squared_error")
    tokens = (
        [] if train.inputs.is_floating_point() else [int(split.inputs.max()) for split in (train, validation, test)]
    )
    return Data(train, validation, test, max(int(every.max()), *tokens, 0) + 1)


def _read(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return _safetensors(file)
        # Opened here: numpy does not close what it cannot read.
        with file.open("rb") as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError("it is none that numpy.savez writes")
            opened.seek(0)
            with numpy.load(opened, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        what = "cannot be read as a .npz or .safetensors file of numbers"
        raise DataError(f"{file}: {what}: {first_line(error)}") from error


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise DataError(f"{file}: safetensors is not installed; pip install 'bench[tensors]'") from error
    try:
        read: Mapping[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return read


def _plain(file: Path, read: Mapping[str, Tensor], name: str) -> Tensor:
    """An array as float32 values or as int64 numbers."""
    found = read[name]
    if found.ndim == 0:
        raise DataError(f"{file}: {name} is one number; the examples come first, [n, ...]")
    if found.is_floating_point():
        values = found.float().contiguous()
        if unfit := int((~values.isfinite()).sum()):
            raise DataError(f"{file}: {name} holds {unfit:,} values that are NaN or infinite; leave their examples out")
        return values
    if found.numel() and int(found.min()) < 0:
        what = "tokens" if name.endswith("_inputs") else "classes"
        raise DataError(f"{file}: {name} holds {int(found.min())}; {what} are counted from 0")
    if found.dtype in _WHOLE or (found.dtype == torch.uint8 and name.endswith("_targets")):
        return found.long().contiguous()
    kind = str(found.dtype).removeprefix("torch.")
    raise DataError(f"{file}: {name} holds {kind}; values are floating point, and tokens and classes int64")
