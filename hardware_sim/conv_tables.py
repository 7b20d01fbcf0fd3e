"""Index tables of convolutions: which output each source position reaches, as contiguous runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hw_graph import Conv, Shape

__all__ = ["conv_tables"]


def conv_tables(
    node: Conv, kernel: NDArray[np.int64], pre: Shape, post: Shape
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Kernel as (in, kH, kW', out/groups), y_taps and x_runs of ``accumulate_conv``.

    A source column x meets the kernel columns of one phase ``(x + pad) % stride``, at output columns that
    fall as the kernel column rises. Sorted by phase and falling column (kW'), these taps lie side by
    side in the kernel as in the output, and are one run if there is no dilation and one group.
    """
    out_channels, group_in, k_height, k_width = kernel.shape
    phases = [(kx * node.dilation[1]) % node.stride[1] for kx in range(k_width)]
    columns = sorted(range(k_width), key=lambda kx: (phases[kx], -kx))
    grouped = kernel.reshape(node.groups, out_channels // node.groups, group_in, k_height, k_width)
    by_source = grouped.transpose(0, 2, 3, 4, 1)[:, :, :, columns]
    by_source = by_source.reshape(node.groups * group_in, k_height, k_width, -1)
    y_taps = [_taps(y, 0, node, range(k_height), post) for y in range(pre[1])]
    x_taps = [_taps(x, 1, node, columns, post) for x in range(pre[2])]
    x_runs = [_runs([(o, columns.index(k)) for o, k in taps], node.groups == 1) for taps in x_taps]
    return np.ascontiguousarray(by_source), _table(y_taps, 2), _table(x_runs, 3)


def _taps(
    position: int, axis: int, node: Conv, kernel_indices: Any, post: Shape
) -> list[tuple[int, ...]]:
    """(output index, kernel index) pairs that a source index reaches along one axis."""
    taps: list[tuple[int, ...]] = []
    for k in kernel_indices:
        o, rest = divmod(position + node.padding[axis] - k * node.dilation[axis], node.stride[axis])
        if rest == 0 and 0 <= o < post[1 + axis]:
            taps.append((o, k))
    return taps


def _runs(taps: list[tuple[int, int]], joinable: bool) -> list[tuple[int, ...]]:
    """Join taps whose output columns and kernel columns both are neighbours."""
    runs: list[tuple[int, ...]] = []
    for o, k in sorted(taps, key=lambda tap: tap[1]):
        if joinable and runs and (o, k) == (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]):
            runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
        else:
            runs.append((o, k, 1))
    return runs


def _table(rows: list[list[tuple[int, ...]]], width: int) -> NDArray[np.int64]:
    """Rows as ``(count, values...)``, padded with zeros."""
    longest = max((len(row) for row in rows), default=0)
    table = np.zeros((len(rows), 1 + width * longest), dtype=np.int64)
    for line, row in zip(table, rows):
        line[0] = len(row)
        line[1 : 1 + width * len(row)] = np.array(row, dtype=np.int64).ravel()
    return table
