"""The compiled loops that Python calls: over samples and steps of a block.

``run_*``: a node with one connection receives and advances in one go, so that its sums never leave the
first cache. ``accumulate_*`` and ``advance``: several connections, or a loop, meet in a buffer ``a``
(batch, steps, n). The tuples are described in :mod:`biril_nm.hardware_sim.kernels.synapse`,
:mod:`biril_nm.hardware_sim.kernels.finish` and :mod:`biril_nm.hardware_sim.kernels.neuron`; steps are
``ta .. tb - 1`` of the block. ``load`` brings binary input into rows of spikes.
"""

from __future__ import annotations

from typing import Any

from biril_nm.hardware_sim.kernels.finish import deliver
from biril_nm.hardware_sim.kernels.jit import kernel
from biril_nm.hardware_sim.kernels.neuron import advance_row
from biril_nm.hardware_sim.kernels.synapse import sum_conv, sum_dense, sum_sparse

__all__ = ["ACCUMULATE", "RUN", "advance", "load"]


@kernel
def load(values: Any, out: Any) -> None:
    """``out[b, t] = values[t, b] != 0`` for bytes; out (batch, steps, n or more)."""
    for b in range(values.shape[1]):
        for t in range(values.shape[0]):
            row, given = out[b, t], values[t, b]
            for i in range(given.size):
                row[i] = given[i] != 0


@kernel
def advance(a: Any, ta: int, tb: int, cells: Any, registers: Any, probes: Any, clock: Any) -> int:
    """Advance all samples of a block; returns their spikes."""
    count = 0
    for b in range(a.shape[0]):
        for t in range(ta, tb):
            row = a[b, t]
            count += advance_row(row, None, row, b, t, cells, registers, probes, clock)
    return count


@kernel
def accumulate_dense(
    source: Any, weights: Any, scratch: Any, finish: Any, a: Any, ta: int, tb: int, add: bool
) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = sum_dense(source, weights, scratch, b, t, known)
            deliver(scratch[0], a[b, t], add, finish)


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
            known = sum_dense(source, weights, scratch, b, t, known)
            count += advance_row(scratch[0], finish, a, b, t, cells, registers, probes, clock)
    return count


@kernel
def accumulate_sparse(
    source: Any, weights: Any, scratch: Any, finish: Any, a: Any, ta: int, tb: int, add: bool
) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = sum_sparse(source, weights, scratch, b, t, known)
            deliver(scratch[0], a[b, t], add, finish)


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
            known = sum_sparse(source, weights, scratch, b, t, known)
            count += advance_row(scratch[0], finish, a, b, t, cells, registers, probes, clock)
    return count


@kernel
def accumulate_conv(
    source: Any, weights: Any, scratch: Any, finish: Any, a: Any, ta: int, tb: int, add: bool
) -> None:
    """Put or add what a connection delivers into ``a``."""
    for b in range(a.shape[0]):
        known = False
        for t in range(ta, tb):
            known = sum_conv(source, weights, scratch, b, t, known)
            deliver(scratch[0], a[b, t], add, finish)


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
            known = sum_conv(source, weights, scratch, b, t, known)
            count += advance_row(scratch[0], finish, a, b, t, cells, registers, probes, clock)
    return count


ACCUMULATE = {"Dense": accumulate_dense, "Sparse": accumulate_sparse, "Conv": accumulate_conv}
RUN = {"Dense": run_dense, "Sparse": run_sparse, "Conv": run_conv}
