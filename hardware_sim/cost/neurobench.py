"""NeuroBench metrics (algorithm track) of an integer network, by the harness's definitions.

Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and
systems", Nature Communications 16, 1545 (2025), and the code of the neurobench package. They are
counts, not joules; see :mod:`biril_nm.hardware_sim.cost.energy` for a model of energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.cost.activity import input_arrays
from biril_nm.hardware_sim.cost.fanout import fan_out, stored_weights
from biril_nm.hw_graph import Conv, Dense, LoihiGraph
from biril_nm.hw_graph.inputs import driving_inputs
from biril_nm.loihi import STATE_BITS, WEIGHT_BITS
from biril_nm.recording import Recording

__all__ = ["LayerOperations", "NeuroBenchMetrics", "neurobench_metrics"]

STATE_BYTES = 4  # the simulator keeps both as int32
BYTE = 8


@dataclass(frozen=True)
class LayerOperations:
    """Synaptic operations of one connection per sample, all steps included.

    Attributes:
        dense: with all inputs and weights counted as 1.
        effective_acs: operations of steps whose inputs are all 0 or 1 (accumulates).
        effective_macs: operations of steps with a graded input (multiply-accumulates).
    """

    dense: float
    effective_acs: float
    effective_macs: float


@dataclass(frozen=True)
class NeuroBenchMetrics:
    """The static and the workload metrics of a run.

    Attributes:
        footprint_bytes: all weights, registers and states (batch of one) as the simulator stores
            them, zeros included.
        chip_footprint_bytes: the same at the chip's widths: weight bits plus sign, 24-bit states.
        n_parameters: weights and registers.
        connection_sparsity: share of weights that are 0.
        activation_sparsity: share of (neuron, step, sample) without a spike; 1 is silent.
        layers: connection -> operations per sample.
        membrane_updates: changed membrane potentials per sample, the first step counting every
            neuron; None if the recording has no "v".
        n_samples: samples of the run.
        n_steps: steps per sample.
    """

    footprint_bytes: int
    chip_footprint_bytes: int
    n_parameters: int
    connection_sparsity: float
    activation_sparsity: float
    layers: Mapping[str, LayerOperations]
    membrane_updates: float | None
    n_samples: int
    n_steps: int

    @property
    def dense_operations(self) -> float:
        """Synaptic operations per sample with all inputs and weights counted as 1."""
        return sum(layer.dense for layer in self.layers.values())

    @property
    def effective_acs(self) -> float:
        """Effective accumulates per sample."""
        return sum(layer.effective_acs for layer in self.layers.values())

    @property
    def effective_macs(self) -> float:
        """Effective multiply-accumulates per sample."""
        return sum(layer.effective_macs for layer in self.layers.values())

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each metric, as text."""
        updates = self.membrane_updates
        return [
            ("footprint", f"{self.footprint_bytes:,} bytes"),
            ("footprint at chip widths", f"{self.chip_footprint_bytes:,} bytes"),
            ("parameters", f"{self.n_parameters:,}"),
            ("connection sparsity", f"{self.connection_sparsity:.4f}"),
            ("activation sparsity", f"{self.activation_sparsity:.4f}"),
            ("synaptic operations, dense", f"{self.dense_operations:,.0f}"),
            ("effective ACs", f"{self.effective_acs:,.0f}"),
            ("effective MACs", f"{self.effective_macs:,.0f}"),
            ("membrane updates", "not recorded" if updates is None else f"{updates:,.0f}"),
        ]


@checked
def neurobench_metrics(graph: LoihiGraph, trace: Recording, inputs: Any) -> NeuroBenchMetrics:
    """Metrics of one run.

    Args:
        graph: the integer network.
        trace: result of ``simulate(graph, inputs, record=("s", "v"))``; without "v" there are no
            membrane updates.
        inputs: what was simulated, (n_steps, batch, *shape) or a dict by input name.

    Raises:
        ConfigError: the recording holds no spikes of some node, or the input is of another run.
    """
    sources = _sources(graph, trace, inputs)
    n_steps, n_samples = next(iter(sources.values())).shape[:2]
    weights = [stored_weights(graph, name) for name in graph.connections]
    total, nonzero = (sum(pair[i] for pair in weights) for i in (0, 1))
    spikes = sum(int(np.count_nonzero(sources[name])) for name in graph.neurons)
    cells = sum(node.size for node in graph.neurons.values()) * n_steps * n_samples
    footprint, chip_footprint, n_parameters = _footprint(graph)
    return NeuroBenchMetrics(
        footprint_bytes=footprint,
        chip_footprint_bytes=chip_footprint,
        n_parameters=n_parameters,
        connection_sparsity=(total - nonzero) / total if total else 0.0,
        activation_sparsity=(cells - spikes) / cells,
        layers={name: _operations(graph, name, sources) for name in graph.connections},
        membrane_updates=_membrane_updates(graph, trace, n_samples),
        n_samples=int(n_samples),
        n_steps=int(n_steps),
    )


