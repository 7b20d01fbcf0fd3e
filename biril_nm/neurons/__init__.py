"""Spiking neurons in torch, all made of snnTorch modules whose spikes equal the chip's."""

from __future__ import annotations

import biril_nm._torch  # noqa: F401
from biril_nm.neurons.registry import NEURONS, RESETS, make_neuron
from biril_nm.neurons.surrogates import SURROGATES, make_surrogate

__all__ = ["NEURONS", "RESETS", "SURROGATES", "make_neuron", "make_surrogate"]
