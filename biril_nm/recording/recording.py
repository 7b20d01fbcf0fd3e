"""Traces: what every engine records, in node time, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.display import brief, brief_fields, html_table
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.learning.terms import SYNAPTIC, TRACES
from biril_nm.recording.channels_last import torch_view
from biril_nm.recording.folder import read_folder
from biril_nm.recording.plots import plot_raster, plot_voltage
from biril_nm.recording.tables import to_pandas, to_xarray
from biril_nm.storage import check_output, parse_json, read_npz, write_npz

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.axes import Axes

__all__ = [
    "LEARNING_VARIABLES",
    "VARIABLES",
    "ConnectionRecording",
    "NodeRecording",
    "Recording",
    "check_variables",
    "recorded_nodes",
    "split_variables",
]

VERSION = 1  # of the file; files without a version are of version 1
VARIABLES = ("s", "u", "v")  # spikes, synaptic current and membrane potential of neurons
NUMBERS = "biuf"  # kinds of NumPy types
# Weight, tag, delay and synaptic traces of connections that learn.
LEARNING_VARIABLES = (*SYNAPTIC, *TRACES)


@checked
def check_variables(names: Iterable[str] | str) -> tuple[str, ...]:
    """Return ``names`` as a tuple of known variables, in the order s, u, v."""
    return _in_order(_names(names))


def _names(names: Iterable[str] | str) -> tuple[str, ...]:
    return tuple(names.split(",")) if isinstance(names, str) else tuple(names)


def _in_order(given: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in given if name not in VARIABLES]
    if unknown:
        raise ConfigError(f"cannot record {unknown}; expected {', '.join(VARIABLES)}")
    return tuple([name for name in VARIABLES if name in given])


@checked
def split_variables(
    names: Iterable[str] | str, learn: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Variables of neurons and, in a run that learns, of plastic connections, each in fixed order.

    Raises:
        ConfigError: an unknown name, or a variable of learning in a run that does not learn.
    """
    return _split(_names(names), learn)


