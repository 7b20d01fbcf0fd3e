"""The compiled loops that Python calls: over samples and steps of a block.

``run``: a node with one connection receives and advances in one go, so that its sums never leave the
first cache. ``accumulate`` and ``advance``: several connections, or a loop, meet in a buffer ``a``
(batch, steps, n). ``run`` is compiled for each pair of a connection and a node, the others for each
connection and each node: so only pairs whose speed counts have it
(:attr:`biril_nm.hardware_sim.engine.program.Program.meeting_points`). Steps are ``ta .. tb - 1`` of the
block. ``load`` brings binary input into rows of spikes. :mod:`biril_nm.hardware_sim.kernels.records`
describes a link and a node.
"""

from __future__ import annotations

from typing import Any

from biril_nm.hardware_sim.kernels.finish import deliver
from biril_nm.hardware_sim.kernels.jit import kernel
from biril_nm.hardware_sim.kernels.neuron import advance_row
from biril_nm.hardware_sim.kernels.synapse import sum_spikes

__all__ = ["accumulate", "advance", "load", "run"]


@kernel
def load(values: Any, out: Any) -> bool:
    """``out[b, t] = values[t, b] != 0`` for unsigned integers; out (batch, steps, n or more).

    Returns whether all of them are 0 or 1. The order is that of ``values``, which lie in memory, while
    ``out`` is in a cache.
    """
    none = values.dtype.type(0)
    bits = none
    for t in range(values.shape[0]):
        for b in range(values.shape[1]):
            row, given = out[b, t], values[t, b]
            for i in range(given.size):
                bits |= given[i]
                row[i] = given[i] != none
    return bool(bits <= values.dtype.type(1))


@kernel
def run(link: Any, a: Any, n_samples: int, n_steps: int, node: Any) -> int:
    """Receive through one connection and advance; ``a`` (n,) is scratch. Returns the spikes."""
    count = 0
    for b in range(n_samples):
        known = False
        for t in range(n_steps):
            known = sum_spikes(link.source, link.weights, link.scratch, b, t, known)
            count += advance_row(link.scratch.sums, link.finish, a, b, t, node)
    return count


@kernel
def accumulate(link: Any, a: Any, ta: int, tb: int, add: bool) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = sum_spikes(link.source, link.weights, link.scratch, b, t, known)
            deliver(link.scratch.sums, a[b, t], add, link.finish)


@kernel
def advance(a: Any, ta: int, tb: int, node: Any) -> int:
    """Advance all samples of a block; returns their spikes."""
    count = 0
    for b in range(a.shape[0]):
        for t in range(ta, tb):
            count += advance_row(a[b, t], None, a[b, t], b, t, node)
    return count
