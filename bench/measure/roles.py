"""What each parameter of a model is for: some optimizers treat matrices inside a network and the rest apart."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Role = Literal["hidden", "embedding", "head", "vector"]

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
# What a table that is a bare parameter, in no layer of torch's, is called: one of the words of its name.
_TABLES = {"emb", "embed", "embedding", "embeddings", "pos", "position", "positional", "positions", "token", "tokens"}


def roles(model: nn.Module, classes: int) -> list[Role]:
    """The role of each of `model.parameters()`, in their order; classes: how many numbers it gives for an example.

    embedding: of an embedding layer (tied to the head or not), or a learned table of positions or tokens.
    head: the weight of the linear layer that stands last of those that give so many numbers.
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
        elif isinstance(module, nn.Linear) and module.out_features == classes:
            head = {id(module.weight)}

    def role(name: str, parameter: Tensor) -> Role:
        if id(parameter) in embeddings or not _TABLES.isdisjoint(name.rpartition(".")[2].split("_")):
            return "embedding"
        if id(parameter) in head:
            return "head"
        if id(parameter) in norms or sum(size > 1 for size in parameter.shape) < 2:
            return "vector"
        return "hidden"

    return [role(name, parameter) for name, parameter in model.named_parameters()]