@lru_cache(maxsize=64)  # closed loops ask for the same at each step
def _split(given: tuple[str, ...], learn: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    learning = tuple([name for name in LEARNING_VARIABLES if name in given])
    if learning and not learn:
        raise ConfigError(
            f"cannot record {', '.join(learning)} of a run without learning. Pass learn=True (--learn)"
        )
    rest = tuple([name for name in given if name not in learning])
    try:
        return _in_order(rest), learning
    except ConfigError as error:
        if not learn:
            raise
        raise ConfigError(f"{error}, and {', '.join(LEARNING_VARIABLES)}") from None


@checked
def recorded_nodes(graph: LoihiGraph, nodes: Iterable[str] | str | None) -> tuple[str, ...]:
    """Neurons nodes to record, in the order of the graph; None stands for all.

    Raises:
        ConfigError: a name that is not a Neurons node.
    """
    if nodes is None:
        return tuple(graph.neurons)
    wanted = {nodes} if isinstance(nodes, str) else set(nodes)
    unknown = sorted(wanted - set(graph.neurons))
    if unknown:
        raise ConfigError(
            f"cannot record {', '.join(unknown)}; Neurons nodes are {', '.join(graph.neurons)}"
        )
    return tuple(name for name in graph.neurons if name in wanted)


@brief_fields
@dataclass(frozen=True)
class NodeRecording:
    """Recorded variables of one Neurons node; None where not recorded.

    Shape:
        ``(n_steps, batch, *shape)`` in node time, ``(n_chip_steps, *shape)`` in chip time.

    Units:
        s 0/1, or -1/0/1 where spikes have a sign; u and v in register units (64 per integer weight unit).
    """

    s: NDArray[Any] | None = None
    u: NDArray[Any] | None = None
    v: NDArray[Any] | None = None

    def variables(self) -> dict[str, NDArray[Any]]:
        """The recorded variables by name."""
        pairs = ((name, getattr(self, name)) for name in VARIABLES)
        return {name: array for name, array in pairs if array is not None}


@brief_fields
@dataclass(frozen=True)
class ConnectionRecording:
    """Recorded variables of one plastic connection; None where not recorded or not there.

    Row c is what holds after chip step c + 1. Traces are those that Lava stores: they change at the end
    of an epoch, and when a neuron spikes again within one.

    Shape: w, t, d ``(n_chip_steps, post, pre)``, of a Sparse ``(n_chip_steps, n_synapses)`` in the order
        of ``weight.data``; x1, x2 ``(n_chip_steps, n_pre)``, y1, y2, y3 ``(n_chip_steps, n_post)``,
        flattened in torch order.
    """

    w: NDArray[Any] | None = None
    t: NDArray[Any] | None = None
    d: NDArray[Any] | None = None
    x1: NDArray[Any] | None = None
    x2: NDArray[Any] | None = None
    y1: NDArray[Any] | None = None
    y2: NDArray[Any] | None = None
    y3: NDArray[Any] | None = None

    def variables(self) -> dict[str, NDArray[Any]]:
        """The recorded variables by name."""
        pairs = ((name, getattr(self, name)) for name in LEARNING_VARIABLES)
        return {name: array for name, array in pairs if array is not None}


@dataclass(frozen=True)
class Recording(Mapping[str, NodeRecording]):
    """Recording of one run: node name -> :class:`NodeRecording`, index t answers input step t.

    Attributes:
        nodes: what was recorded.
        n_spikes: spikes of each Neurons node over all samples and steps.
        v_last: membrane potential of each node after the last step, ``(batch, *shape)``.
        chip: makes the raw recording in chip time, streaming all samples (see :meth:`chip_time`).
        meta: JSON-able facts about the run.
        connections: what was recorded of plastic connections in a run that learns, in chip time.
        graph: the learned graph (weights and tags) after a run that learns.
        scores: scores of the classes ``(batch, n_classes)``, of engines that compute them themselves.
    """

    nodes: Mapping[str, NodeRecording]
    n_spikes: Mapping[str, int] = field(default_factory=dict)
    v_last: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    chip: Callable[[], Mapping[str, NodeRecording]] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    connections: Mapping[str, ConnectionRecording] = field(default_factory=dict)
    graph: LoihiGraph | None = None
    scores: NDArray[Any] | None = None

    def __getitem__(self, name: str) -> NodeRecording:
        try:
            return self.nodes[name]
        except KeyError:
            raise KeyError(
                f"node '{name}' was not recorded; expected one of {', '.join(self.nodes)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @checked
    def plot_raster(
        self,
        sample: int = 0,
        nodes: Iterable[str] | None = None,
        ax: Any = None,
    ) -> Axes:
        """Plot the spikes of one sample: a dot for each, populations above each other.

        Args:
            sample: index of the sample.
            nodes: names of nodes; all by default.
            ax: axes of matplotlib to draw on; new ones by default.

        Raises:
            ConfigError: the spikes were not recorded, or there is no such sample.
            MissingDependencyError: matplotlib is not installed.
        """
        return plot_raster(self, sample, nodes, ax)

    @checked
    def plot_voltage(
        self,
        node: str,
        neuron: int | tuple[int, ...] = 0,
        sample: int = 0,
        ax: Any = None,
    ) -> Axes:
        """Plot v of one neuron over the steps, in register units, and mark its spikes.

        Args:
            node: name of the population.
            neuron: index in the flattened population, or one index for each axis.
            sample: index of the sample.
            ax: axes of matplotlib to draw on; new ones by default.

        Raises:
            ConfigError: v was not recorded, or there is no such neuron or sample.
            MissingDependencyError: matplotlib is not installed.
        """
        return plot_voltage(self, node, neuron, sample, ax)

    @checked
    def to_pandas(self, nodes: Iterable[str] | None = None) -> pandas.DataFrame:
        """A table with one row for each node, step, sample and neuron, and columns s, u, v.

        Raises:
            ConfigError: nothing was recorded of a node.
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self, nodes)

    @checked
    def to_xarray(self, nodes: Iterable[str] | None = None) -> xarray.Dataset:
        """A data set with a variable ``NODE.s`` (u, v) of dimensions step, sample, and the node's axes.

        Raises:
            ConfigError: nothing was recorded of a node.
            MissingDependencyError: xarray is not installed.
        """
        return to_xarray(self, nodes)

    def __repr__(self) -> str:
        rows = (", ".join(cell for cell in row if cell) for row in self._rows())
        return f"Recording({'; '.join(rows)})"

    def _repr_html_(self) -> str:
        return html_table(("node", "variables", "spikes"), self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = []
        both: dict[str, NodeRecording | ConnectionRecording] = {**self.nodes, **self.connections}
        for name, node in both.items():
            shown = ", ".join(f"{k} {brief(array)}" for k, array in node.variables().items())
            count = self.n_spikes.get(name)
            rows.append((name, shown, "" if count is None else f"{count:,} spikes"))
        return rows

    def chip_time(self) -> Mapping[str, NodeRecording]:
        """The same run as the chip's own clock counts it, samples streaming back to back.

        Row c is chip step c + 1, from step 1 of the first sample to the last node's answer to the
        last step of the last sample: ``(batch - 1) * sample_period + n_steps + max latency`` rows
        of shape ``(*shape,)``. What neurons do before a sample reaches them is included.
        """
        if self.chip is None:
            raise ConfigError(
                "the recording has node time only, as those of files, sessions and torch; expected one that "
                "a simulation has just made. Call simulate(graph, spikes).chip_time()"
            )
        return self.chip()

    @checked
    def save(self, path: str | Path, force: bool = False) -> None:
        """Write ``.npz`` atomically: arrays ``NODE.s``, ``NODE.u``, ``NODE.v`` and ``meta`` (JSON).

        Plastic connections add ``CONNECTION.w`` and so on; the learned graph has a file of its own.
        """
        target = check_output(path, force)
        recorded: dict[str, NodeRecording | ConnectionRecording] = {
            **self.nodes,
            **self.connections,
        }
        arrays = {
            f"{name}.{variable}": array
            for name, node in recorded.items()
            for variable, array in node.variables().items()
        }
        facts = {**self.meta, "n_spikes": dict(self.n_spikes), "file_version": VERSION}
        arrays["meta"] = np.array(json.dumps(facts))
        write_npz(target, arrays, force=force)

    @staticmethod
    @checked
    def load(path: str | Path) -> Recording:
        """Read a file of :meth:`save`, or a folder that a run was recorded to (memory-mapped).

        Raises:
            FileFormatError: the file is damaged or holds other arrays.
        """
        if Path(path).is_dir():
            return _load_folder(path)
        arrays = read_npz(path)
        try:
            meta = parse_json(str(arrays.pop("meta")), f"meta of '{path}'")
            version = meta.pop("file_version", VERSION)
            if version != VERSION:
                raise ValueError(f"its version is {version!r}; expected {VERSION}")
            nodes: dict[str, dict[str, NDArray[Any]]] = {}
            connections: dict[str, dict[str, NDArray[Any]]] = {}
            for key, array in arrays.items():
                name, _, variable = key.rpartition(".")
                if variable not in (*VARIABLES, *LEARNING_VARIABLES) or not name:
                    raise ValueError(f"array '{key}' does not belong to a known variable")
                if array.dtype.kind not in NUMBERS:
                    raise ValueError(f"array '{key}' has type {array.dtype}; expected numbers")
                kind = nodes if variable in VARIABLES else connections
                kind.setdefault(name, {})[variable] = array
            n_spikes = {str(k): int(v) for k, v in meta.pop("n_spikes", {}).items()}
            _check_shapes(nodes, meta)
            _check_steps(connections)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise FileFormatError(f"'{path}' is not the file of a recording: {error}") from error
        return Recording(
            {name: NodeRecording(**parts) for name, parts in nodes.items()},
            n_spikes,
            meta=meta,
            connections={name: ConnectionRecording(**parts) for name, parts in connections.items()},
        )


def _check_shapes(nodes: Mapping[str, Mapping[str, NDArray[Any]]], meta: Mapping[str, Any]) -> None:
    """Refuse variables of one run that differ in steps, samples or, within a node, shape."""
    found = [array.shape for variables in nodes.values() for array in variables.values()]
    length = tuple(meta.get(key, n) for key, n in zip(("n_steps", "batch"), (*found, ())[0]))
    for name, variables in nodes.items():
        shape = next(iter(variables.values())).shape
        for variable, array in variables.items():
            if array.ndim < 2 or array.shape != shape or array.shape[:2] != length:
                raise ValueError(
                    f"array '{name}.{variable}' has shape {array.shape}; expected {length} for steps and "
                    f"samples, and the same shape for all variables of a node"
                )


def _check_steps(connections: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Refuse learning variables of one run that differ in steps, or synaptic ones in shape."""
    pairs = {f"{n}.{v}": a for n, variables in connections.items() for v, a in variables.items()}
    first = next(iter(pairs.values()), None)
    for key, array in pairs.items():
        name, _, variable = key.rpartition(".")
        alike = [connections[name].get(other, array) for other in SYNAPTIC if variable in SYNAPTIC]
        if array.ndim < 2 or first is None or len(array) != len(first):
            raise ValueError(f"array '{key}' has shape {array.shape}; expected all steps first")
        if any(other.shape != array.shape for other in alike):
            raise ValueError(f"array '{key}' has shape {array.shape}, and w, t or d has another")


def _load_folder(path: str | Path) -> Recording:
    header, nodes = read_folder(path)
    try:
        n_spikes = {str(name): int(n) for name, n in header["n_spikes"].items()}
        meta = dict(header["meta"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"'{path}' is not the folder of a recording: {error}") from error
    return Recording(
        {
            name: NodeRecording(
                **{v: torch_view(array, shape).swapaxes(0, 1) for v, array in arrays.items()}
            )
            for name, (shape, arrays) in nodes.items()
        },
        n_spikes,
        meta=meta,
    )
