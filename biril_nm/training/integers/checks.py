"""What a graph must have, so that its integers can be trained from where they stand."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from biril_nm.errors import ConfigError, bullet_list
from biril_nm.hw_graph import Conv, LoihiGraph
from biril_nm.loihi.fixed_point import weight_limits

__all__ = ["VTH_MIN", "check_source"]

VTH_MIN = 1  # smallest threshold: gradients are those of v per threshold


def check_source(graph: LoihiGraph, fixed: Collection[str]) -> None:
    """Refuse what training would change before its first step, and names that the graph does not have.

    Raises:
        ConfigError: an unknown connection in ``fixed``, thresholds below 1, or kernels with weights that
            the chip does not hold.
    """
    unknown = [name for name in fixed if name not in graph.connections]
    if unknown:
        findings = [f"'{name}' is not a connection" for name in unknown]
        known = ", ".join(graph.connections)
        raise ConfigError(bullet_list(f"fixed: expected some of {known}:", findings))
    findings = []
    for name, node in graph.neurons.items():
        lowest = int(np.min(node.spike_threshold))
        if lowest < VTH_MIN:
            findings.append(
                f"neurons '{name}' have a threshold of {lowest}; expected {VTH_MIN} or more"
            )
    for name, link in graph.connections.items():
        if name in fixed or not isinstance(link, Conv) or not link.weight.size:
            continue  # Dense and Sparse are clipped by the chip itself
        low, high = weight_limits(link.sign_mode)
        found = int(link.weight.min()), int(link.weight.max())
        if found[0] < low or found[1] > high:
            findings.append(
                f"kernel '{name}' holds {found[0]} to {found[1]}; expected {low} to {high}, or its name in "
                f"fixed"
            )
    if findings:
        raise ConfigError(bullet_list("these integers cannot be trained:", findings))
