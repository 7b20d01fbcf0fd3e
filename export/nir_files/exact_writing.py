"""An integer network as a NIR graph that means the same in floats and keeps every integer.

Weights are ``weight * 2**weight_exp``, thresholds ``vth``, biases ``B / 64``, so that one NIR volt is
one integer weight unit; time constants follow from the registers by ``tau = 4096 dt / d``. Gains
cancel (``r = tau / dt``). What floats cannot say stands in the nodes' metadata, from which
:mod:`biril_nm.export.nir_files.exact_reading` gives back the same graph, bit for bit.

====================  =======  ============================================
registers             NIR      parameters
====================  =======  ============================================
du = 4095, dv, B = 0  IF       r = 1 (dv = 0)
du = 4095, dv, B      LIF      tau = 4096 dt / dv, v_leak = B / 64 * tau / dt
du, dv, B             CubaLIF  tau_syn = 4096 dt / (du + 1), tau_mem, v_leak
====================  =======  ============================================

A decay of 0 has no finite time constant; it is written as ``2**40`` steps, a power of two, so that
gains still cancel exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import nir
import numpy as np

import biril_nm
from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.nir_files.exact_models import add_model, nearest_cuba_lif
from biril_nm.export.nir_files.exact_reading import EXACT, REGISTERS, VERSION
from biril_nm.export.nir_nodes.decision import DECISION
from biril_nm.export.nir_nodes.metadata import step_width
from biril_nm.export.nir_nodes.neurons import tau_steps
from biril_nm.export.nir_nodes.typed_convolutions import typed
from biril_nm.hw_graph import Connection, Conv, Input, LoihiGraph, Neurons, Sparse
from biril_nm.loihi import DECAY_UNITY, DU_OFFSET, NO_SYNAPTIC_MEMORY, VTH_SHIFT
from biril_nm.recording.readout import decision_of

__all__ = ["exact_nir"]


def exact_nir(graph: LoihiGraph, dt_s: float | None = None) -> nir.NIRGraph:
    """Write ``graph`` as NIR; ``lower`` of the result gives ``graph`` back.

    Args:
        graph: the integer network.
        dt_s: width of a step in seconds, if the graph does not know.

    Raises:
        ConfigError: dt is unknown, or the two disagree.
        UnsupportedNodeError: shapes or names that NIR has no node for; all are listed.
    """
    dt = _settle_dt(graph, dt_s)
    flat = {name for name in graph.neurons if _is_flat(graph, name)}
    findings = list(_findings(graph, flat))
    if findings:
        raise UnsupportedNodeError(bullet_list("the graph cannot be written as NIR:", findings))
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    for name, node in graph.nodes.items():
        if isinstance(node, Input):
            nodes[name] = _input(graph, name, node)
        elif isinstance(node, Neurons):
            nodes[name] = add_model(_neurons(nearest_cuba_lif(node), name in flat, dt), node)
        elif name in graph.outputs:
            shape = graph.shape_of(graph.outputs[name])
            size = np.array((int(np.prod(shape)),) if graph.outputs[name] in flat else shape)
            nodes[name] = nir.Output(output_type={"output": size})
            edges.append((graph.outputs[name], name))
        else:
            _join(graph, name, flat, dt, nodes, edges)
    if not graph.outputs:
        edges += _give_outputs(graph, flat, nodes)
    metadata = {
        "producer": f"biril-nm {biril_nm.__version__}",
        "dt": dt,
        DECISION: decision_of(graph),
        EXACT: VERSION,
        "nodes": json.dumps(list(graph.nodes)),
        "loihi": json.dumps(dict(graph.metadata)),
    }
    return nir.NIRGraph(*typed(nodes, edges), metadata=metadata)


def _settle_dt(graph: LoihiGraph, dt_s: float | None) -> float:
    known = graph.metadata.get("dt_s")
    if dt_s is None:
        if known is None:
            raise ConfigError(
                "dt of the graph is missing; expected the width of a time step, since NIR counts in "
                "seconds. Pass dt_s (--dt) as the network was trained"
            )
        return step_width("dt_s of the graph", known)
    step_width("dt_s", dt_s)
    if known is not None and not np.isclose(dt_s, known, rtol=1e-6):
        raise ConfigError(
            f"dt_s is {dt_s}; expected {known} s, with which the graph was made. Leave it out"
        )
    return float(dt_s if known is None else known)


# --- shapes -------------------------------------------------------------------------------------


def _is_flat(graph: LoihiGraph, name: str) -> bool:
    """Whether a population of several dimensions is filled by matrices, which NIR keeps flat."""
    incoming = [graph.connections[link] for link in graph.incoming(name)]
    return len(graph.neurons[name].shape) > 1 and not any(isinstance(c, Conv) for c in incoming)


def _findings(graph: LoihiGraph, flat: set[str]) -> Iterator[str]:
    for name in graph.nodes:
        if "/" in name:
            yield f"'{name}': the name has a '/'; expected none, as in NIR files. Rename the node"
    for name, node in graph.neurons.items():
        exponent = nearest_cuba_lif(node).bias_exp
        if exponent < 0:
            yield f"'{name}': bias_exp is {exponent}; expected 0 or more, as on the chip"
    for name, link in graph.connections.items():
        source, destination = graph.ends[name]
        if getattr(link, "rule", None) is not None:
            yield (
                f"'{name}': NIR has no place for its learning rule '{link.rule.name}'. Save it as "  # type: ignore[union-attr]
                f".loihi.npz, or set rule=None for inference"
            )
        if isinstance(link, Conv) and source in flat:
            yield (
                f"'{name}': a convolution behind '{source}', which a matrix fills: NIR cannot restore "
                f"(C, H, W). Save it as .loihi.npz instead"
            )
        spatial = len(graph.shape_of(destination)) > 1 and destination not in flat
        if not isinstance(link, Conv) and spatial:
            yield (
                f"'{name}': a matrix into '{destination}' beside a convolution: NIR cannot restore "
                f"(C, H, W). Save it as .loihi.npz instead"
            )


# --- nodes --------------------------------------------------------------------------------------


def _input(graph: LoihiGraph, name: str, node: Input) -> nir.Input:
    coding = graph.metadata.get("coding", {}).get(name, {})
    metadata: dict[str, Any] = {"message_bits": node.message_bits, "scale": 1}
    if node.signed:
        metadata["signed"] = 1
    if "kind" in coding:
        metadata |= {"coding": str(coding["kind"]), "n_steps": int(coding.get("n_steps", 1))}
    return nir.Input(input_type={"input": np.array(node.shape)}, metadata=metadata)


def _join(
    graph: LoihiGraph,
    name: str,
    flat: set[str],
    dt: float,
    nodes: dict[str, nir.NIRNode],
    edges: list[tuple[str, str]],
) -> None:
    """Source -> (Delay) -> (Flatten) -> weights -> neurons."""
    link = graph.connections[name]
    at, destination = graph.ends[name]
    shape = graph.shape_of(at)
    if at in flat:
        shape = (int(np.prod(shape)),)
    path: list[tuple[str, nir.NIRNode]] = []
    if link.delay:
        path.append((f"{name}.delay", nir.Delay(np.full(shape, link.delay * dt))))
    if not isinstance(link, Conv) and len(shape) > 1:
        flatten = nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
        path.append((f"{name}.flatten", flatten))
    path.append((name, _weights(link, shape)))
    for label, node in path:
        nodes[label] = node
        edges.append((at, label))
        at = label
    edges.append((at, destination))


def _weights(link: Connection, shape: Shape) -> nir.NIRNode:
    metadata: dict[str, Any] = {
        "kind": type(link).__name__,
        "weight_exp": int(link.weight_exp),
        "weight_bits": int(link.weight_bits),
        "sign_mode": link.sign_mode.value,
    }
    if isinstance(link, Conv):
        return nir.Conv2d(
            input_shape=(shape[1], shape[2]),
            weight=np.ldexp(link.weight.astype(np.float64), link.weight_exp),
            stride=np.array(link.stride),
            padding=np.array(link.padding),
            dilation=np.array(link.dilation),
            groups=link.groups,
            bias=np.zeros(link.weight.shape[0]),
            metadata=metadata,
        )
    matrix = link.weight
    if isinstance(link, Sparse):
        # A matrix cannot show synapses of weight 0.
        if np.any(link.weight.data == 0):
            metadata |= {"indices": link.weight.indices, "indptr": link.weight.indptr}
        matrix = link.weight.toarray()
    weight = np.ldexp(np.asarray(matrix, dtype=np.float64), link.weight_exp)
    return nir.Linear(weight=weight, metadata=metadata)


def _neurons(node: Neurons, flat: bool, dt: float) -> nir.NIRNode:
    shape = (node.size,) if flat else node.shape

    def full(register: Any) -> FloatArray:
        return np.broadcast_to(np.asarray(register, dtype=np.float64), node.shape).reshape(shape)

    bias = full(node.bias_mant.astype(np.int64) << node.bias_exp) / (1 << VTH_SHIFT)
    mem = tau_steps(full(node.dv) / DECAY_UNITY)
    common: dict[str, Any] = {
        "v_threshold": full(node.vth).copy(),
        "v_reset": np.zeros(shape),
        "metadata": {
            "reset": "zero",
            "bias_exp": int(node.bias_exp),
            "shape": np.array(node.shape),
            "per_neuron": ",".join(k for k in REGISTERS if getattr(node, k).ndim),
        },
    }
    if np.any(node.du != NO_SYNAPTIC_MEMORY):
        syn = tau_steps((full(node.du) + DU_OFFSET) / DECAY_UNITY)
        return nir.CubaLIF(
            tau_syn=syn * dt, tau_mem=mem * dt, r=mem, v_leak=bias * mem, w_in=syn, **common
        )
    if np.any(node.dv) or np.any(bias):
        return nir.LIF(tau=mem * dt, r=mem, v_leak=bias * mem, **common)
    return nir.IF(r=np.ones(shape), **common)


def _give_outputs(
    graph: LoihiGraph, flat: set[str], nodes: dict[str, nir.NIRNode]
) -> list[tuple[str, str]]:
    """A NIR graph ends in outputs: those populations that feed nothing else."""
    sources = {a for a, b in graph.ends.values() if a != b}
    edges = []
    for name in [n for n in graph.neurons if n not in sources] or list(graph.neurons)[-1:]:
        shape = graph.shape_of(name)
        size = np.array((int(np.prod(shape)),) if name in flat else shape)
        nodes[f"{name}.output"] = nir.Output(output_type={"output": size})
        edges.append((name, f"{name}.output"))
    return edges
