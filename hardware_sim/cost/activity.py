"""Activity: how often each neuron sent a spike in a run. Sums over runs, so it stays small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import check_arrays, check_values, driving_inputs
from biril_nm.recording import Recording

__all__ = ["Activity", "input_arrays"]


@checked
@dataclass(frozen=True)
class Activity:
    """Spikes of each source over all steps and samples of one or more runs.

    Attributes:
        n_steps: steps per sample.
        n_samples: samples.
        spikes: Input or Neurons name -> spikes per neuron, in the node's shape. Inputs are there
            only if they were given; a graded message counts as one spike.
    """

    n_steps: int
    n_samples: int
    spikes: Mapping[str, NDArray[np.int64]]

    @staticmethod
    @checked
    def of(graph: LoihiGraph, trace: Recording, inputs: Any = None) -> Activity:
        """Count the spikes of a trace that recorded "s" of every node.

        Args:
            graph: the integer network.
            trace: result of ``simulate(graph, inputs, record=("s", ...))``.
            inputs: what was simulated, (n_steps, batch, *shape) or a dict by input name.

        Raises:
            ConfigError: a node's spikes were not recorded, or the input is of another run.
        """
        missing = [n for n in graph.neurons if n not in trace.nodes or trace.nodes[n].s is None]
        if missing:
            raise ConfigError(
                f"the recording has no spikes of {', '.join(missing)}; expected those of all neurons. "
                f"Simulate with record=('s',) and without nodes="
            )
        first = np.asarray(trace[next(iter(graph.neurons))].s).shape
        spikes = {name: _count(np.asarray(trace[name].s)) for name in graph.neurons}
        for name, array in input_arrays(graph, inputs).items():
            if array.shape[:2] != first[:2]:
                raise ConfigError(
                    f"input '{name}' has {array.shape[0]} steps of {array.shape[1]} samples, the "
                    f"recording {first[0]} of {first[1]}; expected the same. Pass the input of the same run"
                )
            spikes[name] = _count(array)
        return Activity(int(first[0]), int(first[1]), spikes)

    def __add__(self, other: Activity) -> Activity:
        """Both runs together."""
        if not isinstance(other, Activity):
            return NotImplemented
        if self.n_steps != other.n_steps or set(self.spikes) != set(other.spikes):
            raise ConfigError("activities of different networks or sample lengths do not add up")
        both = {name: count + other.spikes[name] for name, count in self.spikes.items()}
        return Activity(self.n_steps, self.n_samples + other.n_samples, both)


def input_arrays(graph: LoihiGraph, inputs: Any) -> dict[str, NDArray[Any]]:
    """Values of the driving inputs by name; nothing for None.

    Raises:
        ConfigError: names, shapes or dtypes that are not the graph's.
        RangeError: values that an input does not carry.
    """
    if inputs is None:
        return {}
    driving = driving_inputs(graph)
    if isinstance(inputs, Mapping):
        inputs = {name: inputs[name] for name in driving if name in inputs}
    arrays = check_arrays(driving, inputs)
    check_values(driving, arrays)
    return arrays


def _count(spikes: NDArray[Any]) -> NDArray[np.int64]:
    """Non-zero entries over steps and samples, step by step so that no large copy is made."""
    if spikes.strides[0] == 0:  # one image repeated by np.broadcast_to
        once = np.count_nonzero(spikes[0], axis=0)
        return np.asarray(once * spikes.shape[0], dtype=np.int64)
    total = np.zeros(spikes.shape[2:], dtype=np.int64)
    for step in spikes:
        total += np.count_nonzero(step, axis=0)
    return total
