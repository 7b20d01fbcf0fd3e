"""Write the generated parts of README.md and docs: python docs/make_tables.py (make readme)."""

from __future__ import annotations

from pathlib import Path

from biril_nm.export.supported import policy_table, supported_table

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- generated: supported nodes -->", "<!-- end of generated part -->"


def with_table(text: str) -> str:
    """README text with the table between the markers replaced."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{supported_table()}\n{END}{tail}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "supported_nodes.md").write_text(policy_table(), encoding="utf-8")
