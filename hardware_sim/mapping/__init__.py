"""Placing a network on the cores of a chip."""

from __future__ import annotations

from biril_nm.hardware_sim.mapping.placement import (
    Core,
    Mapping,
    MappingFinding,
    Messages,
    Part,
    map_to_chip,
    messages,
)

__all__ = ["Core", "Mapping", "MappingFinding", "Messages", "Part", "map_to_chip", "messages"]
