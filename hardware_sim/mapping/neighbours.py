"""How few source places the targets of a convolution can reach, and how many targets a source has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import BoolArray, FloatArray, IntArray
from biril_nm.hardware_sim.mapping.splits import as_volume
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Shape
from biril_nm.hw_graph.convolutions import AxisGeometry, axis_geometry, tap_table

__all__ = ["Places", "fan_out", "places_reached"]


@dataclass(frozen=True)
class Places:
    """What any m places of a convolution's target take.

    Attributes:
        reached: m -> source places that they reach at least, from m = 0.
        within: the same for places whose kernels lie on the source as a whole.
        inner: which rows and columns of the target those are in.
        fewest_taps: taps of the place that has the fewest.
    """

    reached: FloatArray
    within: FloatArray
    inner: tuple[BoolArray, BoolArray]
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
    stride. With columns of up to h places in w columns, h w >= m >= h and w, all m reach
    ``s_x (s_y m + k_y w) + k_x (s_y h + k_y)`` or more: all columns, and the longest one again.
    """
    n_places = target[1] * target[2]
    axes = [axis_geometry(node, axis, source, target) for axis in (0, 1)]
    taps = [_tap_counts(axis) for axis in axes]
    fewest = int(taps[0].min() * taps[1].min())
    inner = _inner(axes[0]), _inner(axes[1])
    margins = [_margins(axis) for axis in axes]
    within = np.zeros(n_places + 1)
    if all(axis.dilation == 1 for axis in axes):
        rests = [np.full(axis.target, axis.kernel - min(axis.stride, axis.kernel)) for axis in axes]
        steps = [min(axis.stride, axis.kernel) for axis in axes]
        within = _least_reached((steps[0], rests[0]), (steps[1], rests[1]))
    if margins[0] is None or margins[1] is None:
        reached = np.zeros(n_places + 1)
        if all(_has_common_tap(axis) for axis in axes):  # which takes every place to one of its own
            reached = np.arange(n_places + 1.0)
        return Places(reached, within, inner, fewest)
    return Places(_least_reached(margins[0], margins[1]), within, inner, fewest)


def _inner(axis: AxisGeometry) -> BoolArray:
    """Target places whose kernels lie on the source as a whole."""
    first = np.arange(axis.target) * axis.stride - axis.padding
    last = first + (axis.kernel - 1) * axis.dilation
    return np.asarray((first >= 0) & (last < axis.length))


def _least_reached(rows: tuple[int, IntArray], columns: tuple[int, IntArray]) -> FloatArray:
    """Source places that m = 0, 1, ... target places reach at least, from what rows of them do."""
    (step_y, rest_y), (step_x, rest_x) = rows, columns
    h, w = np.arange(1, len(rest_y) + 1)[:, None], np.arange(1, len(rest_x) + 1)[None, :]
    more = step_x * rest_y[:, None] * w + rest_x[None, :] * (step_y * h + rest_y[:, None])
    fewest, most = np.broadcast_to(np.maximum(h, w), more.shape).ravel(), (h * w).ravel()
    least = np.zeros(more.size + 1)
    for at in np.argsort(-more.ravel(), kind="stable").tolist():  # the least comes last and stays
        least[fewest[at] : most[at] + 1] = more.flat[at]
    reached = step_x * step_y * np.arange(more.size + 1.0) + least
    reached[0] = 0.0
    return np.asarray(np.maximum.accumulate(reached), dtype=np.float64)


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
