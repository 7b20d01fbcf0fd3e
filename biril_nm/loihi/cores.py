"""Limits of one neuro core and of one chip, each with its source, for the mapping check.

Register widths are in :mod:`biril_nm.loihi`; here is what a core has room for. Intel publishes part of
this only. A limit that is inferred or quoted without a primary source is ``firm=False``: a network
that breaks it gets a warning, not an error.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from biril_nm.errors import ConfigError
from biril_nm.loihi.profiles import ChipProfile, chip_profile

__all__ = [
    "LOIHI1_LIMITS",
    "LOIHI2_LIMITS",
    "CoreLimits",
    "Limit",
    "SynapseFormat",
    "limits_of",
]


@dataclass(frozen=True)
class Limit:
    """One number of the chip.

    Attributes:
        value: the limit, in units of the field that holds it.
        source: where the number comes from.
        firm: False for inferred or unconfirmed numbers, which warn instead of fail.
    """

    value: int
    source: str
    firm: bool = True


@dataclass(frozen=True)
class SynapseFormat:
    """How one input axon's list of n synapses is stored.

    ``bits(n) = sum over blocks of ceil((block * per_synapse + header_bits) / word_bits) * word_bits``
    with at most ``block_synapses`` in a block and ``per_synapse = weight + delay + tag + index`` bits.

    Attributes:
        word_bits: memory is taken in words of this width.
        header_bits: bits in front of each block.
        block_synapses: synapses per block.
        delay_bits: bits of a delay, where a connection has one.
        tag_bits: bits of tag and learning state of a plastic synapse.
        index_bits: allowed widths of the target's index, where synapses carry one.
        source: where this comes from.
    """

    word_bits: int
    header_bits: int
    block_synapses: int
    delay_bits: int
    tag_bits: int
    index_bits: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class CoreLimits:
    """What one core, and one chip of cores, has room for.

    Attributes:
        chip: name of the profile in :data:`biril_nm.loihi.CHIPS`.
        cores: neuro cores per chip.
        neurons: compartments per core.
        synapse_bits: bits of synapse memory per core.
        axons_in: input axons per core.
        axons_out: output axon slots per core.
        neuron_groups: parameter sets per core.
        synapse_formats: synapse formats (weight width, sign, delay) per core.
        format: how synapse lists are stored.
        population_axons: whether the input axons of a convolution are one per source pixel, the
            channel travelling as "atom" of a population spike (else one per source neuron).
        kernels_once: whether a core keeps a convolution kernel once, without target indices (assumed
            for Loihi 2's convolutional connections); else one synapse list per source channel and
            kind of border, as nengo-loihi writes them.
        register_tables: whether neurons refer to tables of the core for du, dv and vth, so that a
            population takes a neuron group for every different set of them (else, as assumed for
            Loihi 2's programmable neurons, one group, and each neuron keeps its own).
        pop16_atoms: channels that a one-slot population axon can tell apart (else two slots).
        pop16_axons: input axons that a one-slot population axon can address (else two slots).
        cores_per_tile: cores that share a router of the mesh.
        mesh_columns: routers per row of the mesh, for distances.
        mesh_source: where the mesh comes from.
    """

    chip: str
    cores: Limit
    neurons: Limit
    synapse_bits: Limit
    axons_in: Limit
    axons_out: Limit
    neuron_groups: Limit
    synapse_formats: Limit
    format: SynapseFormat
    population_axons: bool
    kernels_once: bool
    register_tables: bool
    pop16_atoms: int
    pop16_axons: int
    cores_per_tile: int
    mesh_columns: int
    mesh_source: str

    def limits(self) -> dict[str, Limit]:
        """The per-core and per-chip limits by name."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in pairs if isinstance(value, Limit)}


_NENGO_BLOCK = "nengo/nengo-loihi nengo_loihi/block.py"
_NENGO_NXSDK = "nengo/nengo-loihi nengo_loihi/hardware/nxsdk_objects.py"
_DAVIES = "Davies et al., IEEE Micro 38(1), 2018"
_BRIEF = "Intel Labs, Loihi 2 technology brief, 2021"
_TUTORIALS = "inferred from the compiler tables in the lava-dl tutorials"
_FORMAT_1 = SynapseFormat(
    word_bits=64,
    header_bits=10,
    block_synapses=64,
    delay_bits=6,
    tag_bits=14,
    index_bits=(6, 7, 8, 9, 10, 11, 12),
    source=f"{_NENGO_BLOCK} (SynapseConfig.bits_per_axon); tag and learning state 8 + 6 bits planned",
)

# What a core of Loihi 1 holds, each number with its source.
LOIHI1_LIMITS = CoreLimits(
    chip="loihi1",
    cores=Limit(128, _DAVIES),
    neurons=Limit(1024, f"{_DAVIES}; {_NENGO_BLOCK}"),
    synapse_bits=Limit(1 << 20, f"{_NENGO_BLOCK}: 16384 words of 64 bit"),
    axons_in=Limit(4096, _NENGO_BLOCK),
    axons_out=Limit(4096, _NENGO_BLOCK),
    neuron_groups=Limit(
        8, f"{_NENGO_NXSDK}: 8 thresholds (and 32 sets of du and dv, not counted apart)"
    ),
    synapse_formats=Limit(8, _NENGO_NXSDK),
    format=_FORMAT_1,
    population_axons=True,
    kernels_once=False,
    register_tables=True,
    pop16_atoms=32,
    pop16_axons=1024,
    cores_per_tile=4,
    mesh_columns=8,
    mesh_source=f"{_DAVIES}: 128 cores in tiles of 4; the arrangement as 8 x 4 tiles is assumed",
)
# What a core of Loihi 2 holds; most numbers are inferred, as their sources say.
LOIHI2_LIMITS = CoreLimits(
    chip="loihi2",
    cores=Limit(128, f"{_BRIEF}; some boards expose 120"),
    neurons=Limit(4096, f"{_TUTORIALS}; the brief says up to 8192 ({_BRIEF})", firm=False),
    synapse_bits=Limit(
        192 * 1024 * 8, "192 KB per core, often quoted, shared flexibly", firm=False
    ),
    axons_in=Limit(16000, f"{_TUTORIALS}: 784 axons are 4.90 %", firm=False),
    axons_out=Limit(16000, _TUTORIALS, firm=False),
    neuron_groups=Limit(8, f"{_TUTORIALS}: 12.5 % each", firm=False),
    synapse_formats=Limit(8, "as on Loihi 1; not published for Loihi 2", firm=False),
    format=_FORMAT_1,
    population_axons=False,
    kernels_once=True,
    register_tables=False,
    pop16_atoms=0,
    pop16_axons=0,
    cores_per_tile=4,
    mesh_columns=8,
    mesh_source="as on Loihi 1; not published for Loihi 2",
)

_LIMITS = {limits.chip: limits for limits in (LOIHI1_LIMITS, LOIHI2_LIMITS)}


def limits_of(chip: str | ChipProfile | CoreLimits) -> CoreLimits:
    """The limits of a chip; limits are passed through, for chips and boards of your own.

    Raises:
        ConfigError: no limits are known for the chip.
    """
    if isinstance(chip, CoreLimits):
        return chip
    name = chip_profile(chip).name
    if name not in _LIMITS:
        raise ConfigError(
            f"no core limits are known for chip '{name}'; known: {', '.join(_LIMITS)}. "
            f"Pass a CoreLimits object instead"
        )
    return _LIMITS[name]
