"""Python files, read and not run: where a module lies, what its functions take, and which file it was."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter

from bench.errors import ComponentError

_BENCH = Path(__file__).parent.parent

Tokens = Literal["bytes", "characters"]
_T = TypeVar("_T")


def locate(module: str) -> Path | None:
    """The file of a module, found as the import system finds it but importing none of its parents."""
    top, *parts = module.split(".")
    if not all(part.isidentifier() for part in (top, *parts)):
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not parts:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = [Path(place, *parts[:-1]) for place in spec.submodule_search_locations or ()]
    files = (file for folder in folders for file in (folder / parts[-1] / "__init__.py", folder / f"{parts[-1]}.py"))
    return next((file for file in files if file.is_file()), None)


def require(path: Path | None, module: str) -> Path:
    """The file that was located; raises ComponentError where the module is not installed."""
    if path is None:
        raise ComponentError(f"{module} is not installed beside bench")
    return path


@cache
def tree_of(path: Path) -> ast.Module:
    """What a file says; raises ComponentError where that is not Python."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, RecursionError, SyntaxError, ValueError) as error:
        raise ComponentError(f"{path.name} cannot be read as Python: {error}") from error


def digest(path: Path, module: str, within: Path) -> str:
    """Which code it is: a hash of what a module's file says, and those in a folder that it imports, or these in turn.

    Comments and docstrings are no part of it: no trial is trained anew for a better word.
    """
    root = path.parents[module.count(".") + (path.name == "__init__.py")]
    found, new = {path}, [path]
    while new:
        file = new.pop()
        beside = {place for name in _imported(file, root) for place in _files(root, name) if within in place.parents}
        if _BENCH not in path.parents:  # in a clone bench lies beside one's own files, and elsewhere it is installed
            beside = {place for place in beside if _BENCH not in place.parents}
        new += beside - found
        found |= beside
    said = "\n".join(_said(tree_of(file)) for file in (path, *sorted(found - {path})))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _said(tree: ast.Module) -> str:
    """A syntax tree as text, the same in Python 3.11, 3.12 and 3.13, as `ast.dump` is not."""
    said: list[str] = []
    left: list[object] = [tree]
    while left:  # not by recursion, of which a long sum may need more than there is
        match left.pop():
            case str(word):
                said.append(word)
            case ast.Constant(value=value):
                said.append(ascii(value))
            case ast.JoinedStr(values=values):  # some versions see an empty text where there is none
                left += [[each for each in values if getattr(each, "value", None) != ""]]
            case ast.AST() as node:
                fields = [(name, field) for name, field in ast.iter_fields(node) if field is not None and field != []]
                left += [")", *(part for name, field in reversed(fields) for part in (field, f" {name}="))]
                said.append(f"{type(node).__name__}(")
            case list(nodes):
                code = [node for node in nodes if not _is_docstring(node)]
                left += ["]", *(part for node in reversed(code) for part in (",", node)), "["]
            case other:
                said.append(ascii(other))
    return "".join(said)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _imported(path: Path, root: Path) -> Iterator[str]:
    """The dotted names that a file under `root` imports, whether they are modules or what is in one."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files(root: Path, name: str) -> Iterator[Path]:
    """The files that importing a dotted name runs, of those that lie under `root`."""
    parts = name.split(".")
    for place in (root.joinpath(*parts[: n + 1]) for n in range(len(parts))):
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


def from_here(path: Path) -> str:
    """Where a file lies, as one would say it in this folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def signature_of(definition: ast.FunctionDef | ast.ClassDef) -> ast.arguments | None:
    """What a function, or a class's own constructor, takes; None of a class that has none."""
    if isinstance(definition, ast.FunctionDef):
        return definition.args
    methods = (node.args for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return next(methods, None)


def constructors(tree: ast.Module, name: str) -> Iterator[ast.arguments]:
    """The constructors of a class and of its bases in the same file, for one may hand on to the next."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            if signature := signature_of(node):
                yield signature
            for base in node.bases:
                if isinstance(base, ast.Name):
                    yield from constructors(tree, base.id)


def assigned(tree: ast.Module, constant: str) -> ast.expr | None:
    """What the source sets a constant of a module to; None where it has none of that name."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == constant:
                return value
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if name == constant:
                return value
    return None


def sizes_of(path: Path, tree: ast.Module) -> dict[str, int]:
    """A dataset's constant `SIZES`: how many examples each split holds, so that a check needs no data."""
    written_as = "{'train': 1000, 'validation': 100, 'test': 100}"
    return _written_out(path, tree, "SIZES", TypeAdapter(dict[str, int]), written_as) or {}


def tokens_of(path: Path, tree: ast.Module) -> Tokens | None:
    """A dataset's constant `TOKENS`: what those of its text are, so that bits are told of what they are of."""
    return _written_out(path, tree, "TOKENS", TypeAdapter(Tokens), "'bytes' or 'characters'")


def _written_out(path: Path, tree: ast.Module, constant: str, kind: TypeAdapter[_T], written_as: str) -> _T | None:
    """What a constant is, read and not run; raises ComponentError where it is of another kind, or has to be run."""
    written = assigned(tree, constant)
    if written is None:
        return None
    try:
        return kind.validate_python(ast.literal_eval(written), strict=True)
    except (ValueError, TypeError):
        message = f"found a {constant} that is not written out; write it as {written_as}"
        raise ComponentError(f"{path.name}: {message}") from None
