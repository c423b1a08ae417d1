"""The house: what each stage may import, and the one home of each outside package."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"

# What each stage may import of bench. Data flows down this table; a component folder is a stage that anybody adds to.
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "stats": set(),
    "crossing": set(),
    "table": set(),
    "numbers": {"stats"},
    "examples": set(),
    "options": {"errors"},
    "ask": {"crossing", "errors", "options"},
    "events": {"ask"},
    "contracts": {"ask", "events", "examples"},
    "keep": {"ask", "crossing", "errors", "events", "table"},
    "models": {"errors", "measure.parallel", "options"},
    "datasets": {"errors", "examples", "measure.feeds"},
    "optimizers": {"errors", "options"},
    "schedules": {"contracts", "options"},
    "probes": {"contracts", "errors", "examples", "stats"},
    "measure": {
        *(
            "__init__",
            "ask",
            "contracts",
            "crossing",
            "datasets",
            "errors",
            "events",
            "examples",
            "keep.checkpoints",
            "options",
        ),
        *("probes", "stats"),
    },
    "executors": {"ask", "contracts", "errors", "events", "measure"},
    "conclude": {"ask", "crossing", "errors", "keep", "stats"},
    "analyses": {"ask", "conclude", "numbers", "stats", "table"},
    "run": {"ask", "conclude.sides", "contracts", "crossing", "errors", "events", "executors", "keep"},
    "show": {"analyses", "ask", "conclude", "errors", "events", "keep", "numbers", "stats", "table"},
    "prove": {"ask", "conclude", "contracts", "errors", "events", "keep", "measure", "run", "stats"},
    "commands": {
        *("ask", "conclude", "contracts", "errors", "events", "executors", "keep", "prove", "run", "show", "table"),
    },
    "cli": {"commands", "errors", "table"},
    "__main__": {"cli"},
}

# Outside packages, and the only places that may import them.
HOMES = {
    "torch": {"measure", "models", "datasets", "optimizers", "probes", "executors", "prove"},
    "psutil": {"measure.conditions", "measure.memory"},
    "pynvml": {"measure.conditions"},
    "resource": {"measure.memory"},
    "torchvision": {"datasets", "models", "prove.doctor"},
    "timm": {"measure.build"},
    "sklearn": {"datasets"},
    "safetensors": {"datasets"},
    "scipy": {
        *(
            "ask.search",
            "stats",
            "conclude.censored",
            "conclude.doubts",
            "conclude.evidence",
            "conclude.power_law",
            "conclude.saturation",
            "conclude.settle",
        ),
        *("datasets", "probes"),
    },
    "sqlite3": {
        *("keep.database", "keep.merge", "keep.migrations", "keep.seals", "keep.shape", "keep.storage", "keep.verify"),
    },
    "fcntl": {"keep.storage"},
    "duckdb": {"keep.portable"},
    "zstandard": {"keep.portable"},
    "tarfile": {"keep.portable"},
    "junitparser": {"show.publish"},
    "matplotlib": {"show.pictures", "show.plot"},
    "plotext": {"show.terminal"},
    "plotly": {"show.page"},
    "yaml": {"ask.document"},
    "tabulate": {"table"},
    "rich": {"run.live", "commands"},
    "typer": {"cli", "commands"},
    "multiprocessing": {"executors"},
    "subprocess": {"run.ab", "measure.environment", "executors"},
    "ray": {"executors"},
    "submitit": {"executors"},
    "pydantic": {
        *("ask", "options", "conclude.baseline", "conclude.sides", "keep.reader", "keep.records", "run.detached"),
        *("models", "datasets", "optimizers", "schedules", "probes", "executors"),
    },
}


def modules():
    """(name, path) of every file, such as `ask.plan`."""
    for path in sorted(BENCH.rglob("*.py")):
        yield ".".join(path.relative_to(BENCH).with_suffix("").parts), path


def within(name, places):
    """Whether a module is one of some places, or lies in one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def imports(path):
    """(module, whether only for types) of every import statement, wherever it stands."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in for_types
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names if node.module.split(".")[0] == "bench" else []:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module, id(node) in for_types
            if node.module.split(".")[0] != "bench":
                yield node.module, id(node) in for_types


MODULES = {f"bench.{name}" for name, _ in modules()}


def imported(name, path):
    """The modules of bench that a module imports."""
    of_bench = {found for found, _ in imports(path) if found.split(".")[0] == "bench"}
    return {found.removeprefix("bench.") if found != "bench" else "__init__" for found in of_bench} - {name}


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=str)
def test_a_module_imports_only_what_its_stage_allows(name, path):
    stage = name.split(".")[0]
    used = imported(name, path)
    if path.name == "__init__.py":
        assert not used
    assert not [each for each in used if not within(each, ALLOWED[stage] | {stage})]


def test_the_table_names_every_stage_and_no_other():
    assert set(ALLOWED) == {name.split(".")[0] for name, _ in modules()}


def test_no_imports_go_round_in_a_cycle():
    below = {name: imported(name, path) for name, path in modules()}
    tuple(TopologicalSorter(below).static_order())


@pytest.mark.parametrize("package", HOMES)
def test_an_outside_package_has_its_homes_and_no_others(package):
    users = {
        name
        for name, path in modules()
        for found, for_types in imports(path)
        if found.split(".")[0] == package and not for_types
    }
    assert users
    assert not [name for name in users if not within(name, HOMES[package])]


def test_nothing_is_printed_outside_the_command_line():
    for name, path in modules():
        text = path.read_text()
        words = ("print(", "echo(", "stdout.write", "stderr.write")
        assert within(name, ("cli", "commands", "run.live")) or not any(word in text for word in words), path
