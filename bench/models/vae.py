"""A variational autoencoder of fully connected layers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional


def vae(
    example_shape: tuple[int, ...],
    classes: int,  # noqa: ARG001 (an example is given back, not recognised)
    *,
    hidden: PositiveInt = 500,
    latent: PositiveInt = 20,
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
) -> nn.Module:
    """A variational autoencoder that gives each example's negative evidence lower bound, in nats: [n, *shape] -> [n].

    Kingma & Welling 2013 (arXiv 1312.6114, appendix C): one hidden layer of 500 tanh units each way, a standard normal
    prior. In training one latent vector is drawn for each example; in evaluation it is the posterior's mean, so that a
    reading is the same every time, and is a bound no more. gaussian: pixels as they are, of variance 1. bernoulli:
    whether each is above 0, the training images' mean where they are normalised.
    """
    return _VariationalAutoencoder(math.prod(example_shape), hidden, latent, likelihood)


class _VariationalAutoencoder(nn.Module):
    def __init__(self, pixels: int, hidden: int, latent: int, likelihood: str) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, pixels))

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, *shape] -> [n]"""
        pixels = inputs.flatten(1)
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        # KL divergence of the posterior from the prior (their appendix B).
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        bound: Tensor = self._surprise(self.decoder(drawn), pixels) + divergence
        return bound

    def _surprise(self, decoded: Tensor, pixels: Tensor) -> Tensor:
        """-log p(pixels | latent): [n, pixels] twice -> [n]"""
        if self.likelihood == "bernoulli":
            bright = (pixels > 0).to(decoded.dtype)
            return functional.binary_cross_entropy_with_logits(decoded, bright, reduction="none").sum(1)
        return 0.5 * ((decoded - pixels).square() + math.log(2 * math.pi)).sum(1)
