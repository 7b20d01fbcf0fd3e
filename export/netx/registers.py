"""Registers of a layer between netx and a population: their order, their offsets, their shapes."""

from __future__ import annotations

import numpy as np

from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import FileFormatError
from biril_nm.export.netx.records import LayerRecord, NeuronRecord
from biril_nm.hw_graph import Neurons
from biril_nm.loihi import DECAY_UNITY, DU_OFFSET, LOIHI2, NO_SYNAPTIC_MEMORY, WEIGHT_SHIFT

__all__ = ["BIAS_EXP", "INTEGRATOR", "neurons_of", "per_channel", "per_neuron", "threshold"]

# lava-dl 0.6.0 netx create_dense, for a layer without neuron group: u adds up, v = u, no spike.
INTEGRATOR = NeuronRecord(
    i_decay=np.array(0), v_decay=np.array(DECAY_UNITY), vth=np.array(1 << LOIHI2.vth_bits)
)
# lava-dl 0.6.0 netx get_neuron_params: bias_exp 6.
BIAS_EXP = WEIGHT_SHIFT


def neurons_of(where: str, record: LayerRecord, shape: Shape) -> Neurons:
    """The population of a layer; ``where`` names the layer in messages."""
    neuron = record.neuron or INTEGRATOR
    bias = per_neuron(f"{where}: bias", record.bias, shape)
    du = per_neuron(f"{where}: iDecay", neuron.i_decay, shape) - DU_OFFSET
    dv = per_neuron(f"{where}: vDecay", neuron.v_decay, shape)
    adds_up = np.all(du == -DU_OFFSET) and np.all(dv == DECAY_UNITY)
    if adds_up and np.all(neuron.vth > LOIHI2.vth_max) and not np.any(bias):
        # v = u = sum of all input: the same v with registers that the chip has.
        du, dv = np.array(NO_SYNAPTIC_MEMORY), np.array(0)
    return Neurons(
        shape,
        vth=threshold(where, neuron, shape),
        du=du,
        dv=dv,
        bias_mant=bias,
        bias_exp=BIAS_EXP if np.any(bias) else 0,
    )


def threshold(where: str, neuron: NeuronRecord, shape: Shape) -> IntArray:
    """Slayer writes 2**18 - 1 and netx 2**17 for "never"; the register's end comes to the same."""
    vth = per_neuron(f"{where}: vThMant", neuron.vth, shape)
    return np.minimum(vth, LOIHI2.vth_max)


def per_neuron(what: str, values: IntArray | None, shape: Shape) -> IntArray:
    """Values of a layer: one, per neuron, or per channel; whole layers in Lava's order (W, H, C)."""
    given = np.zeros((), dtype=np.int64) if values is None else values
    if given.size == 1:
        return given.reshape(())
    if given.shape == shape[::-1]:
        full = given.transpose()
    elif len(shape) == 1 and given.size == shape[0]:
        full = given.reshape(shape)
    elif given.shape == shape[:1]:
        full = np.broadcast_to(given.reshape(-1, *(1 for _ in shape[1:])), shape)
    else:
        raise FileFormatError(
            f"{what} has shape {given.shape}; expected one number, one per channel ({shape[0]},), or all in "
            f"Lava's order {shape[::-1]}"
        )
    return full.reshape(-1)[0].reshape(()) if np.all(full == full.flat[0]) else full


def per_channel(values: IntArray, shape: Shape) -> IntArray:
    """(C,) if neurons of a channel share their value, else all in Lava's order (W, H, C)."""
    full = np.broadcast_to(values, shape)
    channels = full.reshape(shape[0], -1)
    return channels[:, 0] if np.all(channels == channels[:, :1]) else full.transpose()
