"""lava-dl's network exchange files (``.net``, HDF5): read into a LoihiGraph, and written from one.

Reading gives the integers that netx (lava-dl 0.6.0) gives to Lava, wherever netx keeps a layer
intact; where it does not (:mod:`biril_nm.export.netx.weights`), the file's own weights are kept and
``metadata["netx"]["differs"]`` holds the difference. Writing refuses what netx cannot say or
would change. Neither torch nor lava-dl is needed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.export.netx.reading import build_graph
from biril_nm.export.netx.records import LayerRecord, read_records
from biril_nm.export.netx.writing import plan_layers
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi import LOIHI2
from biril_nm.storage import check_output, parse_json
from biril_nm.storage.hdf5 import open_checked, write_whole

__all__ = ["read_netx", "write_netx"]

log = logging.getLogger(__name__)

# Weights of 8 bits stored as float64 for more synapses than a chip has.
MAX_BYTES = 1 << 30
# Root dataset that netx ignores: node names and message bits, as JSON.
OURS = "biril_nm"
MAX_TEXT = 1 << 20


@checked
def read_netx(
    path: str | Path,
    input_message_bits: int | None = None,
    input_shape: Sequence[int] | None = None,
    truncate: bool = False,
    num_layers: int | None = None,
    skip_layers: int = 0,
) -> LoihiGraph:
    """Read a ``.net`` file of lava-dl.

    Samples start from rest, as in every LoihiGraph; netx does the same with
    ``Network(path, reset_interval=n_steps, reset_offset=1)``. A matrix of delays becomes one
    connection for each delay. A dense layer without neurons becomes an integrator whose v counts.

    Args:
        path: the file.
        input_message_bits: width of graded input, 0 for binary spikes (the default); netx takes
            it as an argument, since the file does not say.
        input_shape: torch order (C, H, W), for files without an input layer.
        truncate: cut fractions off weights, biases and delays, as netx does silently.
        num_layers: read only the first ones, counted as in the file; all by default.
        skip_layers: leave out that many at the start; the input then has the shape of the last one.

    Raises:
        ConfigError: numbers of layers that the file does not have.
        FileFormatError: not a ``.net`` file, damaged or hostile; the message names the member.
        UnsupportedNodeError: layers without counterpart on the chip or in netx; all are listed.
        RangeError: weights that fit no weight register.
    """
    source = Path(path)
    with open_checked(source, "netx", MAX_BYTES) as file:
        facts = _our_facts(file, source)
        records = read_records(file, source.name, truncate)
        records = _select_layers(records, num_layers, skip_layers)
        bits = facts.get("message_bits", 0) if input_message_bits is None else input_message_bits
        shape = None if input_shape is None else tuple(int(n) for n in input_shape)
        graph = build_graph(records, source.name, int(bits), shape, facts)
    log.info("read %d layers of '%s'", len(graph.neurons), source)
    return graph


def _select_layers(
    records: list[LayerRecord], num_layers: int | None, skip_layers: int
) -> list[LayerRecord]:
    """The layers that netx builds with these options, behind an input of the skipped ones' shape.

    Raises:
        ConfigError: numbers outside of the file, or no layer left.
    """
    end = len(records) if num_layers is None else num_layers
    if not 0 <= skip_layers < end <= len(records):
        raise ConfigError(
            f"num_layers is {num_layers} and skip_layers is {skip_layers}; expected 0 <= skip_layers < "
            f"num_layers <= {len(records)}, the layers of the file"
        )
    shapes = [record.shape for record in records[:skip_layers] if record.shape is not None]
    begin = [LayerRecord(0, "input", shapes[-1])] if shapes else []
    return begin + records[skip_layers:end]


def _our_facts(file: Any, source: Path) -> dict[str, Any]:
    """What :func:`write_netx` left: names and message bits."""
    item = file.get(OURS)
    if item is None:
        return {}
    if not isinstance(item, h5py.Dataset) or item.dtype.kind != "S" or item.shape != ():
        raise FileFormatError(
            f"'{source}': {OURS} is not a text of biril-nm; expected one. Remove it"
        )
    try:
        if item.dtype.itemsize > MAX_TEXT:
            raise ValueError(f"longer than {MAX_TEXT} bytes")
        facts = parse_json(bytes(item[()]), f"{OURS} of '{source}'")
        names = [facts["input"], facts["output"]]
        names += [name for layer in facts["layers"].values() for name in layer.values()]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("names must be text")
        if len(set(names)) != len(names):
            raise ValueError("a name occurs twice")
        if facts["message_bits"] not in range(LOIHI2.message_bits_max + 1):
            raise ValueError(f"message_bits is {facts['message_bits']}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"'{source}': {OURS} is not a text of biril-nm ({type(error).__name__}: {error}); expected one. "
            f"Remove it"
        ) from error
    return dict(facts)


@checked
def write_netx(
    graph: LoihiGraph, path: str | Path, force: bool = False, round_bias: bool = False
) -> None:
    """Write a sequential graph as a ``.net`` file that netx loads and runs with the same spikes.

    Load it with ``netx.hdf5.Network(path, input_message_bits=..., reset_interval=n_steps,
    reset_offset=1)``; message bits are those of the graph's Input.

    Args:
        graph: the integer network.
        path: the file to make, written atomically.
        force: replace an existing one.
        round_bias: netx has biases in multiples of 64 only; round others instead of refusing.

    Raises:
        UnsupportedNodeError: what netx cannot say or would change; all findings are listed.
        OutputExistsError: ``path`` exists and ``force`` is False.
    """
    target = check_output(path, force)
    if target.suffix != ".net":
        raise ConfigError(
            f"the name of '{target}' ends in '{target.suffix}'; expected .net, as of lava-dl's files"
        )
    records, facts = plan_layers(graph, round_bias)

    def fill(image: BinaryIO) -> None:
        with h5py.File(image, "w") as file:
            for record in records:
                _write_layer(file.create_group(f"layer/{record.index}"), record)
            file.create_dataset(OURS, data=np.bytes_(json.dumps(facts).encode("utf-8")))

    write_whole(target, fill, force)
    log.info("wrote %d layers to '%s'", len(records), target)


def _write_layer(group: Any, record: LayerRecord) -> None:
    def text(where: Any, value: str) -> None:
        where.create_dataset("type", (1,), "S10", [value.encode("ascii")])

    text(group, record.kind)
    if record.shape is not None:
        group.create_dataset("shape", data=np.array(record.shape, dtype=np.int64))
    for name in ("weight", "weight_rec", "bias", "delay"):
        value = getattr(record, name)
        if value is not None:
            options = {"compression": "gzip"} if value.ndim else {}
            group.create_dataset(name, data=np.asarray(value, dtype=np.int32), **options)
    if record.geometry is not None:
        stride, padding, dilation, groups = record.geometry
        for name, pair in (("stride", stride), ("padding", padding), ("dilation", dilation)):
            group.create_dataset(name, data=np.array(pair, dtype=np.int64))
        group.create_dataset("groups", data=groups)
    if record.neuron is not None:
        neuron = group.create_group("neuron")
        text(neuron, "CUBA")
        registers = (
            ("iDecay", record.neuron.i_decay),
            ("vDecay", record.neuron.v_decay),
            ("vThMant", record.neuron.vth),
            ("refDelay", 1),
            ("gradedSpike", 0),
        )
        for name, register in registers:
            neuron.create_dataset(name, data=register)
