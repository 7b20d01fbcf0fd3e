"""Leaky integrators between layers: their filter becomes the synaptic current of the neurons behind.

A filter ``y <- (1 - a) y + a x`` between linear maps E and D is linear as well, so that E and the filter
change places: ``u <- (1 - a) u + a E D s`` is what a compartment of the chip computes before v. So NIR's
``LI`` between neurons, as Nengo writes its synapses, costs nothing, where each neuron behind it sees one
time constant only, on all connections, and has no synaptic current of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import UnsupportedNodeError, bullet_list
from biril_nm.export.lowering.passes.paths import Walk
from biril_nm.export.nir_nodes.filter_node import Filter
from biril_nm.export.nir_nodes.linear_maps import as_matrix, compose, identity
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS, Dynamics, dynamics_of, parameter_shape

__all__ = ["Filtered", "filtered_dynamics", "with_filters"]

_INTEGRATORS = (nir.LI, nir.CubaLI, nir.I)
# Relative difference of decays that files of float32 may show.
SAME = 1e-6


@dataclass(frozen=True)
class Filtered:
    """What one link brings to its target.

    Attributes:
        destination: neurons.
        linear: the whole map.
        path: nodes on the way.
    """

    destination: str
    linear: Any
    path: tuple[str, ...]


def with_filters(graph: nir.NIRGraph, dt_s: float) -> nir.NIRGraph:
    """The graph with a :class:`Filter` for every integrator that neurons stand behind.

    An integrator that an output reads as well stays, and the filter ``NAME.filter`` stands beside it.

    Raises:
        UnsupportedNodeError: an integrator that is not a filter of one time constant; all are listed.
    """
    nodes, edges = dict(graph.nodes), list(graph.edges)
    findings = []
    for name in _between(graph):
        node = graph.nodes[name]
        made = _filter(node, name, dt_s)
        if isinstance(made, str):
            findings.append(f"'{name}' ({type(node).__name__}) {made}")
            continue
        read = [b for a, b in graph.edges if a == name and isinstance(graph.nodes[b], nir.Output)]
        if not read:
            nodes[name] = made
            continue
        beside = f"{name}.filter"
        nodes[beside] = made
        edges += [(a, beside) for a, b in edges if b == name]
        edges = [(beside if a == name and b not in read else a, b) for a, b in edges]
    if findings:
        raise UnsupportedNodeError(
            bullet_list("these integrators stand between layers of neurons:", findings)
        )
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata or {}), type_check=False)


def _between(graph: nir.NIRGraph) -> list[str]:
    """Integrators from which a way without neurons leads to neurons or to other integrators."""
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        after[a].append(b)

    def reaches(name: str) -> bool:
        waiting, seen = list(after[name]), set[str]()
        while waiting:
            at = waiting.pop()
            if type(graph.nodes[at]) in NEURON_KINDS:
                return True
            waiting += [b for b in after[at] if b not in seen]
            seen |= set(after[at])
        return False

    return [n for n, node in graph.nodes.items() if isinstance(node, _INTEGRATORS) and reaches(n)]


def _filter(node: Any, name: str, dt_s: float) -> Filter | str:
    """The filter that an integrator is, or why it is none."""
    found = dynamics_of(node, name, dt_s, parameter_shape(node))
    slow = [d for d in (found.u_decay, found.v_decay) if not np.all(d == 1.0)]
    if len(slow) > 1:
        return (
            "filters twice, by tau_syn and tau_mem; expected one time constant, since a compartment has one "
            "synaptic current. Use LI, or put neurons in between"
        )
    decay = slow[0] if slow else found.u_decay
    if np.any(decay <= 0):
        return (
            "adds up for ever; expected a time constant, since the synaptic current of the chip decays. Use "
            "LI, or let it be the last layer"
        )
    gain = found.weight_gain / decay
    bias = found.drive / found.v_decay
    made = Filter(np.asarray(gain), np.asarray(bias), np.asarray(decay))
    made.metadata = copy.copy(node.metadata)
    return made


def filtered_dynamics(
    walk: Walk, neurons: Mapping[str, tuple[Shape, Dynamics]], links: Sequence[Filtered]
) -> dict[str, tuple[Shape, Dynamics]]:
    """Neurons with the decay of the filters in front of them as their synaptic current.

    Raises:
        UnsupportedNodeError: neurons that would need two currents; all are listed.
    """
    findings: list[str] = []
    found = dict(neurons)
    filters = {n for n, node in walk.graph.nodes.items() if isinstance(node, Filter)}
    for name, (shape, dynamics) in neurons.items():
        into = [link for link in links if link.destination == name]
        if not any(filters & set(link.path) for link in into):
            continue
        decays = [_decays(walk, link, filters) for link in into]
        low = np.minimum.reduce([d[0] for d in decays])
        high = np.maximum.reduce([d[1] for d in decays])
        reason = _conflict(dynamics, low, high, [link.path for link in into], filters)
        if reason is not None:
            findings.append(f"'{name}' {reason}")
            continue
        # Neurons without weights take the decay of the others.
        decay = np.where(np.isfinite(low), low, np.max(high)).reshape(shape)
        if np.all(decay == 1.0):
            continue
        # Neurons without a filter of their own take biases at once.
        own = dynamics.weight_gain if dynamics.filtered_bias else dynamics.bias_gain
        gain = dynamics.weight_gain * decay
        changes = {"u_decay": decay, "weight_gain": gain, "bias_gain": own}
        found[name] = (shape, replace(dynamics, **changes, filtered_bias=False))
        used = sorted(filters & {n for link in into for n in link.path})
        walk.notes.append(
            f"the filter of {', '.join(map(repr, used))} is the current u of '{name}'"
        )
    if findings:
        raise UnsupportedNodeError(
            bullet_list("filters in front of these neurons do not fit their one current:", findings)
        )
    return found


def _conflict(
    dynamics: Dynamics,
    low: FloatArray,
    high: FloatArray,
    paths: Sequence[Sequence[str]],
    filters: set[str],
) -> str | None:
    known = np.isfinite(low)
    lowest, highest = low[known], high[known]
    if any(len(filters & set(path)) > 1 for path in paths):
        return (
            "receive a signal through two filters, one behind the other; expected one, since a compartment "
            "has one synaptic current. Put neurons in between, or leave one filter out"
        )
    if np.any(lowest != 1.0) and np.any(dynamics.u_decay != 1.0):
        return (
            "have a synaptic time constant of their own behind a filter; expected one of the two. Use LIF in "
            "place of CubaLIF, or leave the filter out"
        )
    apart = highest - lowest > SAME * highest
    if np.any(apart):
        first = int(np.argmax(apart))
        steps = sorted(1.0 / value for value in (lowest[first], highest[first]))
        return (
            f"receive signals with time constants of {steps[0]:.4g} and {steps[1]:.4g} steps (1: without a "
            f"filter); expected one for all that a neuron receives. Give all of them the same filter, or "
            f"send them to neurons of their own"
        )
    return None


def _decays(walk: Walk, link: Filtered, filters: set[str]) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest decay of what each neuron receives through a link; inf and 0 without weights."""
    met = [place for place, node in enumerate(link.path) if node in filters]
    if not met:
        weight = as_matrix(link.linear).weight
        reached = np.diff(weight.indptr) > 0
        return np.where(reached, 1.0, np.inf), np.where(reached, 1.0, 0.0)
    name = link.path[met[-1]]
    node: Any = walk.graph.nodes[name]
    behind: Any = identity(walk.shapes[name])
    for later in link.path[met[-1] + 1 :]:
        behind = compose(behind, walk.linear(later, walk.graph.nodes[later], behind.out_shape))
    decay = np.broadcast_to(node.decay, walk.shapes[name]).ravel()
    rows = scipy.sparse.csr_matrix(as_matrix(behind).weight)
    values, starts = decay[rows.indices], rows.indptr[:-1]
    filled = np.diff(rows.indptr) > 0
    low, high = np.full(rows.shape[0], np.inf), np.zeros(rows.shape[0])
    if values.size:
        low[filled] = np.minimum.reduceat(values, starts[filled])
        high[filled] = np.maximum.reduceat(values, starts[filled])
    return low, high
