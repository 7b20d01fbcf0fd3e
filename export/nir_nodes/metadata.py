"""Metadata of NIR graphs and nodes that mean something here: their types and ranges.

Files hold metadata of any type under any key. A known key with a value of another type is an error,
because ignoring it could change the network's meaning; unknown keys are left alone. Which keys a node
knows stands in its :class:`NodeKind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from biril_nm.errors import ConfigError
from biril_nm.export.nir_nodes.kinds import Check

__all__ = [
    "COMMON",
    "EXACT_REGISTERS",
    "STEPS_MAX",
    "checked_metadata",
    "positive",
    "step_width",
    "text",
    "whole_between",
]

STEPS_MAX = 1 << 30
DT_MIN_S, DT_MAX_S = 1e-15, 1e15
EXACT_REGISTERS = "exact_registers"  # key of graphs that hold integers instead of floats


def positive(what: str, value: Any) -> float:
    """A finite number above 0."""
    number = _number(value)
    if not 0 < number < np.inf:
        raise ConfigError(f"{what} is {value!r}; expected a number above 0")
    return number


def step_width(what: str, value: Any) -> float:
    """A width of a step in seconds: times of up to 2^30 steps are normal numbers of 32 bits."""
    number = np.nan if isinstance(value, (str, bytes, bool)) else _number(value)
    if not DT_MIN_S <= number <= DT_MAX_S:
        raise ConfigError(
            f"{what} is {value!r}; expected the width of a step in seconds, from {DT_MIN_S} to "
            f"{DT_MAX_S:g}"
        )
    return number


def whole_between(low: int, high: int) -> Check:
    """Check for a whole number from ``low`` to ``high``."""

    def check(what: str, value: Any) -> int:
        number = _number(value)
        if number != np.rint(number) or not low <= number <= high:
            raise ConfigError(f"{what} is {value!r}; expected a whole number from {low} to {high}")
        return int(number)

    return check


def text(*choices: str) -> Check:
    """Check for one of the ``choices``, or for any text if there are none."""

    def check(what: str, value: Any) -> str:
        try:
            found = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            found = None
        if not isinstance(found, str) or (choices and found not in choices):
            expected = " or ".join(f"'{choice}'" for choice in choices) or "text"
            raise ConfigError(f"{what} is {value!r}; expected {expected}")
        return found

    return check


def _number(value: Any) -> float:
    try:
        return float(np.asarray(value).reshape(()))
    except (ValueError, TypeError):
        return np.nan


# Keys of every node: whether it receives what its source sent at the step before, and dt in seconds.
COMMON: Mapping[str, Check] = {"lag": whole_between(0, 1), "dt": step_width}


def checked_metadata(who: str, node: Any, known: Mapping[str, Check]) -> dict[str, Any]:
    """A copy of a node's metadata in which every known key has its type.

    Args:
        who: the node, for messages.
        node: any NIR node or graph.
        known: keys with their checks, besides :data:`COMMON`.

    Raises:
        ConfigError: a known key holds something else.
    """
    metadata = getattr(node, "metadata", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"{who}: metadata is a {type(metadata).__name__}; expected a dict")
    found = dict(metadata)
    for key, check in {**COMMON, **known}.items():
        if key in found:
            found[key] = check(f"{who}: metadata '{key}'", found[key])
    return found
