"""Engine ``torch``: the float network itself, where torch is installed."""

from __future__ import annotations

from typing import Any

from biril_nm.engines.registry import Engine, Network, Requirement, RunOptions
from biril_nm.recording import Recording

__all__ = ["TORCH"]


def _run(network: Network, spikes: Any, options: RunOptions) -> Recording:
    from biril_nm.engines.torch_net import run_network

    return run_network(network, spikes, options)


_NEEDS = (Requirement("torch", "torch"), Requirement("snntorch", "torch"))
TORCH = Engine("torch", _run, integers=False, needs_net=True, requires=_NEEDS)
