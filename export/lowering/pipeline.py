"""Lowering: a NIR graph (float, SI units) becomes a LoihiGraph (integers), pass by pass.

The order of passes: check every node and edge, dissolve nested graphs, restore rewritten convolutions
-> settle dt, read-out and reset -> neurons and linear links (pooling folded into weights, bias
collected) -> split by sign where asked -> choice of scale, exponents and integers -> delay balancing
-> check against the chip's limits. Each pass is a pure function.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import nir
import numpy as np
from numpy.typing import ArrayLike

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import RangeError
from biril_nm.export.design_rules import check_design
from biril_nm.export.lowering.numbers.state_bounds import Decays, Peaks
from biril_nm.export.lowering.numbers.weight_grid import Scaled, check_search, split_signs
from biril_nm.export.lowering.passes.assemble import assemble, facts
from biril_nm.export.lowering.passes.balance_delays import balance_delays
from biril_nm.export.lowering.passes.calibrate import calibrate_peaks
from biril_nm.export.lowering.passes.float_net import FloatLink, FloatNet, float_net, free_name
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.export.lowering.passes.quantize import QuantizedNode, quantize_node
from biril_nm.export.lowering.passes.settle import settle_dt, settle_readout, settle_reset
from biril_nm.export.nir_files.exact_reading import exact_graph
from biril_nm.export.nir_nodes.linear_maps import naming, scale_rows
from biril_nm.export.nir_nodes.neurons import Dynamics
from biril_nm.export.nir_nodes.typed_convolutions import restored
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi import LOIHI2, WEIGHT_BITS, ChipProfile, chip_profile

__all__ = ["ideal_weights", "lower"]

log = logging.getLogger(__name__)

PLUS, MINUS = "plus", "minus"
BEYOND_REGISTERS = (
    2.0**60
)  # weight per threshold; the largest that any chip holds is 255 * 2**7 / 2


def lower(
    nir_graph: nir.NIRGraph,
    chip: ChipProfile | str = LOIHI2,
    dt_s: float | None = None,
    weight_bits: int = 8,
    reset: str | None = None,
    calibration: ArrayLike | Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
    readout: str | None = None,
    scale_search: str = "max",
    split_mixed: bool = False,
) -> LoihiGraph:
    """Turn a NIR graph into an integer network for ``chip``.

    Args:
        nir_graph: from :func:`to_nir`, ``nir.read`` or any other producer.
        chip: register limits.
        dt_s: width of a step in seconds; needed if the file does not say.
        weight_bits: bits per weight, 1 to 8.
        reset: ``"zero"`` says that spikes reset v to zero where the file does not tell;
            ``"force-zero"`` accepts the change of meaning where it tells otherwise.
        calibration: chip input ``(n_steps, batch, *shape)``, a dict for several inputs; limits the
            scale by observed peaks of u and v where proven bounds would cost precision.
        seed: kept in the metadata for stages with chance; lowering itself has none.
        readout: ``"accumulate"`` sums the output of a last linear layer over the steps in neurons
            ``LAYER.sum`` without threshold; files that tell so need no request.
        scale_search: ``"max"`` clips no weight, ``"percentile"`` the largest 0.1 %, ``"mse"`` as many as
            make the squared error of rounding and clipping smallest.
        split_mixed: give weights of both signs two connections, ``NAME.plus`` and ``NAME.minus``, with all
            bits each; 1-bit weights are always split.

    Raises:
        UnsupportedNodeError: meaning would be lost; the message names node and way out.
        RangeError: the registers cannot hold the network.
        ConfigError: dt or an argument is missing or contradicts the file.
    """
    profile = chip_profile(chip)
    check_search(scale_search)
    plain = plain_graph(nir_graph)
    flat = restored(plain)
    dt = settle_dt(flat, dt_s)
    exact = exact_graph(plain) if weight_bits == WEIGHT_BITS else None
    if exact is not None:
        check_design(exact, profile)
        return exact
    flat = settle_readout(flat, readout)
    resets = settle_reset(flat, reset, profile)
    net = float_net(flat, dt)
    split = split_mixed or weight_bits == 1
    net = _split(net) if split else net
    peaks = calibrate_peaks(net, calibration) if calibration is not None else {}
    quantized = {
        name: _quantize(net, name, profile, weight_bits, peaks.get(name), scale_search)
        for name in net.neurons
    }
    late = [link.name for link in net.links if link.late]
    graph, delays = balance_delays(assemble(net, quantized, weight_bits), profile.delay_max, late)
    settings = {
        "dt_s": dt,
        "seed": seed,
        "scale_search": scale_search,
        "split_mixed": split,
        "readout": readout or "",
        "notes": [*net.notes, *_loop_notes(graph, late), *_vanished_notes(quantized)],
        "balanced_delays": delays,
    }
    graph = graph.with_metadata(**facts(flat, net, quantized, resets, profile, **settings))
    check_design(graph, profile)
    log.info("lowered %d neuron nodes, %d connections", len(graph.neurons), len(graph.connections))
    return graph


def ideal_weights(nir_graph: nir.NIRGraph, graph: LoihiGraph) -> dict[str, FloatArray]:
    """Weights before rounding, in the integer units of each connection of ``graph``.

    Args:
        nir_graph: what ``graph`` was lowered from.
        graph: the result of :func:`lower`.

    Returns:
        Connection -> flat float64 array in the order of the stored weights.
    """
    metadata = graph.metadata
    flat = settle_readout(restored(plain_graph(nir_graph)), metadata.get("readout") or None)
    net = float_net(flat, float(metadata["dt_s"]))
    net = _split(net) if metadata.get("split_mixed") else net
    ideal = {}
    for name, (shape, dynamics) in net.neurons.items():
        gain = _row_gain(dynamics, shape)
        for link in net.links_into(name):
            known = metadata["quantisation"][link.name]
            units = known["scale"] / 2.0 ** known["weight_exp"]
            ideal[link.name] = _scaled(net, link, gain).values * units
    return ideal


def _row_gain(dynamics: Dynamics, shape: Shape) -> FloatArray:
    """Weight gain per threshold of each neuron; per volt where there is no threshold."""
    return np.asarray(dynamics.weight_gain / _level(dynamics, shape))


def _level(dynamics: Dynamics, shape: Shape) -> FloatArray:
    spiking = np.all(np.isfinite(dynamics.threshold))
    return dynamics.threshold if spiking else np.ones(shape)


def _split(net: FloatNet) -> FloatNet:
    """Each link of both signs as two, one excitatory and one inhibitory."""
    links: list[FloatLink] = []
    taken = {*net.inputs, *net.neurons, *net.outputs, *(link.name for link in net.links)}
    for link in net.links:
        parts = split_signs(link.linear)
        if parts is None:
            links.append(link)
            continue
        for sign, part in zip((PLUS, MINUS), parts):
            name = free_name(f"{link.name}.{sign}", taken)
            taken.add(name)
            links.append(replace(link, name=name, linear=part))
    return replace(net, links=tuple(links))


def _quantize(
    net: FloatNet,
    name: str,
    chip: ChipProfile,
    weight_bits: int,
    peaks: Peaks | None,
    scale_search: str,
) -> QuantizedNode:
    shape, d = net.neurons[name]
    with np.errstate(over="ignore", invalid="ignore"):
        links = [_scaled(net, link, _row_gain(d, shape)) for link in net.links_into(name)]
        bias = (d.bias_gain * net.bias[name] + d.drive) / _level(d, shape)
    for what, values in (*((link.name, link.values) for link in links), ("bias", bias)):
        if not np.all(np.abs(values) < BEYOND_REGISTERS):
            raise RangeError(
                f"node '{name}': '{what}' reaches {np.abs(values).max():.3g} thresholds in one step, "
                f"which no scale brings into the registers; reduce it, or raise the threshold"
            )
    told = [metadata.get("n_steps", 1) for _, metadata in net.inputs.values()]
    decays = Decays(
        u=np.asarray(d.u_decay).ravel(),
        v=np.asarray(d.v_decay).ravel(),
        spiking=bool(np.all(np.isfinite(d.threshold))),
        n_steps=max(told) if max(told) > 1 else 0,
    )
    return quantize_node(name, links, bias, decays, chip, weight_bits, peaks, scale_search)


def _scaled(net: FloatNet, link: FloatLink, gain: FloatArray) -> Scaled:
    with naming(link.name):
        linear = scale_rows(link.linear, gain)
    if link.source not in net.inputs:
        return Scaled(link.name, linear, 1)
    metadata = net.inputs[link.source][1]
    bits, scale = int(metadata.get("message_bits", 0)), float(metadata.get("scale", 1))
    linear = scale_rows(linear, np.full(linear.out_shape, 1.0 / scale))
    return Scaled(link.name, linear, (1 << bits) - 1 if bits else 1)


def _loop_notes(graph: LoihiGraph, late: list[str]) -> list[str]:
    """Loops of several connections in a file that does not say how long they should take."""
    order = {name: rank for rank, name in enumerate(graph.timing.order)}
    return [
        f"spikes return through '{name}' after {slack} steps, one for each connection of the loop"
        for name, slack in graph.timing.slack.items()
        if name not in late
        and slack > 1 + graph.connections[name].delay
        and order.get(graph.ends[name][0], -1) > order.get(graph.ends[name][1], -1)
    ]


def _vanished_notes(quantized: Mapping[str, QuantizedNode]) -> list[str]:
    """Connections that the largest weights or thresholds beside them leave nothing of."""
    return [
        f"all {told['weights']} weights of '{name}' are rounded to 0: they are too small beside the "
        f"threshold or the other connections of '{node}'"
        for node, found in quantized.items()
        for name, told in found.link_facts.items()
        if told["vanished"]
    ]
