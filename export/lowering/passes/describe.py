"""The facts that travel with an integer graph: where it comes from, what was chosen, what it cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import metadata as package_metadata
from typing import Any

import nir
import numpy as np

import biril_nm
from biril_nm.export.lowering.numbers.state_bounds import Peaks
from biril_nm.export.lowering.passes.float_net import FloatNet
from biril_nm.export.lowering.passes.quantize import FEW_BITS, QuantizedNode
from biril_nm.export.lowering.passes.settle import Settled
from biril_nm.export.nir_files.repair import REPAIRS
from biril_nm.export.nir_nodes.neurons import LARGEST
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi import ChipProfile

__all__ = ["delayed_notes", "describe", "notes", "repairs", "several_spikes_notes"]

TWO_SPIKES = 2.0  # thresholds


def describe(
    settled: Settled, net: FloatNet, quantised: Mapping[str, QuantizedNode], chip: ChipProfile
) -> dict[str, Any]:
    """Metadata of the integer graph that follow from the stages before it."""
    inputs = {
        name: {
            "kind": metadata.get("coding", "spikes"),
            "n_steps": int(metadata.get("n_steps", 1)),
            "message_bits": int(metadata.get("message_bits", 0)),
        }
        for name, (_, metadata) in net.inputs.items()
    }
    return {
        "producer": settled.graph.metadata.get("producer", "unknown"),
        "chip": chip.name,
        **({} if settled.dt_s is None else {"dt_s": settled.dt_s}),
        "reset": {name: dict(how) for name, how in settled.resets.items()},
        "coding": inputs,
        "neurons": {name: _facts(settled, name, node) for name, node in quantised.items()},
        "quantisation": {
            name: dict(link.facts)
            for node in quantised.values()
            for name, link in node.links.items()
        },
        "versions": {"biril-nm": biril_nm.__version__, "nir": package_metadata.version("nir")},
    }


def _facts(settled: Settled, name: str, node: QuantizedNode) -> dict[str, Any]:
    """Those of the registers, and whether the neurons stand for the largest of some spikes."""
    written = settled.graph.nodes[name].metadata if name in settled.graph.nodes else None
    return {**node.facts, **({LARGEST: 1} if (written or {}).get(LARGEST) else {})}


def repairs(graph: nir.NIRGraph) -> list[str]:
    """What was mended when the file was read."""
    text = (graph.metadata or {}).get(REPAIRS)
    return [f"the file was mended: {line}" for line in str(text).splitlines()] if text else []


def notes(
    graph: LoihiGraph,
    net: FloatNet,
    quantised: Mapping[str, QuantizedNode],
    late: Collection[str],
) -> list[str]:
    """What a reader of the result must know."""
    return [
        *net.notes,
        *_loop_notes(graph, late),
        *_vanished_notes(quantised),
        *_coarse_notes(quantised),
    ]


def several_spikes_notes(
    resets: Mapping[str, Mapping[str, str]], peaks: Mapping[str, Peaks]
) -> list[str]:
    """Neurons with a reset by subtraction that the file does not name, and input for two spikes in a step."""
    asked = {"subtract": "user (unknown in the file)"}
    return [
        f"v of '{name}' reached {peaks[name].v_above:.3g} thresholds on the calibration data, and a neuron "
        f"of the chip sends one spike per step. Frameworks that send several in one step (sinabs by default, "
        f"Rockpool) compute another network: train with at most one (SingleSpike, max_spikes_per_dt=1)"
        for name, found in resets.items()
        if asked.get(found["reset"]) == found["from"]
        and name in peaks
        and peaks[name].v_above >= TWO_SPIKES
    ]


def delayed_notes(graph: LoihiGraph, delays: Mapping[str, int]) -> list[str]:
    """Populations that begin later than in the network, because all that they receive is delayed."""
    return [
        f"all that '{name}' receives is delayed (steps: {steps}), so that index t of its recording is step "
        f"t + {steps} of the network"
        + (", and its bias acts from there on" if np.any(graph.neurons[name].bias_mant) else "")
        for name, steps in delays.items()
    ]


def _loop_notes(graph: LoihiGraph, late: Collection[str]) -> list[str]:
    """Loops of several connections in a file that does not say how long they should take."""
    order = {name: rank for rank, name in enumerate(graph.timing.order)}
    return [
        f"spikes return through '{name}' after {slack} steps, one for each connection of the loop"
        for name, slack in graph.timing.slack.items()
        if name not in late
        and slack > 1 + graph.connections[name].delay
        and order.get(graph.ends[name][0], -1) > order.get(graph.ends[name][1], -1)
    ]


def _vanished_notes(quantised: Mapping[str, QuantizedNode]) -> list[str]:
    """Connections of which the larger weights or thresholds beside them leave nothing."""
    return [
        f"all {link.facts['weights']} weights of '{name}' are rounded to 0: they are too small beside the "
        f"threshold or the other connections of '{node}'"
        for node, found in quantised.items()
        for name, link in found.links.items()
        if link.facts["vanished"]
    ]


def _coarse_notes(quantised: Mapping[str, QuantizedNode]) -> list[str]:
    """Connections in which some neurons keep few bits beside those of larger weights."""
    return [
        f"{link.facts['neurons_below']} neurons of '{node}' keep fewer than {FEW_BITS} bits of their "
        f"weights in '{name}' (the worst keeps {link.facts['bits_worst']}), because one scale serves the "
        f"whole population and others have larger weights. Bring the weights closer together, or split "
        f"the population"
        for node, found in quantised.items()
        for name, link in found.links.items()
        if link.facts["neurons_below"] and not link.facts["vanished"]
    ]
