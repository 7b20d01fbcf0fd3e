"""Recordings of single runs as one recording of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.recording.recording import NodeRecording, Recording

__all__ = ["joined"]


@checked
def joined(recordings: Sequence[Recording]) -> Recording:
    """All samples of ``recordings``, one after the other along the batch.

    Raises:
        ConfigError: there are none, or they recorded other nodes or variables.
    """
    if not recordings:
        raise ConfigError("there are 0 recordings; expected one or more")
    first = recordings[0]
    held = {name: tuple(node.variables()) for name, node in first.items()}
    for other in recordings[1:]:
        if {name: tuple(node.variables()) for name, node in other.items()} != held:
            raise ConfigError(
                "the recordings hold other nodes or variables; expected the same in all"
            )
    nodes = {
        name: NodeRecording(
            **{
                v: np.concatenate([getattr(r[name], v) for r in recordings], axis=1)
                for v in variables
            }
        )
        for name, variables in held.items()
    }
    return Recording(
        nodes,
        {name: sum(r.n_spikes[name] for r in recordings) for name in first.n_spikes},
        {name: np.concatenate([r.v_last[name] for r in recordings]) for name in first.v_last},
        meta={**first.meta, "batch": sum(int(r.meta["batch"]) for r in recordings)},
    )
