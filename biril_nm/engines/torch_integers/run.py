"""A run of the engine ``torch-int``: blocks of samples and steps, connection by connection.

What reaches a population from outside of its loop is summed for all steps of a block in one product; then
its neurons advance step by step. Index t of every population answers input step t (node time).
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import biril_nm
from biril_nm._torch import float32_is_exact
from biril_nm.arrays import Array
from biril_nm.engines.torch_integers.populations import Population, make_population
from biril_nm.engines.torch_integers.sums import Sums, make_sums
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.components import Component, execution_order
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import check_inputs
from biril_nm.recording import NodeRecording, Recording, check_variables, recorded_nodes
from biril_nm.recording.folder import DTYPES, SIGNED_SPIKES, check_memory

__all__ = ["blocks", "run_integers"]

BLOCK_BYTES = {"cpu": 1 << 26}  # of the rows of a block
DEVICE_BYTES = 1 << 31  # the same on other devices
FREE_SHARE = 8  # of what is free on a CUDA device: sums and their copies take some times the rows
BYTES = 16  # of a neuron in a block: spikes, what arrives, u and v


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A graph on a device.

    Attributes:
        order: components in execution order.
        incoming: connections that end at each population.
        populations: by name.
        past: steps of the past that targets of a node still read, by its name.
        row: neurons and input elements.
    """

    order: tuple[Component, ...]
    incoming: Mapping[str, tuple[Sums, ...]]
    populations: Mapping[str, Population]
    past: Mapping[str, int]
    row: int


_prepared: dict[tuple[int, str, bool], tuple[weakref.ref[LoihiGraph], _Prepared]] = {}


def run_integers(
    graph: LoihiGraph,
    spikes: Any,
    record: tuple[str, ...] = ("s",),
    nodes: tuple[str, ...] | None = None,
    device: str = "auto",
) -> Recording:
    """Run ``graph`` on integers ``(n_steps, batch, *shape)``, as :func:`biril_nm.hardware_sim.simulate`.

    Args:
        graph: the integer network.
        spikes: integers, or a dict of them by input name.
        record: variables, of s, u and v.
        nodes: Neurons nodes to record; None: all.
        device: of torch; "auto": CUDA where there is one, else the CPU.

    Raises:
        ConfigError: arguments that do not fit, a device that is not there, or a connection or population
            that torch cannot run exactly.
        RangeError: payloads or weights that Lava could not carry.
    """
    place = _device(device)
    arrays = check_inputs(graph, spikes)
    n_steps, batch = next(iter(arrays.values())).shape[:2]
    length = n_steps, batch
    recorder = _Recorder(graph, length, recorded_nodes(graph, nodes), check_variables(record))
    with torch.inference_mode(), torch.autocast(place.type, enabled=False):
        prepared = _prepare(graph, place)
        for first, size, steps in blocks(prepared.row, length, place):
            part = {name: array[:, first : first + size] for name, array in arrays.items()}
            _Block(prepared, part, recorder, first, place).run(steps)
    return recorder.result(str(place))


def _device(name: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        probe = torch.zeros(1, dtype=torch.float64, device=torch.device(name))
        probe.item()  # "meta" holds nothing, "mps" no float64
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"device '{name}' cannot be used: {reason}. Choose auto or cpu"
        ) from error
    return probe.device  # "cuda" with its index, which may be another one in the next run


def _prepare(graph: LoihiGraph, device: torch.device) -> _Prepared:
    """The graph on a device; a graph (which is immutable) is prepared once for each."""
    float32 = float32_is_exact()
    key = id(graph), str(device), float32
    known = _prepared.get(key)
    if known is not None and known[0]() is graph:
        return known[1]
    sums = {name: make_sums(graph, name, device, float32) for name in graph.connections}
    past = dict.fromkeys((*graph.inputs, *graph.neurons), 0)
    for each in sums.values():
        past[each.source] = max(past[each.source], each.slack)
    found = _Prepared(
        execution_order(graph),
        {name: tuple(sums[link] for link in graph.incoming(name)) for name in graph.neurons},
        {name: make_population(graph, name, device) for name in graph.neurons},
        past,
        sum(int(np.prod(graph.shape_of(name))) for name in past),
    )
    _prepared[key] = (weakref.ref(graph, lambda _: _prepared.pop(key, None)), found)
    return found


