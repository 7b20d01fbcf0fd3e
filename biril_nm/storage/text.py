"""JSON and TOML from files: plain values of bounded size, depth and digits.

Everything that biril-nm writes keeps these bounds, so nothing else needs to be read.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biril_nm.errors import FileFormatError
from biril_nm.storage.bounds import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "MAX_LINES",
    "MAX_TEXT_BYTES",
    "as_text",
    "check_plain",
    "is_unicode",
    "parse_json",
    "read_json",
    "read_json_lines",
    "read_toml",
]

MAX_TEXT_BYTES = 32 << 20
MAX_TOML_BYTES = 1 << 20
MAX_DOTS = 1_000  # in a line of TOML: the time of a dotted key grows with the square of its parts
MAX_ALL_DOTS = 20_000  # of a file: each part of a dotted key takes 4 KB
MAX_DEPTH = 64
MAX_DIGITS = 25
MAX_INTEGER = 1 << 64
MAX_LINES = 200_000  # one for each epoch of a training
MAX_VALUES = 4_000_000


def parse_json(data: bytes | str, what: str) -> Any:
    """The value of a JSON text.

    Args:
        data: the text, UTF-8.
        what: what the text is, for messages: a file, or a member of one.

    Raises:
        FileFormatError: no JSON, or beyond the bounds.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise FileFormatError(f"{what} is larger than {MAX_TEXT_BYTES} bytes")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        _check_count(text, what)
        value = json.loads(text, parse_int=_integer, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise FileFormatError(f"{what} nests deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise FileFormatError(f"{what} is not JSON: {error}") from error
    check_plain(value, what)
    return value


def _check_count(text: str, what: str) -> None:
    """Refuse too many values before they are made: each takes up to 60 times the bytes of its text."""
    found = sum(text.count(mark) for mark in ",[{")
    if found > MAX_VALUES:
        raise FileFormatError(
            f"{what} has {found} commas and opening brackets; expected at most {MAX_VALUES}. Split it up"
        )


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def read_json(path: str | Path, max_bytes: int = MAX_TEXT_BYTES, follow_links: bool = True) -> Any:
    """The value of a JSON file.

    Raises:
        FileFormatError: no regular file, no JSON, or beyond the bounds.
    """
    return parse_json(read_bytes(path, max_bytes, follow_links), f"'{path}'")


def read_json_lines(path: str | Path, follow_links: bool = True) -> list[Any]:
    """The values of a file with one JSON text a line; a last line that was cut off is left out.

    Raises:
        FileFormatError: no regular file, too many lines, or a damaged line other than the last.
    """
    data = read_bytes(path, MAX_TEXT_BYTES, follow_links)
    _check_count(data.decode("latin-1"), f"'{path}'")
    lines = data.split(b"\n")
    if len(lines) > MAX_LINES:
        raise FileFormatError(f"'{path}' has {len(lines)} lines; expected at most {MAX_LINES}")
    whole, rest = lines[:-1], lines[-1]
    values = [parse_json(line, f"line {i} of '{path}'") for i, line in enumerate(whole, 1) if line]
    try:
        return [*values, parse_json(rest, f"line {len(lines)} of '{path}'")]
    except FileFormatError:
        return values


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        FileFormatError: no regular file, no TOML, or beyond the bounds.
    """
    data = read_bytes(path, MAX_TOML_BYTES)
    dots = [line.count(b".") for line in data.split(b"\n")]
    if max(dots) > MAX_DOTS:
        raise FileFormatError(
            f"'{path}' has a line of {max(dots)} dots; expected at most {MAX_DOTS}. Write a list on several "
            f"lines"
        )
    if sum(dots) > MAX_ALL_DOTS:
        raise FileFormatError(
            f"'{path}' has {sum(dots)} dots; expected at most {MAX_ALL_DOTS}. Write fewer numbers"
        )
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise FileFormatError(f"'{path}' nests deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise FileFormatError(f"'{path}' is not TOML: {error}") from error
    check_plain(values, f"'{path}'")
    return dict(values)


def as_text(value: Any) -> str:
    """A text, where HDF5 may give its bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def check_plain(value: Any, what: str, allowed: Callable[[Any], bool] | None = None) -> None:
    """Refuse what JSON and TOML can say and nothing needs.

    Values that several containers share count each time, so the walk ends for those as well.

    Args:
        value: tables, lists, texts, numbers, and None.
        what: what they come from, for messages.
        allowed: says of a value of another type whether it may stand there.

    Raises:
        FileFormatError: too deep, too many, integers beyond 64 bits, numbers that are not finite,
            texts that are not Unicode, or values of another type.
    """
    pending: list[tuple[Any, int]] = [(value, 0)]
    count = 1
    while pending:
        item, depth = pending.pop()
        if not isinstance(item, (dict, list, tuple)):
            if not _is_plain(item) and not (allowed is not None and allowed(item)):
                raise FileFormatError(f"{what} holds {_described(item)}, which nothing here needs")
            continue
        count += 2 * len(item)
        if count > MAX_VALUES:
            raise FileFormatError(f"{what} holds more than {MAX_VALUES} values")
        if item and depth == MAX_DEPTH:
            raise FileFormatError(f"{what} nests deeper than {MAX_DEPTH} levels")
        if isinstance(item, dict):
            pending.extend((key, depth + 1) for key in item)
            item = item.values()
        pending.extend((inner, depth + 1) for inner in item)


def _is_plain(item: Any) -> bool:
    if isinstance(item, str):
        return item.isascii() or is_unicode(item)
    if isinstance(item, bool) or item is None:
        return True
    if isinstance(item, int):
        return abs(item) < MAX_INTEGER
    return isinstance(item, float) and math.isfinite(item)


def is_unicode(text: str) -> bool:
    """False if it holds half of a surrogate pair, which no encoding can write."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _described(item: Any) -> str:
    if isinstance(item, str):
        return "a text that is not Unicode"
    if isinstance(item, int):
        return f"an integer of {item.bit_length()} bits"
    return f"the number {item}" if isinstance(item, float) else f"a {type(item).__name__}"
