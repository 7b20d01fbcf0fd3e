"""The snippets of docs/coming_from.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))


def test_there_is_a_section_for_each_framework():
    assert {"snnTorch", "Norse", "sinabs", "lava-dl"} <= set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_snippets_run_and_print(name, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[name], re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, f"docs/coming_from.md ({name})", "exec"), {})
    assert capsys.readouterr().out or "print(" not in "".join(blocks)
