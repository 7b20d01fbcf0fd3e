"""Write the picture and the floors of docs/architecture.md from the imports: make pages."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- generated: floors -->", "<!-- end of generated part -->"
LINKS = ("export", "hardware_sim", "recipes")  # folders at the top, in biril_nm by links
HIDDEN = ("", "__main__", "_moved")  # the lazy names, the entry of python -m, old names


def modules() -> dict[str, Path]:
    """Module name below ``biril_nm`` -> file."""
    found = {}
    bases = {"": "biril_nm", **{f"{name}.": name for name in LINKS}}
    for prefix, folder in bases.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if not prefix and parts[0] in LINKS:
                continue  # links to the folders at the top
            name = ".".join(part for part in parts if part != "__init__")
            found[(prefix + name).rstrip(".")] = path
    return found


def imported(path: Path) -> set[str]:
    """Full names that a file imports from ``biril_nm``, below it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("biril_nm.") for name in names if name.startswith("biril_nm.")}


def folder_of(name: str) -> str:
    """The folder directly below ``biril_nm``, or the file that stands for itself."""
    return name.split(".", maxsplit=1)[0]


@cache
def folders() -> dict[str, set[str]]:
    """Folder -> folders that it imports."""
    files = modules()
    known = {folder_of(name) for name in files} - set(HIDDEN)
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in files.items():
        folder = folder_of(name)
        if folder in known:
            graph[folder] |= {folder_of(other) for other in imported(path)} & known - {folder}
    return graph


def heights(graph: dict[str, set[str]]) -> dict[str, int]:
    """Floor of each folder: one above the highest that it imports."""
    height: dict[str, int] = {}
    for folder in TopologicalSorter(graph).static_order():
        height[folder] = 1 + max((height[other] for other in graph[folder]), default=-1)
    return height


def without_detours(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that a longer way of arrows implies."""
    reach: dict[str, set[str]] = {}
    for folder in TopologicalSorter(graph).static_order():
        reach[folder] = graph[folder].union(*(reach[other] for other in graph[folder]))
    return {
        folder: {
            other
            for other in below
            if not any(other in reach[between] for between in below - {other})
        }
        for folder, below in graph.items()
    }


def first_sentence(folder: str) -> str:
    """What the folder's docstring says it is."""
    text = ast.get_docstring(ast.parse(modules()[folder].read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("``", "`").rstrip(".")


def picture(graph: dict[str, set[str]]) -> str:
    """The folders as Mermaid text: arrows point to what is imported."""
    height = heights(graph)
    lines = ["flowchart TD"]
    for floor in range(max(height.values()), -1, -1):
        names = sorted(name for name in graph if height[name] == floor)
        lines.append(f"  subgraph floor{floor}[ ]")
        lines += [f"    {name}" for name in names]
        lines.append("  end")
    arrows = without_detours(graph)
    lines += [f"  {name} --> {other}" for name in sorted(graph) for other in sorted(arrows[name])]
    return "\n".join(["```mermaid", *lines, "```"])


def place(folder: str) -> str:
    """Where the folder lies, as a path from the root."""
    top = folder if folder in LINKS else f"biril_nm/{folder}"
    return f"{top}/" if modules()[folder].name == "__init__.py" else f"{top}.py"


def floors(graph: dict[str, set[str]]) -> str:
    """The floors as a table, the highest first."""
    height = heights(graph)
    order = sorted(graph, key=lambda name: (-height[name], name))
    rows = [f"| {height[name]} | `{place(name)}` | {first_sentence(name)} |" for name in order]
    return "\n".join(["| floor | where | what |", "| --- | --- | --- |", *rows])


def with_floors(text: str) -> str:
    """The page with the part between the markers written anew."""
    graph = folders()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    return f"{head}{BEGIN}\n{picture(graph)}\n\n{floors(graph)}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_floors(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
