"""What an editor, a type checker and a notebook see of the package."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biril_nm as bnm
from biril_nm import export
from biril_nm.display import brief, html_table
from biril_nm.hardware_sim import Simulator, estimate_energy, map_to_chip, simulate
from biril_nm.parity import ParityReport
from tests.support.random_graphs import random_graph, random_spikes

LAZY = (bnm, export)
HTML = "_repr_html_"  # that Jupyter calls


def declared(module: Any) -> dict[str, str]:
    """Names that a lazy package imports for type checkers -> the module that they are imported from."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("biril_nm"):
            found |= {
                alias.name: str(node.module) for alias in node.names if alias.name != "_moved"
            }
    return found


@pytest.mark.parametrize("module", LAZY, ids=lambda m: m.__name__)
def test_type_checkers_see_the_names_that_resolve(module: Any) -> None:
    names = declared(module)
    assert sorted(names) == sorted(module.__all__)
    for name, home in names.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing


@pytest.mark.parametrize("module", LAZY, ids=lambda m: m.__name__)
def test_dir_shows_the_public_names(module: Any) -> None:
    assert set(dir(module)) - {"__version__"} == set(module.__all__)


USER = """
import biril_nm as bnm
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate

net = bnm.build_model("convnet", bnm.ModelConfig(), seed=0)
graph = lower(to_nir(net), weight_bits=4)
run = simulate(graph, net.config.coding.encode([[0.5]]), record=("s", "v"))
reveal_type(net)
reveal_type(graph)
reveal_type(run)
reveal_type(bnm.check_parity(graph, [[[1]]]).summary())
reveal_type(bnm.nothing)
graph.nothing
"""
NAMES = "".join(f"reveal_type(bnm.{name})\n" for name in bnm.__all__)


@pytest.mark.slow
def test_mypy_reveals_types_in_a_file_of_a_user(tmp_path: Path, monkeypatch: Any) -> None:
    mypy = pytest.importorskip("mypy.api", reason='pip install "biril-nm[dev]" brings mypy')
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(USER + NAMES, encoding="utf-8")
    said, _, _ = mypy.run(
        ["--cache-dir", str(tmp_path), "--python-executable", sys.executable, "mine.py"]
    )
    assert 'Module has no attribute "nothing"' in said
    assert '"LoihiGraph" has no attribute "nothing"' in said
    revealed = re.findall(r'note: Revealed type is "(.*)"$', said, re.MULTILINE)
    assert revealed[:3] == [
        "biril_nm.models.net.BirilNet",
        "biril_nm.hw_graph.graph.LoihiGraph",
        "biril_nm.recording.recording.Recording",
    ]
    assert revealed[3] in ("str", "builtins.str")
    of_names = dict(zip(bnm.__all__, revealed[-len(bnm.__all__) :]))
    assert len(revealed) == 5 + len(of_names)
    for name, kind in of_names.items():
        assert "biril_nm." in kind or kind.endswith("ModuleType"), (name, kind)
        assert not kind.endswith("Any"), (name, kind)


def test_an_editor_completes_the_public_names() -> None:
    jedi = pytest.importorskip("jedi", reason='pip install "biril-nm[dev]" brings jedi')
    project = jedi.Project(Path(bnm.__file__).parents[1])
    text = "import biril_nm as bnm\nbnm."
    found = jedi.Script(text, path="mine.py", project=project).complete(2, 4)
    assert set(bnm.__all__) <= {each.name for each in found}
    text = "import biril_nm as bnm\ngraph = bnm.LoihiGraph.load('x')\ngraph.sum"
    (summary,) = jedi.Script(text, path="mine.py", project=project).complete(3, 9)
    assert summary.name == "summary"


def test_results_are_short_in_a_terminal_and_tables_in_a_notebook() -> None:
    graph = random_graph(3)
    spikes = random_spikes(graph, 20, 4, seed=0)
    recording = simulate(graph, spikes, record=("s", "u", "v"))
    placement = map_to_chip(graph)
    names = ("sim", "other")
    report = ParityReport(names, names, 20, 4, 100, recording.n_spikes)
    energy = estimate_energy(graph, recording, placement, inputs=spikes)
    nodes = list(graph.nodes.values())
    for value in (graph, recording, placement, report, energy, Simulator(graph), *nodes):
        assert len(repr(value)) < 1500
        assert "array(" not in repr(value)
        assert type(value).__name__ in repr(value)
    name = next(iter(graph.neurons))
    assert f"{recording.n_spikes[name]:,} spikes" in repr(recording)
    for value in (graph, recording, report):
        html = getattr(value, HTML)()
        assert html.startswith("<table>")
        assert html.count("<tr>") == html.count("</tr>") > 1
    assert name in graph.summary()
    with pytest.warns(DeprecationWarning, match="is now 'summary'"):
        assert graph.report() == graph.summary()


def test_names_from_files_are_text_in_a_table() -> None:
    table = html_table(("<b>",), [("<script>alert(1)</script>",)], "a & b")
    assert "<script>" not in table
    assert "<b>" not in table
    assert "&lt;script&gt;" in table


def test_brief() -> None:
    assert brief(np.zeros((2, 3), np.int8)) == "int8 (2, 3)"
    assert brief(np.int32(5)) == "5"
    assert brief("x" * 1000).endswith("...")
    assert brief(list(range(1000))) == "list of 1,000"
    assert brief({"a": np.zeros(4)}) == "{a: float64 (4,)}"
