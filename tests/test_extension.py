"""Components from outside bench: offered by an installed package, or given by --plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_run import archive, bench, contents, start

from bench.ask import components, offers, plugin
from bench.ask.source import digest, tree_of
from bench.errors import ComponentError
from bench.options import GIVEN

ROOT = Path(__file__).parent.parent
MODEL = '''"""A model."""

from torch import nn


def tiny(example_shape, classes, *, scale: float = 1.0):
    """One linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def _hidden(example_shape, classes):
    """Not for suites."""


def step(parameters, *, learning_rate: float):
    """SGD."""
    from torch.optim import SGD

    return SGD(parameters, lr=learning_rate)
'''
SUITE = """
suite: small
workloads:
  - name: own
    model: {model}
    dataset: digits
    optimizer: sgd
    batch_sizes: [64]
    target: {{validation_error: {{at_most: 0.2}}}}
    max_steps: 200
    search: {{trials: 2, learning_rate: {{log_uniform: [0.1, 1]}}}}
    confirm: {{seeds: 1}}
"""


def install(folder, name, points, model=MODEL, init=""):
    """A package as pip would lay it out, with its entry points {group: {name: place}}."""
    package, info = folder / name, folder / f"{name}-1.2.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "models.py").write_text(model)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {place}\n" for key, place in of.items()) for group, of in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def forget():
    components.find.cache_clear()
    tree_of.cache_clear()
    offers.offers.cache_clear()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path in which packages are installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    forget()
    yield folder
    forget()


def write(folder, model):
    (folder / "small.yaml").write_text(SUITE.format(model=model))


# ---- entry points -----------------------------------------------------------------------------------------------


def test_an_offered_component_is_found_by_its_name_and_nothing_of_its_package_is_imported(site):
    install(site, "acme", {"bench.models": {"tiny_net": "acme.models:tiny"}}, init="raise SystemExit('imported')")
    found = components.find("models", "tiny_net")
    assert (found.name, found.module, found.attribute, found.summary) == (
        *("tiny_net", "acme.models", "tiny", "One linear layer."),
    )
    assert [option.name for option in found.options if not option.harness] == ["scale"]
    assert found.source
    assert found.origin.startswith("acme 1.2: ")
    assert found.origin.endswith("models.py")
    assert "tiny_net" in components.known("models")
    assert "acme" not in sys.modules


def test_the_source_of_an_offered_component_is_part_of_what_its_trials_are(site):
    from fakes import study_of

    ids = set()
    install(site, "acme", {"bench.models": {"tiny_net": "acme.models:tiny"}})
    for text in (MODEL, MODEL + "EDITED = True\n"):
        (site / "acme" / "models.py").write_text(text)
        forget()
        ids.add(study_of(SUITE.format(model="tiny_net")).draws()[0].id)
    assert len(ids) == 2


NETS = """\
from . import layers


def net(example_shape, classes):
    return layers.act(2.0)
"""
LAYERS = "import torch\nfrom pk.shapes import wide\n\n\ndef act(x):\n    return x * 1.5\n"


@pytest.mark.parametrize(
    ("file", "text", "is_other"),
    [
        ("nets.py", NETS + "# a comment\n", False),
        ("nets.py", NETS.replace("    return", '    """A docstring."""\n\n    return'), False),
        ("nets.py", NETS.replace("2.0", "2.5"), True),
        ("layers.py", LAYERS.replace("1.5", "2.5"), True),
        ("shapes.py", "wide = 4\n", True),
        ("__init__.py", "NAME = 'pk'\n", True),
        ("unrelated.py", "wide = 5\n", False),
    ],
)
def test_the_source_of_a_component_is_what_its_files_say_and_those_of_its_package_that_it_imports(
    tmp_path, file, text, is_other
):
    folder = tmp_path / "pk"
    folder.mkdir()
    files = {"__init__.py": "", "nets.py": NETS, "layers.py": LAYERS, "shapes.py": "wide = 3\n", "unrelated.py": ""}
    for name, content in files.items():
        (folder / name).write_text(content)
    before = digest(folder / "nets.py", "pk.nets", folder)
    (folder / file).write_text(text)
    tree_of.cache_clear()
    assert (digest(folder / "nets.py", "pk.nets", folder) != before) == is_other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(*, a, b=1): pass", "def f(*, a=1, b): pass"),
        ("{**a, 'b': c}", "{'b': a, **c}"),
        ("x = [1, 23]", "x = [12, 3]"),
    ],
)
def test_other_code_has_another_source_however_alike_it_is(tmp_path, one, other):
    found = set()
    for text in (one, other):
        (tmp_path / "mine.py").write_text(text + "\n")
        tree_of.cache_clear()
        found.add(digest(tmp_path / "mine.py", "mine", tmp_path))
    assert len(found) == 2


def test_bench_itself_is_no_part_of_what_lies_beside_it_in_a_clone(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.ask.source._BENCH", tmp_path / "bench")
    (tmp_path / "bench").mkdir()
    (tmp_path / "mine.py").write_text(f"from bench.options import Norm\nx = {' + '.join(['a'] * 900)}\n")
    found = set()
    for text in ("Norm = 1\n", "Norm = 2\n"):
        (tmp_path / "bench" / "options.py").write_text(text)
        tree_of.cache_clear()
        found.add(digest(tmp_path / "mine.py", "mine", tmp_path))
    assert len(found) == 1


def test_what_a_component_of_benchs_own_imports_of_its_folder_is_part_of_its_source(monkeypatch):
    (path, folder), module = components.find("models", "resnet8").files, "bench.models.resnet8"
    before = digest(path, module, folder)
    read = tree_of.__wrapped__
    monkeypatch.setattr(
        "bench.ask.source.tree_of", lambda file: read(folder / "mlp.py" if "_norms" in file.name else file)
    )
    assert digest(path, module, folder) != before


def test_a_name_of_benchs_own_wins_and_the_clash_is_told(site, tmp_path):
    points = {"bench.models": {"softmax": "acme.models:tiny"}, "bench.optimizers": {"Adagrad": "acme.models:step"}}
    install(site, "acme", points)
    assert components.find("models", "softmax").module == "bench.models.softmax"
    assert components.find("optimizers", "Adagrad").module == "torch.optim"
    write(tmp_path, "softmax")
    out, _ = bench("check", "small.yaml", folder=tmp_path)
    assert "softmax is bench's own; that of acme 1.2 is named acme.models:tiny" in out
    assert "outside" not in out
    out, _ = bench("list", "models", folder=tmp_path)
    assert "acme.models:tiny One linear layer. (of acme 1.2; 'softmax' is bench's own)" in out


def test_a_name_that_two_packages_offer_is_refused_with_a_way_out(site):
    for name in ("acme", "zeta"):
        install(site, name, {"bench.models": {"tiny_net": f"{name}.models:tiny"}})
    with pytest.raises(ComponentError, match=r"acme 1\.2 and zeta 1\.2 both offer it; name one as acme\.models:tiny"):
        components.find("models", "tiny_net")


@pytest.mark.parametrize("place", ["acme.models:nothing", "acme.gone:tiny", "acme", "acme.models:tiny:x", "a b"])
def test_an_offer_of_what_is_not_there_is_a_sentence_and_spoils_no_list(site, tmp_path, place):
    install(site, "acme", {"bench.models": {"tiny_net": place, "other": "acme.models:tiny"}})
    with pytest.raises(ComponentError, match="tiny_net"):
        components.find("models", "tiny_net")
    out, _ = bench("list", "models", folder=tmp_path)
    assert "tiny_net         cannot be used: " in out
    assert "other            One linear layer. (of acme 1.2)" in out


@pytest.mark.parametrize("content", [b"[bench.models]\nno equals sign", b"\xff\xfe"])
def test_entry_points_that_cannot_be_read_are_a_sentence(site, tmp_path, content):
    install(tmp_path, "acme", {})
    (tmp_path / "acme-1.2.dist-info" / "entry_points.txt").write_bytes(content)
    write(tmp_path, "tiny_net")
    _, err = bench("check", "small.yaml", folder=tmp_path, code=2)
    assert "entry_points.txt of an installed package, or of one in this folder, cannot be read" in err


def test_looking_at_a_suite_runs_nothing_that_lies_beside_it_and_calls_itself_installed(tmp_path):
    hook = f"open({str(tmp_path / 'ran')!r}, 'w')"
    install(tmp_path, "acme", {"pydantic": {"hook": "acme:hook"}, "bench.models": {"softmax": "acme:hook"}}, init=hook)
    (tmp_path / "beside.py").write_text(ANALYSIS)
    write(tmp_path, "softmax")
    for command in (["list"], ["check", "small.yaml"], ["show", "none.sqlite", "--analysis", "beside:sizes"]):
        program = [sys.executable, "-P", "-m", "bench", *command]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == (2 if command[0] == "show" else 0), done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_misspelt_offer_is_answered_with_the_right_word(site):
    install(site, "acme", {"bench.models": {"tiny_net": "acme.models:tiny"}})
    with pytest.raises(ComponentError, match="did you mean 'tiny_net'"):
        components.find("models", "tinynet")


def test_a_suite_trains_an_offered_model_and_check_says_whose_code_that_is(site, tmp_path):
    install(site, "acme", {"bench.models": {"tiny_net": "acme.models:tiny"}})
    write(tmp_path, "{tiny_net: {scale: 2.0}}")
    out, _ = bench("check", "small.yaml", folder=tmp_path)
    assert "running it runs code from outside bench: tiny_net (acme 1.2: site/acme/models.py)" in out
    bench("run", "small.yaml", folder=tmp_path)
    assert any(row[5] == "reached" for row in contents(archive(tmp_path))[0])


def test_showing_comparing_and_gating_an_archive_runs_nothing_that_is_offered(site, tmp_path):
    points = {f"bench.{kind}": {"tiny_net": "acme.models:tiny"} for kind in GIVEN}
    install(site, "acme", points)
    rule = "gate: {steps_to_target: {tolerance: 0.5}}\n"
    (tmp_path / "small.yaml").write_text(SUITE.format(model="tiny_net") + rule)
    bench("run", "small.yaml", folder=tmp_path)
    (site / "acme" / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for command in (
        ["show", "small.yaml"],
        ["show", "results/small/main.sqlite", "--format", "json"],
        ["compare", "small/main", "small/main"],
        ["gate", "small.yaml", "main", "main"],
        ["check", "small.yaml"],
        ["list"],
    ):
        process = start(*command, folder=tmp_path, PYTHONPATH=str(site))
        _, err = process.communicate(timeout=120)
        # One seed is too few for a gate, which says so.
        assert process.returncode in ((0, 4) if command[0] == "gate" else (0,)), err
        assert "Traceback" not in err
    assert not (tmp_path / "ran").exists()


# ---- analyses of one's own --------------------------------------------------------------------------------------

ANALYSIS = """
from bench.table import Table


def sizes(summaries):
    \"\"\"Batch sizes.\"\"\"
    return [Table("sizes", ["batch size"], [[str(row.study.batch_size)] for row in summaries], records=[{"rows": 1}])]


def wrong(summaries):
    \"\"\"Gives something else.\"\"\"
    return [3]
"""


def test_an_analysis_of_ones_own_runs_where_it_is_named_and_only_there(site, tmp_path):
    install(site, "acme", {"bench.analyses": {"sizes": "acme.models:sizes"}}, model=ANALYSIS)
    (tmp_path / "beside.py").write_text(ANALYSIS)
    write(tmp_path, "softmax")
    out, _ = bench("run", "small.yaml", folder=tmp_path)
    assert "sizes\n" not in out
    for name in ("sizes", "beside:sizes"):
        out, _ = bench("show", "small.yaml", "--analysis", name, folder=tmp_path)
        assert out.split() == ["sizes", "batch", "size", "------------", "64"]
        out, _ = bench("show", "small.yaml", "--analysis", name, "--format", "json", folder=tmp_path)
        assert json.loads(out)
    _, err = bench("show", "small.yaml", "--analysis", "beside:wrong", folder=tmp_path, code=2)
    assert err == "beside:wrong (beside.py) gave something else; an analysis gives a list of Table\n"


# ---- the suite to begin with ------------------------------------------------------------------------------------


def test_the_suite_of_ones_own_model_checks_and_trains_from_the_repository_root(tmp_path):
    out, _ = bench("check", "suites/your_model.yaml", folder=ROOT)
    assert "nothing wrong; workloads: 2, studies: 8" in out
    assert "suites.your_model:residual_net (suites/your_model.py)" in out
    text = (ROOT / "suites" / "your_model.yaml").read_text()
    (tmp_path / "small.yaml").write_text(text.replace("[8, 32, 128, 512]", "[64]").replace("trials: 8", "trials: 4"))
    out, _ = bench("run", tmp_path / "small.yaml", "--results", tmp_path, folder=ROOT)
    assert out.count("3/3") == 2


# ---- --plugin ---------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    """A file far from where bench is run."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab_net.py").write_text(MODEL)
    forget()
    yield folder
    forget()


@pytest.mark.parametrize("given", ["lab/lab_net.py", "lab"])
def test_a_suite_trains_the_model_of_a_plugin_which_its_workers_find_too(lab, tmp_path, given):
    here = tmp_path / "here"
    here.mkdir()
    write(here, "lab_net:tiny")
    _, err = bench("check", "small.yaml", folder=here, code=2)
    assert "no module 'lab_net'" in err
    forget()
    path = tmp_path / given
    out, _ = bench("check", "small.yaml", "--plugin", path, folder=here)
    assert f"running it runs code from outside bench: lab_net:tiny ({lab / 'lab_net.py'})" in out
    process = start("run", "small.yaml", "--plugin", f"../{given}", folder=here, PYTHONPATH="")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "1/1" in out


def test_a_plugins_components_are_listed_by_what_they_are_given(lab, tmp_path):
    out, _ = bench("list", "--plugin", lab, folder=tmp_path)
    models, optimizers = (out.partition(f"{kind}:\n")[2].partition(":\n")[0] for kind in ("models", "optimizers"))
    assert "lab_net:tiny     One linear layer." in models
    assert "lab_net:step     SGD." in optimizers
    assert out.count("lab_net") == 2


def test_a_package_may_be_a_plugin(lab, tmp_path, monkeypatch):
    (lab / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert plugin.find([lab]) == ["lab"]
    assert components.find("models", "lab.lab_net:tiny").origin == str(lab / "lab_net.py")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.py", "there is no such file or folder"),
        ("notes.txt", "holds no Python; give a .py file, or a folder of them"),
        ("empty", "holds no Python; give a .py file, or a folder of them"),
        ("my-net.py", "found the name 'my-net'; a module's is letters, digits and '_'"),
        ("random.py", "Python has a module 'random' already; give the file another name"),
    ],
)
def test_a_plugin_that_could_not_be_named_is_a_sentence(tmp_path, monkeypatch, name, sentence):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif name != "nowhere.py":
        path.write_text(MODEL)
    with pytest.raises(ComponentError) as refused:
        plugin.find([path])
    assert str(refused.value) == f"--plugin {path}: {sentence}"


def test_a_plugin_is_found_from_the_home_folder(lab, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HOME", str(lab))
    assert plugin.find([Path("~/lab_net.py")]) == ["lab_net"]
