"""What a recording says about the classes: output neurons, scores and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biril_nm.coding import readout_scores
from biril_nm.errors import ConfigError
from biril_nm.hw_graph.inputs import driving_inputs
from biril_nm.hw_graph.outputs import output_neurons

if TYPE_CHECKING:
    from biril_nm.hw_graph import LoihiGraph
    from biril_nm.recording.recording import Recording

__all__ = ["class_scores", "predict", "readout_node", "single_readout"]


def readout_node(graph: LoihiGraph) -> str:
    """Neurons node that classifies: the first of the output, else the last one."""
    return (*output_neurons(graph), *reversed(graph.neurons))[0]


def single_readout(graph: LoihiGraph) -> str:
    """Neurons node that classifies, of a network with one input and one output.

    Raises:
        ConfigError: not exactly one input and one output.
    """
    driving = tuple(driving_inputs(graph))
    if len(graph.outputs) != 1 or len(driving) != 1:
        raise ConfigError(
            f"classification needs one input and one output; the graph has inputs "
            f"{', '.join(driving)} and outputs {', '.join(graph.outputs) or 'none'}"
        )
    return readout_node(graph)


def class_scores(graph: LoihiGraph, recording: Recording) -> NDArray[np.generic]:
    """Score of each class: the engine's own, else that of the readout's spikes and last v.

    Shape: ``(batch, n_classes)``.
    """
    if recording.scores is not None:
        return recording.scores.reshape(len(recording.scores), -1)
    node = readout_node(graph)
    spikes = np.asarray(recording[node].s)
    flat = spikes.reshape(*spikes.shape[:2], -1)
    v_last = recording.v_last[node].reshape(flat.shape[1], -1)
    return readout_scores(flat, v_last, graph.neurons[node].spike_threshold.reshape(-1))


def predict(graph: LoihiGraph, recording: Recording) -> NDArray[np.int64]:
    """Class with the highest score, the first one of equals. Shape ``(batch,)``."""
    return np.asarray(class_scores(graph, recording).argmax(axis=-1), dtype=np.int64)
