"""From the layers of a ``.net`` file to a LoihiGraph, with the integers that netx gives to Lava."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import scipy.sparse

import biril_nm
from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import ConfigError, FileFormatError, RangeError, UnsupportedNodeError
from biril_nm.export.netx.records import Geometry, LayerRecord
from biril_nm.export.netx.registers import BIAS_EXP, neurons_of, per_neuron, threshold
from biril_nm.export.netx.weights import StoredWeights, load_weights, represent, represent_kernel
from biril_nm.hw_graph import (
    Connection,
    Conv,
    Dense,
    Input,
    LoihiGraph,
    Neurons,
    Node,
    Output,
    Sparse,
)
from biril_nm.loihi import NO_SYNAPTIC_MEMORY, WEIGHT_BITS

__all__ = ["Names", "build_graph"]

log = logging.getLogger(__name__)

Names = Mapping[str, Any]


class _Chain:
    """The graph under construction: a chain of layers.

    Attributes:
        source: name of the file.
        names: node names that the file holds.
        nodes: so far.
        edges: so far.
        at: where the next layer gets its spikes from.
        shape: of that node.
        flat: whether a flatten layer came by, or the source is flat.
        facts: for the metadata.
    """

    def __init__(self, source: str, names: Names) -> None:
        self.source, self.names = source, names
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        self.at = ""
        self.shape: Shape | None = None
        self.flat = False
        self.facts: dict[str, Any] = {"layers": {}, "notes": {}, "differs": {}}

    def where(self, record: LayerRecord) -> str:
        return f"'{self.source}': layer/{record.index} ({record.kind})"

    def name(self, record: LayerRecord, part: str, default: str) -> str:
        return str(self.names.get("layers", {}).get(str(record.index), {}).get(part, default))

    def begin(self, shape: Shape, message_bits: int) -> None:
        self.at = str(self.names.get("input", "input"))
        self._add(self.at, Input(shape, message_bits))
        self.shape = shape

    def _add(self, name: str, node: Node) -> None:
        if name in self.nodes:
            raise FileFormatError(
                f"'{self.source}': the name '{name}' is given twice; expected it once"
            )
        self.nodes[name] = node

    def layer(
        self, record: LayerRecord, links: Sequence[tuple[str, Connection]], neurons: Neurons
    ) -> None:
        """Append a population and the connections into it."""
        name = self.name(record, "neurons", f"layer{record.index}")
        for suffix, link in links:
            label = self.name(record, suffix, f"layer{record.index}.{suffix}")
            self._add(label, link)
            self.edges += [
                (name if suffix.startswith("weight_rec") else self.at, label),
                (label, name),
            ]
        self._add(name, neurons)
        self.flat = len(neurons.shape) == 1 or (self.flat and record.kind == "conv")
        self.at, self.shape = name, neurons.shape
        self.facts["layers"][name] = record.kind
        if record.notes:
            self.facts["notes"][name] = list(record.notes)

    def finish(self) -> LoihiGraph:
        if not self.facts["layers"]:
            raise FileFormatError(
                f"'{self.source}' has no layer with neurons; expected one or more"
            )
        output = str(self.names.get("output", "output"))
        self._add(output, Output())
        self.edges.append((self.at, output))
        neurons = [n for n, node in self.nodes.items() if isinstance(node, Neurons)]
        metadata = {
            "producer": "lava-dl netx",
            "source": self.source,
            "reset": {name: {"reset": "zero", "from": "file"} for name in neurons},
            "netx": self.facts,
            "versions": {"biril-nm": biril_nm.__version__},
        }
        try:
            return LoihiGraph(self.nodes, tuple(self.edges), metadata)
        except ConfigError as error:
            raise FileFormatError(f"'{self.source}': the layers do not fit: {error}") from error


def build_graph(
    records: Sequence[LayerRecord],
    source: str,
    message_bits: int,
    input_shape: Shape | None,
    names: Names,
) -> LoihiGraph:
    """Chain the layers of one file.

    Args:
        records: from :func:`read_records`.
        source: name of the file, for messages and metadata.
        message_bits: of the input; the file does not say.
        input_shape: torch order, where the file does not begin with an input layer.
        names: node names that :func:`biril_nm.export.write_netx` left in the file.
    """
    chain = _Chain(source, names)
    if input_shape is not None and (records[0].kind != "input" or records[0].shape is None):
        chain.begin(input_shape, message_bits)
    for record in records:
        if record.kind == "input":
            _add_input(chain, record, message_bits)
        elif record.kind == "flatten":
            chain.flat = True
        elif record.kind == "conv":
            _add_conv(chain, record)
        else:
            _add_dense(chain, record, message_bits)
    return chain.finish()


def _add_input(chain: _Chain, record: LayerRecord, message_bits: int) -> None:
    if record.index:
        raise UnsupportedNodeError(
            f"{chain.where(record)} is not the first layer; expected it to be"
        )
    if record.shape is None:
        return
    chain.begin(record.shape, message_bits)
    if record.neuron is None:
        return
    gain, bias = int(np.asarray(record.weight)), int(np.asarray(record.bias))
    parts = represent(np.array([[gain]]))
    if len(parts) != 1:
        raise RangeError(
            f"{chain.where(record)} has a gain of {gain}; expected a weight of {WEIGHT_BITS} bits and "
            f"exponent. Use an input layer without neurons and scale the input"
        )
    size = int(np.prod(record.shape))
    weight = scipy.sparse.identity(size, dtype=np.int64, format="csr") * int(parts[0].weight[0, 0])
    # netx sets the neuron's bias to gain * input + bias, which does not pass u: so u forgets here.
    neurons = Neurons(
        record.shape,
        vth=threshold(chain.where(record), record.neuron, record.shape),
        du=NO_SYNAPTIC_MEMORY,
        dv=per_neuron(f"{chain.where(record)}: vDecay", record.neuron.v_decay, record.shape),
        bias_mant=bias,
        bias_exp=BIAS_EXP if bias else 0,
    )
    chain.layer(record, [("weight", _connection(weight, parts[0]))], neurons)
    i_decay = record.neuron.i_decay.tolist()
    chain.facts["input"] = {"weight": gain, "bias": bias, "iDecay": i_decay}


def _add_conv(chain: _Chain, record: LayerRecord) -> None:
    if chain.shape is None:
        raise FileFormatError(
            f"{chain.where(record)}: the file has no input layer; expected the input's shape. Pass "
            f"input_shape=(C, H, W)"
        )
    part = represent_kernel(cast("IntArray", record.weight))
    stride, padding, dilation, groups = cast("Geometry", record.geometry)
    link = Conv(
        part.weight,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        weight_exp=part.weight_exp,
        sign_mode=part.sign_mode,
    )
    shape = cast("Shape", record.shape)
    chain.layer(record, [("weight", link)], neurons_of(chain.where(record), record, shape))


def _add_dense(chain: _Chain, record: LayerRecord, message_bits: int) -> None:
    weight, size = cast("IntArray", record.weight), cast("Shape", record.shape)
    columns = weight.shape[1]
    if chain.shape is None:
        chain.begin((columns,), message_bits)
    shape = chain.shape or ()
    if int(np.prod(shape)) != columns:
        raise FileFormatError(
            f"{chain.where(record)} has weights for {columns} inputs; expected {int(np.prod(shape))}, as it "
            f"receives shape {shape}"
        )
    if not chain.flat and isinstance(chain.nodes[chain.at], Neurons):
        raise FileFormatError(
            f"{chain.where(record)} receives shape {shape}; expected a flatten layer in front, as netx needs "
            f"it"
        )
    matrices = [weight, *([] if record.weight_rec is None else [record.weight_rec])]
    links = _dense_links(chain, record, matrices)
    chain.layer(record, links, neurons_of(chain.where(record), record, size))


def _dense_links(
    chain: _Chain, record: LayerRecord, matrices: Sequence[IntArray]
) -> list[tuple[str, Connection]]:
    loaded = load_weights(matrices)
    if loaded.trouble:
        name = chain.name(record, "neurons", f"layer{record.index}")
        chain.facts["differs"][name] = loaded.trouble
        log.warning("%s: the file's weights are kept; in netx %s", name, loaded.trouble)
    plain = loaded.parts and all(part.weight_bits <= WEIGHT_BITS for part in loaded.parts)
    links: list[tuple[str, Connection]] = []
    for index, (name, matrix) in enumerate(zip(("weight", "weight_rec"), matrices)):
        parts = (loaded.parts[index],) if plain else represent(matrix)
        if not parts:
            raise RangeError(
                f"{chain.where(record)}: {name} spans {matrix.min()} to {matrix.max()}; expected "
                f"{WEIGHT_BITS} bits, sign and one exponent (in netx {loaded.trouble}). Quantise to even "
                f"integers from -256 to 254 before export_hdf5"
            )
        for order, part in enumerate(parts):
            label = name if order == 0 else f"{name}.odd"
            delay = _delays(chain, record, matrix.shape)
            links += _by_delay(label, part, delay)
    return links


def _delays(chain: _Chain, record: LayerRecord, shape: Shape) -> IntArray:
    """Delay of each synapse, read from any shape that netx takes: (), (out,), (in,), (out, in)."""
    if record.delay is None:
        return np.zeros((), dtype=np.int64)
    delay = record.delay
    if delay.ndim == 1 and delay.size == shape[0]:
        delay = delay[:, None]
    elif delay.ndim == 1 and delay.size == shape[1]:
        delay = delay[None, :]
    elif delay.ndim and delay.shape != shape:
        raise FileFormatError(
            f"{chain.where(record)}: delay has shape {delay.shape}; expected one number, "
            f"({shape[0]},), ({shape[1]},) or {shape}"
        )
    return np.broadcast_to(delay, shape)


def _by_delay(name: str, part: StoredWeights, delay: IntArray) -> list[tuple[str, Connection]]:
    """One connection for each delay that occurs; sparse ones where there are several.

    Exact for negative exponents as well: netx shifts up what the exponent shifts down again.
    """
    each = np.broadcast_to(delay, part.weight.shape)
    used = each[part.weight != 0]
    steps = [int(d) for d in np.unique(used if used.size else each.min())]
    if len(steps) == 1:
        return [(name, _connection(part.weight, part, steps[0]))]
    synapses = [scipy.sparse.csr_matrix(np.where(each == d, part.weight, 0)) for d in steps]
    return [(f"{name}.delay{d}", _connection(w, part, d)) for d, w in zip(steps, synapses)]


def _connection(weight: Any, part: StoredWeights, delay: int = 0) -> Connection:
    kind = Sparse if scipy.sparse.issparse(weight) else Dense
    return kind(
        weight,
        weight_exp=part.weight_exp,
        weight_bits=part.weight_bits,
        sign_mode=part.sign_mode,
        delay=delay,
    )
