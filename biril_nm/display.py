"""How results show themselves: in one short line, and as a table in Jupyter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any, TypeVar

__all__ = ["brief", "brief_fields", "html_table", "markup", "shown"]

LONGEST = 60  # letters of a value
Class = TypeVar("Class", bound=type)


def brief(value: Any) -> str:
    """A value in a few letters: arrays and tensors by type and shape, long texts cut."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        name = str(dtype).removeprefix("torch.")
        return str(value) if not shape else f"{name} {tuple(shape)}"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {brief(part)}" for key, part in list(value.items())[:LONGEST])
        return _cut("{" + inner + "}", 4 * LONGEST)
    if isinstance(value, (tuple, list)) and len(value) > LONGEST:
        return f"{type(value).__name__} of {len(value):,}"
    return _cut(repr(value), LONGEST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def brief_fields(cls: Class) -> Class:
    """Give a dataclass a repr of one short line; fields that are None are left out."""

    def show(self: Any) -> str:
        pairs = [(f.name, getattr(self, f.name)) for f in fields(self) if f.repr]
        shown = ", ".join(f"{name}={brief(value)}" for name, value in pairs if value is not None)
        return f"{type(self).__name__}({shown})"

    cls.__repr__ = show  # type: ignore[method-assign, assignment]
    return cls


def shown(text: str, lines: bool = True) -> str:
    r"""``text`` as a terminal or a page may show it; names come from files.

    Control characters, which would move the cursor, change colours or the order of letters, are
    written as escapes such as ``\x1b``.

    Args:
        text: what to show.
        lines: whether line ends stay what they are.
    """
    kept = "\n" if lines else ""
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )


def markup(text: str) -> str:
    """``text`` in HTML or SVG: shown as it is, on one line."""
    return escape(shown(text, lines=False))


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> str:
    """A table for Jupyter; every text is escaped."""
    head = "".join(f"<th>{markup(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{markup(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    caption = f"<caption>{markup(title)}</caption>" if title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
