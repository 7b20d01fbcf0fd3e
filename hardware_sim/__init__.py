"""Exact and fast simulation of a LoihiGraph on integers: NumPy and numba only, no torch."""

from biril_nm.hardware_sim.activity import Activity
from biril_nm.hardware_sim.energy import estimate_energy
from biril_nm.hardware_sim.mapping import map_to_chip
from biril_nm.hardware_sim.metrics import neurobench_metrics
from biril_nm.hardware_sim.simulator import simulate

__all__ = ["Activity", "estimate_energy", "map_to_chip", "neurobench_metrics", "simulate"]
