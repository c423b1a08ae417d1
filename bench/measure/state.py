"""What decides how training goes on, as named parts: each gives its state, and takes it back.

The words are torch's, so that what has a `state_dict` (a gradient scaler, averaged weights) is a part as it is. A state
is numbers, strings, tensors, and lists and dictionaries of them, and is as things stand: it is written, or copied,
before training goes on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.errors import ComponentError

# Attributes of a module or an optimizer that the other parts hold, or that decide nothing.
_KEPT = {
    "_parameters",
    "_buffers",
    "_modules",
    "training",
    "state",
    "param_groups",
    "_warned_capturable_if_run_uncaptured",
}


class Part(Protocol):
    """Something that gives its state, and takes it back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object: ...


class Parts(dict[str, Part]):
    """Parts by name, together one part."""

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.items()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Puts every part back; raises ValueError where the state is of other parts."""
        _expect(sorted(self), sorted(state_dict))
        for name, part in self.items():
            part.load_state_dict(state_dict[name])


class Fields:
    """Attributes of an object that hold plain values."""

    def __init__(self, owner: object, *names: str) -> None:
        self._owner = owner
        self._names = names

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self._owner, name) for name in self._names}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        for name in self._names:
            setattr(self._owner, name, copy.deepcopy(state_dict[name]))


class Tensors:
    """Tensors by name, put back in place, so that whatever holds or views one of them has it back too."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def state_dict(self) -> dict[str, Any]:
        return {name: value.detach() for name, value in self._tensors.items()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Raises ValueError where the state is of other tensors."""
        _expect(*([(name, value.shape) for name, value in each.items()] for each in (self._tensors, state_dict)))
        with torch.no_grad():
            for name, value in self._tensors.items():
                value.copy_(state_dict[name])


def of_model(model: nn.Module) -> Tensors:
    """A model's parameters and every buffer, those that its `state_dict` leaves out too."""
    return Tensors({**dict(model.named_parameters()), **dict(model.named_buffers())})


class OfOptimizer:
    """An optimizer's state and settings, each parameter's in its place among the groups.

    The optimizer's own `load_state_dict` gives tensors the type of their parameter, which can change what they hold.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        groups, state = self._optimizer.param_groups, self._optimizer.state
        return {
            "groups": [{key: value for key, value in group.items() if key != "params"} for group in groups],
            "state": [[_placed(state.get(each, {})) for each in group["params"]] for group in groups],
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        groups = self._optimizer.param_groups
        self._optimizer.state.clear()
        for group, settings, states in zip(groups, state_dict["groups"], state_dict["state"], strict=True):
            group.update(copy.deepcopy(settings))
            for parameter, own in zip(group["params"], states, strict=True):
                if own:
                    self._optimizer.state[parameter] = {
                        name: value.to(parameter.device, copy=True) if beside else copy.deepcopy(value)
                        for name, (value, beside) in own.items()
                    }


class NothingElse:
    """Sees to it that a model and an optimizer keep nothing anywhere else, which a restored one would not have: a count
    of their calls, say. It sees numbers, strings, tensors and torch's generators in attributes of classes that are not
    torch's own.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._places: list[object] = [
            each for each in (*model.modules(), optimizer) if not type(each).__module__.startswith("torch.")
        ]
        self._before = self._seen()

    def state_dict(self) -> dict[str, Any]:
        """Nothing; raises ComponentError where an attribute is not what it was at the start."""
        for place, before, now in zip(self._places, self._before, self._seen(), strict=True):
            for name in before.keys() | now.keys():
                if before.get(name) != now.get(name):
                    raise ComponentError(
                        f"{type(place).__name__} keeps '{name}' outside its registered buffers, or an optimizer's state"
                    )
        return {}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """There is nothing to put back."""

    def _seen(self) -> list[dict[str, object]]:
        return [
            {name: _mark(value) for name, value in vars(place).items() if name not in _KEPT} for place in self._places
        ]


def _placed(state: Mapping[str, Any]) -> dict[str, tuple[Any, bool]]:
    """Each value, and whether it lies on a device: counts of steps may lie on the CPU whatever the parameter's."""
    return {name: (value, isinstance(value, Tensor) and not value.is_cpu) for name, value in state.items()}


def _mark(value: object) -> object:
    """What differs once a value was changed, in place too."""
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, list | tuple):
        return [_mark(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _mark(each) for key, each in value.items()}
    return value if isinstance(value, bool | int | float | str) else type(value).__name__


def _expect(wanted: object, found: object) -> None:
    if wanted != found:
        raise ValueError(f"found the state of {found}; this is the state of {wanted}")