def _sources(graph: LoihiGraph, trace: Recording, inputs: Any) -> dict[str, NDArray[Any]]:
    found = input_arrays(graph, inputs)
    if set(found) != set(driving_inputs(graph)):
        raise ConfigError("NeuroBench counts the input too. Pass the simulated spikes as inputs")
    for name in graph.neurons:
        spikes = trace.nodes[name].s if name in trace.nodes else None
        if spikes is None:
            raise ConfigError(
                f"the recording has no spikes of '{name}'; expected those of all neurons. Simulate with "
                f"record=('s', 'v')"
            )
        found[name] = np.asarray(spikes)
    shapes = {array.shape[:2] for array in found.values()}
    if len(shapes) > 1:
        raise ConfigError(
            f"input and recording have (steps, samples) {sorted(shapes)}; expected one of them. Pass both "
            f"of one run"
        )
    return found


def _operations(
    graph: LoihiGraph, name: str, sources: Mapping[str, NDArray[Any]]
) -> LayerOperations:
    """Operations per sample; a call of the layer is one step of the whole batch."""
    source = sources[graph.ends[name][0]]
    n_steps, n_samples = source.shape[:2]
    fan = fan_out(graph, name, nonzero=True).ravel()
    graded = graph.message_bits_into(name) > 0
    acs = macs = 0
    for step in source:
        active = np.count_nonzero(step.reshape(n_samples, -1), axis=0)
        operations = int(active @ fan)
        if graded and int(np.abs(step).max(initial=0)) > 1:
            macs += operations
        else:
            acs += operations
    dense = int(fan_out(graph, name).sum()) if not _is_sparse(graph, name) else _full(graph, name)
    return LayerOperations(float(dense * n_steps), acs / n_samples, macs / n_samples)


def _is_sparse(graph: LoihiGraph, name: str) -> bool:
    return not isinstance(graph.connections[name], (Conv, Dense))


def _full(graph: LoihiGraph, name: str) -> int:
    return int(np.prod(graph.connections[name].weight.shape))


def _membrane_updates(graph: LoihiGraph, trace: Recording, n_samples: int) -> float | None:
    if any(trace[name].v is None for name in graph.neurons):
        return None
    total = 0
    for name, node in graph.neurons.items():
        v = np.asarray(trace[name].v)
        total += node.size * n_samples
        total += sum(int(np.count_nonzero(now != was)) for was, now in pairwise(v))
    return total / n_samples


def _footprint(graph: LoihiGraph) -> tuple[int, int, int]:
    """(bytes as stored, bytes at the chip's widths, number of parameters)."""
    stored = chip_bits = n_parameters = 0
    for node in graph.connections.values():
        arrays = (
            (node.weight,)
            if isinstance(node, (Conv, Dense))
            else (node.weight.data, node.weight.indices, node.weight.indptr)
        )
        stored += sum(int(array.nbytes) for array in arrays)
        n_parameters += int(arrays[0].size)
        chip_bits += int(arrays[0].size) * (min(node.weight_bits, WEIGHT_BITS) + 1)
    for neurons in graph.neurons.values():
        model = neurons.compartment
        registers = [np.asarray(neurons.registers[name]) for name in model.per_neuron]
        stored += sum(int(register.nbytes) for register in registers)
        stored += neurons.size * len(model.state) * STATE_BYTES
        n_parameters += sum(int(register.size) for register in registers)
        chip_bits += neurons.size * len(model.state) * STATE_BITS
    return stored, -(-chip_bits // BYTE), n_parameters
