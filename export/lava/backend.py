"""Lava back end: a LoihiGraph as a Lava Process, as a run on Lava, or as a bundle to take away.

Lava (lava-nc 0.10.0, tag ``fixed_pt``) is the oracle of every "bit-exact" claim of this package.
The Processes themselves are made in :mod:`biril_nm.export.lava.bundle`, from plain data that
:func:`describe` takes out of the graph, so that an exported bundle runs the very same code. Neither
Lava nor torch is needed to import this module; Lava is imported when a network is built.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.errors import BirilError, ConfigError, MissingDependencyError
from biril_nm.export.backends import Target
from biril_nm.export.design_rules import RULES, Finding, check_design
from biril_nm.export.lava.bundle import run_lava as runner
from biril_nm.export.lava.bundle_files import RUNNER, write_bundle
from biril_nm.export.lava.description import describe
from biril_nm.export.lava.design_rules import (
    has_tag,
    rounding_fits_lava,
    sparse_learning_fits_lava,
)
from biril_nm.export.lava.elsewhere import stream_elsewhere
from biril_nm.export.lava.interpreters import LAVA_COMMAND, find_interpreter, lava_is_here
from biril_nm.hw_graph import Conv, LoihiGraph, Sparse
from biril_nm.hw_graph.inputs import check_inputs
from biril_nm.loihi import LOIHI2, ChipProfile
from biril_nm.recording import (
    ConnectionRecording,
    NodeRecording,
    Recording,
    recorded_nodes,
    split_variables,
)

__all__ = ["LavaBackend", "LavaRunError", "build", "describe", "run_lava", "write"]

LAVA_CONV_FIELD_MAX = 127  # lava-nc 0.10.0 proc/conv/models.py: stride, groups, ... are int8
STALL_S = 120.0


class LavaRunError(BirilError):
    """A run on Lava that failed inside Lava."""


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


def _check(
    graph: LoihiGraph, n_steps: int, chip: str | ChipProfile | None, learn: bool = False
) -> None:
    """Everything that could make Lava fail or hang, before a Process exists."""
    if not graph.neurons or not graph.connections:
        raise ConfigError("the graph has no Neurons or no connections: nothing for Lava to run")
    graph.sample_period(n_steps)
    profile = chip if chip is not None else graph.metadata.get("chip", LOIHI2)
    learning = (sparse_learning_fits_lava, rounding_fits_lava) if learn else ()
    check_design(graph, profile, (*RULES, conv_geometry_fits_lava, *learning))


def _inputs(graph: LoihiGraph, spikes: Any, learn: bool = False) -> dict[str, NDArray[Any]]:
    """Arrays (n_steps, batch, *shape) by input name, as Lava's source sends them."""
    return {
        name: array if graph.inputs[name].message_bits else np.not_equal(array, 0)
        for name, array in check_inputs(graph, spikes, learn).items()
    }


# --- Lava ---------------------------------------------------------------------------------------


def _lava_network() -> Any:
    """Module ``lava_network``, which imports Lava."""
    if not lava_is_here():
        raise MissingDependencyError("lava", "lava", "build Lava Processes", LAVA_COMMAND)
    infrastructure = "lava.magma.runtime.message_infrastructure.multiprocessing"
    if infrastructure not in sys.modules and multiprocessing.get_start_method(allow_none=True):
        # Lava sets the start method "fork" when it is imported and fails if one is set already.
        multiprocessing.set_start_method(None, force=True)
    with runner.quiet_lava():
        return importlib.import_module("biril_nm.export.lava.bundle.lava_network")


