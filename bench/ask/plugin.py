"""`--plugin PATH`: components of one's own, wherever they lie.

`lab/tricks.py` is the module `tricks`, whose functions a suite names as `tricks:name`; a folder with an `__init__.py`
is the package of its name, and another folder holds modules. They are put on Python's path after all that is installed,
so that they hide no module; none is imported before a worker needs it, and workers are given the path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from bench.ask.source import locate
from bench.errors import ComponentError


def find(paths: Iterable[Path]) -> list[str]:
    """Has the modules found from now on, and names them; raises ComponentError where one could not be."""
    return [module for path in paths for module in _find(path)]


def _find(path: Path) -> list[str]:
    place = path.expanduser().resolve()
    if not place.exists():
        raise ComponentError(f"--plugin {path}: there is no such file or folder")
    whole = place.is_file() or (place / "__init__.py").is_file()
    folder, files = (place.parent, [place]) if whole else (place, sorted(place.glob("*.py")))
    if not files or (place.is_file() and place.suffix != ".py"):
        raise ComponentError(f"--plugin {path}: holds no Python; give a .py file, or a folder of them")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for file in files:
        _check(path, file)
    return [file.stem for file in files]


def _check(path: Path, file: Path) -> None:
    """That what a suite would find under the file's name is the file."""
    if not file.stem.isidentifier():
        raise ComponentError(f"--plugin {path}: found the name '{file.stem}'; a module's is letters, digits and '_'")
    found = locate(file.stem)
    if found is None or found.resolve() not in (file, file / "__init__.py"):
        raise ComponentError(f"--plugin {path}: Python has a module '{file.stem}' already; give the file another name")
