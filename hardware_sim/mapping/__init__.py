"""Placing a network on the cores of a chip."""

from __future__ import annotations

from biril_nm._moved import renamed
from biril_nm.hardware_sim.mapping.messages import Messages, messages
from biril_nm.hardware_sim.mapping.packing import Core, PlacedBlock
from biril_nm.hardware_sim.mapping.placement import MappingFinding, Placement, map_to_chip

__all__ = [
    "Core",
    "MappingFinding",
    "Messages",
    "PlacedBlock",
    "Placement",
    "map_to_chip",
    "messages",
]

__getattr__ = renamed(__name__, {"Mapping": Placement, "Part": PlacedBlock})
