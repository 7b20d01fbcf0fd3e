"""The compiled loops that Python calls: over samples and steps of a block.

``run_*``: a node with one connection receives and advances in one go, so that its summed input never leaves
the first cache. ``accumulate_*`` and ``advance``: several connections, or a loop, meet in a buffer
``a`` (batch, steps, n). The tuples are described in :mod:`biril_nm.hardware_sim.kernels_synapse` and
:mod:`biril_nm.hardware_sim.kernels_neuron`; steps are ``ta .. tb - 1`` of the block.
"""

from __future__ import annotations

from typing import Any

from biril_nm.hardware_sim.jit import kernel
from biril_nm.hardware_sim.kernels_neuron import advance_row
from biril_nm.hardware_sim.kernels_synapse import receive_conv, receive_dense, receive_sparse

__all__ = ["ACCUMULATE", "RUN", "advance"]


@kernel
def advance(a: Any, ta: int, tb: int, cells: Any, registers: Any, probes: Any, clock: Any) -> int:
    """Advance all samples of a block; returns their spikes."""
    count = 0
    for b in range(a.shape[0]):
        for t in range(ta, tb):
            count += advance_row(a[b, t], b, t, cells, registers, probes, clock)
    return count


@kernel
def accumulate_dense(
    source: Any, weights: Any, scratch: Any, finish: Any, a: Any, ta: int, tb: int, add: bool
) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = receive_dense(source, weights, scratch, finish, b, t, known, a[b, t], add)


@kernel
def run_dense(
    source: Any,
    weights: Any,
    scratch: Any,
    finish: Any,
    a: Any,
    n_samples: int,
    n_steps: int,
    cells: Any,
    registers: Any,
    probes: Any,
    clock: Any,
) -> int:
    """Receive through one connection and advance; ``a`` (n,) is scratch. Returns the spikes."""
    count = 0
    for b in range(n_samples):
        known = False
        for t in range(n_steps):
            known = receive_dense(source, weights, scratch, finish, b, t, known, a, False)
            count += advance_row(a, b, t, cells, registers, probes, clock)
    return count


@kernel
def accumulate_sparse(
    source: Any, weights: Any, scratch: Any, finish: Any, a: Any, ta: int, tb: int, add: bool
) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = receive_sparse(source, weights, scratch, finish, b, t, known, a[b, t], add)


@kernel
def run_sparse(
    source: Any,
    weights: Any,
    scratch: Any,
    finish: Any,
    a: Any,
    n_samples: int,
    n_steps: int,
    cells: Any,
    registers: Any,
    probes: Any,
    clock: Any,
) -> int:
    """Receive through one connection and advance; ``a`` (n,) is scratch. Returns the spikes."""
    count = 0
    for b in range(n_samples):
        known = False
        for t in range(n_steps):
            known = receive_sparse(source, weights, scratch, finish, b, t, known, a, False)
            count += advance_row(a, b, t, cells, registers, probes, clock)
    return count


@kernel
def accumulate_conv(
    source: Any, weights: Any, scratch: Any, finish: Any, a: Any, ta: int, tb: int, add: bool
) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = receive_conv(source, weights, scratch, finish, b, t, known, a[b, t], add)


@kernel
def run_conv(
    source: Any,
    weights: Any,
    scratch: Any,
    finish: Any,
    a: Any,
    n_samples: int,
    n_steps: int,
    cells: Any,
    registers: Any,
    probes: Any,
    clock: Any,
) -> int:
    """Receive through one connection and advance; ``a`` (n,) is scratch. Returns the spikes."""
    count = 0
    for b in range(n_samples):
        known = False
        for t in range(n_steps):
            known = receive_conv(source, weights, scratch, finish, b, t, known, a, False)
            count += advance_row(a, b, t, cells, registers, probes, clock)
    return count


ACCUMULATE = {"Dense": accumulate_dense, "Sparse": accumulate_sparse, "Conv": accumulate_conv}
RUN = {"Dense": run_dense, "Sparse": run_sparse, "Conv": run_conv}
