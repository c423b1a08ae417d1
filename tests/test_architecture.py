"""The house: what each stage may import, and the one home of each outside package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"

# What each module may import of bench, top-level or not. Data flows down this table; nothing imports upwards.
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "offers": {"errors"},
    "source": {"errors"},
    "options": {"errors", "source"},
    "description": {"errors", "options", "source"},
    "libraries": {"description", "errors", "options", "source"},
    "components": {"description", "errors", "libraries", "offers", "options", "source"},
    "plugin": {"errors", "source"},
    "new": {"errors"},
    "document": {"errors"},
    "search": set(),
    "suite": {"search"},
    "located": {"document", "errors"},
    "together": {"components", "description", "document", "errors", "located", "options", "search", "suite"},
    "check": {"components", "document", "errors", "located", "search", "suite", "together"},
    "plan": {"components", "description", "options", "search", "suite"},
    "events": {"plan"},
    "examples": set(),
    "contracts": {"events", "examples", "plan"},
    "state": {"errors"},
    "parallel": {"search", "state"},
    "journal": {"contracts", "events", "plan", "study"},
    "checkpoint": {"contracts", "errors", "events", "journal", "memory", "storage", "study"},
    "environment": {"__init__", "errors"},
    "clock": set(),
    "precision": {"suite"},
    "memory": {"contracts", "parallel"},
    "ema": set(),
    "roles": set(),
    "step": {
        *("build", "contracts", "ema", "evaluation", "examples", "losses", "memory", "parallel", "plan", "precision"),
        *("search", "state"),
    },
    "conditions": set(),
    "limits": {"clock", "precision", "step", "suite"},
    "timing": {
        *("augment", "build", "clock", "conditions", "contracts", "events", "examples", "feeds", "limits", "memory"),
        *("order", "parallel", "plan", "stats", "step", "suite"),
    },
    "order": {"augment", "examples", "search", "suite"},
    "augment": {"errors", "examples", "suite"},
    "alter": {"errors", "examples"},
    "feeds": {"contracts", "environment", "errors", "examples", "memory"},
    "losses": {"examples"},
    "evaluation": {"contracts", "ema", "examples", "losses"},
    "build": {
        *("alter", "components", "contracts", "datasets", "errors", "evaluation", "examples", "feeds", "libraries"),
        *("options", "plan", "precision", "roles", "search"),
    },
    "growth": {"suite"},
    "cohorts": {
        *("augment", "build", "clock", "contracts", "ema", "evaluation", "events", "examples", "growth", "losses"),
        *("memory", "order", "parallel", "plan", "precision", "probes", "probing", "search", "state", "step", "suite"),
    },
    "cohort": {"build", "cohorts", "components", "contracts", "errors", "events", "examples", "plan", "precision"},
    "study": {"contracts", "events", "plan"},
    "probing": {
        *("build", "components", "contracts", "evaluation", "examples", "losses", "memory", "plan", "precision"),
        "search",
    },
    "measure": {
        *("augment", "build", "checkpoint", "cohort", "cohorts", "contracts", "environment", "errors", "events"),
        *("examples", "feeds", "losses", "parallel", "plan", "precision", "probing", "search", "study", "timing"),
    },
    "models": {"errors", "models", "options", "parallel"},
    "datasets": {"datasets", "errors", "examples", "feeds"},
    "optimizers": {"errors", "optimizers", "options"},
    "schedules": {"contracts", "options"},
    "probes": {"contracts", "errors", "examples", "probes", "stats"},
    "executors": {
        *("components", "contracts", "environment", "errors", "events", "measure", "memory", "parallel", "plan"),
    },
    "storage": {"errors"},
    "seals": set(),
    "migrations": {"seals"},
    "shape": {"migrations"},
    "schema": set(),
    "database": {"errors", "migrations", "schema", "seals", "shape", "storage"},
    "records": {"events", "plan", "search", "shape", "suite"},
    "entries": {"events", "plan", "records", "seals"},
    "reader": {"errors", "events", "plan", "records", "schema", "shape", "suite"},
    "archive": {
        *("database", "entries", "errors", "events", "plan", "reader", "records", "schema", "seals", "shape"),
        "storage",
    },
    "merge": {"archive", "database", "errors", "plan", "reader", "seals", "storage"},
    "parts": {"archive", "check", "contracts", "document", "errors", "events", "live", "plan", "runner", "storage"},
    "detached": {"archive", "contracts", "errors", "parts", "plan", "storage"},
    "collect": {"archive", "detached", "errors", "executors", "merge", "parts", "records", "storage"},
    "portable": {"archive", "errors", "records", "schema", "storage", "table"},
    "verify": {"database", "errors", "migrations", "reader", "records", "schema", "seals", "shape", "storage"},
    "retries": {"contracts", "events", "plan"},
    "runner": {"archive", "contracts", "errors", "events", "plan", "retries", "storage"},
    "importers": {"archive", "errors", "events", "plan", "records", "search", "suite"},
    "stats": set(),
    "measures": {"archive", "plan", "records", "search", "stats", "suite"},
    "points": {"measures", "stats"},
    "fit": {"points"},
    "doubts": {"fit", "points"},
    "slopes": {"measures", "points", "stats"},
    "scaling": {"doubts", "fit", "points", "stats"},
    "forecast": set(),
    "table": set(),
    "evidence": {"stats"},
    "settle": {"evidence", "stats"},
    "sides": {"archive", "measures", "suite"},
    "baseline": {"errors", "measures", "sides"},
    "compare": {"evidence", "plan", "sides", "stats"},
    "verdicts": {"compare", "plan", "sides", "stats"},
    "rules": {"compare", "evidence", "plan", "settle", "sides", "stats", "suite", "verdicts"},
    "gate": {"compare", "errors", "evidence", "plan", "rules", "settle", "sides", "suite", "verdicts"},
    "ab": {"archive", "errors", "sides"},
    "pictures": {"analyses", "archive", "measures", "points", "scaling", "slopes", "stats"},
    "terminal": {"errors", "points", "scaling"},
    "page": {"analyses", "archive", "errors", "measures", "points", "records", "report", "scaling", "stats", "table"},
    "plot": {"archive", "errors", "measures", "pictures"},
    "publish": {"analyses", "compare", "sides", "stats", "table", "verdicts"},
    "analyses": {"forecast", "measures", "plan", "points", "scaling", "slopes", "stats", "table"},
    "curves": {"errors", "points"},
    "report": {
        *("analyses", "archive", "components", "errors", "events", "forecast", "measures", "plan", "points", "scaling"),
        *("sides", "table", "terminal"),
    },
    "live": {"events", "plan"},
    "doctor": {"environment"},
    "determinism": {"check", "contracts", "document", "environment", "errors", "events", "measure", "plan"},
    "exact": set(),
    "calibrate": {
        *("archive", "build", "check", "clock", "cohort", "contracts", "document", "environment", "errors", "events"),
        *("exact", "fit", "measure", "measures", "plan", "runner", "stats"),
    },
    "commands": {
        *("ab", "archive", "baseline", "calibrate", "check", "collect", "compare", "components", "contracts", "curves"),
        *("detached", "determinism", "doctor", "document", "errors", "events", "executors", "gate", "importers"),
        *("libraries", "live", "merge", "new", "offers", "page", "parts", "plan", "plot", "plugin", "portable"),
        *("publish", "report", "runner", "sides", "storage", "suite", "table", "verdicts", "verify"),
    },
    "cli": {"commands", "errors", "table"},
    "__main__": {"cli"},
}

# Outside packages, and the only modules that may import them.
HOMES = {
    "torch": {
        *("build", "cohort", "cohorts", "environment", "evaluation", "executors", "measure", "memory", "order"),
        *(
            "alter",
            "augment",
            "feeds",
            "losses",
            "precision",
            "probes",
            "probing",
            "models",
            "datasets",
            "optimizers",
            "doctor",
            "calibrate",
        ),
        "determinism",
        *(
            "parallel",
            "checkpoint",
            "clock",
            "conditions",
            "ema",
            "journal",
            "state",
            "limits",
            "roles",
            "step",
            "timing",
        ),
    },
    "psutil": {"conditions", "memory"},
    "pynvml": {"conditions"},
    "resource": {"memory"},
    "torchvision": {"datasets", "doctor", "models"},
    "timm": {"build"},
    "sklearn": {"datasets"},
    "safetensors": {"datasets"},
    "scipy": {"datasets", "doubts", "evidence", "probes", "scaling", "search", "settle", "stats"},
    "sqlite3": {"database", "merge", "migrations", "seals", "shape", "storage", "verify"},
    "fcntl": {"storage"},
    "duckdb": {"portable"},
    "zstandard": {"portable"},
    "tarfile": {"portable"},
    "junitparser": {"publish"},
    "matplotlib": {"pictures", "plot"},
    "plotext": {"terminal"},
    "plotly": {"page"},
    "yaml": {"document"},
    "tabulate": {"table"},
    "rich": {"live", "commands"},
    "typer": {"cli", "commands"},
    "multiprocessing": {"executors"},
    "subprocess": {"ab", "environment", "executors"},
    "ray": {"executors"},
    "submitit": {"executors"},
    "pydantic": {
        *("baseline", "check", "description", "detached", "libraries", "measures", "options", "reader", "records"),
        *("search", "source", "suite", "together"),
        *("models", "datasets", "optimizers", "schedules", "probes", "executors"),
    },
}


def modules():
    for path in sorted(BENCH.rglob("*.py")):
        inside = path.relative_to(BENCH)
        yield inside.parts[0].removesuffix(".py"), path


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
            if node.module == "bench":
                for alias in node.names:
                    submodule = (BENCH / f"{alias.name}.py").exists() or (BENCH / alias.name).is_dir()
                    yield f"bench.{alias.name if submodule else '__init__'}", id(node) in for_types
            else:
                yield node.module, id(node) in for_types


@pytest.mark.parametrize(("stage", "path"), list(modules()), ids=str)
def test_a_module_imports_only_what_its_place_allows(stage, path):
    used = {name.split(".")[1] for name, _ in imports(path) if name.startswith("bench.")}
    if path.name == "__init__.py" and stage != "__init__":
        assert not used
    assert used - {stage} <= ALLOWED[stage]


def test_the_table_names_every_module_and_no_other():
    assert set(ALLOWED) == {stage for stage, _ in modules()}


def test_the_allowed_imports_hold_no_cycle():
    seen: set[str] = set()

    def visit(stage, above):
        assert stage not in above, f"a cycle through {stage}"
        if stage not in seen:
            for below in ALLOWED[stage] - {stage}:
                visit(below, above | {stage})
            seen.add(stage)

    for stage in ALLOWED:
        visit(stage, frozenset())


@pytest.mark.parametrize("package", HOMES)
def test_an_outside_package_has_its_homes_and_no_others(package):
    users = {
        stage
        for stage, path in modules()
        for name, for_types in imports(path)
        if name.split(".")[0] == package and not for_types
    }
    assert users <= HOMES[package]


def test_nothing_is_printed_outside_the_command_line():
    for stage, path in modules():
        text = path.read_text()
        words = ("print(", "echo(", "stdout.write", "stderr.write")
        assert stage in ("cli", "commands", "live") or not any(word in text for word in words), path
