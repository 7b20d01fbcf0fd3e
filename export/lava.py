"""Lava back end: a LoihiGraph as a Lava Process, as a run on Lava, or as a bundle to take away.

Lava (lava-nc 0.10.0, tag ``fixed_pt``) is the oracle of every "bit-exact" claim of this package.
The Processes themselves are made in :mod:`biril_nm.export.lava_bundle`, from plain data that
:func:`describe` takes out of the graph, so that an exported bundle runs the very same code. Neither
Lava nor torch is needed to import this module; Lava is imported when a network is built.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import BirilError, ConfigError, MissingDependencyError, RangeError, bullet_list
from biril_nm.export.backends import backend
from biril_nm.export.design_rules import RULES, Finding, check_design
from biril_nm.export.lava_bundle import run_lava as runner
from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Sparse
from biril_nm.loihi import LOIHI2, VTH_SHIFT, ChipProfile
from biril_nm.trace import NodeTrace, Trace, check_variables

__all__ = ["LavaBackend", "LavaRunError", "build", "describe", "run_lava", "write"]

Description = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

FORMAT = "biril-nm Lava network"
VERSION = 1
LAVA_CONV_FIELD_MAX = 127  # lava-nc 0.10.0 proc/conv/models.py: stride, groups, ... are int8
STALL_S = 120.0


class LavaRunError(BirilError):
    """A run on Lava that failed inside Lava."""


# --- from graph to plain data -------------------------------------------------------------------


def describe(graph: LoihiGraph) -> tuple[Description, Arrays]:
    """The network as JSON-able data and integer arrays: all that the Processes are made from."""
    latency = graph.latency
    arrays: Arrays = {}
    for index, node in enumerate(graph.neurons.values()):
        for register in ("vth", "du", "dv", "bias_mant"):
            arrays[f"neurons.{index}.{register}"] = np.asarray(getattr(node, register))
    for index, connection in enumerate(graph.connections.values()):
        for key, array in _weight_arrays(connection).items():
            arrays[f"connections.{index}.{key}"] = array
    description: Description = {
        "format": FORMAT,
        "version": VERSION,
        "max_slack": int(graph.timing.max_slack),
        "vth_shift": VTH_SHIFT,
        "inputs": [
            {"name": name, "shape": list(node.shape), "message_bits": int(node.message_bits)}
            for name, node in graph.inputs.items()
        ],
        "neurons": [
            {
                "name": name,
                "shape": list(node.shape),
                "latency": int(latency[name]),
                "bias_exp": int(node.bias_exp),
            }
            for name, node in graph.neurons.items()
        ],
        "connections": [_describe_connection(graph, name) for name in graph.connections],
        "outputs": _output_neurons(graph),
    }
    return description, arrays


def _weight_arrays(node: Connection) -> Arrays:
    if isinstance(node, Sparse):
        return {key: getattr(node.weight, key) for key in ("data", "indices", "indptr")}
    return {"weight": node.weight}


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
    return record


def _output_neurons(graph: LoihiGraph) -> list[str]:
    """Neurons marked by Output nodes, else those that feed nothing."""
    marked = list(dict.fromkeys(graph.outputs.values()))
    sources = {source for source, _ in graph.ends.values()}
    return marked or [name for name in graph.neurons if name not in sources]


# --- checks -------------------------------------------------------------------------------------


def conv_geometry_fits_lava(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Lava keeps stride, padding, dilation, kernel size and groups in 8 bits and wraps silently."""
    for name, node in graph.connections.items():
        if not isinstance(node, Conv):
            continue
        largest = max(
            *node.stride, *node.padding, *node.dilation, *node.weight.shape[2:], node.groups
        )
        if largest > LAVA_CONV_FIELD_MAX:
            yield Finding(
                name,
                f"stride {node.stride}, padding {node.padding}, dilation {node.dilation}, kernel "
                f"{node.weight.shape[2:]}, groups {node.groups}",
                f"up to {LAVA_CONV_FIELD_MAX} each in lava-nc 0.10.0",
                "Split the groups over several Conv nodes, or use a Sparse connection.",
            )


