"""The path of one's own problem: the example and the page that explains it."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_problem.py"
PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
MAX_LINES = 40

pytest.importorskip("jinja2", reason='needs pip install "biril-nm[report]"')
pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')


def lines_beside_the_network(text: str) -> int:
    """Lines of code but for the network, imports, docstrings and blank lines."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, (ast.ClassDef, ast.Import, ast.ImportFrom)):
            skipped.update(range(node.lineno, node.end_lineno + 1))
    code = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and number not in skipped for number, line in code)


def test_the_path_takes_few_lines_beside_the_network():
    assert 20 < lines_beside_the_network(EXAMPLE.read_text(encoding="utf-8")) <= MAX_LINES


def test_the_path_runs_from_training_to_another_speaker(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIRIL_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--quick"])
    found = runpy.run_path(str(EXAMPLE), run_name="__main__")
    report, said = found["report"], capsys.readouterr().out
    assert report.parity.ok and report.parity.n_samples == 20
    assert report.accuracy > 0.5 and abs(report.accuracy - report.float_accuracy) < 0.1
    shares = [float(share) for share in re.findall(r"new speaker, \w+: (.+)%", said)]
    assert len(shares) == 2 and shares[1] > shares[0] + 10
    assert (tmp_path / "spoken/lava/run_lava.py").is_file()
    text = (tmp_path / "spoken/report.html").read_text(encoding="utf-8")
    assert "Worst samples" in text and "Error by bits" in text


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) >= 7
    names: dict[str, object] = {"__name__": "mynet"}
    for block in blocks:
        exec(compile(block, "own_data.md", "exec"), names)
    assert (tmp_path / "report.html").is_file()
