"""Engine ``lava``: lava-nc 0.10.0 with its integer models (tag ``fixed_pt``), the oracle."""

from __future__ import annotations

from typing import Any

from biril_nm.engines.registry import Engine, Network, Requirement, RunOptions
from biril_nm.recording import Recording

__all__ = ["LAVA"]


def _run(network: Network, spikes: Any, options: RunOptions) -> Recording:
    from biril_nm.export.lava import run_lava

    return run_lava(
        network.graph, spikes, record=options.record, nodes=options.nodes, learn=options.learn
    )


LAVA = Engine("lava", _run, learns=True, requires=(Requirement("lava", "lava"),))
