"""Tables of convolutions: what a spike at each source pixel adds, as blocks of lanes.

Along one axis a source position x meets the kernel indices k of one phase, ``d k = x + pad`` modulo the
stride, at outputs ``(x + pad - d k) / stride``. Kernel indices are sorted by phase and fall within
it (slots), so that the slots of a position are neighbours, and so are their outputs, unless a
dilation spreads them. With one group and no such gap the taps of a line are one run of
values in the kernel as in the output (channels last); else each tap is a run of its own.

A run is added in whole blocks of lanes. Behind the last slot of a phase, and behind each run where taps
are runs, the kernel holds zeros for the rest of a block; a run that the border cuts short on the
other side ends in single values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.engine.paths import Paths, refuse_path
from biril_nm.hardware_sim.kernels.lanes import FEW, LANES
from biril_nm.hardware_sim.kernels.records import PIXEL, ConvOrder, ConvSteps, ConvWeights
from biril_nm.hw_graph import Conv, Shape
from biril_nm.hw_graph.convolutions import axis_geometry, tap_table

__all__ = ["ConvForm", "conv_tables"]

POSITIVE_BITS = 63  # of a signed 64-bit product


@dataclass(frozen=True)
class ConvForm:
    """How the tables of a convolution are made.

    Attributes:
        channel_first: whether sources are numbered (C, H, W), else (H, W, C).
        paths: of the graph.
        part: the connection, as errors call it.
    """

    channel_first: bool
    paths: Paths = field(default_factory=Paths)
    part: str = "Conv"

    def joined(self, possible: bool) -> bool:
        """Whether the taps of a line are one run."""
        if self.paths.taps == "joined" and not possible:
            reason = "its groups, or its dilation, leave gaps between taps"
            raise refuse_path(self.part, "taps", "joined", reason)
        return possible and self.paths.taps != "alone"

    def reciprocal(self, divisor: int, n: int) -> tuple[int, int]:
        """Factor and shift that divide numbers below n; (0, 0) for a division."""
        found = _reciprocal(divisor, n)
        if self.paths.pixel == "product" and found == (0, 0):
            reason = f"no factor of 63 bits divides {n} sources by {divisor}"
            raise refuse_path(self.part, "pixel", "product", reason)
        return found if self.paths.pixel != "division" else (0, 0)


@dataclass(frozen=True)
class _Axis:
    """One axis: kernel indices by slot, and what each source position reaches.

    Attributes:
        slots: kernel index of each slot.
        phase: number of the phase of each slot.
        first_slot, first_out, count: of each source position; outputs rise with the slots.
        gap: distance of neighbouring outputs.
        complete: whether a position reaches the last slot of its phase.
    """

    slots: list[int]
    phase: IntArray
    first_slot: IntArray
    first_out: IntArray
    count: IntArray
    gap: int
    complete: NDArray[np.bool_]


def _axis(node: Conv, axis: int, pre: Shape, post: Shape) -> _Axis:
    geometry = axis_geometry(node, axis, pre, post)
    length, k, s, d = geometry.length, geometry.kernel, geometry.stride, geometry.dilation
    phases = [(d * index) % s for index in range(k)]
    slots = sorted(range(k), key=lambda index: (phases[index], -index))
    number = {phase: n for n, phase in enumerate(dict.fromkeys(phases[i] for i in slots))}
    phase = np.array([number[phases[index]] for index in slots], dtype=np.int64)
    outs = tap_table(*geometry)[:, slots]
    valid = outs >= 0
    count, first = valid.sum(axis=1), valid.argmax(axis=1)
    last = np.minimum(first + count, k) - 1
    ends = np.append(phase[1:] != phase[:-1], True)
    return _Axis(
        slots=slots,
        phase=phase,
        first_slot=first,
        first_out=outs[np.arange(length), first],
        count=count,
        gap=d // gcd(d, s),
        complete=ends[last],
    )


def _up(length: Any) -> Any:
    """The next length in whole blocks of lanes."""
    return -(-length // LANES) * LANES


def _reciprocal(divisor: int, n: int) -> tuple[int, int]:
    """(factor, shift) with ``j // divisor = j factor >> shift`` for j below n, (0, 0) if none fits 63 bits.

    With factor = ceil(2**shift / divisor) the product is too large by less than j divisor / 2**shift.
    """
    shift = POSITIVE_BITS - 1 - n.bit_length()
    factor = -(-(1 << shift) // divisor)
    return (factor, shift) if n * divisor < 1 << shift else (0, 0)


def conv_tables(
    node: Conv, kernel: IntArray, pre: Shape, post: Shape, form: ConvForm
) -> tuple[ConvWeights, int]:
    """Weights of a convolution as its sum takes them, and the length of its sums.

    Args:
        node: the convolution.
        kernel: its weights, (out, in/groups, kH, kW).
        pre: source shape (C, H, W).
        post: target shape.
        form: order of the sources, and paths.
    """
    out_channels, group_in, k_height, k_width = kernel.shape
    n_group = out_channels // node.groups
    y, x = (_axis(node, axis, pre, post) for axis in (0, 1))
    joined = form.joined(node.groups == 1 and x.gap == 1)
    if joined:
        place = np.arange(k_width) * n_group + x.phase * LANES
        width = int(place[-1]) + n_group + LANES
        length = x.count * n_group
        length = np.where(x.complete, _up(length), length)
        runs = np.minimum(x.count, 1)
    else:
        step = int(_up(n_group))
        place = np.arange(k_width) * step
        width = int(place[-1]) + step
        length, runs = np.full_like(x.count, step), x.count
    values = np.zeros((group_in * node.groups, k_height, width), dtype=kernel.dtype)
    grouped = kernel.reshape(node.groups, n_group, group_in, k_height, k_width)
    by_source = grouped.transpose(0, 2, 3, 4, 1).reshape(-1, k_height, k_width, n_group)
    for slot, at in enumerate(place):
        values[:, :, at : at + n_group] = by_source[:, y.slots, x.slots[slot]]
    line = post[2] * out_channels
    pixels = np.zeros((pre[1], pre[2]), dtype=PIXEL)
    pixels["out"] = y.first_out[:, None] * line + x.first_out * out_channels
    pixels["weight"] = y.first_slot[:, None] * width + place[x.first_slot]
    pixels["lines"] = np.where(runs > 0, y.count[:, None], 0)
    pixels["runs"], pixels["length"] = runs, length
    pixels["whole"], pixels["small"] = length // LANES * LANES, length // FEW * FEW
    run = 0 if joined else int(length[0])
    steps = ConvSteps(y.gap * line, width, x.gap * out_channels, run)
    channels = group_in * node.groups
    divisor = pre[1] * pre[2] if form.channel_first else channels
    order = ConvOrder(
        divisor,
        *form.reciprocal(divisor, int(np.prod(pre))),
        int(form.channel_first),
        k_height * width,
        group_in,
        n_group if node.groups > 1 else 0,
    )
    n_sums = int(np.prod(post)) + LANES
    return ConvWeights(values.ravel(), pixels.ravel(), steps, order), n_sums
