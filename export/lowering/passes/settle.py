"""What a NIR file leaves open: step width, readout and reset kind. Decided here, or asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nir
import numpy as np

from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.lowering.passes.float_net import free_name
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS
from biril_nm.loihi import ChipProfile

__all__ = ["FORCE_ZERO", "READOUTS", "RESETS", "Settled", "settle", "settle_dt", "settle_readout"]

FORCE_ZERO = "force-zero"
RESETS = ("zero", FORCE_ZERO)
READOUTS = ("accumulate",)
# Readouts of a file that accumulation computes.
SUMMED = ("sum", "mean")


@dataclass(frozen=True, eq=False)
class Settled:
    """A NIR graph of which nothing is left open.

    Attributes:
        graph: with integrators where the readout sums a linear layer.
        dt_s: width of a step in seconds.
        resets: spiking node -> its reset kind, and who decided it.
    """

    graph: nir.NIRGraph
    dt_s: float
    resets: Mapping[str, Mapping[str, str]]


def settle(
    graph: nir.NIRGraph, dt_s: float, reset: str | None, readout: str | None, chip: ChipProfile
) -> Settled:
    """Decide readout and reset kinds, by the file or by the caller's ``reset`` and ``readout``.

    Raises:
        UnsupportedNodeError: a reset kind is unknown, or the chip lacks it; all nodes are listed.
    """
    graph = settle_readout(graph, readout)
    return Settled(graph, dt_s, _settled_resets(graph, reset, chip))


def settle_dt(graph: nir.NIRGraph, dt_s: float | None) -> float:
    """Width of a step in seconds, from the file or the caller.

    Raises:
        ConfigError: neither gives it, or they differ.
    """
    written = sorted(
        {n.metadata["dt"] for n in (graph, *graph.nodes.values()) if "dt" in n.metadata}
    )
    if written and not _same_dt(written[0], written[-1]):
        raise ConfigError(f"dt of the graph's nodes is {written} s; expected one value for all")
    if dt_s is None and not written:
        raise ConfigError(
            "dt of the graph is missing; expected the width of a time step, without which time "
            "constants in seconds mean nothing. Pass dt_s (--dt) as the network was trained"
        )
    if dt_s is None:
        return float(written[0])
    if written and not _same_dt(dt_s, written[0]):
        raise ConfigError(
            f"dt_s is {dt_s}; expected {written[0]} s, with which the graph was written. Leave dt_s out"
        )
    return float(dt_s)


def _same_dt(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=1e-6, atol=0))


def _settled_resets(
    graph: nir.NIRGraph, reset: str | None, chip: ChipProfile
) -> dict[str, dict[str, str]]:
    settled: dict[str, dict[str, str]] = {}
    findings = []
    for name, node in graph.nodes.items():
        if type(node) not in NEURON_KINDS or not hasattr(node, "v_threshold"):
            continue
        written = node.metadata.get("reset")
        drops = written == "zero" and bool(node.metadata.get("reset_drops_input", 0))
        if written == "zero" and not drops:
            settled[name] = {"reset": "zero", "from": "file"}
        elif reset == FORCE_ZERO or (written is None and reset == "zero"):
            before = f"{written} with loss of input" if drops else written or "unknown"
            settled[name] = {"reset": "zero", "from": f"user ({before} in the file)"}
        else:
            who = f"node '{name}' ({type(node).__name__})"
            findings.append(f"{who}: {_unsettled(written, drops, chip)}")
    if findings:
        raise UnsupportedNodeError(
            bullet_list("the reset of these neurons is not settled:", findings)
        )
    return settled


def _unsettled(written: str | None, drops: bool, chip: ChipProfile) -> str:
    if written is None:
        return (
            "the file does not say what a spike does to v; expected reset to 0. Pass reset='zero' "
            "(--reset zero) if that is what it does"
        )
    accept = f"or pass reset='{FORCE_ZERO}' and accept the change"
    if drops:
        return (
            f"its delayed reset to zero also loses the input of the step after a spike; expected a reset "
            f"that loses none, as on '{chip.name}'. Train with reset_delay=False (snnTorch's RSynaptic and "
            f"Lapicque have none that works), {accept}"
        )
    return (
        f"reset is '{written}'; expected 'zero', the reset of '{chip.name}'. Train with "
        f"reset_mechanism='zero', {accept}"
    )


def settle_readout(graph: nir.NIRGraph, readout: str | None) -> nir.NIRGraph:
    """Put integrators where an output reads a linear layer, if that is what the sum over steps means.

    An output whose file asks for a sum (Output metadata ``readout`` sum or mean) or for which the
    caller asks ``accumulate`` reads a node ``LAYER.sum`` (NIR ``I``, ``v += x`` per step).
    """
    nodes, edges = dict(graph.nodes), list(graph.edges)
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.Output) or any(a == name for a, _ in edges):
            continue
        if readout is None and node.metadata.get("readout") not in SUMMED:
            continue
        sources = [a for a, b in edges if b == name]
        if not sources or not _linear_end(graph, sources):
            continue
        summed = free_name(f"{sources[0] if len(sources) == 1 else name}.sum", nodes)
        nodes[summed] = nir.I(r=np.ones(()), metadata={"if_integration": "per_step"})
        edges = [(a, summed if b == name else b) for a, b in edges] + [(summed, name)]
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata), type_check=False)


def _linear_end(graph: nir.NIRGraph, sources: list[str]) -> bool:
    """Whether something other than reshaping stands between the neurons and an output."""
    while len(sources) == 1 and isinstance(graph.nodes[sources[0]], (nir.Flatten, nir.Output)):
        sources = [a for a, b in graph.edges if b == sources[0]]
    return len(sources) != 1 or type(graph.nodes[sources[0]]) not in NEURON_KINDS
