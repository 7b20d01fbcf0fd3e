"""Pictures for networks of lava-dl whose input layer has neurons: they enter through the bias.

netx builds such a layer without input; its caller writes the picture into the neurons' bias, once for
each sample: ``bias_mant = trunc(weight x + bias)`` with the ``weight`` and ``bias`` of the file's input
layer, at exponent 6. Source: lava-dl 0.6.0, ``netx/hdf5.py`` ``create_input`` (the transform) and the
encoder of its tutorial ``pilotnet_snn`` (the values, cut to int32).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError, RangeError
from biril_nm.export.netx.registers import BIAS_EXP
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import single_input
from biril_nm.loihi import LOIHI2

__all__ = ["with_input_bias"]


@checked
def with_input_bias(graph: LoihiGraph, picture: ArrayLike) -> LoihiGraph:
    """A copy whose input neurons receive one picture as their bias at every step.

    ``bias_mant = trunc(weight picture + bias)``, bias_exp 6. Run the copy with an input of zeros.

    Args:
        graph: of :func:`read_netx`, from a file whose input layer has neurons.
        picture: one sample, floats or integers.

    Shape:
        picture: that of the input, in torch order (C, H, W).

    Raises:
        ConfigError: the graph has no such input layer, or the picture has another shape.
        RangeError: a bias leaves the register, or the picture has values that are not finite.
    """
    facts = graph.metadata.get("netx", {}).get("input")
    if not facts:
        raise ConfigError(
            "the graph has no input layer with neurons, as some .net files of lava-dl have; expected one. "
            "Pass spikes instead"
        )
    source = single_input(graph)
    neurons = [end for start, end in graph.ends.values() if start == source]
    node = graph.neurons[neurons[0]]
    values = np.asarray(picture)
    if values.shape != node.shape or values.dtype.kind not in "biuf":
        raise ConfigError(
            f"the picture has shape {values.shape} and type {values.dtype}; expected numbers of shape "
            f"{node.shape}. Pass one sample without a batch"
        )
    return graph.with_node(neurons[0], bias_mant=_mantissas(values, facts), bias_exp=BIAS_EXP)


def _mantissas(values: Any, facts: Any) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = np.trunc(np.float64(facts["weight"]) * values + facts["bias"])
    limit = LOIHI2.bias_mant_max
    if not np.all(np.abs(wanted) <= limit):
        raise RangeError(
            f"the bias of the input neurons is {wanted.min():g} to {wanted.max():g} "
            f"({facts['weight']} x + {facts['bias']}); expected -{limit} to {limit}. Scale the picture as "
            f"in training (PilotNet: -1 to 1)"
        )
    return wanted.astype(np.int64)
