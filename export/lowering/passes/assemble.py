"""From quantised nodes to the LoihiGraph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.export.lowering.passes.float_net import FloatLink, FloatNet
from biril_nm.export.lowering.passes.quantize import QuantizedLink, QuantizedNode
from biril_nm.export.nir_nodes.linear_maps import Convolution, naming
from biril_nm.export.nir_nodes.repeats import distinct
from biril_nm.export.nir_nodes.resets import program_of
from biril_nm.hw_graph import (
    Connection,
    Conv,
    Dense,
    LoihiGraph,
    Neurons,
    Node,
    Output,
    Sparse,
)
from biril_nm.loihi.fixed_point import decay_u_register, decay_v_register

__all__ = ["assemble"]


def assemble(net: FloatNet, quantised: Mapping[str, QuantizedNode]) -> LoihiGraph:
    """Nodes and edges in the order of the float network."""
    nodes: dict[str, Node] = {
        **net.input_nodes,
    }
    edges: list[tuple[str, str]] = []
    for name, (shape, dynamics) in net.neurons.items():
        node = quantised[name]
        for link in net.links_into(name):
            nodes[link.name] = _connection(link, node.links[link.name])
            edges += [(link.source, link.name), (link.name, name)]
        with naming(name):
            decays = {
                "du": _registers(dynamics.u_decay, decay_u_register),
                "dv": _registers(dynamics.v_decay, decay_v_register),
            }
        nodes[name] = Neurons(
            shape,
            model=program_of(dynamics.reset).name,
            vth=_collapse(node.vth),
            bias_mant=_collapse(node.bias_mant),
            bias_exp=node.bias_exp,
            **decays,
        )
    for name, source in net.outputs.items():
        nodes[name] = Output()
        edges.append((source, name))
    return LoihiGraph(nodes, tuple(edges))


def _connection(link: FloatLink, integers: QuantizedLink) -> Connection:
    weight = integers.weight
    common: dict[str, Any] = {
        "weight_exp": integers.weight_exp,
        "weight_bits": integers.weight_bits,
        "sign_mode": integers.sign_mode,
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
    short = distinct(fractions)
    values, where = np.unique(short, return_inverse=True)
    registers = np.array([convert(float(value)) for value in values], dtype=np.int64)
    return _collapse(registers[where].reshape(short.shape))


def _collapse(register: IntArray) -> Any:
    """One integer where all neurons share it; else length 1 along each axis on which they do."""
    short = distinct(register)
    return int(short.flat[0]) if np.all(short == short.flat[0]) else short
