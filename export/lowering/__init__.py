"""NIR to integers: the passes and their order."""

from __future__ import annotations

from biril_nm.export.lowering.ideal import ideal_weights
from biril_nm.export.lowering.options import LoweringOptions
from biril_nm.export.lowering.pipeline import lower, lower_stages
from biril_nm.export.lowering.stages import Lowering

__all__ = ["Lowering", "LoweringOptions", "ideal_weights", "lower", "lower_stages"]
