"""Training on the chip's integers: a LoihiGraph as a torch module with gradients."""

from __future__ import annotations

from biril_nm.training.integers.from_float import quantized
from biril_nm.training.integers.net import QuantizedNet

__all__ = ["QuantizedNet", "quantized"]
