"""Engine ``lava``: lava-nc 0.10.0 with its integer models (tag ``fixed_pt``), the oracle.

Lava runs in this Python where lava-nc is installed, else in another one
(:mod:`biril_nm.export.lava.interpreters`); recordings say in which.
"""

from __future__ import annotations

from typing import Any

from biril_nm.engines.registry import Engine, Network, RunOptions
from biril_nm.errors import BirilError
from biril_nm.recording import Recording

__all__ = ["LAVA"]


def _run(network: Network, spikes: Any, options: RunOptions) -> Recording:
    from biril_nm.export.lava import run_lava

    return run_lava(
        network.graph, spikes, record=options.record, nodes=options.nodes, learn=options.learn
    )


def _problem() -> BirilError | None:
    from biril_nm.export.lava.interpreters import find_interpreter

    try:
        find_interpreter()
    except BirilError as error:
        return error
    return None


LAVA = Engine("lava", _run, learns=True, problem=_problem)
