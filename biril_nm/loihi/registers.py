"""Register widths and limits of Loihi-class chips: the one place where hardware numbers live.

The integer semantics are those of lava-nc 0.10.0, tag ``fixed_pt`` (the oracle of every
"bit-exact" claim in this package). Limits that Lava does not enforce but the chips have are kept
in :class:`ChipProfile`. A bare 4096, 6, 127 or 255 elsewhere in the package is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "CHIPS",
    "LOIHI1",
    "LOIHI2",
    "ChipProfile",
    "ResetMode",
    "SignMode",
    "chip_profile",
]


class SignMode(str, Enum):
    """Sign of the weights of one connection (lava-nc ``lava/utils/weightutils.py``)."""

    MIXED = "mixed"
    EXCITATORY = "excitatory"
    INHIBITORY = "inhibitory"


class ResetMode(str, Enum):
    """What a spike does to the membrane: ``zero`` is the only one that the chip has."""

    ZERO = "zero"
    SUBTRACT = "subtract"
    NONE = "none"


# --- compartment registers --------------------------------------------------------------------
# Source: lava-nc 0.10.0 src/lava/proc/lif/models.py (AbstractPyLifModelFixed, PyLifModelBitAcc).
DECAY_BITS = 12  # du, dv: the state keeps (2**12 - d) / 2**12 of itself per step
DECAY_UNITY = 1 << DECAY_BITS
DU_OFFSET = 1  # added to du by the hardware, not to dv
STATE_BITS = 24  # u and v, sign included
STATE_LIMIT = 1 << (STATE_BITS - 1)  # |u| below this never wraps
STATE_SPAN = 1 << STATE_BITS
VTH_SHIFT = 6  # effective threshold is vth << 6
WEIGHT_SHIFT = 6  # a_in enters u as a << 6
BIAS_EXP_BITS = 3  # bias_exp 0..7
NO_SYNAPTIC_MEMORY = DECAY_UNITY - DU_OFFSET  # du that forgets u at each step

# --- synapse registers ------------------------------------------------------------------------
# Source: lava-nc 0.10.0 src/lava/utils/weightutils.py (clip_weights, truncate_weights).
WEIGHT_BITS = 8
WEIGHT_MAX = (1 << WEIGHT_BITS) - 1  # one-signed weights: 0..255 or -255..0
MIXED_WEIGHT_MIN = -(1 << WEIGHT_BITS)
MIXED_STEP = 2  # MIXED weights lose their lowest bit: even integers only
# Source: lava-nc 0.10.0 src/lava/proc/conv/models.py (PyConvModelBitAcc): result modulo 2**24.
CONV_SUM_BITS = 24

# --- learning engine --------------------------------------------------------------------------
# Source: lava-nc 0.10.0 src/lava/magma/core/learning/constants.py.
TRACE_BITS = 7
TRACE_MAX = (1 << TRACE_BITS) - 1
TAG_BITS = 8  # magnitude bits of tag_1 (t) and tag_2 (d); the sign comes on top
TAG_MAX = (1 << TAG_BITS) - 1
TAG_T_MIN = -(1 << TAG_BITS) - 1  # one below what the bits hold: Lava's own clip of tag_1
LEARN_MANTISSA_MIN = -8  # 4-bit signed scale mantissa of a product
LEARN_MANTISSA_MAX = 7
LEARN_EXP_MIN = -7
LEARN_EXP_MAX = 8
LEARN_ACC_BITS = 15  # magnitude bits of the learning accumulator
LEARN_ACC_MAX = (1 << LEARN_ACC_BITS) - 1
LEARN_ACC_MIN = -(1 << LEARN_ACC_BITS) - 1  # one below what the bits hold: Lava's own clip
LEARN_ROUNDING_SEED = 2  # lava-nc random.py ConnVarRandom: the same for every connection
LEARN_ACC_SHIFT = 7  # one weight LSB is 2**7 accumulator units
LEARN_MANTISSA_BITS = 4
LEARN_CONSTANT_BITS = 8
LEARN_VARIABLE_BITS = WEIGHT_BITS + 1  # factor width of w, d, t
TRACE_FRACTION_UNITS = 256  # a fractional impulse is compared in units of 1/256 ...
TRACE_RANDOM_UNITS = 128  # ... with a random integer below 128
T_EPOCH_MAX = 63  # 6-bit epoch counter


@dataclass(frozen=True)
class ChipProfile:
    """Limits of one chip that a graph must respect; Lava itself enforces none of them.

    Attributes:
        name: lower-case name, as the command line takes it.
        vth_bits: width of the threshold mantissa.
        bias_mant_bits: magnitude bits of the bias mantissa; the sign comes on top.
        bias_exp_max: largest exponent of the bias.
        weight_exp_min: smallest exponent of a connection.
        weight_exp_max: largest exponent of a connection.
        delay_max: largest synaptic delay in steps.
        graded_spikes: whether spikes can carry integers (else binary spikes only).
        message_bits_max: widest graded spike.
    """

    name: str
    vth_bits: int
    bias_mant_bits: int
    bias_exp_max: int
    weight_exp_min: int
    weight_exp_max: int
    delay_max: int
    graded_spikes: bool
    message_bits_max: int

    @property
    def vth_max(self) -> int:
        """Largest threshold mantissa."""
        return (1 << self.vth_bits) - 1

    @property
    def bias_mant_max(self) -> int:
        """Largest magnitude of the bias mantissa."""
        return (1 << self.bias_mant_bits) - 1

    @property
    def bias_max(self) -> int:
        """Largest magnitude of ``bias_mant << bias_exp``, in units of v."""
        return self.bias_mant_max << self.bias_exp_max


# Sources: register widths as in lava-nc 0.10.0 LIF docstring (du, dv 12 bit, vth 17 bit, bias
# 12 bit and sign times 2**(0..7)); weight exponent -8..7 from sagacitysite/brian2_loihi; delays
# 0..62 as nengo-loihi and lava-dl netx limit them (6-bit field). Loihi 1 sends binary spikes, Loihi 2
# graded ones (Intel Labs, "Taking Neuromorphic Computing to the Next Level with Loihi 2", 2021);
# lava-nc carries 24 bits of payload.
LOIHI1 = ChipProfile(
    name="loihi1",
    vth_bits=17,
    bias_mant_bits=12,
    bias_exp_max=(1 << BIAS_EXP_BITS) - 1,
    weight_exp_min=-8,
    weight_exp_max=7,
    delay_max=62,
    graded_spikes=False,
    message_bits_max=0,
)
LOIHI2 = ChipProfile(
    name="loihi2",
    vth_bits=17,
    bias_mant_bits=12,
    bias_exp_max=(1 << BIAS_EXP_BITS) - 1,
    weight_exp_min=-8,
    weight_exp_max=7,
    delay_max=62,
    graded_spikes=True,
    message_bits_max=24,
)

CHIPS = {chip.name: chip for chip in (LOIHI1, LOIHI2)}


def chip_profile(name: str | ChipProfile) -> ChipProfile:
    """Return the profile called ``name``; a profile is passed through.

    Raises:
        ConfigError: the name is unknown; the message lists the known ones.
    """
    from biril_nm.errors import ConfigError

    if isinstance(name, ChipProfile):
        return name
    try:
        return CHIPS[name.lower()]
    except KeyError:
        raise ConfigError(f"chip '{name}' is unknown; known chips: {', '.join(CHIPS)}") from None
