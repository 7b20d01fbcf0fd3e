"""Register widths and limits of Loihi-class chips: the one place where hardware numbers live.

The integer semantics are those of lava-nc 0.10.0, tag ``fixed_pt`` (the oracle of every
"bit-exact" claim in this package). Limits that the chips have but Lava does not enforce are in
:mod:`biril_nm.loihi.profiles`. A bare 4096, 6, 127 or 255 elsewhere in the package is an error.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["ResetMode", "SignMode"]


class SignMode(str, Enum):
    """Sign of the weights of one connection (lava-nc ``lava/utils/weightutils.py``)."""

    MIXED = "mixed"
    EXCITATORY = "excitatory"
    INHIBITORY = "inhibitory"


class ResetMode(str, Enum):
    """What a spike does to the membrane potential, as NIR files of snnTorch networks name it."""

    ZERO = "zero"
    SUBTRACT = "subtract"
    NONE = "none"


# --- compartment registers --------------------------------------------------------------------
# Source: lava-nc 0.10.0 src/lava/proc/lif/models.py (AbstractPyLifModelFixed, PyLifModelBitAcc).
DECAY_BITS = 12  # bits of du and dv: the state keeps (2**12 - d) / 2**12 of itself per step
DECAY_UNITY = 1 << DECAY_BITS  # decays du and dv are shares of this
DU_OFFSET = 1  # the hardware adds it to du, not to dv
STATE_BITS = 24  # bits of u and v, sign included
STATE_LIMIT = 1 << (STATE_BITS - 1)  # |u| below this never wraps
STATE_SPAN = 1 << STATE_BITS  # number of values of u: sums wrap modulo this
VTH_SHIFT = 6  # effective threshold is vth << 6
WEIGHT_SHIFT = 6  # a_in enters u as a << 6
BIAS_EXP_BITS = 3  # bits of bias_exp, 0..7
NO_SYNAPTIC_MEMORY = DECAY_UNITY - DU_OFFSET  # du that forgets u at each step

# --- synapse registers ------------------------------------------------------------------------
# Source: lava-nc 0.10.0 src/lava/utils/weightutils.py (clip_weights, truncate_weights).
WEIGHT_BITS = 8  # bits of a stored weight, without the sign of its connection
WEIGHT_MAX = (1 << WEIGHT_BITS) - 1  # one-signed weights: 0..255 or -255..0
MIXED_WEIGHT_MIN = -(1 << WEIGHT_BITS)  # smallest MIXED weight; the largest is 254
MIXED_STEP = 2  # MIXED weights lose their lowest bit: even integers only
# Source: lava-nc 0.10.0 src/lava/proc/conv/models.py (PyConvModelBitAcc): result modulo 2**24.
CONV_SUM_BITS = 24  # the sum of a convolution wraps modulo 2**24
CONV_SUM_HALF = 1 << (CONV_SUM_BITS - 1)  # sums of a convolution are below it
INT32_BITS = 32  # width of the input of neurons, and of sums of Dense and Sparse
INT32_HALF = 1 << (INT32_BITS - 1)  # integers of 32 bits are below it

# --- learning engine --------------------------------------------------------------------------
# Source: lava-nc 0.10.0 src/lava/magma/core/learning/constants.py.
TRACE_BITS = 7  # bits of a synaptic trace, which has no sign
TRACE_MAX = (1 << TRACE_BITS) - 1  # where synaptic traces saturate
TAG_BITS = 8  # magnitude bits of tag_1 (t) and tag_2 (d); the sign comes on top
TAG_MAX = (1 << TAG_BITS) - 1  # where tags saturate
TAG_T_MIN = -(1 << TAG_BITS) - 1  # smallest tag_1, one below what the bits hold: Lava's own clip
LEARN_MANTISSA_MIN = -8  # smallest scale mantissa of a product
LEARN_MANTISSA_MAX = 7  # largest scale mantissa of a product
LEARN_EXP_MIN = -7  # smallest scale exponent of a product, which counts mantissa * 2**exp
LEARN_EXP_MAX = 8  # largest scale exponent of a product
LEARN_ACC_BITS = 15  # magnitude bits of the learning accumulator
LEARN_ACC_MAX = (1 << LEARN_ACC_BITS) - 1  # where the learning accumulator saturates
LEARN_ACC_MIN = (
    -(1 << LEARN_ACC_BITS) - 1
)  # smallest sum, one below what the bits hold: Lava's own clip
LEARN_ROUNDING_SEED = 2  # of lava-nc's ConnVarRandom: the same for every connection
LEARN_ACC_SHIFT = 7  # one weight LSB is 2**7 accumulator units
LEARN_MANTISSA_BITS = 4  # bits of the scale mantissa of a product, sign included
LEARN_CONSTANT_BITS = 8  # factor width of a constant
LEARN_VARIABLE_BITS = WEIGHT_BITS + 1  # factor width of w, d, t
TRACE_FRACTION_UNITS = 256  # a fractional impulse is compared in units of 1/256
TRACE_RANDOM_UNITS = 128  # a fractional impulse is compared with a random integer below this
T_EPOCH_MAX = 63  # longest epoch in steps: a 6-bit counter
