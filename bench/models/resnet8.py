"""ResNet-8 for CIFAR: three residual blocks of 16, 32 and 64 filters."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from bench.models._norms import Norms
from bench.options import Norm


class _Block(nn.Module):
    """Two 3x3 convolutions with norms around an identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, norms: Norms, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = norms.after(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = norms.after(after)
        same = before == after and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet8(
    example_shape: tuple[int, ...], classes: int, *, norm: Norm = "batch", ghost_batch: PositiveInt | None = None
) -> nn.Module:
    """He et al. 2016's CIFAR family at depth 6n + 2 with n = 1: 16, 32 and 64 filters, global average pooling."""
    norms = Norms(norm, ghost_batch)
    return norms.reparametrise(
        nn.Sequential(
            nn.Conv2d(example_shape[0], 16, 3, padding=1, bias=False),
            norms.after(16),
            nn.ReLU(),
            _Block(norms, 16, 16, 1),
            _Block(norms, 16, 32, 2),
            _Block(norms, 32, 64, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, classes),
        )
    )
