"""Components that installed packages offer, as entry points: their names and where they lie, read without an import.

A package offers a model in its own pyproject.toml, and so datasets, optimizers, schedules, probes and analyses:

    [project.entry-points."bench.models"]
    tanh_net = "my_package.models:tanh_net"
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata

from bench.errors import ComponentError


@dataclass(frozen=True, order=True)
class Offer:
    """The name that a suite uses, `package.module:function`, and the name and version of the package."""

    name: str
    place: str
    package: str


@cache
def offers(kind: str) -> tuple[Offer, ...]:
    """What is offered of a kind, by name; raises ComponentError where some package's entry points are no such file."""
    try:
        points = metadata.entry_points(group=f"bench.{kind}")
    except (TypeError, ValueError) as error:
        message = "the entry_points.txt of an installed package, or of one in this folder, cannot be read"
        raise ComponentError(f"{message}: {error}; install it again, or remove it") from error
    found = {Offer(point.name, point.value.partition("[")[0].strip(), _package(point)) for point in points}
    return tuple(sorted(found))


def offers_of(kind: str, name: str) -> list[Offer]:
    """What is offered under a name: more than one where packages do not know of one another."""
    return [offer for offer in offers(kind) if offer.name == name]


def _package(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "a package without a name"
