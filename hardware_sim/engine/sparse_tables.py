"""Tables of Sparse connections: synapses by blocks of targets, and there by source.

The sums of a block stay in a cache, and the place of a target in it takes 16 bits. More blocks leave a
source fewer synapses in each, and each visit has a price: sources with few synapses have one block of all
targets. Threads that share a connection sum whole blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.paths import Paths
from biril_nm.hardware_sim.kernels.records import SparseWeights
from biril_nm.storage.platform import usable_cpus

__all__ = ["SHARE", "sparse_tables"]

LARGEST = 1 << 16  # targets of a block whose places are 16 bits wide
CACHED = 1 << 15  # targets whose sums, of 16 bits, stay in a second cache beside all else
VISIT = 16  # synapses of a source in a block beside which the price of a visit is small
LEAST = (
    6  # synapses of a source in a block from which on blocks are quicker than one of all targets
)
SHARE = 1 << 18  # synapses visited by a thread that outweigh what it costs to wake it
FEW = 3  # blocks of small networks on the path of parts


def sparse_tables(
    rows: Any, sum_type: type, graded: bool, paths: Paths
) -> tuple[SparseWeights, int]:
    """Weights of a matrix (CSR, target by source), and in how many parts threads can share their sums."""
    (n_post, n_pre), n_synapses = rows.shape, rows.nnz
    n_blocks, parts = _blocks(n_post, n_synapses, n_synapses // max(1, n_pre), paths)
    size = -(-n_post // n_blocks)
    n_blocks = -(-n_post // size)
    pointers = np.empty((n_blocks, n_pre + 1), np.int64)
    wide = size > LARGEST or paths.targets == "whole"
    targets: Array = np.empty(n_synapses, np.int32 if wide else np.uint16)
    values = np.empty(n_synapses, rows.dtype)
    total: Array = np.zeros(0 if graded else n_post, sum_type)
    for b, first in enumerate(range(0, n_post, size)):
        last = min(first + size, n_post)
        start, end = int(rows.indptr[first]), int(rows.indptr[last])
        block = rows[first:last] if n_blocks > 1 else rows
        if not graded:
            total[first:last] = np.asarray(block.sum(axis=1, dtype=np.int64)).ravel()
        columns = block.tocsc()
        targets[start:end], values[start:end] = columns.indices, columns.data
        pointers[b] = columns.indptr
        pointers[b] += start
    degrees = np.diff(pointers, axis=1).sum(axis=0).astype(np.int32)
    weights = SparseWeights(
        pointers.ravel(), targets, values, size, n_pre, degrees, total, _least(n_synapses, paths)
    )
    return weights, min(parts, n_blocks)


def _blocks(n_post: int, n_synapses: int, fan_out: int, paths: Paths) -> tuple[int, int]:
    """Blocks of targets, and parts that threads can share."""
    needed = -(-n_post // LARGEST)
    if paths.targets == "parts":
        n_blocks = max(needed, min(FEW, n_post))
        return n_blocks, n_blocks
    if paths.targets == "whole" or fan_out < LEAST * needed:
        return 1, 1
    most = max(needed, fan_out // VISIT)
    n_blocks = min(-(-n_post // CACHED), most)
    threads = min(usable_cpus(), n_synapses // 2 // SHARE)  # half of them at most
    if threads > 1:
        n_blocks = min(-(-n_blocks // threads) * threads, most)
    return n_blocks, n_blocks if threads > 1 else 1


def _least(n_synapses: int, paths: Paths) -> int:
    """Synapses of active sources from which on those of silent ones are visited: more than half."""
    forced = {"active": n_synapses + 1, "silent": 0}
    return forced.get(str(paths.sparse), n_synapses // 2 + 1)
