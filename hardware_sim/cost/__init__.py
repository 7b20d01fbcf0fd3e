"""What a run costs on a chip: activity, energy and NeuroBench metrics."""

from __future__ import annotations

from biril_nm.hardware_sim.cost.activity import Activity
from biril_nm.hardware_sim.cost.energy import estimate_energy
from biril_nm.hardware_sim.cost.neurobench import neurobench_metrics

__all__ = ["Activity", "estimate_energy", "neurobench_metrics"]
