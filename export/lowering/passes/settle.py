"""What a NIR file leaves open: step width, readout, reset kind, growth of IF. Decided here, or asked for."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import nir
import numpy as np

from biril_nm.compartments import SpikeReset
from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.lowering.passes.float_net import free_name
from biril_nm.export.lowering.passes.integration import (
    CONTINUOUS,
    PER_STEP,
    integration_of,
    open_question,
)
from biril_nm.export.lowering.passes.settle_resets import SUBTRACT, ZERO, settle_resets
from biril_nm.export.nir_nodes.neurons import INTEGRATION, NEURON_KINDS
from biril_nm.export.nir_nodes.resets import written_reset
from biril_nm.loihi import ChipProfile

__all__ = [
    "READOUTS",
    "Settled",
    "settle",
    "settle_dt",
    "settle_integration",
    "settle_readout",
]

READOUTS = ("accumulate",)
# Readouts of a file that accumulation computes.
SUMMED = ("sum", "mean")
# From here on, a synaptic time constant is long beside a step of 1; Norse's default has 5 steps.
LONG_TAU_STEPS = 3.0


@dataclass(frozen=True, eq=False)
class Settled:
    """A NIR graph of which nothing is left open.

    Attributes:
        graph: with integrators where the readout sums a linear layer, and in the metadata the reset of
            every spiking node and ``if_integration`` of every IF and I.
        dt_s: width of a step in seconds; None where nothing depends on it and nobody gives it.
        resets: spiking node -> its reset kind, and who decided it.
        forced: nodes whose reset is another than the file says -> what it says.
        notes: what a reader of the result must know.
    """

    graph: nir.NIRGraph
    dt_s: float | None
    resets: Mapping[str, Mapping[str, str]]
    forced: Mapping[str, SpikeReset] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def step_s(self) -> float:
        """Width of a step for the equations; 1 s where nothing depends on it."""
        return 1.0 if self.dt_s is None else self.dt_s


def settle(
    graph: nir.NIRGraph,
    dt_s: float | None,
    reset: str | None,
    readout: str | None,
    if_integration: str | None,
    chip: ChipProfile,
) -> Settled:
    """Decide everything that is open by the file or by the caller; ask for the rest in one message.

    Raises:
        ConfigError: dt is missing; the message also lists the resets and integrations that are open.
        UnsupportedNodeError: a reset kind is unknown, or the chip lacks it, or r of an IF can mean
            two things; all nodes are listed.
    """
    graph = settle_readout(graph, readout)
    outvoted = tuple(_outvoted(graph, reset, if_integration))
    resets = settle_resets(graph, reset, chip)
    findings = resets.findings
    graph, dependent, questions = _settled_steps(resets.graph, dt_s, if_integration)
    if dt_s is None and dependent:
        raise ConfigError(_join([_missing_dt(dependent), *questions, *findings]))
    if findings and not questions:
        raise UnsupportedNodeError(
            bullet_list("the reset of these neurons is not settled:", findings)
        )
    if questions:
        raise UnsupportedNodeError(_join([*questions, *findings]))
    notes = (
        *outvoted,
        *_gain_notes(graph, dt_s),
        *_reset_notes(graph, resets.chosen),
        *_readout_notes(graph),
    )
    return Settled(graph, dt_s, resets.chosen, resets.forced, notes)


def _join(findings: Sequence[str]) -> str:
    if len(findings) == 1:
        return findings[0]
    return bullet_list("the file leaves these questions open:", findings)


def _missing_dt(dependent: Sequence[str]) -> str:
    return (
        f"dt of the graph is missing; expected the width of a time step, without which time constants in "
        f"seconds mean nothing ({', '.join(map(repr, dependent[:3]))}"
        f"{', ...' if len(dependent) > 3 else ''}). Pass dt_s (--dt) as the network was trained"
    )


def settle_integration(
    graph: nir.NIRGraph, dt_s: float | None, if_integration: str | None
) -> nir.NIRGraph:
    """The graph with ``if_integration`` in the metadata of every IF and I that answers to it."""
    return _settled_steps(graph, dt_s, if_integration)[0]


def _settled_steps(
    graph: nir.NIRGraph, dt_s: float | None, if_integration: str | None
) -> tuple[nir.NIRGraph, list[str], list[str]]:
    """The graph with decided integrations, the nodes that depend on dt, and open questions."""
    nodes = dict(graph.nodes)
    dependent, questions = [], []
    for name, node in graph.nodes.items():
        if isinstance(node, (nir.IF, nir.I)):
            how = integration_of(node, if_integration, dt_s)
            if how is None:
                questions.append(open_question(name, node, dt_s))
                continue
            nodes[name] = copy.copy(node)
            nodes[name].metadata = {**node.metadata, INTEGRATION: how}
            if how == PER_STEP:
                continue
        elif isinstance(node, nir.Delay):
            if not np.any(node.delay):
                continue
        elif type(node) not in NEURON_KINDS or isinstance(node, nir.Threshold):
            continue
        dependent.append(name)
    done = nir.NIRGraph(nodes, list(graph.edges), metadata=dict(graph.metadata), type_check=False)
    return done, dependent, questions


def _outvoted(graph: nir.NIRGraph, reset: str | None, if_integration: str | None) -> Iterator[str]:
    """Answers of the caller that the file contradicts: they are for nodes of which it says nothing."""
    for name, node in graph.nodes.items():
        if type(node) not in NEURON_KINDS:
            continue
        said = written_reset(node.metadata) if hasattr(node, "v_threshold") else None
        if said is not None and reset in (SUBTRACT, ZERO) and said.mode.value != reset:
            yield (
                f"'{name}' keeps the reset '{said}', because the file says so: reset='{reset}' is for "
                f"neurons of which it says nothing"
            )
        how = node.metadata.get(INTEGRATION) if isinstance(node, (nir.IF, nir.I)) else None
        if how and if_integration and how != if_integration:
            yield (
                f"'{name}' keeps {INTEGRATION} = '{how}', because the file says so: "
                f"{INTEGRATION}='{if_integration}' is for neurons of which it says nothing"
            )


def _gain_notes(graph: nir.NIRGraph, dt_s: float | None) -> Iterator[str]:
    """Synapses whose gain a producer may have left at NIR's default of 1."""
    for name, node in graph.nodes.items():
        if dt_s is None or not isinstance(node, (nir.CubaLIF, nir.CubaLI)):
            continue
        steps = float(np.min(node.tau_syn)) / dt_s
        if np.all(np.asarray(node.w_in) == 1.0) and steps > LONG_TAU_STEPS * (1 - 1e-6):
            yield (
                f"w_in of '{name}' is 1 beside a tau_syn of {steps:.4g} steps, so a spike adds 1/{steps:.4g} "
                f"of its weight to the current. Rockpool and Norse (LIFCell) add the whole weight and leave "
                f"w_in = 1 all the same: set w_in = tau_syn / dt for their files"
            )