def _check(graph: LoihiGraph, n_steps: int, chip: str | ChipProfile | None) -> None:
    """Everything that could make Lava fail or hang, before a Process exists."""
    if not graph.neurons or not graph.connections:
        raise ConfigError("the graph has no Neurons or no connections: nothing for Lava to run")
    graph.sample_period(n_steps)
    profile = chip if chip is not None else graph.metadata.get("chip", LOIHI2)
    check_design(graph, profile, (*RULES, conv_geometry_fits_lava))


def _inputs(graph: LoihiGraph, spikes: Any) -> dict[str, NDArray[Any]]:
    """Integer arrays (n_steps, batch, *shape) by input name, as Lava's source sends them."""
    names = list(graph.inputs)
    given = spikes if isinstance(spikes, Mapping) else dict.fromkeys(names[:1], spikes)
    if set(given) != set(names):
        raise ConfigError(
            f"spikes are given for {sorted(map(str, given))}; the graph's inputs are {sorted(names)}: "
            f"pass a dict with one array each"
        )
    arrays = {name: np.asarray(given[name]) for name in names}
    findings = []
    for name, node in graph.inputs.items():
        array = arrays[name]
        if array.ndim != 2 + len(node.shape) or array.shape[2:] != node.shape or not array.size:
            wanted = f"(n_steps, batch, {', '.join(map(str, node.shape))})"
            findings.append(f"input '{name}' has shape {array.shape}, needed is {wanted}")
        elif array.dtype.kind not in "biu":
            findings.append(f"input '{name}' has dtype {array.dtype}, needed are integers")
    if not findings and len({array.shape[:2] for array in arrays.values()}) > 1:
        findings.append("the inputs differ in n_steps or batch")
    if findings:
        raise ConfigError(bullet_list("the spikes do not fit the graph:", findings))
    return {
        name: _payload(name, node.message_bits, arrays[name]) for name, node in graph.inputs.items()
    }


def _payload(name: str, message_bits: int, array: NDArray[Any]) -> NDArray[Any]:
    if message_bits == 0:
        return np.not_equal(array, 0)
    limit = (1 << message_bits) - 1
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > limit:
        raise RangeError(
            f"input '{name}' has payloads from {low} to {high}; message_bits {message_bits} allows "
            f"0 to {limit}. Encode the values again or raise message_bits"
        )
    return array


# --- Lava ---------------------------------------------------------------------------------------


def _lava_network() -> Any:
    """Module ``lava_network``, which imports Lava."""
    if importlib.util.find_spec("lava") is None:
        raise MissingDependencyError("lava", "lava", "build or run Lava Processes (Python 3.10)")
    infrastructure = "lava.magma.runtime.message_infrastructure.multiprocessing"
    if infrastructure not in sys.modules and multiprocessing.get_start_method(allow_none=True):
        # Lava sets the start method "fork" when it is imported and fails if one is set already.
        multiprocessing.set_start_method(None, force=True)
    with runner.quiet_lava():
        return importlib.import_module("biril_nm.export.lava_bundle.lava_network")


def build(graph: LoihiGraph, n_steps: int, chip: str | ChipProfile | None = None) -> Any:
    """The graph as one Lava Process, for samples of ``n_steps`` steps that stream back to back.

    Its ports are ``s_in`` and ``s_out`` in torch order (several inputs or outputs: ``inputs`` and
    ``outputs`` by node name). Drive it with ``lava.proc.io.source.RingBuffer``, run it with
    ``Loihi2SimCfg(select_tag="fixed_pt")`` or, quicker, ``process.fixed_point_config()``. Its u and v
    are the Vars ``process.variable(node, "u")``. A sample starts every
    ``graph.sample_period(n_steps)`` steps; node n answers input step t at chip step latency + t.

    Args:
        graph: the integer network.
        n_steps: steps of one sample.
        chip: limits to hold; the graph's own chip, else Loihi 2, by default.

    Raises:
        RangeError: a register, weight or delay that the chip does not have; all are listed.
        MissingDependencyError: lava-nc is not installed.
    """
    _check(graph, n_steps, chip)
    description, arrays = describe(graph)
    module = _lava_network()
    with runner.quiet_lava():
        return module.LavaNetwork(description, arrays, n_steps)


