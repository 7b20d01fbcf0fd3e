"""A leaky integrator between layers: a low-pass filter, which the neurons behind it take over."""

from __future__ import annotations

from dataclasses import dataclass

import nir

from biril_nm.arrays import FloatArray

__all__ = ["Filter"]


@dataclass(eq=False)
class Filter(nir.NIRNode):  # type: ignore[misc]
    """``y <- (1 - a) y + a (scale x + bias)`` per step. Never written to a file.

    Attributes:
        scale: of each value.
        bias: ``v_leak`` of the integrator.
        decay: a, the share that is forgotten per step.
    """

    scale: FloatArray
    bias: FloatArray
    decay: FloatArray

    def __post_init__(self) -> None:
        """NIR nodes carry types; this one stands inside the lowering only."""
        self.input_type = {"input": None}
        self.output_type = {"output": None}
