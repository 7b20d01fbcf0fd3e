"""Limits of each chip that a graph must respect and Lava does not enforce."""

from __future__ import annotations

from dataclasses import dataclass

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.loihi.registers import BIAS_EXP_BITS

__all__ = ["CHIPS", "LOIHI1", "LOIHI2", "ChipProfile", "chip_profile"]


@checked
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

# Registers of Loihi 1: binary spikes.
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
# Registers of Loihi 2: spikes can carry integers.
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

# Name -> chip.
CHIPS = {chip.name: chip for chip in (LOIHI1, LOIHI2)}


@checked
def chip_profile(name: str | ChipProfile) -> ChipProfile:
    """Return the profile called ``name``; a profile is passed through.

    Raises:
        ConfigError: the name is unknown; the message lists the known ones.
    """
    if isinstance(name, ChipProfile):
        return name
    try:
        return CHIPS[name.lower()]
    except KeyError:
        raise ConfigError(f"chip '{name}' is unknown; known chips: {', '.join(CHIPS)}") from None
