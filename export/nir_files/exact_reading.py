"""The way back from :mod:`biril_nm.export.nir_files.exact_writing`: the same integers, bit for bit.

Registers follow from the floats of the file, and must come out whole: a file that was changed since is
not restored but lowered like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.compartments import CUBA_LIF
from biril_nm.decision import DEFAULT_DECISION
from biril_nm.errors import BirilError
from biril_nm.export.nir_files.exact_models import (
    model_of,
    nearest_cuba_lif,
    neurons_of_model,
)
from biril_nm.export.nir_nodes.decision import DECISION, decision_of_nir
from biril_nm.export.nir_nodes.groups import regrouped
from biril_nm.export.nir_nodes.metadata import EXACT_REGISTERS
from biril_nm.export.nir_nodes.neurons import ENDLESS_STEPS
from biril_nm.export.nir_nodes.typed_convolutions import restored
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
from biril_nm.hw_graph.metadata import check_metadata
from biril_nm.loihi import (
    DECAY_UNITY,
    DU_OFFSET,
    NO_SYNAPTIC_MEMORY,
    STATE_BITS,
    VTH_SHIFT,
    SignMode,
)
from biril_nm.storage import parse_json
from biril_nm.storage.text import as_text

__all__ = ["EXACT", "REGISTERS", "VERSION", "exact_graph"]

log = logging.getLogger(__name__)

# Metadata of the graph that marks such a file.
EXACT = EXACT_REGISTERS
VERSION = 1
REGISTERS = CUBA_LIF.per_neuron
# Beyond it, floats have no fraction.
WHOLE_MAX = 2.0**53
# Of float64 products of a few factors; registers are at least 1 apart.
TOLERANCE = 1e-9

# What reading numbers of another kind, size or place than written provokes.
DAMAGED = (
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
)
_WEIGHTS = (nir.Linear, nir.Conv2d)
_NEURONS = (nir.IF, nir.LIF, nir.CubaLIF)
_BETWEEN = (nir.Delay, nir.Flatten)


class _ChangedError(Exception):
    """A number that no integer network gives."""


def exact_graph(graph: nir.NIRGraph) -> LoihiGraph | None:
    """The integer network that ``graph`` was written from; None if it is any other graph.

    Raises:
        ConfigError: neurons of a compartment model that is not registered.
    """
    metadata = graph.metadata or {}
    if not np.array_equal(metadata.get(EXACT, 0), VERSION):
        return None
    for node in graph.nodes.values():
        model_of(node)
    try:
        return _restore(restored(graph), float(metadata["dt"]))
    except (_ChangedError, BirilError, *DAMAGED) as error:
        log.warning(
            "the graph was changed since its integers were written, and is lowered again: %s", error
        )
        return None


def _restore(graph: nir.NIRGraph, dt: float) -> LoihiGraph:
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        before[b].append(a)
        after[a].append(b)
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    names = parse_json(as_text(graph.metadata["nodes"]), "the list of nodes")
    for name in names:
        node = graph.nodes[name]
        if isinstance(node, nir.Input):
            shape = tuple(int(n) for n in np.atleast_1d(node.input_type["input"]))
            nodes[name] = Input(
                shape, _integer(node.metadata, "message_bits"), _is_signed(node.metadata)
            )
        elif isinstance(node, nir.Output):
            nodes[name] = Output()
            edges += [(a, name) for a in before[name]]
        elif isinstance(node, _NEURONS):
            nodes[name] = _population(node, dt)
        elif isinstance(node, _WEIGHTS):
            source, delay = _source(graph, before, name, dt)
            nodes[name] = _connection(node, delay)
            edges += [(source, name), *((name, b) for b in after[name])]
        else:
            raise _ChangedError(f"node '{name}' is a {type(node).__name__}")
    between = (n for n, node in graph.nodes.items() if isinstance(node, _BETWEEN))
    known = {*names, *between, *_added_inputs(graph, names, before, after)}
    new = [n for n in graph.nodes if n not in known and not isinstance(graph.nodes[n], nir.Output)]
    if new:
        raise _ChangedError(f"node '{new[0]}' is new")
    metadata = parse_json(as_text(graph.metadata["loihi"]), "the metadata")
    check_metadata(metadata)
    decision = decision_of_nir(graph.metadata)
    if decision != metadata.get(DECISION, DEFAULT_DECISION):
        metadata[DECISION] = decision
    return LoihiGraph(nodes, tuple(edges), metadata)


def _added_inputs(
    graph: nir.NIRGraph,
    names: list[str],
    before: dict[str, list[str]],
    after: dict[str, list[str]],
) -> list[str]:
    """Inputs that nir itself puts in front of neurons without a source, as those that always spike."""
    found = []
    for name in names:
        added = f"input_{name}"
        alone = before[name] == [added] and after[added] == [name] and added not in names
        if alone and isinstance(graph.nodes[added], nir.Input):
            found.append(added)
    return found


def _integer(facts: Mapping[str, Any], key: str) -> int:
    """One integer of the metadata: an exponent or a number of bits."""
    value = np.asarray(facts[key])
    if value.dtype.kind not in "iu" or value.size != 1 or abs(int(value.item())) >= STATE_BITS:
        raise _ChangedError(f"'{key}' is {facts[key]!r}")
    return int(value.item())


def _is_signed(facts: Mapping[str, Any]) -> bool:
    return "signed" in facts and _integer(facts, "signed") == 1


def _source(
    graph: nir.NIRGraph, before: dict[str, list[str]], name: str, dt: float
) -> tuple[str, int]:
    """Where a connection begins, behind its Flatten and Delay, and its delay in steps."""
    delay = 0
    for _ in range(len(_BETWEEN) + 1):
        (name,) = before[name]
        node = graph.nodes[name]
        if isinstance(node, nir.Delay):
            delay += _shared(_whole(np.asarray(node.delay) / dt, f"'{name}': delay"), "delay")
        elif not isinstance(node, nir.Flatten):
            return name, delay
    raise _ChangedError(f"node '{name}' is new")


def _whole(values: Any, what: str) -> IntArray:
    if np.asarray(values).dtype.kind not in "iuf":
        raise _ChangedError(f"{what} is not whole")
    array = np.asarray(values, dtype=np.float64)
    nearest = np.rint(array)
    within = np.all(np.abs(nearest) < WHOLE_MAX)
    if not within or not np.allclose(array, nearest, rtol=TOLERANCE, atol=TOLERANCE):
        raise _ChangedError(f"{what} is not whole")
    return nearest.astype(np.int64)


def _shared(values: IntArray, what: str) -> int:
    """The integer on which all agree."""
    if np.any(values != values.flat[0]):
        raise _ChangedError(f"{what} differs between neurons")
    return int(values.flat[0])


def _connection(node: Any, delay: int) -> Connection:
    facts = node.metadata
    exponent = _integer(facts, "weight_exp")
    weight: Any = _whole(np.ldexp(np.asarray(node.weight, dtype=np.float64), -exponent), "a weight")
    if np.any(getattr(node, "bias", 0)):
        raise _ChangedError("a connection has a bias")
    common: dict[str, Any] = {
        "weight_exp": exponent,
        "weight_bits": _integer(facts, "weight_bits"),
        "sign_mode": SignMode(as_text(facts["sign_mode"])),
        "delay": delay,
    }
    if isinstance(node, nir.Conv2d):
        geometry = {key: getattr(node, key) for key in ("stride", "padding", "dilation")}
        groups = int(node.groups)
        if groups == 1:
            groups = int(facts.get("groups", 1))
            weight = regrouped(weight, groups)
            if weight is None:
                raise _ChangedError("a weight between groups is not 0")
        return Conv(weight, groups=groups, **geometry, **common)
    if as_text(facts["kind"]) == "Dense":
        return Dense(weight, **common)
    return Sparse(_sparse(weight, facts), **common)


def _sparse(weight: IntArray, facts: Any) -> Any:
    import scipy.sparse

    if "indices" not in facts:
        return scipy.sparse.csr_matrix(weight)
    indices, indptr = np.asarray(facts["indices"]), np.asarray(facts["indptr"])
    rows = np.repeat(np.arange(weight.shape[0]), np.diff(indptr))
    return scipy.sparse.csr_matrix((weight[rows, indices], indices, indptr), shape=weight.shape)


def _population(node: Any, dt: float) -> Neurons:
    """CUBA-LIF out of the floats; another model out of its registers, if the floats agree with them."""
    near, model = _neurons(node, dt), model_of(node)
    if model is None:
        return near
    found = neurons_of_model(node, model, near.shape)
    if nearest_cuba_lif(found) != near:
        raise _ChangedError(f"parameters and registers of the model '{model}' differ")
    return found


def _neurons(node: Any, dt: float) -> Neurons:
    facts = node.metadata
    shape = tuple(int(n) for n in np.atleast_1d(_whole(facts["shape"], "shape")))
    threshold = _whole(node.v_threshold, "v_threshold")
    du, dv = np.array(NO_SYNAPTIC_MEMORY), np.array(0)
    bias = np.zeros(())
    gain = np.asarray(node.r, dtype=np.float64)
    if isinstance(node, (nir.LIF, nir.CubaLIF)):
        tau = node.tau if isinstance(node, nir.LIF) else node.tau_mem
        dv, steps = _decay(tau, dt, "tau")
        gain = gain / steps
        bias = np.asarray(node.v_leak, dtype=np.float64) / steps
    if isinstance(node, nir.CubaLIF):
        du, steps = _decay(node.tau_syn, dt, "tau_syn")
        du = du - DU_OFFSET
        gain = gain * np.asarray(node.w_in, dtype=np.float64) / steps
    if not np.allclose(gain, 1, rtol=TOLERANCE, atol=0) or np.any(node.v_reset):
        raise _ChangedError("a gain is not 1 or v_reset not 0")
    total = _whole(bias * (1 << VTH_SHIFT), "a bias")
    exponent = _integer(facts, "bias_exp")
    if np.any(total % (1 << exponent)):
        raise _ChangedError(f"a bias is not a multiple of 2**{exponent}")

    per_neuron = as_text(facts["per_neuron"]).split(",")
    values = {"vth": threshold, "du": du, "dv": dv, "bias_mant": total >> exponent}
    registers: dict[str, Any] = {
        key: np.broadcast_to(value.reshape(shape) if value.ndim else value, shape)
        if key in per_neuron
        else _shared(value, key)
        for key, value in values.items()
    }
    return Neurons(shape, bias_exp=exponent, **registers)


def _decay(tau: Any, dt: float, what: str) -> tuple[IntArray, FloatArray]:
    """Register and time constant in steps."""
    steps = np.asarray(tau, dtype=np.float64) / dt
    endless = steps >= ENDLESS_STEPS / 2
    return _whole(np.where(endless, 0.0, DECAY_UNITY / steps), what), steps
