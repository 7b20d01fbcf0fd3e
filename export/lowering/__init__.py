"""NIR to integers: the passes and their order."""

from __future__ import annotations

from biril_nm.export.lowering.pipeline import ideal_weights, lower

__all__ = ["ideal_weights", "lower"]
