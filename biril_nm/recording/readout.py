"""What a recording says about the classes: output neurons, scores and predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.coding import check_decision
from biril_nm.decision import DEFAULT_DECISION
from biril_nm.decision import class_scores as scores_of
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import driving_inputs
from biril_nm.hw_graph.outputs import output_neurons
from biril_nm.loihi import VTH_SHIFT
from biril_nm.recording.recording import Recording

__all__ = ["class_scores", "decision_of", "predict", "readout_node", "single_readout"]


def decision_of(graph: LoihiGraph) -> str:
    """How output neurons decide, as ``graph.metadata["decision"]`` says; ``"count"`` without it.

    Raises:
        ConfigError: the metadata say something else than :data:`biril_nm.coding.DECISIONS`.
    """
    return check_decision(graph.metadata.get("decision", DEFAULT_DECISION))


def readout_node(graph: LoihiGraph) -> str:
    """Neurons node that classifies: the first of the output, else the last one."""
    return (*output_neurons(graph), *reversed(graph.neurons))[0]


@checked
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
    """Score of each class: the engine's own, else that of spikes and last v by :func:`decision_of`.

    Shape: ``(batch, n_classes)``.

    Raises:
        ConfigError: the recording holds neither scores nor spikes and last v of the readout.
    """
    if recording.scores is not None:
        return recording.scores.reshape(len(recording.scores), -1)
    node = readout_node(graph)
    recorded = recording.nodes.get(node)
    spikes = None if recorded is None else recorded.s
    v_last = recording.v_last.get(node)
    if v_last is None and recorded is not None and recorded.v is not None:
        v_last = recorded.v[-1]  # of a file, which holds what was recorded alone
    if spikes is None or v_last is None:
        raise ConfigError(
            f"the recording holds no {'s' if spikes is None else 'v'} of the readout '{node}'; expected "
            f"s and v, by which it decides. Record both"
        )
    n_steps, batch = spikes.shape[:2]
    threshold = graph.neurons[node].spike_threshold << VTH_SHIFT
    return scores_of(
        decision_of(graph),
        spikes.reshape(n_steps, batch, -1),
        v_last.reshape(batch, -1),
        threshold.reshape(-1),
    )


@checked
def predict(graph: LoihiGraph, recording: Recording) -> NDArray[np.int64]:
    """Class with the highest score, the first one of equals. Shape ``(batch,)``."""
    return np.asarray(class_scores(graph, recording).argmax(axis=-1), dtype=np.int64)
