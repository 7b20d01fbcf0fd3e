"""Places in the tables that the learning kernels read.

They are filled by :mod:`biril_nm.hardware_sim.learning.connections`.

A plastic connection is one row of a table of integers: sizes and switches first, then where its parts
begin in long arrays, ``ints`` (32 bit) and ``synapses`` (16 bit), then its modulators. This way one
compiled kernel runs any number of connections. A neuron node of a group is one row of another table.
"""

from __future__ import annotations

# Sizes and switches.
(
    N_PRE,  # sources
    N_POST,  # targets
    N_SYN,  # synapses; n_pre * n_post of a Dense, source first
    IS_SPARSE,
    INSIDE,  # whether the sources are neurons of the group (else a row of external values)
    SOURCE,  # first element of the sources in that row
    TARGET,  # first neuron of the targets among the neurons of the group
    T_EPOCH,
    DECIMATION,
    LEFT,  # shifts of the sums
    RIGHT,
    IS_3F,  # y traces are delivered from outside
    USES_X0,  # whether products with this dependency exist
    USES_Y0,
    USES_U,
    USES_T,  # whether tags exist
    USES_D,
    IS_ADDITIVE,  # products with y0 depend on the source's traces only and change w alone
    IS_PAIR,  # one product with x0, at most one with y0, both on w alone, none with u
    PAIR_X0,  # these products; -1 for none
    PAIR_Y0,
    LUT_TRACE,  # 1 or 2 if products with y0 take x1 or x2 alone: a table of shifts pays
    WEIGHT_LOW,
    WEIGHT_HIGH,
    IS_EXCITATORY,
    IS_INHIBITORY,
    TERM_0,  # range of its products in the table of terms
    TERM_1,
    TOUCH_ALL,  # whether the next phase must visit every synapse; the kernel clears it
    # Offsets in ints, with the length of the part.
    TX,  # n_pre: spike time within the epoch, 0 for none
    TY,  # n_post
    X_TRACES,  # 2 * n_pre: stored traces
    Y_TRACES,  # 3 * n_post
    X_HISTORY,  # 2 * (t_epoch + 1) * n_pre: traces at each step of the epoch
    Y_HISTORY,  # 3 * (t_epoch + 1) * n_post
    BUFFER,  # n_post: what is delivered in the next step
    POST_PARTS,  # n_terms * (t_epoch + 1) * n_post: product of the post-factors
    ACTIVE_PRE,  # n_pre: sources that spike in this step
    ACTIVE_POST,  # n_post: targets that spiked in the epoch, by spike time
    GROUP_START,  # t_epoch + 2: where each spike time begins in that list
    BLOCK,  # (n_terms + 7) * longest row or column: scratch of a row of synapses
    BLOCK_SIZE,  # that length
    DECAY_TABLE,  # 128: decayed value of each value of a trace
    SHIFT_TABLE,  # 128 * 4: clipped shift of a weight for each value of a trace
    POINTERS,  # n_pre + 1: synapses of each source (Sparse)
    TARGETS,  # n_syn
    POST_POINTERS,  # n_post + 1: synapses of each target
    POST_SYNAPSES,  # n_syn: their places ...
    POST_SOURCES,  # n_syn: ... and sources
    ALIVE,  # n_syn: whether the weight exists for Lava, which drops those that truncate to 0
    # Offsets in synapses.
    WEIGHTS,
    TAGS_T,
    TAGS_D,
    MASKS,  # t_epoch * n_post: which targets spiked in each step of the epoch
    MODULATORS,  # three times MOD_KIND and MOD_PLACES (ints, n_post: element for each target)
) = range(55)

MOD_KIND, MOD_PLACES, MOD_COLUMNS = range(3)
MOD_NONE, MOD_EXTERNAL, MOD_NEURONS = range(3)
PLAN_COLUMNS = MODULATORS + 3 * MOD_COLUMNS

# Neurons of a group: place and number of its neurons and registers, latency, wide decays.
NODE_START, NODE_SIZE, NODE_REGISTERS, NODE_N_REGISTERS, NODE_LATENCY, NODE_WIDE = range(6)
NODE_COLUMNS = 6

# Static connections within a group, as source-first lists.
(
    LINK_SOURCE,
    LINK_N_PRE,
    LINK_TARGET,
    LINK_N_POST,
    LINK_LAG,
    LINK_LEFT,
    LINK_RIGHT,
    LINK_MODULO,
    LINK_POINTERS,
    LINK_SYNAPSES,
) = range(10)
LINK_COLUMNS = 10

# Products and factors of rules.
(
    VARIABLE,
    DEPENDENCY,
    MANTISSA,
    SHIFT_RIGHT,
    SHIFT_LEFT,
    PRE_0,
    PRE_1,
    POST_0,
    POST_1,
    SYN_0,
    SYN_1,
) = range(11)
CODE, CONSTANT, WIDTH, IS_SIGN = range(4)
ON_X0, ON_Y0, ON_U = range(3)
CHANGE_W, CHANGE_T, CHANGE_D = range(3)
