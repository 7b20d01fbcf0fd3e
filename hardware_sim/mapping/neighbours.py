"""How few source places the targets of a convolution can reach, and how many targets a source has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.hardware_sim.mapping.splits import as_volume
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Shape
from biril_nm.hw_graph.convolutions import AxisGeometry, axis_geometry, tap_table

__all__ = ["Places", "fan_out", "places_reached"]


@dataclass(frozen=True)
class Places:
    """What any m places of a convolution's target take.

    Attributes:
        reached: m -> source places that they reach at least, from m = 0.
        fewest_taps: taps of the place that has the fewest.
    """

    reached: FloatArray
    fewest_taps: int

    @property
    def each(self) -> FloatArray:
        """The same for each of the m places."""
        m = np.arange(len(self.reached))
        return np.divide(self.reached, m, out=np.full(len(m), math.inf), where=m > 0)

    @property
    def least_each(self) -> float:
        """The least of these numbers."""
        return float(self.each.min())


def fan_out(graph: LoihiGraph, connection: str) -> tuple[IntArray, int]:
    """Targets of each source neuron, flat, and channels that they lie in at least."""
    node = graph.connections[connection]
    source, target = (as_volume(graph.shape_of(end)) for end in graph.ends[connection])
    if isinstance(node, Dense):
        return np.full(math.prod(source), len(node.weight), dtype=np.int64), 1
    if not isinstance(node, Conv):
        return np.bincount(node.weight.indices, minlength=math.prod(source)).astype(np.int64), 1
    rows, columns = (
        (tap_table(*axis_geometry(node, axis, source, target)) >= 0).sum(axis=1) for axis in (0, 1)
    )
    own = len(node.weight) // node.groups
    return np.tile(own * np.multiply.outer(rows, columns).ravel(), source[0]).astype(np.int64), own


def places_reached(node: Conv, source: Shape, target: Shape) -> Places:
    """The fewest source places that m target places reach.

    h places in a column reach ``s h + k(h)`` sources or more, k being what is left of the kernel beyond its
    stride. With columns of up to h places in w columns, h w >= m, all m reach
    ``s_x (s_y m + k_y w) + k_x (s_y h + k_y)`` or more: all columns, and the longest one again.
    """
    n_places = target[1] * target[2]
    axes = [axis_geometry(node, axis, source, target) for axis in (0, 1)]
    taps = [_tap_counts(axis) for axis in axes]
    fewest = int(taps[0].min() * taps[1].min())
    margins = [_margins(axis) for axis in axes]
    if margins[0] is None or margins[1] is None:
        reached = np.zeros(n_places + 1)
        if all(_has_common_tap(axis) for axis in axes):  # which takes every place to one of its own
            reached = np.arange(n_places + 1.0)
        return Places(reached, fewest)
    (step_y, rest_y), (step_x, rest_x) = margins[0], margins[1]
    h, w = np.arange(1, target[1] + 1)[:, None], np.arange(1, target[2] + 1)[None, :]
    more = step_x * rest_y[:, None] * w + rest_x[None, :] * (step_y * h + rest_y[:, None])
    least = np.full(n_places + 1, np.inf)
    np.minimum.at(least, (h * w).ravel(), more.ravel())
    least = np.minimum.accumulate(least[::-1])[::-1]
    reached = step_x * step_y * np.arange(n_places + 1.0) + least
    reached[0] = 0.0
    return Places(reached, fewest)


def _tap_counts(axis: AxisGeometry) -> IntArray:
    """Taps of each target place that lie on the source."""
    found = tap_table(*axis)
    return np.bincount(found[found >= 0], minlength=axis.target)


def _has_common_tap(axis: AxisGeometry) -> bool:
    """Whether some index of the kernel lies on the source for all targets."""
    return bool((((tap_table(*axis) >= 0).sum(axis=0)) == axis.target).any())


def _margins(axis: AxisGeometry) -> tuple[int, IntArray] | None:
    """Sources for each target in a row, and what 1, 2, ... of them reach beyond that; None: not known.

    Neighbours reach the fewest where the border takes less from a kernel than neighbours share.
    """
    step = min(axis.stride, axis.kernel)
    beyond = (axis.target - 1) * axis.stride - axis.padding + axis.kernel - axis.length
    if axis.dilation != 1 or max(axis.padding, beyond) > axis.kernel - step:
        return None
    first = np.arange(axis.target) * axis.stride - axis.padding
    start, stop = np.maximum(first, 0), np.minimum(first + axis.kernel, axis.length)
    fewest = np.empty(axis.target, dtype=np.int64)
    for h in range(1, axis.target + 1):
        whole = stop[h - 1 :] - start[: axis.target - h + 1]
        gaps = max(0, axis.stride - axis.kernel) * (h - 1)
        fewest[h - 1] = int(whole.min()) - gaps
    rest = np.minimum.accumulate(fewest - step * np.arange(1, axis.target + 1))
    return (step, rest) if rest[-1] >= 0 else None
