"""A LoihiGraph as plain data: what the Lava Processes of a bundle are made from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Neurons, Sparse
from biril_nm.hw_graph.nodes import TAG_LIMITS
from biril_nm.hw_graph.outputs import output_neurons
from biril_nm.learning.rule import LearningRule
from biril_nm.loihi import VTH_SHIFT
from biril_nm.recording.readout import decision_of

__all__ = ["describe"]

Description = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

FORMAT = "biril-nm Lava network"
VERSION = 2


def describe(graph: LoihiGraph) -> tuple[Description, Arrays]:
    """The network as JSON-able data and integer arrays: all that the Processes are made from."""
    latency = graph.latency
    arrays: Arrays = {}
    for index, node in enumerate(graph.neurons.values()):
        for register in node.compartment.per_neuron:
            arrays[f"neurons.{index}.{register}"] = np.asarray(node.registers[register])
        arrays[f"readout.{index}"] = node.spike_threshold
    for index, connection in enumerate(graph.connections.values()):
        for key, array in _weight_arrays(connection).items():
            arrays[f"connections.{index}.{key}"] = array
    description: Description = {
        "format": FORMAT,
        "version": VERSION,
        "max_slack": int(graph.timing.max_slack),
        "vth_shift": VTH_SHIFT,
        "inputs": [
            {
                "name": name,
                "shape": list(node.shape),
                "message_bits": int(node.message_bits),
                "signed": node.signed,
            }
            for name, node in graph.inputs.items()
        ],
        "neurons": [
            _describe_neurons(name, node, latency[name]) for name, node in graph.neurons.items()
        ],
        "connections": [_describe_connection(graph, name) for name in graph.connections],
        "outputs": list(output_neurons(graph)),
        "decision": decision_of(graph),
    }
    return description, arrays


def _describe_neurons(name: str, node: Neurons, latency: int) -> Description:
    """Model and the registers that the population shares; the others are arrays."""
    model = node.compartment
    return {
        "name": name,
        "shape": list(node.shape),
        "latency": int(latency),
        "signed": model.signed,
        "model": {"name": model.name, "lava_process": model.lava_process},
        "shared": {r.name: int(node.registers[r.name]) for r in model.registers if r.shared},
    }


def _weight_arrays(node: Connection) -> Arrays:
    arrays: Arrays = {"weight": node.weight}
    if isinstance(node, Sparse):
        arrays = {key: getattr(node.weight, key) for key in ("data", "indices", "indptr")}
    tags = {key: getattr(node, key, None) for key in TAG_LIMITS}
    return {**arrays, **{key: tag for key, tag in tags.items() if tag is not None}}


def _describe_connection(graph: LoihiGraph, name: str) -> Description:
    node = graph.connections[name]
    source, destination = graph.ends[name]
    record: Description = {
        "name": name,
        "kind": type(node).__name__,
        "source": source,
        "destination": destination,
        "source_shape": list(graph.shape_of(source)),
        "matrix_shape": [int(n) for n in node.weight.shape[:2]],
        "message_bits": int(graph.message_bits_into(name)),
        "weight_exp": int(node.weight_exp),
        "weight_bits": int(node.weight_bits),
        "sign_mode": node.sign_mode.value,
        "delay": int(node.delay),
    }
    if isinstance(node, Conv):
        for key in ("stride", "padding", "dilation"):
            record[key] = list(getattr(node, key))
        record["groups"] = int(node.groups)
    elif node.rule is not None:
        record["rule"] = {
            "three_factor": node.rule.three_factor,
            "lava": node.rule.lava_arguments(),
        }
        record["modulators"] = {
            factor: _describe_modulator(graph, node.rule, factor, name, destination)
            for factor, name in node.modulators.items()
        }
    return record


def _describe_modulator(
    graph: LoihiGraph, rule: LearningRule, factor: str, source: str, destination: str
) -> Description:
    """Values of an Input wait for the destination's answer to their step; spikes act at once."""
    trace = rule.traces.get(factor)
    return {
        "source": source,
        "delay": int(graph.latency[destination]) if source in graph.inputs else 0,
        "impulse": None if trace is None else int(trace.impulse),
        "tau": 0.0 if trace is None else float(trace.tau),
    }
