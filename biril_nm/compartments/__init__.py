"""What a neuron is: one record per compartment model, from which every target takes its neurons."""

from __future__ import annotations

from biril_nm.compartments.cuba_lif import CUBA_LIF
from biril_nm.compartments.cuba_lif_resets import RESET_MODELS
from biril_nm.compartments.model import (
    NATIVE,
    PROGRAM,
    ZERO_AT_ONCE,
    CompartmentModel,
    Register,
    SpikeReset,
)
from biril_nm.compartments.registry import (
    COMPARTMENTS,
    compartment,
    register,
    source_of,
    unregister,
)

__all__ = [
    "COMPARTMENTS",
    "CUBA_LIF",
    "NATIVE",
    "PROGRAM",
    "RESET_MODELS",
    "ZERO_AT_ONCE",
    "CompartmentModel",
    "Register",
    "SpikeReset",
    "compartment",
    "register",
    "source_of",
    "unregister",
]
