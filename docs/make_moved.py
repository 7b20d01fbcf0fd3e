"""Write the modules that have moved into CHANGELOG.md: python docs/make_moved.py (make pages)."""

from __future__ import annotations

from pathlib import Path

from biril_nm._moved import MOVED

PAGE = Path(__file__).parents[1] / "CHANGELOG.md"
BEGIN, END = "<!-- generated: moved modules -->", "<!-- end of moved modules -->"


def with_moved(text: str) -> str:
    """The changelog with the table between the markers written anew."""
    head, rest = text.split(BEGIN)
    rows = [f"| `{old}` | `{new}` |" for old, new in sorted(MOVED.items())]
    table = "\n".join(["| old module | new module |", "| --- | --- |", *rows])
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_moved(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