@checked
def build(
    graph: LoihiGraph,
    n_steps: int,
    chip: str | ChipProfile | None = None,
    learn: bool = False,
) -> Any:
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
        learn: whether connections with a rule are LearningDense and LearningSparse.

    Raises:
        RangeError: a register, weight or delay that the chip does not have; all are listed.
        MissingDependencyError: lava-nc is not installed.
    """
    _check(graph, n_steps, chip, learn)
    description, arrays = describe(graph)
    module = _lava_network()
    with runner.quiet_lava():
        return module.LavaNetwork(description, arrays, n_steps, learn=learn)


@checked
def run_lava(
    graph: LoihiGraph,
    spikes: Any,
    record: Iterable[str] | str = ("s", "u", "v"),
    nodes: Iterable[str] | None = None,
    stall_s: float = STALL_S,
    progress: Callable[[int, int], None] | None = None,
    learn: bool = False,
) -> Recording:
    """Run all samples back to back in one Lava run and return what Lava computed.

    Args:
        graph: the integer network.
        spikes: integers (n_steps, batch, *shape), or a dict of them by input name.
        record: variables to keep, of "s", "u", "v"; with ``learn`` also those of plastic connections.
        nodes: names of the Neurons nodes to keep; all by default.
        stall_s: give up when Lava makes no step for that long.
        progress: called with the chip steps done and the chip steps in all; not for Lava elsewhere.
        learn: whether plastic connections learn.

    Returns:
        A trace like that of ``simulate``; ``chip_time()`` is Lava's own recording. After learning,
        ``graph`` is the learned graph.

    Raises:
        ConfigError: spikes or names that do not fit the graph.
        RangeError: a limit of the chip that the graph breaks.
        LavaRunError: Lava failed; its processes are ended.
        MissingDependencyError: lava-nc is not installed.
    """
    (variables, of_learning), kept = split_variables(record, learn), recorded_nodes(graph, nodes)
    arrays = _inputs(graph, spikes, learn)
    n_steps, batch = next(iter(arrays.values())).shape[:2]
    every = ("s", "v", *(name for name in (*variables, *of_learning) if name not in ("s", "v")))
    other = find_interpreter()
    try:
        if other is None:
            rows, finals = _stream_here(graph, arrays, every, stall_s, learn, progress)
        else:
            _check(graph, n_steps, None, learn)
            rows, finals = stream_elsewhere(other, graph, arrays, every, stall_s, learn)
    except runner.RunFailedError as error:
        raise LavaRunError(f"the run on Lava failed: {error}") from error
    trace = _trace(graph, rows, variables, kept, (n_steps, batch))
    version_of = {"version": _lava_version() if other is None else other.label}
    trace = replace(trace, meta={**trace.meta, **version_of})
    if not learn:
        return trace
    return replace(
        trace,
        connections={
            name: ConnectionRecording(**{key: rows[name][key] for key in of_learning})
            for name in (graph.plastic if of_learning else ())
        },
        graph=_learned_graph(graph, finals),
    )


def _stream_here(
    graph: LoihiGraph,
    spikes: Mapping[str, NDArray[Any]],
    record: tuple[str, ...],
    stall_s: float,
    learn: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Rows in chip time of populations and plastic connections, and the last w, t, d of the latter."""
    n_steps = len(next(iter(spikes.values())))
    network = build(graph, n_steps, learn=learn)
    with runner.quiet_lava():
        rows = runner.stream(network, dict(spikes), record, stall_s, progress)
    return rows, {name: part.proc_params["final"] for name, part in network.plastic.items()}


def _learned_graph(graph: LoihiGraph, finals: Mapping[str, Mapping[str, Any]]) -> LoihiGraph:
    for name, node in graph.plastic.items():
        final = finals[name]
        changes: dict[str, Any] = {
            field: final[key].copy()
            for key, field in (("t", "tag_t"), ("d", "tag_d"))
            if has_tag(node, key)
        }
        changes["weight"] = final["w"].copy()
        if isinstance(node, Sparse):
            changes["weight"] = node.weight.copy()
            changes["weight"].data = final["w"].copy()
        graph = graph.with_node(name, **changes)
    return graph


def _trace(
    graph: LoihiGraph,
    rows: dict[str, dict[str, Any]],
    variables: tuple[str, ...],
    kept: tuple[str, ...],
    size: tuple[int, int],
) -> Recording:
    n_steps, batch = size
    period = graph.sample_period(n_steps)

    def in_node_time(name: str, variable: str) -> Any:
        latency = graph.latency[name]
        return runner.node_time(rows[name][variable], latency, period, n_steps, batch)

    def chip() -> Mapping[str, NodeRecording]:
        return {name: NodeRecording(**{key: rows[name][key] for key in variables}) for name in kept}

    return Recording(
        nodes={
            name: NodeRecording(**{key: in_node_time(name, key) for key in variables})
            for name in kept
        },
        n_spikes={name: int(np.count_nonzero(in_node_time(name, "s"))) for name in graph.neurons},
        v_last={name: in_node_time(name, "v")[-1] for name in graph.neurons},
        chip=chip,
        meta={"engine": "lava", "n_steps": n_steps, "batch": batch},
    )


def _lava_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    from biril_nm.export.lava.bundle import lava_compat  # imports Lava where it needs mending

    try:
        found = f"lava-nc {version('lava-nc')}"
    except PackageNotFoundError:
        found = "lava-nc (version unknown)"
    spots = lava_compat.mended()
    return f"{found} (mended: {', '.join(spots)})" if spots else found


@checked
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
    _check(graph, 1, chip)
    check_design(graph, LOIHI2, (rounding_fits_lava,))  # the bundle learns with --learn
    sample = None if spikes is None else _inputs(graph, spikes)
    return write_bundle(graph, *describe(graph), sample, path, force)


class LavaBackend:
    """lava-nc 0.10.0, integer models: :func:`build` and :func:`write`."""

    target = Target(
        marker=RUNNER,
        learns=True,
        options=("spikes",),
        hint=f"run it: python {{path}}/{RUNNER}",
    )
    build = staticmethod(build)
    write = staticmethod(write)
