"""`bench new`: one file with a contract filled in by a working example, and the test that holds it to the contract.

In a clone of bench they go where bench looks for components and tests, and elsewhere into the folder one is in. The
examples lie in templates/, a kind a file.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal

from bench.errors import ComponentError

Kind = Literal["model", "dataset", "optimizer", "schedule", "probe", "analysis", "suite"]
PLURALS = {
    **{kind: f"{kind}s" for kind in ("model", "dataset", "optimizer", "schedule", "probe", "suite")},
    "analysis": "analyses",
}
_TEMPLATES = Path(__file__).parent / "templates"
_CLONE = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Written:
    """The files that were written, relative to the folder, and what a suite says to name what is in the first."""

    files: list[Path]
    said: str


def write(kind: Kind, name: str, folder: Path) -> Written:
    """Writes a component and its test, or a suite; raises ComponentError for a name that could not be used, and where
    a file would be overwritten.
    """
    clone = folder.resolve() == _CLONE and (folder / "tests").is_dir()
    if kind == "suite":
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,79}", name):
            message = "a suite's name is lower-case letters, digits, '-' and '_', a letter or digit first"
            raise ComponentError(f"found '{name}'; {message}, at most 80 of them")
        file = Path("suites" if clone else "", f"{name}.yaml")
        return _written(folder, {file: "suite"}, name=name, said=name, file=file)
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,79}", name) or keyword.iskeyword(name):
        message = "a component's name is lower-case letters, digits and '_', a letter first, and no keyword of Python"
        raise ComponentError(f"found '{name}'; {message}, at most 80 of them")
    test = Path("tests" if clone else "", f"test_{name}.py")
    if clone:
        plural = PLURALS[kind]
        files = {Path("bench", plural, f"{name}.py"): kind, test: f"test_{kind}"}
        return _written(folder, files, name=name, said=name, module=f"bench.{plural}.{name}")
    files = {Path(f"{name}.py"): kind, test: f"test_{kind}"}
    _refuse_existing(folder, files)
    found = importlib.util.find_spec(name)
    if found and found.origin:  # a folder without Python is found too, but hides no file
        raise ComponentError(f"found '{name}'; Python has a module of that name, and would find that; choose another")
    return _written(folder, files, name=name, said=f"{name}:{name}", module=name)


def _refuse_existing(folder: Path, files: dict[Path, str]) -> None:
    for file in files:
        if (folder / file).exists():
            raise ComponentError(f"{file}: is there already; choose another name, or move it away")


def _written(folder: Path, files: dict[Path, str], **words: object) -> Written:
    """Fills in templates; `files` says which goes where."""
    _refuse_existing(folder, files)
    places = {file: _TEMPLATES / f"{template}.txt" for file, template in files.items()}
    texts = {file: place.read_text(encoding="utf-8") for file, place in places.items()}
    name = words["name"]
    if "suite" not in files.values() and any(re.search(rf"\b{name}\b", text) for text in texts.values()):
        message = "what is written has that word for another thing; choose another"
        raise ComponentError(f"found '{name}'; {message}")
    for file, text in texts.items():
        try:
            with (folder / file).open("x", encoding="utf-8") as stream:
                stream.write(Template(text).substitute(words))
        except OSError as error:
            raise ComponentError(f"{file}: cannot be written: {error.strerror}; choose another folder") from error
    return Written(list(files), str(words["said"]))
