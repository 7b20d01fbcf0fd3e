"""Values and names as messages show them: on one line, however long they are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

__all__ = ["did_you_mean", "shown", "unknown_name"]

WIDTH = 60
PLAIN = (str, bytes, int, float, bool, type(None))


def shown(value: Any) -> str:
    """A value in at most 60 characters: plain ones as they are, others by type and shape."""
    if isinstance(value, int) and abs(value) >> 200:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, PLAIN) or (
        isinstance(value, (tuple, list)) and all(isinstance(each, PLAIN) for each in value[:WIDTH])
    ):
        text = repr(value[:WIDTH] if isinstance(value, (str, bytes, tuple, list)) else value)
        return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
    if isinstance(value, PurePath):
        return f"path {shown(str(value))}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    size = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return f"{_article(type(value).__name__)}{size}" + (f" and type {dtype}" if dtype else "")


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """``what 'name' is unknown; expected one of ...``, and the nearest of them."""
    names = [str(each) for each in known]
    found = f"'{name:.60}'" if isinstance(name, str) else shown(name)
    text = f"{what} {found} is unknown; expected one of {', '.join(names)}"
    return text + did_you_mean(name, names)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The nearest of the known names as a question, or nothing."""
    near = difflib.get_close_matches(name[:WIDTH], list(known), 1) if isinstance(name, str) else []
    return f". Did you mean '{near[0]}'?" if near else ""


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
