"""Layers of a lava-dl ``.net`` file (HDF5) as checked integers: what the file says, nothing else.

Layout (lava-dl 0.6.0 ``slayer/block/base.py export_hdf5`` writes, ``netx/hdf5.py`` reads): group
``layer`` with members "0", "1", ...; each has ``type`` and, by type, ``shape``, ``weight``, ``bias``,
``delay``, ... and a group ``neuron``. Fractions, which netx cuts off silently, are refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import (
    BirilError,
    FileFormatError,
    RangeError,
    UnsupportedNodeError,
    bullet_list,
)
from biril_nm.export.netx.members import Members
from biril_nm.loihi import DECAY_UNITY, LOIHI2

__all__ = ["Geometry", "LayerRecord", "NeuronRecord", "read_records"]

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]

# lava-dl 0.6.0 netx create_input: gain of an input layer that gives none.
INPUT_GAIN = 64
NEURON_TYPES = ("CUBA", "LOIHI")
NOT_IN_NETX = ("average", "pool", "convT", "unpool", "concat")


@dataclass(frozen=True)
class NeuronRecord:
    """Registers of a neuron group: ``iDecay``, ``vDecay``, ``vThMant``.

    One number for the layer, one per channel (slayer's ``shared_param=False``), or one per neuron
    in Lava's order (W, H, C).
    """

    i_decay: IntArray
    v_decay: IntArray
    vth: IntArray


@dataclass(frozen=True)
class LayerRecord:
    """One layer; fields that its type does not have are None.

    Attributes:
        index: number of the layer in the file.
        kind: input, flatten, conv, dense or dense_rec.
        shape: torch order (C, H, W) for input and conv, (size,) for dense.
        neuron: None for a dense layer that only integrates, and for an input without neurons.
        weight: (out, in), kernel (out, in/groups, kH, kW), or the scalar gain of an input layer.
        weight_rec: (out, out) of dense_rec.
        bias: mantissas in units of 64, as stored.
        delay: steps, as stored.
        geometry: stride, padding, dilation (h, w) and groups of a conv.
        notes: what the file says and netx ignores.
    """

    index: int
    kind: str
    shape: Shape | None = None
    neuron: NeuronRecord | None = None
    weight: IntArray | None = None
    weight_rec: IntArray | None = None
    bias: IntArray | None = None
    delay: IntArray | None = None
    geometry: Geometry | None = None
    notes: tuple[str, ...] = ()


def read_records(file: Any, source: str, truncate: bool) -> list[LayerRecord]:
    """All layers of an open file.

    Raises:
        FileFormatError: a member is missing, of another kind, or too large.
        UnsupportedNodeError: layers that have no counterpart; all are listed.
    """
    root = Members(file, f"'{source}': ", truncate)
    layers = Members(root.inner("layer").group, f"'{source}': layer", truncate)
    count = len(layers.group)
    if not count or set(layers.group) != {str(i) for i in range(count)}:
        raise FileFormatError(
            f"{layers.where} has members {sorted(layers.group)[:8]}; expected 0, 1, 2, ..."
        )
    records: list[LayerRecord] = []
    findings: list[str] = []
    for index in range(count):
        try:
            records.append(_record(layers.inner(str(index)), index))
        except FileFormatError:
            raise
        except BirilError as error:
            findings.append(str(error))
    if findings:
        raise UnsupportedNodeError(bullet_list(f"'{source}' cannot be read exactly:", findings))
    return records


def _record(layer: Members, index: int) -> LayerRecord:
    kind = layer.text("type")
    if kind in _READERS:
        return _READERS[kind](layer, index)
    if kind in NOT_IN_NETX:
        raise UnsupportedNodeError(
            f"{layer.where} is of type '{kind}', which netx itself does not build; expected "
            f"{', '.join(_READERS)}. Train with strided convolutions in its place, or export the torch "
            f"network with to_nir"
        )
    raise UnsupportedNodeError(
        f"{layer.where} is of unknown type '{kind[:40]}'; expected {', '.join(_READERS)}"
    )


def _input(layer: Members, index: int) -> LayerRecord:
    if "neuron" not in layer and "shape" not in layer:  # netx then asks for input_shape
        return LayerRecord(index, "input")
    record = LayerRecord(index, "input", layer.shape())
    if "neuron" not in layer:
        return record
    neuron, notes = _neuron(layer)
    gain = np.array(layer.scalar("weight", INPUT_GAIN))
    bias = np.array(layer.scalar("bias", 0))
    return LayerRecord(
        index, "input", record.shape, neuron, weight=gain, bias=bias, notes=tuple(notes)
    )


def _flatten(layer: Members, index: int) -> LayerRecord:
    return LayerRecord(index, "flatten")


def _conv(layer: Members, index: int) -> LayerRecord:
    neuron, notes = _neuron(layer)
    kernel = layer.integers("weight") if _is_real(layer) else None
    if kernel is None or kernel.ndim not in (4, 5) or kernel.shape[4:] not in ((), (1,)):
        shape = None if kernel is None else kernel.shape
        raise FileFormatError(f"{layer.at('weight')} has shape {shape}; expected (out, in, kH, kW)")
    if "delay" in layer and np.any(layer.integers("delay")):
        raise UnsupportedNodeError(
            f"{layer.at('delay')} is not 0; expected 0, since netx silently drops delays of a convolution. "
            f"Train this block with delay=False"
        )
    return LayerRecord(
        index,
        "conv",
        layer.shape(),
        neuron,
        weight=kernel.reshape(kernel.shape[:4]),
        bias=layer.integers("bias") if "bias" in layer else None,
        geometry=(
            layer.pair("stride"),
            layer.pair("padding"),
            layer.pair("dilation"),
            layer.scalar("groups"),
        ),
        notes=tuple(notes),
    )


def _dense(layer: Members, index: int) -> LayerRecord:
    neuron, notes = _neuron(layer) if "neuron" in layer else (None, [])
    _is_real(layer)
    size = int(np.prod(layer.shape()))
    delay = layer.integers("delay") if "delay" in layer else None
    if delay is not None:
        _check_delay(layer, delay)
    return LayerRecord(
        index,
        "dense",
        (size,),
        neuron,
        weight=_matrix(layer, "weight", size),
        bias=layer.integers("bias") if "bias" in layer else None,
        delay=delay,
        notes=tuple(notes),
    )


def _check_delay(layer: Members, delay: IntArray) -> None:
    low, high = int(delay.min()), int(delay.max())
    if low < 0 or high > LOIHI2.delay_max:
        raise RangeError(
            f"{layer.at('delay')} is {low} to {high}; expected 0 to {LOIHI2.delay_max} steps (netx clamps "
            f"longer ones with a warning). Train with a lower max_delay"
        )


def _dense_rec(layer: Members, index: int) -> LayerRecord:
    record = _dense(layer, index)
    if record.delay is not None:
        raise UnsupportedNodeError(
            f"{layer.at('delay')} is given for a recurrent layer; expected none, since netx then loses the "
            f"weight exponent. Train this block with delay=False"
        )
    recurrent = _matrix(layer, "weight_rec", (record.shape or (0,))[0])
    if recurrent.shape[0] != recurrent.shape[1]:
        raise FileFormatError(
            f"{layer.at('weight_rec')} has shape {recurrent.shape}; expected a square matrix"
        )
    return LayerRecord(**{**record.__dict__, "kind": "dense_rec", "weight_rec": recurrent})


def _matrix(layer: Members, name: str, rows: int) -> IntArray:
    matrix = layer.integers(name)
    if matrix.ndim == 1 and matrix.size % rows == 0:
        matrix = matrix.reshape(rows, -1)
    if matrix.ndim != 2 or matrix.shape[0] != rows:
        raise FileFormatError(
            f"{layer.at(name)} has shape {matrix.shape}; expected ({rows}, inputs) as 'shape' says"
        )
    return matrix


def _is_real(layer: Members) -> bool:
    if isinstance(layer.group.get("weight"), h5py.Group):
        raise UnsupportedNodeError(
            f"{layer.at('weight')} is complex (real, imag), for resonate-and-fire neurons; expected real "
            f"weights of CUBA-LIF compartments. Train with cuba blocks"
        )
    return True


# --- neurons ------------------------------------------------------------------------------------


def _neuron(layer: Members) -> tuple[NeuronRecord, list[str]]:
    group = layer.inner("neuron")
    kind = group.text("type")
    if kind not in NEURON_TYPES:
        what = ", which sends graded differences" if kind == "SDNN" else ""
        raise UnsupportedNodeError(
            f"{group.at('type')} is '{kind[:40]}'{what}; expected a CUBA-LIF compartment "
            f"({', '.join(NEURON_TYPES)}). Train with slayer.block.cuba"
        )
    if group.scalar("messageBits", 0):
        raise UnsupportedNodeError(
            f"{group.at('messageBits')} asks for graded spikes between layers, on which netx 0.6.0 itself "
            f"fails (TypeError); expected binary spikes. Leave it out"
        )
    record = NeuronRecord(*(group.integers(name) for name in ("iDecay", "vDecay", "vThMant")))
    for name, values in (("iDecay", record.i_decay), ("vDecay", record.v_decay)):
        wrong = values[(values < 0) | (values > DECAY_UNITY)]
        if wrong.size:
            raise RangeError(f"{group.at(name)} is {wrong[0]}; expected 0 to {DECAY_UNITY}")
    if record.vth.min() < 0:
        raise RangeError(f"{group.at('vThMant')} is {record.vth.min()}; expected 0 or more")
    return record, _ignored(group)


def _ignored(neuron: Members) -> list[str]:
    """Settings of the file that have no effect in netx, nor here."""
    usual = {"refDelay": 1, "gradedSpike": 0, "weight_exp": 0}
    notes = []
    for name, value in usual.items():
        if name in neuron and neuron.scalar(name) != value:
            notes.append(f"neuron/{name} is {neuron.scalar(name)}, which netx ignores")
    return notes


_READERS: dict[str, Callable[[Members, int], LayerRecord]] = {
    "input": _input,
    "flatten": _flatten,
    "conv": _conv,
    "dense": _dense,
    "dense_rec": _dense_rec,
}
