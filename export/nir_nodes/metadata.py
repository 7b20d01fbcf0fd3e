"""Metadata of NIR graphs and nodes that mean something here: their types and ranges.

Files hold metadata of any type under any key. A key of the table that holds something else than the
table says is an error, because ignoring it could change the network's meaning; other keys are left
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

from biril_nm.errors import ConfigError
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS

__all__ = ["checked_metadata"]

Range = tuple[float, float]
STEPS_MAX = 1 << 30
FLAG: Range = (0, 1)
COMMON: Mapping[str, Any] = {"lag": FLAG, "dt": float}
INPUT: Mapping[str, Any] = {
    "message_bits": (0, 31),
    "n_steps": (1, STEPS_MAX),
    "scale": float,
    "coding": str,
}
NEURON: Mapping[str, Any] = {
    "reset": str,
    "reset_delay": FLAG,
    "reset_drops_input": FLAG,
    "if_integration": ("per_step", "continuous"),
}
CONVOLUTION: Mapping[str, Any] = {"groups": (1, STEPS_MAX)}
OUTPUT: Mapping[str, Any] = {"readout": str}
GRAPH: Mapping[str, Any] = {"producer": str}


def checked_metadata(who: str, node: Any) -> dict[str, Any]:
    """A copy of a node's metadata in which every known key has its type.

    Args:
        who: the node, for messages.
        node: any NIR node or graph.

    Raises:
        ConfigError: a known key holds something else.
    """
    metadata = getattr(node, "metadata", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"{who}: metadata are a {type(metadata).__name__}; needed is a dict")
    found = dict(metadata)
    for key, wanted in {**COMMON, **_table(node)}.items():
        if key in found:
            found[key] = _value(who, key, found[key], wanted)
    return found


def _table(node: Any) -> Mapping[str, Any]:
    if type(node) in NEURON_KINDS:
        return NEURON
    tables: dict[type, Mapping[str, Any]] = {
        nir.NIRGraph: GRAPH,
        nir.Input: INPUT,
        nir.Output: OUTPUT,
        nir.Conv1d: CONVOLUTION,
        nir.Conv2d: CONVOLUTION,
    }
    return tables.get(type(node), {})


def _value(who: str, key: str, value: Any, wanted: Any) -> Any:
    if wanted is str or isinstance(wanted[0] if isinstance(wanted, tuple) else None, str):
        return _text(who, key, value, () if wanted is str else wanted)
    try:
        number = float(np.asarray(value).reshape(()))
    except (ValueError, TypeError):
        number = np.nan
    if wanted is float:
        if not (0 < number < np.inf):
            raise ConfigError(f"{who}: metadata '{key}' is {value!r}; needed is a number above 0")
        return number
    low, high = wanted
    if number != np.rint(number) or not low <= number <= high:
        raise ConfigError(
            f"{who}: metadata '{key}' is {value!r}; needed is a whole number from {low} to {high}"
        )
    return int(number)


def _text(who: str, key: str, value: Any, allowed: tuple[str, ...]) -> str:
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str) or (allowed and text not in allowed):
        needed = " or ".join(f"'{a}'" for a in allowed) or "text"
        raise ConfigError(f"{who}: metadata '{key}' is {value!r}; needed is {needed}")
    return text
