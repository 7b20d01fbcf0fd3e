"""Tutorials are notebooks without outputs, and run from top to bottom in their quick form."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
NEEDED = {"closed_loop": ("gymnasium", "matplotlib")}
# What a notebook prints when it has done what it is for.
PROOF = {
    "closed_loop": "balanced for 200 of 200 steps",
    "coming_from": "% of all cells equal",
    "onchip_learning": "samples per class: turned ",
    "own_network": "integers: ",
}
WITH_LAVA = "sim = lava: "


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(text: str, name: str, space: dict[str, object]) -> None:
    """Run the statements, and show the value of the last expression as Jupyter does."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), space)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), name, "eval"), space)
        if value is not None and not text.rstrip().endswith(";"):
            print(repr(value))


def test_there_is_a_proof_for_each():
    assert [path.stem for path in NOTEBOOKS] == sorted(PROOF)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "clear the outputs of all cells before you commit"
        assert cell.get("execution_count") is None, "clear the outputs of all cells"
        assert not cell["metadata"]
    assert notebook["cells"][0]["source"][0].startswith("# ")
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow)
        if path.stem in ("onchip_learning", "own_network")
        else path
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # of norse
def test_tutorials_run(path, monkeypatch, capsys):
    for package in NEEDED.get(path.stem, ("matplotlib",)):
        pytest.importorskip(package, reason="pip install 'biril-nm[report,control]' brings it")
    monkeypatch.chdir(TUTORIALS)
    monkeypatch.setenv("BIRIL_QUICK", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    import matplotlib.pyplot

    space: dict[str, object] = {"__name__": "tutorial"}
    for i, text in enumerate(code_of(path)):
        run_cell(text, f"{path.name}, code cell {i}", space)
    matplotlib.pyplot.close("all")
    said = capsys.readouterr().out
    assert PROOF[path.stem] in said
    assert (WITH_LAVA in said) == (find_spec("lava") is not None)


def test_a_cell_that_fails_fails():
    with pytest.raises(NameError, match="nothing"):
        run_cell("x = 1\nnothing", "cell", {})
