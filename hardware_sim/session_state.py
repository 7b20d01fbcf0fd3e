"""The state of a session, held against what a session can have: kernels follow some of its values."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from biril_nm.arrays import Array
from biril_nm.compartments import CUBA_LIF
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.learning.group import Group
from biril_nm.hw_graph import Neurons
from biril_nm.loihi import STATE_LIMIT

__all__ = ["AGE", "check_state", "random_numbers"]

AGE = "age"
MAX_AGE = 1 << 62


def check_state(
    given: Mapping[str, Array],
    views: Mapping[str, Array],
    graded: Collection[str],
    neurons: Mapping[str, Neurons],
    groups: Sequence[Group],
) -> None:
    """Refuse a state that a session of these views and groups cannot have.

    Args:
        given: the state.
        views: that of the session.
        graded: inputs whose messages are numbers.
        neurons: populations. Those of the first model clip v at the end of a step; any v of 32 bits may
            stand in others, and any u: Lava wraps it once, which leaves what is large beyond 24 bits.
        groups: connections that learn.

    Raises:
        ConfigError: names, shapes, types or values that do not fit.
    """
    more = {f"{i}/{what}" for i in range(len(groups)) for what in ("random", "impulses")}
    expected = {AGE, *views, *more}
    if set(given) != expected:
        raise ConfigError(
            f"the state has {sorted(set(given) ^ expected)[:8]} too much or too little; expected that of "
            f"a session of the same network and settings"
        )
    for name, view in views.items():
        if given[name].shape != view.shape or given[name].dtype != view.dtype:
            raise ConfigError(
                f"'{name}' of the state is {given[name].dtype}{given[name].shape}; expected "
                f"{view.dtype}{view.shape}, as in a session of the same network and settings"
            )
    clipped = [name for name, node in neurons.items() if node.model == CUBA_LIF.name]
    if not _possible(given, graded, clipped, groups):
        raise ConfigError(
            "the state holds values that no session has; expected a state of the same network and "
            "settings, as it was read"
        )


def _possible(
    given: Mapping[str, Array],
    graded: Collection[str],
    clipped: Collection[str],
    groups: Sequence[Group],
) -> bool:
    age = given[AGE]
    good = age.ndim == 0 and age.dtype.kind in "iu" and 0 <= int(age) < MAX_AGE
    for name, array in given.items():
        _, word, node = (*name.split("/", 2), "", "")[:3]
        if word == "s" and node not in graded:
            good = good and not np.any(array > 1)
        elif word == "v" and node in clipped:
            good = good and bool(np.all(np.abs(array.astype(np.int64)) <= STATE_LIMIT))
    return good and all(g.accepts(given[f"{i}/group/ints"]) for i, g in enumerate(groups))


def random_numbers(given: Array, known: Sequence[Any]) -> Any:
    """The state of random streams from its JSON; that of the same streams is never twice as long.

    Raises:
        ValueError: longer, or no JSON.
    """
    most = 2 * len(json.dumps(known))
    if given.nbytes > most:
        raise ValueError(f"they take {given.nbytes} bytes; expected at most {most}")
    return json.loads(given.tobytes())
