"""Metadata of a LoihiGraph that comes out of a file: the facts that are read back have their types.

Everything that some later stage takes out of ``graph.metadata`` is listed here; other facts may be
any JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from biril_nm.coding import DECISIONS
from biril_nm.errors import ConfigError, bullet_list

__all__ = ["PER_CONNECTION", "PER_SYNAPSE", "ROUNDINGS", "check_metadata", "rounding_of"]

# How weights that learn are rounded: by one random number of the connection in a phase, as Lava does, or by
# one of each synapse, which only the simulator does.
PER_CONNECTION, PER_SYNAPSE = ROUNDINGS = ("connection", "synapse")

_TEXTS = ("chip", "producer", "source")
_LISTS = ("notes", "unrolled_convolutions")
_TABLES = ("coding", "neurons", "quantisation", "netx")
_ENTRIES = {  # table -> facts of each of its nodes
    "coding": {"kind": "text", "n_steps": "integer", "message_bits": "integer"},
    "neurons": {"scale": "number", "margins": "numbers", "digest": "integer"},
    "quantisation": {"zeros": "integer", "relative_error": "number", "digest": "integer"},
}
_NETX_INPUT = {"weight": "integer", "bias": "integer", "iDecay": "integers"}


def rounding_of(metadata: Mapping[str, Any]) -> str:
    """What draws the random number that rounds weights: "connection" (default) or "synapse".

    Raises:
        ConfigError: it is something else.
    """
    found = metadata.get("rounding", PER_CONNECTION)
    if not _KINDS["rounding"](found):
        raise ConfigError(
            bullet_list("the metadata makes no sense:", [*_wrong("rounding", found, "rounding")])
        )
    return str(found)


def check_metadata(metadata: Any) -> None:
    """Raise :class:`ConfigError` listing every fact of the wrong type."""
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"metadata is {type(metadata).__name__}; expected a table")
    findings = list(_findings(metadata))
    if findings:
        raise ConfigError(bullet_list("the metadata makes no sense:", findings))


def _findings(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in _TEXTS:
        yield from _wrong(key, metadata.get(key, ""), "text")
    for key in _LISTS:
        yield from _wrong(key, metadata.get(key, []), "texts")
    if metadata.get("dt_s") is not None:
        yield from _wrong("dt_s", metadata["dt_s"], "width")
    yield from _wrong("decision", metadata.get("decision", DECISIONS[0]), "decision")
    yield from _wrong("rounding", metadata.get("rounding", PER_CONNECTION), "rounding")
    for key in _TABLES:
        table = metadata.get(key, {})
        if not isinstance(table, Mapping):
            yield from _wrong(key, table, "table")
            continue
        for name, known in table.items() if key in _ENTRIES else ():
            yield from _entry(f"{key} of '{name:.40}'", known, _ENTRIES[key])
        if key == "netx" and table.get("input") is not None:
            yield from _entry("netx input", table["input"], _NETX_INPUT, complete=True)


def _entry(
    where: str, facts: Any, kinds: Mapping[str, str], complete: bool = False
) -> Iterator[str]:
    if not isinstance(facts, Mapping):
        yield from _wrong(where, facts, "table")
        return
    for key, kind in kinds.items():
        if key in facts:
            yield from _wrong(f"{where}: {key}", facts[key], kind)
        elif complete or kinds is _ENTRIES["coding"]:
            yield f"{where}: {key} is missing"


def _wrong(what: str, value: Any, kind: str) -> Iterator[str]:
    if not _KINDS[kind](value):
        known = f"one of {', '.join(_CHOICES[kind])}" if kind in _CHOICES else kind
        yield f"{what} is {value!r:.60}; needed: {known}"


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and (type(value) is float or abs(value) < 1 << 63)


def _one_of(names: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


_CHOICES: dict[str, tuple[str, ...]] = {"decision": DECISIONS, "rounding": ROUNDINGS}
_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "integer": _is_integer,
    "integers": lambda value: (
        all(map(_is_integer, value)) if isinstance(value, list) else _is_integer(value)
    ),
    "number": _is_number,
    "numbers": lambda value: isinstance(value, Mapping) and all(map(_is_number, value.values())),
    "width": lambda value: _is_number(value) and math.isfinite(value) and value > 0,
    **{kind: _one_of(names) for kind, names in _CHOICES.items()},
    "table": lambda value: isinstance(value, Mapping),
}
