"""An OnlineNet of LIF layers as a NIR graph, for export to the chip.

    u_t = al (u_{t-1} - s_{t-1}) + (1 - al) (W x_t + V s_{t-1})

is a LIF whose spikes take the threshold from u at once; ``1 - al`` goes into the weights. The leaky readout
is an LI, and the decision of the graph is ``membrane``, the one after the last step. That is the decision of
a network with ``first_step=-1``; others sum their output over several steps, which the chip does not.
"""

from __future__ import annotations

import warnings
from typing import Any

import nir
import numpy as np
from torch import Tensor

from biril_nm.arrays import FloatArray
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.nir_nodes.coding import with_coding
from biril_nm.export.nir_nodes.decision import with_decision
from biril_nm.export.nir_nodes.neurons import tau_steps
from biril_nm.training.online.layer import BELOW, OnlineLayer, Projection
from biril_nm.training.online.net import OnlineNet

__all__ = ["online_to_nir"]

EXPORTED = ("lif", "leaky_readout")


def online_to_nir(net: OnlineNet, dt_s: float = 1e-3) -> nir.NIRGraph:
    """The network as a NIR graph, with its coding, which decides by the readout's last membrane.

    Warns where the network decides by more than its last step.

    Args:
        net: layers of LIF and a leaky readout.
        dt_s: width of a step in seconds.

    Raises:
        UnsupportedNodeError: neurons or synapses that are not on the chip.
    """
    if net.features is not None:
        raise UnsupportedNodeError(
            f"'{net.name}' has features before its layers, which give real numbers; expected layers alone. "
            f"Run the features on the host, and export a network of the layers"
        )
    first = net.stack[0].links()[0][1].weight
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([first.shape[1]])})}
    edges, before = [], "input"
    for i, layer in enumerate(net.stack):
        name = f"{layer.neuron.name}{i + 1}"
        _check(name, layer)
        decay = np.broadcast_to(_array(layer.values()["al"]), (layer.size,))
        nodes[name] = _neurons(layer, decay, dt_s)
        for key, projection in layer.links():
            below = projection.wiring.source == BELOW
            weight = f"fc{i + 1}" if below else f"{name}.{key}"
            nodes[weight] = _weights(projection, decay, lag=0 if below else 1)
            edges += [(before if below else name, weight), (weight, name)]
        before = name
    nodes["output"] = nir.Output({"output": np.array([net.stack[-1].size])})
    if net.first_step != -1:
        warnings.warn(
            f"'{net.name}' decides by the sum of its output from step {net.first_step} on, and the chip by "
            f"the membrane after the last step; some decisions may differ. Train with first_step=-1 to have "
            f"the same",
            UserWarning,
            stacklevel=2,
        )
    graph = nir.NIRGraph(nodes, [*edges, (before, "output")])
    return with_decision(with_coding(graph, net.coding), "membrane")


def _check(name: str, layer: OnlineLayer) -> None:
    if layer.neuron.name not in EXPORTED:
        raise UnsupportedNodeError(
            f"layer '{name}' has {layer.neuron.name} neurons; expected {' or '.join(EXPORTED)}, which the "
            f"chip runs. Train the network with them"
        )
    for key, projection in layer.links():
        if projection.wiring.decay or projection.wiring.columns:
            raise UnsupportedNodeError(
                f"projection '{key}' of layer '{name}' has a synapse of its own or takes a part of its "
                f"source; expected neither. Train the network without it"
            )


def _neurons(layer: OnlineLayer, decay: FloatArray, dt_s: float) -> nir.NIRNode:
    steps = tau_steps(1.0 - decay)
    rest = np.zeros(layer.size)
    common = {"tau": steps * dt_s, "r": steps, "v_leak": rest}
    if layer.neuron.name == "lif":
        facts = {"reset": "subtract", "reset_delay": 0, "dt": dt_s}
        return nir.LIF(**common, v_threshold=np.ones(layer.size), v_reset=rest, metadata=facts)
    return nir.LI(**common, metadata={"dt": dt_s, "readout": "membrane"})


def _weights(projection: Projection, decay: FloatArray, lag: int) -> nir.NIRNode:
    weight = _array(projection.weight) * (1.0 - decay)[:, None]
    return nir.Linear(weight, metadata={"lag": lag} if lag else {})


def _array(values: Tensor) -> FloatArray:
    found: FloatArray = values.detach().cpu().numpy().astype(np.float64)
    return found
