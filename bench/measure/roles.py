"""What each parameter of a model is for: some optimizers treat matrices inside a network and the rest apart."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Role = Literal["hidden", "embedding", "head", "vector"]

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
# What a table that is a bare parameter, in no layer of torch's, is called.
_TABLES = ("embed", "pos", "token")


def roles(model: nn.Module) -> list[Role]:
    """The role of each of `model.parameters()`, in their order.

    embedding: of an embedding layer (tied to the head or not), or a learned table of positions or tokens.
    head: the weight of the linear layer that stands last in the model.
    vector: norms, and whatever has fewer than two dimensions, those of size 1 not counted: biases and gains.
    hidden: the others, the matrices and convolutions inside the network.
    """
    embeddings: set[int] = set()
    norms: set[int] = set()
    head: set[int] = set()
    for module in model.modules():
        own = {id(parameter) for parameter in module.parameters(recurse=False)}
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            embeddings |= own
        elif isinstance(module, _NORMS):
            norms |= own
        elif isinstance(module, nn.Linear):
            head = {id(module.weight)}

    def role(name: str, parameter: Tensor) -> Role:
        if id(parameter) in embeddings or any(table in name.rpartition(".")[2] for table in _TABLES):
            return "embedding"
        if id(parameter) in head:
            return "head"
        if id(parameter) in norms or sum(size > 1 for size in parameter.shape) < 2:
            return "vector"
        return "hidden"

    return [role(name, parameter) for name, parameter in model.named_parameters()]
