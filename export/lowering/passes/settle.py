"""What a NIR file leaves open: step width, reset kind, read-out. Settled here, or asked for."""

from __future__ import annotations

import nir
import numpy as np

from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.lowering.passes.float_net import free_name
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS
from biril_nm.loihi import ChipProfile

__all__ = ["FORCE_ZERO", "READOUTS", "settle_dt", "settle_readout", "settle_reset"]

FORCE_ZERO = "force-zero"
READOUTS = ("accumulate",)
SUMMED = ("sum", "mean")  # read-outs of the file that accumulation computes


def settle_dt(graph: nir.NIRGraph, dt_s: float | None) -> float:
    """Step width in seconds, from the file or the caller.

    Raises:
        ConfigError: nobody tells, or both tell differently.
    """
    told = sorted({n.metadata["dt"] for n in (graph, *graph.nodes.values()) if "dt" in n.metadata})
    if told and not np.isclose(told[0], told[-1], rtol=1e-6, atol=0):
        raise ConfigError(f"the graph's nodes give different dt ({told} s); one is allowed")
    if dt_s is None:
        if told:
            return float(told[0])
        raise ConfigError(
            "the graph does not say how wide a time step is, and time constants in seconds mean "
            "nothing without it; pass dt_s (--dt), as the network was trained"
        )
    if not 0 < dt_s < np.inf:
        raise ConfigError(f"dt_s is {dt_s}; it must be above 0 s and finite")
    if told and not np.isclose(dt_s, told[0], rtol=1e-6, atol=0):
        raise ConfigError(
            f"dt_s is {dt_s} but the graph was written with dt {told[0]} s; leave dt_s out"
        )
    return dt_s


def settle_reset(
    graph: nir.NIRGraph, reset: str | None, chip: ChipProfile
) -> dict[str, dict[str, str]]:
    """Reset kind of each spiking node and how it was settled.

    Raises:
        UnsupportedNodeError: a kind is unknown, or the chip lacks it; all nodes are listed.
    """
    if reset not in (None, "zero", FORCE_ZERO):
        raise ConfigError(f"reset is '{reset}'; allowed are zero and {FORCE_ZERO}")
    settled: dict[str, dict[str, str]] = {}
    findings = []
    for name, node in graph.nodes.items():
        if type(node) not in NEURON_KINDS or not hasattr(node, "v_threshold"):
            continue
        told = node.metadata.get("reset")
        drops = told == "zero" and bool(node.metadata.get("reset_drops_input", 0))
        if told == "zero" and not drops:
            settled[name] = {"reset": "zero", "from": "file"}
        elif reset == FORCE_ZERO or (told is None and reset == "zero"):
            before = f"{told} with loss of input" if drops else told or "unknown"
            settled[name] = {"reset": "zero", "from": f"user ({before} in the file)"}
        else:
            findings.append(_unsettled(name, node, told, drops, chip))
    if findings:
        raise UnsupportedNodeError(
            bullet_list("the reset of these neurons is not settled:", findings)
        )
    return settled


def _unsettled(
    name: str, node: nir.NIRNode, told: str | None, drops: bool, chip: ChipProfile
) -> str:
    who = f"node '{name}' ({type(node).__name__})"
    if told is None:
        return (
            f"{who}: the file does not say what a spike does to v; pass reset='zero' (--reset zero) "
            f"if v is reset to 0"
        )
    accept = f"or pass reset='{FORCE_ZERO}' and accept the change"
    if drops:
        return (
            f"{who}: its delayed reset to zero also loses the input of the step after a spike, which "
            f"'{chip.name}' does not. Train with reset_delay=False (snnTorch's RSynaptic and Lapicque "
            f"have none that works), {accept}"
        )
    return (
        f"{who}: reset '{told}' cannot run on '{chip.name}', which resets v to 0. Train with "
        f"reset_mechanism='zero', {accept}"
    )


def settle_readout(graph: nir.NIRGraph, readout: str | None) -> nir.NIRGraph:
    """Put integrators where an output reads a linear layer, if that is what the sum over steps means.

    An output that the file tells to be summed (Output metadata ``readout`` sum or mean) or for which the
    caller asks ``accumulate`` reads a node ``LAYER.sum`` (NIR ``I``, ``v += x`` per step).

    Raises:
        ConfigError: ``readout`` is unknown.
    """
    if readout not in (None, *READOUTS):
        raise ConfigError(f"readout is '{readout}'; allowed: {', '.join(READOUTS)}")
    nodes, edges = dict(graph.nodes), list(graph.edges)
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.Output) or any(a == name for a, _ in edges):
            continue
        told = node.metadata.get("readout")
        sources = [a for a, b in edges if b == name]
        if not sources or not _linear_end(graph, sources):
            continue
        if readout is None and told not in SUMMED:
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
