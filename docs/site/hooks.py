"""What Sphinx does with docstrings, links and names."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import api
from sphinx.domains.python import ObjectEntry

__all__ = ["setup"]

ROOT = Path(__file__).parents[2]
# Pages at the top of the repository -> the page of the site that shows them.
TOP_PAGES = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "reporting",
}
SHOWN = {page: file for file, page in TOP_PAGES.items() if page != "index"}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
CODE = re.compile(r"(``.*?``)", flags=re.DOTALL)


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Shapes such as (batch, *shape) hold no emphasis."""
    parts = CODE.split("\n".join(lines))
    parts[::2] = [re.sub(r"(?<=[ (])\*(?=\w)|\|", r"\\\g<0>", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields are described in their class; what is left without a docstring are functions."""
    if what != "class" or name.startswith("_"):
        return None
    is_code = inspect.isroutine(obj) or isinstance(obj, property)
    return None if is_code and inspect.getdoc(obj) else True


def _links(app: Any, name: str, text: list[str]) -> None:
    """Pages at the top of the repository are shown here; links to them, and theirs, lead to pages here."""
    folder = ROOT / "docs" / Path(name).parent
    if name in SHOWN:
        text[0], folder = (ROOT / SHOWN[name]).read_text(encoding="utf-8"), ROOT
        app.env.note_dependency(str(ROOT / SHOWN[name]))

    def here(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[1]))
        if target.parent == ROOT and target.name in TOP_PAGES:
            target = ROOT / "docs" / f"{TOP_PAGES[target.name]}.md"
        return f"]({os.path.relpath(target, ROOT / 'docs' / Path(name).parent)}"

    if not name.startswith("tutorials/"):
        text[0] = LINK.sub(here, text[0])


def _add_aliases(app: Any, env: Any) -> None:
    """Let every full name of an object lead to its one entry."""
    objects = env.domains["py"].data["objects"]
    entries = list(objects.items())
    for name, entry in api.aliases().items():
        for full, found in entries:
            alias = name + full.removeprefix(entry)
            if (full == entry or full.startswith(f"{entry}.")) and alias not in objects:
                objects[alias] = ObjectEntry(found.docname, found.node_id, found.objtype, True)


def setup(app: Any) -> None:
    """Connect what stands here."""
    app.connect("autodoc-process-docstring", _escape, priority=100)
    app.connect("autodoc-skip-member", _skip)
    app.connect("source-read", _links)
    app.connect("env-updated", _add_aliases)
