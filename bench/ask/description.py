"""What the source of a component says of it: its name, its summary, its options."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from bench.ask.source import Tokens, digest, signature_of, sizes_of, tokens_of, tree_of
from bench.errors import ComponentError
from bench.options import DONE_BY_HARNESS, GIVEN, Momentum, Option, declared, in_other_units, positional


@dataclass(frozen=True)
class Component:
    """What the source of a component says of it.

    `open` components take keywords that their source does not list, but for those the harness gives (`hidden`).
    Of a dataset, `sizes` is how many examples each split holds, and `tokens` what those of its text are, where it says.
    files: its file, and the folder of those that belong to it; None of a library's.  origin: where code from outside
    bench lies.  about: what its docstring says after the summary, which of a library's is of more than may be set.
    """

    kind: str
    name: str
    module: str
    attribute: str
    summary: str
    options: tuple[Option, ...]
    sizes: dict[str, int]
    tokens: Tokens | None = None
    open: bool = False
    hidden: frozenset[str] = frozenset()
    files: tuple[Path, Path] | None = None
    origin: str = ""
    about: str = ""

    @cached_property
    def source(self) -> str | None:
        """Which code it is, as a hash; None of a library's, which has its version."""
        return digest(self.files[0], self.module, self.files[1]) if self.files else None

    def option(self, name: str) -> Option | None:
        """The option of that name; an open component has every option."""
        known = next((option for option in self.options if option.name == name), None)
        return known or (Option(name, required=False) if self.open and name not in self.hidden else None)

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, and those that they leave out, as far as the source says what these are."""
        written = {option.name: option.default for option in self.options if option.default}
        return {**{name: _read(default) for name, default in written.items()}, **options}

    def train_examples(self, options: Mapping[str, Any]) -> int | None:
        """How many training examples a dataset has with those options; None where its source does not say."""
        known, subset = self.sizes.get("train"), options.get("subset")
        if not isinstance(subset, int) or subset < 1 or not self.done_by_harness({"subset": subset}):
            return known
        return subset if known is None else min(known, subset)

    def done_by_harness(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the options that the component is not given."""
        known = {option.name for option in self.options if option.harness}
        return {name: value for name, value in options.items() if name in known}

    def load(self) -> Callable[..., Any]:
        """Imports the component's module, which runs it, and returns the function or class."""
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(self.module), self.attribute)
        except (ImportError, AttributeError) as error:
            raise ComponentError(f"{self.name}: found, but importing it failed: {error}") from error
        return found


# What a suite may search of a training step, whatever the optimizer: a bound on the norm of the gradient, the share
# that an average of the weights keeps at each step, and the share of a label that is spread over all classes.
STEP = Component(
    "steps",
    "the step",
    "bench.measure.step",
    "Step",
    "One ordinary training step.",
    (
        Option("clip", required=False, type=PositiveFloat),
        Option("ema", required=False, type=Momentum),
        Option("label_smoothing", required=False, type=Momentum),
    ),
    {},
)


def describe(kind: str, name: str, module: str, path: Path, attribute: str, *, of_library: bool = False) -> Component:
    """The component that `attribute`, a function or class in a file, is; raises ComponentError where it is none.

    of_library: what the harness gives is given in the library's own way, by keyword.
    """
    tree = tree_of(path)
    definition = next(
        (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute),
        None,
    )
    if definition is None:
        message = f"{module!r} defines no function or class {attribute!r} at its top level; name the module that does"
        raise ComponentError(f"found {name!r}; {message}")
    signature = signature_of(definition)
    options = tuple(declared(kind, signature)) if signature else ()
    given = GIVEN[kind]
    if signature and not signature.vararg and len(positional(signature)) < len(given) and not of_library:
        raise ComponentError(f"found {name!r}; {attribute} cannot be called with ({', '.join(given)}), as {kind} are")
    # What the harness does itself, unless a component has another use for the word.
    own = {option.name for option in options}
    options = (*options, *(option for option in DONE_BY_HARNESS.get(kind, ()) if option.name not in own))
    if kind == "schedules":
        others = (other for option in options for other in in_other_units(option))
        options = (*options, *(other for other in others if other.name not in own))
    if kind in ("optimizers", "schedules"):
        for name_of_step in {option.name for option in options} & {option.name for option in STEP.options}:
            message = f"an option {name_of_step!r}, which is of every training step; call it otherwise"
            raise ComponentError(f"found {name!r} with {message}")
    own_words = ast.get_docstring(definition) or ""
    summary = (own_words or ast.get_docstring(tree) or "").partition("\n")[0]
    # What a class without a constructor of its own takes is written elsewhere.
    takes_any = signature is None or signature.kwarg is not None
    # An optimizer and a schedule divide a search's metaparameters between them: they must name those they take.
    return Component(
        kind,
        name,
        module,
        attribute,
        summary,
        options,
        sizes_of(path, tree),
        # Of a model's file, say, a TOKENS may be anything.
        tokens_of(path, tree) if kind == "datasets" else None,
        open=takes_any and kind in ("models", "datasets"),
        about="" if of_library else own_words.partition("\n")[2].strip(),
    )


def with_learning_rate(written: Component) -> Component:
    """An optimizer takes `learning_rate`; a class in torch's style, whose constructor calls it `lr`, is given that."""
    options = tuple(
        Option("learning_rate", required=True, type=PositiveFloat) if option.name == "lr" else option
        for option in written.options
    )
    if not any(option.name == "learning_rate" for option in options):
        message = "an optimizer names its learning_rate (or lr) in its own signature"
        raise ComponentError(f"found {written.name!r}, which takes no learning_rate; {message}")
    return replace(written, options=options)


def _read(default: str) -> Any:
    try:
        return json.loads(default)
    except ValueError:  # it is computed, and written as the source has it
        return None
