"""Engine ``torch-int``: the integers of the simulator in torch, for batches on any device of torch."""

from __future__ import annotations

from typing import Any

from biril_nm.engines.registry import Engine, Network, Requirement, RunOptions
from biril_nm.recording import Recording

__all__ = ["TORCH_INT"]


def _run(network: Network, spikes: Any, options: RunOptions) -> Recording:
    from biril_nm.engines.torch_integers import run_integers

    return run_integers(network.graph, spikes, options.record, options.nodes, options.device)


_NEEDS = (Requirement("torch", "torch"), Requirement("snntorch", "torch"))
TORCH_INT = Engine("torch-int", _run, requires=_NEEDS)
