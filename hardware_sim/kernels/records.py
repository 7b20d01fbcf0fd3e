"""Named records of what kernels take: numba compiles a NamedTuple as it compiles a tuple.

A record groups arguments that belong together. Its class is part of the type that a kernel is compiled
for: :data:`Weights` of one class select the sum of one kind of connection
(:mod:`biril_nm.hardware_sim.kernels.synapse`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array

__all__ = [
    "PIXEL",
    "Cells",
    "Clock",
    "ConvOrder",
    "ConvSteps",
    "ConvWeights",
    "DenseWeights",
    "Finish",
    "Link",
    "Node",
    "Probes",
    "Registers",
    "ResetMasks",
    "Scratch",
    "SparseWeights",
    "SpikeRows",
    "Weights",
]


# --- a connection -------------------------------------------------------------------------------


class SpikeRows(NamedTuple):
    """Spikes that a connection reads.

    Attributes:
        spikes: (batch, rows, n_pre or more); binary spikes as bytes 0 and 1, padded with zeros to
            whole masks, or payloads as int32.
        start, lag: row ``start + t - lag`` arrives at step t of the block.
        first: rows before this one do not exist.
        constant: whether there is one row, which holds for every step.
    """

    spikes: Array
    start: int
    lag: int
    first: int
    constant: bool


class DenseWeights(NamedTuple):
    """Weights of a Dense connection.

    Attributes:
        values: (n_pre + 1, width), flat, source first; the last row is zero.
        width: targets, padded with zeros to whole blocks of lanes.
        n_pre: sources.
    """

    values: Array
    width: int
    n_pre: int


class SparseWeights(NamedTuple):
    """Weights of a Sparse connection: by blocks of targets, whose sums fit a cache, and there by source.

    Attributes:
        pointers: (blocks, n_pre + 1), flat; in block b source j owns the synapses ``pointers[b, j]`` to
            ``pointers[b, j + 1]``.
        targets: of the synapses, counted from the first target of their block, in 16 bits; in 32 where one
            block has more.
        values: of the synapses.
        size: targets of a block; the last one may have fewer.
        n_pre: sources.
        degrees: synapses of each source.
        total: sum of each target where all sources spike; empty for payloads.
        least: synapses of active sources from which on a step visits those of silent ones instead.
    """

    pointers: NDArray[np.int64]
    targets: Array
    values: Array
    size: int
    n_pre: int
    degrees: NDArray[np.int32]
    total: Array
    least: int


class ConvSteps(NamedTuple):
    """Steps of output and weight from line to line and from run to run of a kernel."""

    line_out: int
    line_weight: int
    run_out: int
    run_weight: int


class ConvOrder(NamedTuple):
    """How the number of a source becomes channel and pixel, and what a channel owns.

    Attributes:
        divisor: ``j // divisor`` is the channel or the pixel of source j.
        factor, shift: ``j * factor >> shift`` is that quotient, unless ``shift`` is 0.
        channel_first: whether the quotient is the channel (1), else the pixel (0).
        n_kernel: weights of a channel.
        group_in, n_group: channels and outputs of a group; ``n_group`` is 0 where there is one group.
    """

    divisor: int
    factor: int
    shift: int
    channel_first: int
    n_kernel: int
    group_in: int
    n_group: int


# What a spike of a pixel adds: its first output and weight, lines, runs in a line, and where the whole
# blocks, the small blocks and the values of a run end.
PIXEL = np.dtype(
    [(name, np.int32) for name in ("out", "weight", "lines", "runs", "whole", "small", "length")]
)


class ConvWeights(NamedTuple):
    """Weights of a Conv, and what a spike of each pixel adds.

    Attributes:
        values: (in, kH slots, kW slots with zeros between), flat.
        pixels: (H * W,) records :data:`PIXEL`.
        steps: from line to line and from run to run.
        order: of the sources.
    """

    values: Array
    pixels: Array
    steps: ConvSteps
    order: ConvOrder


Weights = Union[DenseWeights, SparseWeights, ConvWeights]


class Scratch(NamedTuple):
    """Memory of a connection that holds nothing from step to step.

    Attributes:
        sums: (n_post and slack,) what arrives.
        active: (n_pre + 64,) list of the sources that spiked, or of those that did not.
    """

    sums: Array
    active: NDArray[np.int32]


class Finish(NamedTuple):
    """How a sum becomes input: shifts, and whether the sum passes the modulo of Lava's Conv."""

    left: int
    right: int
    modulo: bool


class Link(NamedTuple):
    """A connection as the loops take it."""

    source: SpikeRows
    weights: Weights
    scratch: Scratch
    finish: Finish


# --- a node -------------------------------------------------------------------------------------


class Cells(NamedTuple):
    """State of the neurons of a node.

    Attributes:
        s: spikes (batch, rows, n or more); row ``start + t`` is step t of the block.
        start: row of the first step.
        u: (batch, n), without columns where it is neither remembered nor recorded
            (:attr:`biril_nm.hardware_sim.engine.program.Compartments.memoryless`).
        v: (batch, n).
        more: (batch, n_words, n), further state of compartment models that have some.
    """

    s: NDArray[np.uint8]
    start: int
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    more: NDArray[np.int64]


class ResetMasks(NamedTuple):
    """What a spike does to v, as 32-bit masks: 0 for no, -1 for yes.

    Attributes:
        zero, fall: at once, v becomes 0, or loses the threshold.
        late_zero, late_fall: the same at the start of the next step.
        lossy: v is 0 through the next step.
        guard: v that is still above the threshold needs twice as much for a spike.
    """

    zero: np.int32
    fall: np.int32
    late_zero: np.int32
    late_fall: np.int32
    lossy: np.int32
    guard: np.int32


class Registers(NamedTuple):
    """Registers of neurons of the CUBA-LIF kind: arrays (n,), or (1,) where all share one value.

    Other compartment models have records of their own (:mod:`biril_nm.hardware_sim.kernels.models`).

    Attributes:
        keep_u, keep_v: ``4096 - decay``, 0 to 4096.
        bias: added to v at each step.
        vth: threshold, in units of v.
        masks: what a spike does; None: v becomes 0 at once, as in CUBA-LIF.
    """

    keep_u: NDArray[np.int32]
    keep_v: NDArray[np.int32]
    bias: NDArray[np.int32]
    vth: NDArray[np.int32]
    masks: ResetMasks | None = None


class Probes(NamedTuple):
    """What is recorded of a node: (whole batch, all steps, n), empty where nothing is recorded."""

    s: NDArray[np.uint8]
    u: NDArray[np.int32]
    v: NDArray[np.int32]


class Clock(NamedTuple):
    """Where a block lies in the run, and when its neurons are cleared.

    Attributes:
        b0, t0: first sample and step of the block in the run.
        period: with ``period > 0``, u and v are cleared before they integrate at steps with
            ``(t - phase) % period == 0`` (LIFReset), t counting from 0.
        phase: step of the first clearing.
        active: with ``active > 0`` as well, neurons rest, silent, except in the ``active`` steps from
            each clearing on.
    """

    b0: int
    t0: int
    period: int
    phase: int
    active: int


class Node(NamedTuple):
    """A node as the loops take it."""

    cells: Cells
    registers: Any
    probes: Probes
    clock: Clock
