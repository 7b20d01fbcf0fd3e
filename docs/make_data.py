"""Write the tables of docs/data.md from the registries: make pages."""

from __future__ import annotations

from pathlib import Path

from biril_nm.data.table import changes_table, data_table, options_table
from biril_nm.recipes import recipe_names, recipe_title

PAGE = Path(__file__).parent / "data.md"
END = "<!-- end of generated part -->"


def recipes_table() -> str:
    """One row per recipe: its name and the first sentence of its file."""
    rows = "".join(f"| `{name}` | {recipe_title(name)} |\n" for name in recipe_names())
    return f"| recipe | what it is |\n| --- | --- |\n{rows}"


TABLES = {
    "sets": data_table,
    "options": options_table,
    "changes": changes_table,
    "recipes": recipes_table,
}


def with_tables(text: str) -> str:
    """The page with its tables written anew."""
    for name, table in TABLES.items():
        begin = f"<!-- generated: {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table()}{END}{rest.partition(END)[2]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
