"""Lowering: a NIR graph (float, SI units) becomes a LoihiGraph (integers), pass by pass.

The order of passes: dissolve nested graphs -> settle dt and reset -> neurons and linear links
(pooling folded into weights, bias collected) -> choice of scale, exponents and integers ->
delay balancing -> check against the chip's limits. Each pass is a pure function.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import metadata as package_metadata
from typing import Any

import nir
import numpy as np
from numpy.typing import ArrayLike, NDArray

import biril_nm
from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.design_rules import check_design
from biril_nm.export.passes.balance_delays import balance_delays
from biril_nm.export.passes.calibrate import calibrate_peaks
from biril_nm.export.passes.exact_registers import exact_graph
from biril_nm.export.passes.linear_maps import Convolution, scale_rows
from biril_nm.export.passes.links import FloatLink, FloatNet, flatten_graph, float_net
from biril_nm.export.passes.neuron_kinds import NEURON_KINDS, Dynamics
from biril_nm.export.passes.quantize import QuantizedNode, Scaled, quantize_node
from biril_nm.fixed_point import decay_u_register, decay_v_register
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
from biril_nm.loihi import LOIHI2, WEIGHT_BITS, ChipProfile, chip_profile

__all__ = ["ideal_weights", "lower"]

log = logging.getLogger(__name__)

FORCE_ZERO = "force-zero"


def lower(
    nir_graph: nir.NIRGraph,
    chip: ChipProfile | str = LOIHI2,
    dt_s: float | None = None,
    weight_bits: int = 8,
    reset: str | None = None,
    calibration: ArrayLike | None = None,
    seed: int = 0,
) -> LoihiGraph:
    """Turn a NIR graph into an integer network for ``chip``.

    Args:
        nir_graph: from :func:`to_nir`, ``nir.read`` or any other producer.
        chip: register limits.
        dt_s: width of a step in seconds; needed if the file does not say.
        weight_bits: bits per weight, 1 to 8.
        reset: ``"zero"`` says that spikes reset v to zero where the file does not tell;
            ``"force-zero"`` accepts the change of meaning where it tells otherwise.
        calibration: chip input ``(n_steps, batch, *shape)``; limits the scale by observed peaks
            where the proven bound on |u| would cost precision.
        seed: kept in the metadata for stages with chance; lowering itself has none.

    Raises:
        UnsupportedNodeError: meaning would be lost; the message names node and way out.
        RangeError: the registers cannot hold the network.
        ConfigError: dt or an argument is missing or contradicts the file.
    """
    profile = chip_profile(chip)
    flat = flatten_graph(nir_graph)
    dt = _settle_dt(flat, dt_s)
    restored = exact_graph(nir_graph) if weight_bits == WEIGHT_BITS else None
    if restored is not None:
        check_design(restored, profile)
        return restored
    resets = _settle_reset(flat, reset, profile)
    net = float_net(flat, dt)
    peaks = calibrate_peaks(net, calibration) if calibration is not None else {}
    quantized = {
        name: _quantize(net, name, profile, weight_bits, peaks.get(name)) for name in net.neurons
    }
    graph = _assemble(net, quantized, weight_bits)
    graph, delays = balance_delays(graph, profile.delay_max)
    graph = graph.with_metadata(
        **_metadata(flat, net, quantized, dt, resets, profile, seed), balanced_delays=delays
    )
    check_design(graph, profile)
    log.info("lowered %d neuron nodes, %d connections", len(graph.neurons), len(graph.connections))
    return graph


def ideal_weights(nir_graph: nir.NIRGraph, graph: LoihiGraph) -> dict[str, NDArray[np.float64]]:
    """Weights before rounding, in the integer units of each connection of ``graph``.

    Args:
        nir_graph: what ``graph`` was lowered from.
        graph: the result of :func:`lower`.

    Returns:
        Connection -> flat float64 array in the order of the stored weights.
    """
    net = float_net(flatten_graph(nir_graph), float(graph.metadata["dt_s"]))
    ideal = {}
    for name, (shape, dynamics) in net.neurons.items():
        gain = _row_gain(dynamics, shape)
        for link in net.links_into(name):
            facts = graph.metadata["quantisation"][link.name]
            units = facts["scale"] / 2.0 ** facts["weight_exp"]
            ideal[link.name] = _scaled(net, link, gain).values * units
    return ideal


def _row_gain(dynamics: Dynamics, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Weight gain per threshold of each neuron; per volt where there is no threshold."""
    return np.asarray(dynamics.weight_gain / _level(dynamics, shape))


def _level(dynamics: Dynamics, shape: tuple[int, ...]) -> NDArray[np.float64]:
    spiking = np.all(np.isfinite(dynamics.threshold))
    return dynamics.threshold if spiking else np.ones(shape)


def _settle_dt(graph: nir.NIRGraph, dt_s: float | None) -> float:
    told = {float(graph.metadata["dt"])} if "dt" in (graph.metadata or {}) else set()
    told |= {float(n.metadata["dt"]) for n in graph.nodes.values() if "dt" in (n.metadata or {})}
    if len(told) > 1:
        raise ConfigError(f"the graph's nodes give different dt ({sorted(told)} s); one is allowed")
    if dt_s is None:
        if told:
            return told.pop()
        raise ConfigError(
            "the graph does not say how wide a time step is, and time constants in seconds mean "
            "nothing without it; pass dt_s (--dt), as the network was trained"
        )
    if not dt_s > 0:
        raise ConfigError(f"dt_s is {dt_s}; it must be above 0 s")
    if told and not np.isclose(dt_s, next(iter(told)), rtol=1e-6):
        raise ConfigError(
            f"dt_s is {dt_s} but the graph was written with dt {told.pop()} s; leave dt_s out"
        )
    return dt_s


