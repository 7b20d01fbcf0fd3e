"""Lava: Processes and bundles that run a LoihiGraph bit for bit."""

from __future__ import annotations

from biril_nm.export.lava.backend import LavaBackend, LavaRunError, build, describe, run_lava, write

__all__ = ["LavaBackend", "LavaRunError", "build", "describe", "run_lava", "write"]
