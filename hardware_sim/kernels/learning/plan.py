"""Records that the learning kernels read: NumPy record types and named tuples.

A plastic connection is one record of type :data:`PLAN`: sizes and switches, then where its parts begin in
two long arrays, ``ints`` (32 bits) and ``synapses`` (16 bits). This way one compiled kernel runs any
number of connections. :mod:`biril_nm.hardware_sim.learning.connections` fills them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.kernels.records import ResetMasks

__all__ = [
    "CHANGE_D",
    "CHANGE_T",
    "CHANGE_W",
    "FACTOR",
    "GROUP_NODE",
    "IMPULSE",
    "MOD_EXTERNAL",
    "MOD_NEURONS",
    "MOD_NONE",
    "N_X",
    "N_Y",
    "ON_U",
    "ON_X0",
    "ON_Y0",
    "PLAN",
    "STATIC_LINK",
    "TERM",
    "Draws",
    "GroupCells",
    "GroupClock",
    "GroupNodes",
    "GroupProbes",
    "Outside",
    "PlasticLinks",
    "Rules",
    "StaticLinks",
    "Store",
]


# Values of fields: what a term changes, what it depends on, where a modulator comes from.
CHANGE_W, CHANGE_T, CHANGE_D = range(3)
ON_X0, ON_Y0, ON_U = range(3)
MOD_NONE, MOD_EXTERNAL, MOD_NEURONS = range(3)

N_X, N_Y = 2, 3  # traces of a source and of a target


def _integers(*names: str, kind: type = np.int64) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


# A plastic connection.
PLAN = np.dtype(
    [
        # Sizes and switches.
        *_integers(
            "n_pre",  # sources
            "n_post",  # targets
            "n_synapses",  # n_pre * n_post of a Dense, source first
            "is_sparse",
            "inside",  # whether the sources are neurons of the group, else a row of external values
            "source",  # first element of the sources in that row
            "target",  # first neuron of the targets among the neurons of the group
            "t_epoch",
            "decimation",
            "left",  # shifts of the sums
            "right",
            "is_3f",  # y traces are delivered from outside
            "uses_x0",  # whether terms with this dependency exist
            "uses_y0",
            "uses_u",
            "uses_t",  # whether tags exist
            "uses_d",
            "is_additive",  # terms with y0 depend on the source's traces only and change w alone
            "is_pair",  # one term with x0, at most one with y0, both on w alone, none with u
            "is_delta",  # two terms, both with u on w alone, of traces alone
            "pair_x0",  # terms of a pair; -1 for none
            "pair_y0",
            "table_trace",  # 1 or 2 if terms with y0 take x1 or x2 alone: a table of shifts pays
            "weight_low",
            "weight_high",
            "is_excitatory",
            "is_inhibitory",
            "per_synapse",  # whether each synapse is rounded by a number of its own
            "first_term",  # its terms among those of all connections
            "end_term",
            "touch_all",  # whether the next phase must visit every synapse; the kernel clears it
        ),
        # Places in ints, with the length of the part.
        *_integers(
            "pre_times",  # n_pre: spike time within the epoch, 0 for none
            "post_times",  # n_post
            "x_traces",  # 2 * n_pre: stored traces
            "y_traces",  # 3 * n_post
            "x_history",  # 2 * (t_epoch + 1) * n_pre: traces at each step of the epoch
            "y_history",  # 3 * (t_epoch + 1) * n_post
            "delivered",  # n_post: what arrives in the next step
            "post_parts",  # n_terms * (t_epoch + 1) * n_post: product of the post-factors
            "active_pre",  # n_pre: sources that spike in this step
            "active_post",  # n_post: targets that spiked in the epoch, by spike time
            "time_starts",  # t_epoch + 2: where each spike time begins in that list
            "live",  # n_terms: whether a term can differ from 0 in the block at hand
            "block",  # (n_terms + 7) * longest row or column: scratch of a row of synapses
            "block_size",  # that length
            "decay_table",  # 128: decayed value of each value of a trace
            "shift_table",  # 128 * 4: clipped shift of a weight for each value of a trace
            "pointers",  # n_pre + 1: synapses of each source (Sparse)
            "targets",  # n_synapses
            "post_pointers",  # n_post + 1: synapses of each target
            "post_synapses",  # n_synapses: their places ...
            "post_sources",  # n_synapses: ... and sources
            "alive",  # n_synapses: whether the weight exists for Lava, which drops those that become 0
        ),
        # Places in synapses.
        *_integers(
            "weights",
            "tags_t",
            "tags_d",
            "masks",  # t_epoch * n_post: which targets spiked in each step of the epoch
        ),
        # Modulators y1, y2, y3: kind, and the place in ints of the element for each target.
        ("mod_kind", np.int64, (N_Y,)),
        ("mod_places", np.int64, (N_Y,)),
    ]
)

# A population of a group: its neurons in the group and among those of its kind, place and number of its
# registers, latency, whether a spike does more than set v to 0, and what.
GROUP_NODE = np.dtype(
    [
        *_integers(
            "start",
            "size",
            "first_cell",
            "first_register",
            "n_registers",
            "latency",
            "masked",
        ),
        *_integers(*ResetMasks._fields, kind=np.int32),
    ]
)

# A static connection within a group, as source-first lists: its ends, delay, shifts, and whether the sum
# passes the modulo of Lava's Conv; where its pointers and synapses begin.
STATIC_LINK = np.dtype(
    _integers(
        "source",
        "n_pre",
        "target",
        "n_post",
        "lag",
        "left",
        "right",
        "modulo",
        "first_pointer",
        "first_synapse",
    )
)

# A term of a rule: what it changes, on which spike, its number, and ranges of its factors by side.
TERM = np.dtype(
    _integers(
        "variable",
        "dependency",
        "mantissa",
        "shift_right",
        "shift_left",
        "pre_0",
        "pre_1",
        "post_0",
        "post_1",
        "syn_0",
        "syn_1",
        kind=np.int32,
    )
)

# A factor of a term: code within its side, constant, width in bits, whether its sign counts.
FACTOR = np.dtype(_integers("code", "constant", "width", "is_sign", kind=np.int32))

# Impulse of a trace: whole part, fraction in 1/256, whether the trace exists at all.
IMPULSE = np.dtype(_integers("whole", "fraction", "exists", kind=np.int32))


class Store(NamedTuple):
    """All parts of all connections; a plan says where its own begin."""

    ints: NDArray[np.int32]
    synapses: NDArray[np.int16]


class Rules(NamedTuple):
    """Rules of all connections.

    Attributes:
        terms, factors: of all, one after the other.
        decay: (n, 5, 2, 128): whole and fractional part of ``exp(-1/tau) k`` for x1, x2, y1, y2, y3.
        impulses: (n, 5).
        filters: (n, 3, 128): ``floor(exp(-1/tau) k)`` of filtered modulators y1, y2, y3.
        filter_impulses: (n, 3), -1 where the modulator's values act as they are.
    """

    terms: Array
    factors: Array
    decay: NDArray[np.float64]
    impulses: Array
    filters: NDArray[np.int32]
    filter_impulses: NDArray[np.int32]


class Draws(NamedTuple):
    """Random numbers of one learning phase; those of single synapses are made from ``rounding``."""

    x_decay: float
    y_decay: float
    x_impulse: int
    y_impulse: int
    rounding: int


class GroupNodes(NamedTuple):
    """Populations of a group that are of one kind.

    Attributes:
        table: records :data:`GROUP_NODE`.
        registers: a record of registers, those of all populations one after the other.
        more: (n_words, n) further state of all their neurons.
    """

    table: Array
    registers: Any
    more: NDArray[np.int64]


class GroupCells(NamedTuple):
    """State of a group and what arrives from outside.

    Attributes:
        a: (steps, n) external input, to which the group's own connections add.
        s: (past + steps, n) spikes.
        past: rows before the first step.
        u, v: (n,).
    """

    a: NDArray[np.int32]
    s: NDArray[np.uint8]
    past: int
    u: NDArray[np.int32]
    v: NDArray[np.int32]


class StaticLinks(NamedTuple):
    """Connections without a rule within a group: records :data:`STATIC_LINK`, lists, scratch for sums."""

    table: Array
    pointers: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.int32]
    sums: NDArray[np.int64]


class PlasticLinks(NamedTuple):
    """Plastic connections: records :data:`PLAN`, their parts, their rules."""

    plans: Array
    store: Store
    rules: Rules


class Outside(NamedTuple):
    """What comes from outside of the group.

    Attributes:
        values: (steps, n) sources and modulators.
        uniform, integer: (connections, steps, ...) random streams.
    """

    values: NDArray[np.int32]
    uniform: NDArray[np.float64]
    integer: Array


class GroupProbes(NamedTuple):
    """What is recorded at each step; without rows where nothing is.

    Attributes:
        u, v: (steps, n) state of the neurons of the group.
        synapses: (steps, n_synapses) w, t, d of all its connections as they are laid out.
        traces: (steps, n_traces) x1, x2, y1, y2, y3 of all its connections.
    """

    u: NDArray[np.int32]
    v: NDArray[np.int32]
    synapses: NDArray[np.int16]
    traces: NDArray[np.int16]


class GroupClock(NamedTuple):
    """Steps of a chunk, its first step in the run, steps between clearings, steps awake (0: all)."""

    n_steps: int
    t0: int
    period: int
    active: int
