"""From a LoihiGraph to the layers of a ``.net`` file, or to the list of what netx cannot say.

netx knows one chain of layers, dense or dense_rec with delays in a matrix, convolutions without
delay, biases in units of 64. Parallel dense connections between the same ends are added up (per
delay) into one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.errors import UnsupportedNodeError, bullet_list
from biril_nm.export.netx.matrices import INT32_LIMIT, labels, sum_up
from biril_nm.export.netx.plan import LAVA_INSTEAD, Plan, links_between, sequence
from biril_nm.export.netx.records import LayerRecord, NeuronRecord
from biril_nm.export.netx.registers import BIAS_EXP, per_channel
from biril_nm.export.netx.weights import load_weights
from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Neurons, Sparse
from biril_nm.loihi import DECAY_UNITY, DU_OFFSET, LOIHI2, NO_SYNAPTIC_MEMORY
from biril_nm.loihi.fixed_point import round_half_away, shift_arithmetic

__all__ = ["plan_layers"]


def plan_layers(graph: LoihiGraph, round_bias: bool) -> tuple[list[LayerRecord], dict[str, Any]]:
    """Layers of the file, and the JSON-able facts that netx has no place for.

    Raises:
        UnsupportedNodeError: at least one finding; all are listed.
    """
    plan = Plan(graph, round_bias)
    _refuse_models(plan)
    chain = [] if plan.findings else sequence(plan)
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


def _refuse_models(plan: Plan) -> None:
    for name, node in plan.graph.neurons.items():
        reason = node.compartment.netx_refusal
        if reason:
            found = f"has the compartment model '{node.model}', which netx cannot hold: {reason}"
            plan.refuse(name, found, LAVA_INSTEAD)


def _plan_chain(plan: Plan, chain: list[str]) -> None:
    graph = plan.graph
    if graph.inputs[chain[0]].signed:
        plan.refuse(
            chain[0], "takes values below zero, and netx has no sign for input", LAVA_INSTEAD
        )
    shape = graph.shape_of(chain[0])
    facts = graph.metadata.get("netx", {}).get("input")
    start = 1
    if facts and _is_input_layer(graph, chain, facts):
        _plan_input_layer(plan, chain, facts)
        start = 2
    else:
        plan.add("input", shape=shape)
    spatial = len(shape) == 3
    for source, name in zip(chain[start - 1 :], chain[start:]):
        links = links_between(graph, source, name)
        conv = [link for link in links.values() if isinstance(link, Conv)]
        if conv:
            if not spatial:
                plan.refuse(
                    name,
                    "is a convolution behind a dense layer, which netx keeps flat",
                    LAVA_INSTEAD,
                )
            _plan_conv(plan, name, links, links_between(graph, name, name))
        else:
            if spatial or (plan.records[-1].kind == "input" and len(shape) > 1):
                plan.add("flatten")
            _plan_dense(plan, name, links, links_between(graph, name, name))
        spatial = bool(conv)


# --- input layers with neurons ------------------------------------------------------------------


def _is_input_layer(graph: LoihiGraph, chain: list[str], facts: Mapping[str, Any]) -> bool:
    """Whether the first population still is the input layer that a file began with."""
    links = list(links_between(graph, *chain[:2]).values()) if len(chain) > 2 else []
    if len(links) != 1 or not isinstance(links[0], Sparse) or links[0].delay:
        return False
    node, matrix = graph.neurons[chain[1]], links[0].weight.tocoo()
    gain = shift_arithmetic(np.unique(matrix.data), links[0].weight_exp)
    return (
        node.shape == graph.shape_of(chain[0])
        and matrix.nnz == node.size
        and bool(np.array_equal(matrix.row, matrix.col))
        and gain.tolist() == [facts["weight"]]
        and bool(np.all(node.du == NO_SYNAPTIC_MEMORY))
        and node.bias_mant.ndim == 0
        and not links_between(graph, chain[1], chain[1])
    )


def _plan_input_layer(plan: Plan, chain: list[str], facts: Mapping[str, Any]) -> None:
    name = chain[1]
    (label,) = links_between(plan.graph, *chain[:2])
    node = plan.graph.neurons[name]
    neuron = _registers(plan, name, node)
    bias = _bias(plan, name, node)
    plan.add(
        "input",
        {"neurons": name, "weight": label},
        shape=node.shape,
        neuron=NeuronRecord(np.array(facts["iDecay"]), neuron.v_decay, neuron.vth),
        weight=np.array(facts["weight"]),
        bias=np.zeros((), dtype=np.int64) if bias is None else bias,
    )


# --- layers -------------------------------------------------------------------------------------


def _plan_conv(
    plan: Plan, name: str, links: Mapping[str, Connection], recurrent: Mapping[str, Connection]
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
        bias=None if bias is None else per_channel(bias, node.shape),
        geometry=(link.stride, link.padding, link.dilation, link.groups),
    )


def _plan_dense(
    plan: Plan, name: str, links: Mapping[str, Connection], recurrent: Mapping[str, Connection]
) -> None:
    node = plan.graph.neurons[name]
    summed = sum_up(plan, name, links)
    loop = sum_up(plan, name, recurrent) if recurrent else None
    if summed is None or (recurrent and loop is None):
        return
    weight, delay = summed
    names = {"neurons": name} | labels(links, "weight") | labels(recurrent, "weight_rec")
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


# --- registers ----------------------------------------------------------------------------------


def _registers(plan: Plan, name: str, node: Neurons, flat: bool = False) -> NeuronRecord:
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
            plan.refuse(name, f"{register} is {wrong[0]}; expected {low} to {high}", "Change it")
        value += offset
        if value.ndim:
            value = value.reshape(-1) if flat else per_channel(value, node.shape)
        values.append(value)
    return NeuronRecord(*values)


def _bias(plan: Plan, name: str, node: Neurons) -> IntArray | None:
    """Mantissas at netx's exponent 6; None if there is no bias."""
    total = node.bias_mant.astype(np.int64) << node.bias_exp
    if not np.any(total):
        return None
    odd = total % (1 << BIAS_EXP) != 0
    if np.any(odd) and not plan.round_bias:
        plan.refuse(
            name,
            f"has biases that are not multiples of {1 << BIAS_EXP}, the first {int(total[odd].flat[0])}",
            f"netx has no others. Pass round_bias=True (--round-bias) to round them. {LAVA_INSTEAD}",
        )
    return np.asarray(round_half_away(total / (1 << BIAS_EXP)), dtype=np.int64)