def _settle_reset(
    graph: nir.NIRGraph, reset: str | None, chip: ChipProfile
) -> dict[str, dict[str, str]]:
    """Reset kind of each spiking node and how it was settled; refuse what the chip lacks."""
    if reset not in (None, "zero", FORCE_ZERO):
        raise ConfigError(f"reset is '{reset}'; allowed are zero and {FORCE_ZERO}")
    settled: dict[str, dict[str, str]] = {}
    findings = []
    for name, node in graph.nodes.items():
        if type(node) not in NEURON_KINDS or not hasattr(node, "v_threshold"):
            continue
        told = (node.metadata or {}).get("reset")
        told = told.decode() if isinstance(told, bytes) else told
        if told == "zero":
            settled[name] = {"reset": "zero", "from": "file"}
        elif reset == FORCE_ZERO or (told is None and reset == "zero"):
            settled[name] = {"reset": "zero", "from": f"user ({told or 'unknown'} in the file)"}
        elif told is None:
            findings.append(
                f"node '{name}' ({type(node).__name__}): the file does not say what a spike does to v; "
                f"pass reset='zero' (--reset zero) if v is reset to 0"
            )
        else:
            findings.append(
                f"node '{name}' ({type(node).__name__}): reset '{told}' cannot run on '{chip.name}', "
                f"which resets v to 0. Train with reset_mechanism='zero', or pass "
                f"reset='{FORCE_ZERO}' and accept the change"
            )
    if findings:
        raise UnsupportedNodeError(
            bullet_list("the reset of these neurons is not settled:", findings)
        )
    return settled


def _quantize(
    net: FloatNet, name: str, chip: ChipProfile, weight_bits: int, peak: float | None
) -> QuantizedNode:
    shape, d = net.neurons[name]
    spiking = bool(np.all(np.isfinite(d.threshold)))
    level = _level(d, shape)
    affine = net.bias[name]
    if d.filtered_bias and np.any(affine):
        raise UnsupportedNodeError(
            f"node '{name}' (CubaLIF) has an affine bias in front, which passes its synaptic filter; the "
            f"chip's bias does not. Train without bias in front of it"
        )
    links = [_scaled(net, link, _row_gain(d, shape)) for link in net.links_into(name)]
    bias = (d.bias_gain * affine + d.drive) / level
    return quantize_node(
        name, links, bias, spiking, float(d.u_decay.min()), chip, weight_bits, peak
    )


def _scaled(net: FloatNet, link: FloatLink, gain: NDArray[np.float64]) -> Scaled:
    linear = scale_rows(link.linear, gain)
    if link.source not in net.inputs:
        return Scaled(link.name, linear, 1)
    metadata = net.inputs[link.source][1]
    bits, scale = int(metadata.get("message_bits", 0)), float(metadata.get("scale", 1))
    linear = scale_rows(linear, np.full(linear.out_shape, 1.0 / scale))
    return Scaled(link.name, linear, (1 << bits) - 1 if bits else 1)


def _assemble(
    net: FloatNet, quantized: Mapping[str, QuantizedNode], weight_bits: int
) -> LoihiGraph:
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
        nodes[name] = Neurons(
            shape,
            vth=node.vth,
            du=_registers(dynamics.u_decay, decay_u_register),
            dv=_registers(dynamics.v_decay, decay_v_register),
            bias_mant=_collapse(node.bias_mant),
            bias_exp=node.bias_exp,
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


def _registers(fractions: NDArray[np.float64], convert: Any) -> Any:
    values, where = np.unique(fractions, return_inverse=True)
    registers = np.array([convert(float(value)) for value in values], dtype=np.int64)
    return _collapse(registers[where].reshape(fractions.shape))


def _collapse(register: NDArray[np.int64]) -> Any:
    """One integer where all neurons share it."""
    return int(register.flat[0]) if np.all(register == register.flat[0]) else register


def _metadata(
    graph: nir.NIRGraph,
    net: FloatNet,
    quantized: Mapping[str, QuantizedNode],
    dt_s: float,
    resets: Mapping[str, Mapping[str, str]],
    chip: ChipProfile,
    seed: int,
) -> dict[str, Any]:
    inputs = {}
    for name, (_, told) in net.inputs.items():
        kind = told.get("coding", "spikes")
        inputs[name] = {
            "kind": kind.decode() if isinstance(kind, bytes) else str(kind),
            "n_steps": int(told.get("n_steps", 1)),
            "message_bits": int(told.get("message_bits", 0)),
        }
    return {
        "producer": str((graph.metadata or {}).get("producer", "unknown")),
        "chip": chip.name,
        "dt_s": dt_s,
        "reset": {name: dict(how) for name, how in resets.items()},
        "coding": inputs,
        "neurons": {name: dict(node.facts) for name, node in quantized.items()},
        "quantisation": {
            name: dict(facts)
            for node in quantized.values()
            for name, facts in node.link_facts.items()
        },
        "seed": seed,
        "versions": {"biril-nm": biril_nm.__version__, "nir": package_metadata.version("nir")},
    }
