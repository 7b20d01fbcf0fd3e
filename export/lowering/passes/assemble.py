"""From quantised nodes to the LoihiGraph, and the facts that travel with it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata as package_metadata
from typing import Any

import nir
import numpy as np

import biril_nm
from biril_nm.arrays import FloatArray, IntArray
from biril_nm.export.lowering.passes.float_net import FloatLink, FloatNet
from biril_nm.export.lowering.passes.quantize import QuantizedNode
from biril_nm.export.nir_nodes.linear_maps import Convolution, naming
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
from biril_nm.loihi import ChipProfile
from biril_nm.loihi.fixed_point import decay_u_register, decay_v_register

__all__ = ["assemble", "facts"]


def assemble(net: FloatNet, quantized: Mapping[str, QuantizedNode], weight_bits: int) -> LoihiGraph:
    """Nodes and edges in the order of the float network."""
    nodes: dict[str, Node] = {
        name: Input(shape, int(metadata.get("message_bits", 0)))
        for name, (shape, metadata) in net.inputs.items()
    }
    edges: list[tuple[str, str]] = []
    for name, (shape, dynamics) in net.neurons.items():
        node = quantized[name]
        for link in net.links_into(name):
            nodes[link.name] = _connection(link, node, weight_bits)
            edges += [(link.source, link.name), (link.name, name)]
        with naming(name):
            decays = {
                "du": _registers(dynamics.u_decay, decay_u_register),
                "dv": _registers(dynamics.v_decay, decay_v_register),
            }
        nodes[name] = Neurons(
            shape,
            vth=node.vth,
            bias_mant=_collapse(node.bias_mant),
            bias_exp=node.bias_exp,
            **decays,
        )
    for name, source in net.outputs.items():
        nodes[name] = Output()
        edges.append((source, name))
    return LoihiGraph(nodes, tuple(edges))


def _connection(link: FloatLink, node: QuantizedNode, weight_bits: int) -> Connection:
    weight = node.weights[link.name]
    common: dict[str, Any] = {
        "weight_exp": node.weight_exp[link.name],
        "weight_bits": weight_bits,
        "sign_mode": node.sign_mode[link.name],
        "delay": link.delay,
    }
    if weight.ndim == 4 and isinstance(link.linear, Convolution):
        conv = link.linear
        return Conv(
            weight,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            **common,
        )
    return Dense(weight, **common) if isinstance(weight, np.ndarray) else Sparse(weight, **common)


def _registers(fractions: FloatArray, convert: Any) -> Any:
    values, where = np.unique(fractions, return_inverse=True)
    registers = np.array([convert(float(value)) for value in values], dtype=np.int64)
    return _collapse(registers[where].reshape(fractions.shape))


def _collapse(register: IntArray) -> Any:
    """One integer where all neurons share it."""
    return int(register.flat[0]) if np.all(register == register.flat[0]) else register


def facts(
    graph: nir.NIRGraph,
    net: FloatNet,
    quantized: Mapping[str, QuantizedNode],
    resets: Mapping[str, Mapping[str, str]],
    chip: ChipProfile,
    **settings: Any,
) -> dict[str, Any]:
    """Metadata of the integer graph: where it comes from, what was chosen, what it cost."""
    inputs = {
        name: {
            "kind": told.get("coding", "spikes"),
            "n_steps": int(told.get("n_steps", 1)),
            "message_bits": int(told.get("message_bits", 0)),
        }
        for name, (_, told) in net.inputs.items()
    }
    return {
        "producer": graph.metadata.get("producer", "unknown"),
        "chip": chip.name,
        "reset": {name: dict(how) for name, how in resets.items()},
        "coding": inputs,
        "neurons": {name: dict(node.facts) for name, node in quantized.items()},
        "quantisation": {
            name: dict(found)
            for node in quantized.values()
            for name, found in node.link_facts.items()
        },
        **settings,
        "versions": {"biril-nm": biril_nm.__version__, "nir": package_metadata.version("nir")},
    }