def blocks(row: int, length: tuple[int, int], device: torch.device) -> Any:
    """First sample, samples and steps at a time of each block."""
    n_steps, batch = length
    fits = max(1, _room(device) // (BYTES * row))
    steps = min(n_steps, fits)
    size = max(1, fits // steps)
    return ((first, min(size, batch - first), steps) for first in range(0, batch, size))


def _room(device: torch.device) -> int:
    """Bytes for the rows of a block."""
    if device.type != "cuda":
        return BLOCK_BYTES.get(device.type, DEVICE_BYTES)
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(DEVICE_BYTES, (free + unused) // FREE_SHARE)


class _Block:
    """Samples that advance together; rows of spikes are ``(past + steps, batch, *shape)``.

    Args:
        prepared: the graph.
        arrays: integers ``(n_steps, batch, *shape)`` of each input.
        recorder: takes the results.
        first: first sample in the run.
        device: where to.
    """

    def __init__(
        self,
        prepared: _Prepared,
        arrays: Mapping[str, NDArray[Any]],
        recorder: _Recorder,
        first: int,
        device: torch.device,
    ) -> None:
        self._prepared, self._arrays, self._recorder = prepared, arrays, recorder
        self._first, self._device = first, device
        self._n_steps, self._batch = next(iter(arrays.values())).shape[:2]
        populations = prepared.populations
        self._state = {name: each.at_rest(self._batch) for name, each in populations.items()}
        self._rows: dict[str, Tensor] = {}

    def run(self, steps: int) -> None:
        """All steps, some at a time."""
        for t0 in range(0, self._n_steps, steps):
            n = min(steps, self._n_steps - t0)
            self._rows = {name: self._next_rows(name, t0, n) for name in self._prepared.past}
            for component in self._prepared.order:
                self._advance(component, t0, n)
        for name, state in self._state.items():
            self._recorder.keep_last(name, self._first, state[1])

    def _next_rows(self, name: str, t0: int, n: int) -> Tensor:
        """Rows of a node: its past, then those of the input, or room for ``n`` steps."""
        past = self._prepared.past[name]
        array = self._arrays.get(name)
        if array is not None and past == 0 and array.strides[0] == 0:  # one image for all steps
            return self._sent(array[:1]).expand(n, *array.shape[1:])
        shape = self._prepared.populations[name].shape if array is None else array.shape[2:]
        kind = torch.int8 if array is None else torch.int32
        rows = torch.zeros((past + n, self._batch, *shape), dtype=kind, device=self._device)
        if name in self._rows:
            rows[:past] = self._rows[name][-past:] if past else self._rows[name][:0]
        if array is not None:
            rows[past:] = self._sent(array[t0 : t0 + n])
        return rows

    def _sent(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.astype(np.int32)).to(self._device)

    def _advance(self, component: Component, t0: int, n: int) -> None:
        names = component.names
        inside = names if component.looped else ()
        arriving = {name: self._from_outside(name, inside, n) for name in names}
        found: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in names}
        for t in range(n):
            for name in names:
                a = arriving[name][t]
                for link in self._prepared.incoming[name]:
                    if link.source in inside:
                        a = a + self._of_rows(link, self._read(link, t, 1))[0]
                state, spikes = self._prepared.populations[name].step(a, self._state[name])
                self._state[name] = state
                self._rows[name][self._prepared.past[name] + t] = spikes
                found[name].append(state[:2])
        for name in names:
            spikes = self._rows[name][self._prepared.past[name] :]
            self._recorder.take(name, (t0, self._first), spikes, found[name])

    def _from_outside(self, name: str, inside: tuple[str, ...], n: int) -> Tensor:
        """What reaches a population from outside of its loop in each step, int32."""
        shape = self._prepared.populations[name].shape
        total = torch.zeros((1, self._batch, *shape), dtype=torch.int32, device=self._device)
        for link in self._prepared.incoming[name]:
            if link.source not in inside:
                total = total + self._of_rows(link, self._read(link, 0, n))
        return total.expand(n, self._batch, *shape)

    def _of_rows(self, link: Sums, rows: Tensor) -> Tensor:
        """Sums of rows ``(n, batch, *source)``; those of one repeated image are computed once."""
        if len(rows) > 1 and rows.stride(0) == 0:
            rows = rows[:1]
        return link(rows.flatten(0, 1)).reshape(*rows.shape[:2], *link.shape)

    def _read(self, link: Sums, t: int, n: int) -> Tensor:
        """Rows of a source that arrive from step t on."""
        first = self._prepared.past[link.source] + t - link.slack
        return self._rows[link.source][first : first + n]


class _Recorder:
    """What a run leaves behind, as NumPy arrays.

    Args:
        graph: the network.
        length: steps and samples.
        nodes: names of the populations to record.
        variables: what to record of them.

    Raises:
        ConfigError: memory has no room for it.
    """

    def __init__(
        self,
        graph: LoihiGraph,
        length: tuple[int, int],
        nodes: tuple[str, ...],
        variables: tuple[str, ...],
    ) -> None:
        self._length, self._nodes, self._variables = length, nodes, variables
        kinds = {
            name: {**DTYPES, "s": SIGNED_SPIKES} if node.compartment.signed else DTYPES
            for name, node in graph.neurons.items()
        }
        sizes = {name: node.size for name, node in graph.neurons.items()}
        row = sum(sizes[name] * kinds[name][v].itemsize for name in nodes for v in variables)
        check_memory(length[0] * length[1] * row)
        self._arrays: dict[str, dict[str, Array]] = {
            name: {
                v: np.empty((*length, *graph.neurons[name].shape), kinds[name][v])
                for v in variables
            }
            for name in nodes
        }
        self._last = {
            name: np.empty((length[1], *node.shape), np.int32)
            for name, node in graph.neurons.items()
        }
        self._counts: dict[str, list[Tensor]] = {name: [] for name in graph.neurons}

    def take(
        self,
        name: str,
        place: tuple[int, int],
        spikes: Tensor,
        states: list[tuple[Tensor, ...]],
    ) -> None:
        """Spikes ``(steps, batch, *shape)`` and u, v of each step, from a first step and sample on."""
        self._counts[name].append(torch.count_nonzero(spikes))
        for variable, array in self._arrays.get(name, {}).items():
            if variable == "s":
                values = spikes
            else:
                values = torch.stack([each["uv".index(variable)] for each in states])
            (t0, b0), (n, size) = place, spikes.shape[:2]
            array[t0 : t0 + n, b0 : b0 + size] = values.cpu().numpy()

    def keep_last(self, name: str, first: int, v: Tensor) -> None:
        """V of samples after their last step."""
        self._last[name][first : first + len(v)] = v.cpu().numpy()

    def result(self, device: str) -> Recording:
        """The recording of a run on ``device``."""
        n_steps, batch = self._length
        return Recording(
            {name: NodeRecording(**arrays) for name, arrays in self._arrays.items()},
            {name: sum(int(each) for each in counts) for name, counts in self._counts.items()},
            self._last,
            meta={
                "engine": "biril_nm.engines.torch_int",
                "version": biril_nm.__version__,
                "device": device,
                "n_steps": n_steps,
                "batch": batch,
            },
        )