def run_lava(
    graph: LoihiGraph,
    spikes: Any,
    record: Iterable[str] | str = ("s", "u", "v"),
    nodes: Iterable[str] | None = None,
    stall_s: float = STALL_S,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run all samples back to back in one Lava run and return what Lava computed.

    Args:
        graph: the integer network.
        spikes: integers (n_steps, batch, *shape), or a dict of them by input name.
        record: variables to keep, of "s", "u", "v".
        nodes: names of the Neurons nodes to keep; all by default.
        stall_s: give up when Lava makes no step for that long.
        progress: called with the chip steps done and the chip steps in all.

    Returns:
        A trace like that of ``simulate``; ``chip_time()`` is Lava's own recording.

    Raises:
        ConfigError: spikes or names that do not fit the graph.
        RangeError: a limit of the chip that the graph breaks.
        LavaRunError: Lava failed; its processes are ended.
        MissingDependencyError: lava-nc is not installed.
    """
    variables, kept = check_variables(record), _kept(graph, nodes)
    arrays = _inputs(graph, spikes)
    n_steps, batch = next(iter(arrays.values())).shape[:2]
    network = build(graph, n_steps)
    try:
        with runner.quiet_lava():
            rows = runner.stream(network, arrays, tuple({"s", "v", *variables}), stall_s, progress)
    except runner.RunFailedError as error:
        raise LavaRunError(f"the run on Lava failed: {error}") from error
    return _trace(graph, rows, variables, kept, n_steps, batch)


def _kept(graph: LoihiGraph, nodes: Iterable[str] | None) -> tuple[str, ...]:
    if nodes is None:
        return tuple(graph.neurons)
    wanted = {nodes} if isinstance(nodes, str) else set(nodes)
    unknown = sorted(wanted - set(graph.neurons))
    if unknown:
        raise ConfigError(
            f"cannot record {', '.join(unknown)}; Neurons nodes are {', '.join(graph.neurons)}"
        )
    return tuple(name for name in graph.neurons if name in wanted)


def _trace(
    graph: LoihiGraph,
    rows: dict[str, dict[str, Any]],
    variables: tuple[str, ...],
    kept: tuple[str, ...],
    n_steps: int,
    batch: int,
) -> Trace:
    period = graph.sample_period(n_steps)

    def in_node_time(name: str, variable: str) -> Any:
        latency = graph.latency[name]
        return runner.node_time(rows[name][variable], latency, period, n_steps, batch)

    def chip() -> Mapping[str, NodeTrace]:
        return {name: NodeTrace(**{key: rows[name][key] for key in variables}) for name in kept}

    return Trace(
        nodes={
            name: NodeTrace(**{key: in_node_time(name, key) for key in variables}) for name in kept
        },
        n_spikes={name: int(in_node_time(name, "s").sum(dtype=np.int64)) for name in rows},
        v_last={name: in_node_time(name, "v")[-1] for name in rows},
        chip=chip,
        meta={"engine": "lava", "version": _lava_version(), "n_steps": n_steps, "batch": batch},
    )


def _lava_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"lava-nc {version('lava-nc')}"
    except PackageNotFoundError:
        return "lava-nc (version unknown)"


def write(
    graph: LoihiGraph,
    path: str | Path,
    force: bool = False,
    spikes: Any = None,
    chip: str | ChipProfile | None = None,
) -> Path:
    """Write a bundle that runs with lava-nc and numpy alone: ``python run_lava.py``.

    Args:
        graph: the integer network.
        path: folder to make.
        force: replace an existing one.
        spikes: sample input (n_steps, batch, *shape) to put beside it as ``input.npz``.
        chip: limits to hold; the graph's own chip, else Loihi 2, by default.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is False.
        RangeError: a limit of the chip that the graph breaks.
    """
    from biril_nm.export.lava_files import write_bundle

    _check(graph, 1, chip)
    sample = None if spikes is None else _inputs(graph, spikes)
    return write_bundle(graph, *describe(graph), sample, path, force)


@backend("lava")
class LavaBackend:
    """lava-nc 0.10.0, integer models: :func:`build` and :func:`write`."""

    build = staticmethod(build)
    write = staticmethod(write)
