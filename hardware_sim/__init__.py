"""Exact and fast simulation of a LoihiGraph on integers: NumPy and numba only, no torch."""

from biril_nm.hardware_sim.cost.activity import Activity
from biril_nm.hardware_sim.cost.energy import estimate_energy
from biril_nm.hardware_sim.cost.neurobench import neurobench_metrics
from biril_nm.hardware_sim.mapping.placement import map_to_chip
from biril_nm.hardware_sim.session import Simulator
from biril_nm.hardware_sim.simulator import simulate

__all__ = [
    "Activity",
    "Simulator",
    "estimate_energy",
    "map_to_chip",
    "neurobench_metrics",
    "simulate",
]
