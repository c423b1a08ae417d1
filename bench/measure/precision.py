"""What a suite's `precision` means on a device."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.ask.suite import Precision

Forward = Callable[..., Tensor]

# Precisions of products alone.
_PRODUCTS: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def prepare(precision: Precision) -> None:
    """Sets this process's float32 products: tensor cores round them under tf32, and only then.

    torch lets convolutions use tf32 unless told otherwise, and matrix products not.
    """
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def prepare_determinism(deterministic: bool) -> None:
    """Has this process compute alike every time, or say that it cannot: an operation that has no such way raises."""
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    if deterministic:  # read when the first matrix product is computed on a CUDA device
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def dtype(precision: Precision) -> torch.dtype:
    """What weights and inputs are kept in; under bf16 and fp16 that is float32, and products are computed in those."""
    return torch.float64 if precision == "fp64" else torch.float32


def products(precision: Precision, device: torch.device, forward: Forward) -> Forward:
    """A forward pass whose products are in the precision; the very same where weights and products are alike."""
    if precision not in _PRODUCTS:
        return forward

    def autocast(*arguments: Any) -> Tensor:
        with torch.autocast(device.type, _PRODUCTS[precision]):
            return forward(*arguments).float()  # the loss is no product

    return autocast


def product_dtype(precision: Precision) -> torch.dtype:
    """What the factors of products are rounded to."""
    return _PRODUCTS.get(precision, dtype(precision))
