"""Engine ``sim``: the exact integer simulator."""

from __future__ import annotations

from typing import Any

from biril_nm.engines.registry import Engine, Network, RunOptions
from biril_nm.recording import Recording

__all__ = ["SIM"]


def _run(network: Network, spikes: Any, options: RunOptions) -> Recording:
    from biril_nm.hardware_sim import simulate

    return simulate(
        network.graph,
        spikes,
        record=options.record,
        nodes=options.nodes,
        n_threads=options.n_threads,
        learn=options.learn,
    )


SIM = Engine("sim", _run, learns=True, rounds_each=True)