def _reset_notes(graph: nir.NIRGraph, resets: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """SpikingJelly, the producer of r = 1/dt, writes its soft reset as if it were a reset to 0."""
    for name, node in graph.nodes.items():
        continuous = isinstance(node, nir.IF) and node.metadata[INTEGRATION] == CONTINUOUS
        if continuous and resets[name] == {"reset": "zero", "from": "user (unknown in the file)"}:
            yield (
                f"'{name}' grows by dt r x per step, as SpikingJelly writes it, and is reset to 0 because "
                f"the file does not say what a spike does. SpikingJelly leaves its soft reset "
                f"(v_reset=None) out of the file: pass reset='subtract' if it was trained so"
            )


def _readout_notes(graph: nir.NIRGraph) -> Iterator[str]:
    """Outputs of which the forward takes something else than what decides here."""
    for name, node in graph.nodes.items():
        said = node.metadata if isinstance(node, nir.Output) else {}
        if said.get("over") in SUMMED:
            yield (
                f"forward returns the {said['over']} of v over the steps at '{name}', and the class with the "
                f"highest v after the last step wins here: record v, and take the {said['over']} of it"
            )
        elif said.get("readout") == "last":
            yield (
                f"forward returns the last step alone at '{name}', and the spikes of all steps decide here: "
                f"record s, and take the last step of it"
            )


def settle_dt(graph: nir.NIRGraph, dt_s: float | None) -> float | None:
    """Width of a step in seconds, from the file or the caller; None where neither gives it.

    Raises:
        ConfigError: they differ.
    """
    written = sorted(
        {n.metadata["dt"] for n in (graph, *graph.nodes.values()) if "dt" in n.metadata}
    )
    if written and not _same_dt(written[0], written[-1]):
        raise ConfigError(f"dt of the graph's nodes is {written} s; expected one value for all")
    if dt_s is None:
        return float(written[0]) if written else None
    if written and not _same_dt(dt_s, written[0]):
        raise ConfigError(
            f"dt_s is {dt_s}; expected {written[0]} s, with which the graph was written. Leave dt_s out"
        )
    return float(dt_s)


def _same_dt(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


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
        nodes[summed] = nir.I(r=np.ones(()), metadata={INTEGRATION: PER_STEP})
        edges = [(a, summed if b == name else b) for a, b in edges] + [(summed, name)]
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata), type_check=False)


def _linear_end(graph: nir.NIRGraph, sources: list[str]) -> bool:
    """Whether something other than reshaping stands between the neurons and an output."""
    while len(sources) == 1 and isinstance(graph.nodes[sources[0]], (nir.Flatten, nir.Output)):
        sources = [a for a, b in graph.edges if b == sources[0]]
    return len(sources) != 1 or type(graph.nodes[sources[0]]) not in NEURON_KINDS
