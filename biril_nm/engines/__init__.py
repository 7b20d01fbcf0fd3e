"""What can run a network: torch, the integer simulator, Lava, and engines of other packages."""

from __future__ import annotations

from biril_nm.engines.registry import (
    Engine,
    Network,
    Requirement,
    RunOptions,
    available_engines,
    engine,
    get_engine,
)

__all__ = [
    "Engine",
    "Network",
    "Requirement",
    "RunOptions",
    "available_engines",
    "engine",
    "get_engine",
]
