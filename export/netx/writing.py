"""From a LoihiGraph to the layers of a ``.net`` file, or to the list of what netx cannot say.

netx knows one chain of layers, dense or dense_rec with delays in a matrix, convolutions without
delay, biases in units of 64. Parallel dense connections between the same ends are added up (per
delay) into one matrix.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import UnsupportedNodeError, bullet_list
from biril_nm.export.netx.reading import BIAS_EXP
from biril_nm.export.netx.records import LayerRecord, NeuronRecord
from biril_nm.export.netx.weights import load_weights
from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Neurons, Sparse
from biril_nm.loihi import DECAY_UNITY, DU_OFFSET, LOIHI2, NO_SYNAPTIC_MEMORY
from biril_nm.loihi.fixed_point import prepare_weights, round_half_away, shift_arithmetic

__all__ = ["plan_layers"]

log = logging.getLogger(__name__)


MAX_MATRIX = 1 << 27  # synapses of one dense matrix
LAVA_INSTEAD = "The Lava back end (--to lava) runs it as it is"
INT32_LIMIT = 1 << 31


class _Plan:
    """Layers so far, and everything that stands against them."""

    def __init__(self, graph: LoihiGraph, round_bias: bool) -> None:
        self.graph, self.round_bias = graph, round_bias
        self.findings: list[str] = []
        self.records: list[LayerRecord] = []
        self.names: dict[str, dict[str, str]] = {}

    def refuse(self, node: str, found: str, way_out: str) -> None:
        self.findings.append(f"'{node}': {found}. {way_out}")

    def add(self, kind: str, names: Mapping[str, str] | None = None, **fields: Any) -> None:
        index = len(self.records)
        self.records.append(LayerRecord(index, kind, **fields))
        if names:
            self.names[str(index)] = dict(names)


def plan_layers(graph: LoihiGraph, round_bias: bool) -> tuple[list[LayerRecord], dict[str, Any]]:
    """Layers of the file, and the JSON-able facts that netx has no place for.

    Raises:
        UnsupportedNodeError: at least one finding; all are listed.
    """
    plan = _Plan(graph, round_bias)
    chain = _chain(plan)
    if chain:
        _plan_chain(plan, chain)
    if plan.findings:
        raise UnsupportedNodeError(
            bullet_list("the graph cannot be written for lava-dl's netx:", plan.findings)
        )
    outputs = list(graph.outputs)
    facts = {
        "input": chain[0],
        "output": outputs[0] if outputs else "output",
        "message_bits": int(graph.inputs[chain[0]].message_bits),
        "layers": plan.names,
    }
    return plan.records, facts


def _chain(plan: _Plan) -> list[str]:
    """Input and populations in order; empty, with findings, if they are no chain."""
    graph = plan.graph
    advice = f"netx is strictly sequential. {LAVA_INSTEAD}"
    before = {name: _others(graph, name, 0) for name in graph.neurons}
    after = {name: _others(graph, name, 1) for name in (*graph.inputs, *graph.neurons)}
    count = len(plan.findings)
    if len(graph.inputs) != 1 or not graph.neurons:
        inputs = ", ".join(graph.inputs)
        plan.refuse(inputs, f"{len(graph.inputs)} inputs, {len(graph.neurons)} populations", advice)
    for name, sources in before.items():
        if len(sources) != 1:
            plan.refuse(name, f"receives from {len(sources)} nodes {sources}", advice)
    for name, targets in after.items():
        if len(targets) > 1:
            plan.refuse(name, f"feeds {len(targets)} nodes {targets}", advice)
    if len(plan.findings) > count:
        return []
    chain = [next(iter(graph.inputs))]
    while after[chain[-1]]:
        chain.append(after[chain[-1]][0])
        if chain[-1] in chain[:-1]:
            plan.refuse(chain[-1], "closes a loop over several populations", advice)
            return []
    for name in graph.neurons:
        if name not in chain:
            plan.refuse(name, "is not reached from the input", advice)
    for output, name in graph.outputs.items():
        if name != chain[-1]:
            plan.refuse(output, f"reads '{name}' amid the chain", "netx sends the last layer only")
    return chain


def _others(graph: LoihiGraph, name: str, end: int) -> list[str]:
    """Sources (end 0) or destinations (end 1) of a node other than itself."""
    pairs = [ends for ends in graph.ends.values() if ends[1 - end] == name]
    return list(dict.fromkeys(ends[end] for ends in pairs if ends[end] != name))


def _plan_chain(plan: _Plan, chain: list[str]) -> None:
    graph = plan.graph
    shape = graph.shape_of(chain[0])
    told = graph.metadata.get("netx", {}).get("input")
    start = 1
    if told and _is_input_layer(graph, chain, told):
        _plan_input_layer(plan, chain, told)
        start = 2
    else:
        plan.add("input", shape=shape)
    spatial = len(shape) == 3
    for source, name in zip(chain[start - 1 :], chain[start:]):
        links = _links(graph, source, name)
        conv = [link for link in links.values() if isinstance(link, Conv)]
        if conv:
            if not spatial:
                plan.refuse(
                    name,
                    "is a convolution behind a dense layer, which netx keeps flat",
                    LAVA_INSTEAD,
                )
            _plan_conv(plan, name, links, _links(graph, name, name))
        else:
            if spatial or (plan.records[-1].kind == "input" and len(shape) > 1):
                plan.add("flatten")
            _plan_dense(plan, name, links, _links(graph, name, name))
        spatial = bool(conv)


def _links(graph: LoihiGraph, source: str, destination: str) -> dict[str, Connection]:
    return {
        name: graph.connections[name]
        for name, ends in graph.ends.items()
        if ends == (source, destination)
    }


# --- input layers with neurons ------------------------------------------------------------------


def _is_input_layer(graph: LoihiGraph, chain: list[str], told: Mapping[str, Any]) -> bool:
    """Whether the first population still is the input layer that a file began with."""
    links = list(_links(graph, *chain[:2]).values()) if len(chain) > 2 else []
    if len(links) != 1 or not isinstance(links[0], Sparse) or links[0].delay:
        return False
    node, matrix = graph.neurons[chain[1]], links[0].weight.tocoo()
    gain = shift_arithmetic(np.unique(matrix.data), links[0].weight_exp)
    return (
        node.shape == graph.shape_of(chain[0])
        and matrix.nnz == node.size
        and bool(np.array_equal(matrix.row, matrix.col))
        and gain.tolist() == [told["weight"]]
        and bool(np.all(node.du == NO_SYNAPTIC_MEMORY))
        and node.bias_mant.ndim == 0
        and not _links(graph, chain[1], chain[1])
    )


def _plan_input_layer(plan: _Plan, chain: list[str], told: Mapping[str, Any]) -> None:
    name = chain[1]
    (label,) = _links(plan.graph, *chain[:2])
    node = plan.graph.neurons[name]
    neuron = _registers(plan, name, node)
    bias = _bias(plan, name, node)
    plan.add(
        "input",
        {"neurons": name, "weight": label},
        shape=node.shape,
        neuron=NeuronRecord(np.array(told["iDecay"]), neuron.v_decay, neuron.vth),
        weight=np.array(told["weight"]),
        bias=np.zeros((), dtype=np.int64) if bias is None else bias,
    )


# --- layers -------------------------------------------------------------------------------------


def _plan_conv(
    plan: _Plan, name: str, links: Mapping[str, Connection], recurrent: Mapping[str, Connection]
) -> None:
    node = plan.graph.neurons[name]
    label, link = next(iter(links.items()))
    if len(links) > 1:
        plan.refuse(name, f"has {len(links)} connections from one source", LAVA_INSTEAD)
    if recurrent:
        plan.refuse(next(iter(recurrent)), "is a loop around a convolution", LAVA_INSTEAD)
    if not isinstance(link, Conv):
        return
    if link.delay:
        plan.refuse(
            label, f"is a convolution with delay {link.delay}, which netx drops", LAVA_INSTEAD
        )
    kernel = link.weight.astype(np.int64) << link.weight_exp
    if np.any(np.abs(kernel) >= INT32_LIMIT):
        plan.refuse(label, "has weights of more than 32 bits", "Lower with a smaller scale")
    bias = _bias(plan, name, node)
    plan.add(
        "conv",
        {"neurons": name, "weight": label},
        shape=node.shape,
        neuron=_registers(plan, name, node),
        weight=kernel,
        bias=None if bias is None else _per_channel(bias, node.shape),
        geometry=(link.stride, link.padding, link.dilation, link.groups),
    )


def _plan_dense(
    plan: _Plan, name: str, links: Mapping[str, Connection], recurrent: Mapping[str, Connection]
) -> None:
    node = plan.graph.neurons[name]
    summed = _sum_up(plan, name, links)
    loop = _sum_up(plan, name, recurrent) if recurrent else None
    if summed is None or (recurrent and loop is None):
        return
    weight, delay = summed
    names = {"neurons": name} | _labels(links, "weight") | _labels(recurrent, "weight_rec")
    fields: dict[str, Any] = {}
    if loop is not None:
        fields["weight_rec"] = loop[0]
        if np.any(delay) or np.any(loop[1]):
            plan.refuse(name, "has a loop and delays; netx then loses the exponent", LAVA_INSTEAD)
    if np.any(delay):
        fields["delay"] = delay
    bias = _bias(plan, name, node)
    if bias is not None:
        fields["bias"] = np.broadcast_to(bias, node.shape).reshape(-1)
    trouble = load_weights([weight, *([] if loop is None else [loop[0]])]).trouble
    if trouble:
        plan.refuse(name, f"netx would not keep its weights: {trouble}", LAVA_INSTEAD)
    plan.add(
        "dense" if loop is None else "dense_rec",
        names,
        shape=(node.size,),
        neuron=_registers(plan, name, node, flat=True),
        weight=weight,
        **fields,
    )


def _labels(links: Mapping[str, Connection], key: str) -> dict[str, str]:
    """Names to give back when the file is read: one per matrix, or one per delay."""
    if len(links) == 1:
        return {key: next(iter(links))}
    delays = [link.delay for link in links.values()]
    if len(set(delays)) < len(delays):
        return {}
    return {f"{key}.delay{link.delay}": name for name, link in links.items()}


def _sum_up(
    plan: _Plan, name: str, links: Mapping[str, Connection]
) -> tuple[IntArray, IntArray] | None:
    """Weights and delays (scalar if shared) of parallel connections as one matrix."""
    count = len(plan.findings)
    total: dict[int, IntArray] = {}
    for label, link in links.items():
        matrix = _effective(plan, label, link)
        if matrix is not None:
            total[link.delay] = total.get(link.delay, np.zeros((), dtype=np.int64)) + matrix
    if len(plan.findings) > count:
        return None
    weight = np.asarray(sum(total.values()))
    used = sum((matrix != 0).astype(np.int64) for matrix in total.values())
    if np.any(np.asarray(used) > 1):
        plan.refuse(
            name, "has synapses with two delays", f"netx knows one delay each. {LAVA_INSTEAD}"
        )
    if max(total) > LOIHI2.delay_max or np.any(np.abs(weight) >= INT32_LIMIT):
        plan.refuse(name, "has delays or weights beyond the chip", "See biril info on the graph")
    delay = np.array(min(total))
    if len(total) > 1:
        delay = np.full(weight.shape, min(total))
        for steps, matrix in total.items():
            delay[matrix != 0] = steps
    return weight, delay


def _effective(plan: _Plan, label: str, link: Connection) -> IntArray | None:
    """``weight << weight_exp`` as a matrix, if that is what the sums come to."""
    if isinstance(link, Conv):
        plan.refuse(label, "is a convolution beside a dense connection or in a loop", LAVA_INSTEAD)
        return None
    if link.weight.shape[0] * link.weight.shape[1] > MAX_MATRIX:
        plan.refuse(label, f"has shape {link.weight.shape}, too large to write out", LAVA_INSTEAD)
        return None
    if getattr(link, "rule", None) is not None:
        log.warning("'%s': netx has no learning; the weights stay as they are", label)
    weight = link.weight.toarray() if isinstance(link, Sparse) else link.weight
    wide = prepare_weights(weight, link.weight_bits, link.sign_mode)
    if link.weight_exp < 0 and np.any(wide % (1 << -link.weight_exp)):
        plan.refuse(
            label,
            f"has weight_exp {link.weight_exp}, which rounds sums of its weights down",
            f"netx has no such exponent. {LAVA_INSTEAD}, or lower with exponents from 0",
        )
        return None
    return shift_arithmetic(wide, link.weight_exp)


# --- registers ----------------------------------------------------------------------------------


def _registers(plan: _Plan, name: str, node: Neurons, flat: bool = False) -> NeuronRecord:
    """Registers in netx's order; ``flat`` for dense layers, which have (size,) neurons."""
    values = []
    for register, offset, low, high in (
        ("du", DU_OFFSET, -DU_OFFSET, NO_SYNAPTIC_MEMORY),
        ("dv", 0, 0, DECAY_UNITY),
        ("vth", 0, 0, LOIHI2.vth_max),
    ):
        value = getattr(node, register).astype(np.int64)
        wrong = value[(value < low) | (value > high)]
        if wrong.size:
            plan.refuse(name, f"{register} is {wrong[0]}", f"Allowed are {low} to {high}")
        value += offset
        if value.ndim:
            value = value.reshape(-1) if flat else _per_channel(value, node.shape)
        values.append(value)
    return NeuronRecord(*values)


def _per_channel(values: IntArray, shape: Shape) -> IntArray:
    """(C,) if neurons of a channel share their value, else all in Lava's order (W, H, C)."""
    full = np.broadcast_to(values, shape)
    channels = full.reshape(shape[0], -1)
    return channels[:, 0] if np.all(channels == channels[:, :1]) else full.transpose()


def _bias(plan: _Plan, name: str, node: Neurons) -> IntArray | None:
    """Mantissas at netx's exponent 6; None if there is no bias."""
    total = node.bias_mant.astype(np.int64) << node.bias_exp
    if not np.any(total):
        return None
    odd = total % (1 << BIAS_EXP) != 0
    if np.any(odd) and not plan.round_bias:
        plan.refuse(
            name,
            f"has biases that are no multiples of {1 << BIAS_EXP}, the first {int(total[odd].flat[0])}",
            f"netx has no others. Pass round_bias=True (--round-bias) to round them. {LAVA_INSTEAD}",
        )
    return np.asarray(round_half_away(total / (1 << BIAS_EXP)), dtype=np.int64)
