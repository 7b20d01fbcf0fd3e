"""Exact and fast simulation of a LoihiGraph on integers: NumPy and numba only, no torch."""

from biril_nm.hardware_sim.simulator import simulate

__all__ = ["simulate"]
