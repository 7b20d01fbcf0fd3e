"""Weights and biases per threshold: all gains of neurons and inputs folded in.

For a node with weight gain c_w, bias gain c_b, constant drive v_in and threshold v_th (1 V where
there is none): ``W' = c_w W / v_th``, ``b' = (c_b b + v_in) / v_th``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import RangeError
from biril_nm.export.lowering.numbers.normalised import Decays, NormalisedLink, NormalisedNode
from biril_nm.export.lowering.passes.float_net import FloatLink, FloatNet
from biril_nm.export.nir_nodes.linear_maps import naming, scale_rows
from biril_nm.export.nir_nodes.neurons import Dynamics

__all__ = ["normalise"]

# Weight per threshold; the largest that any chip holds is 255 * 2**7 / 2.
BEYOND_REGISTERS = 2.0**60


def normalise(net: FloatNet) -> dict[str, NormalisedNode]:
    """All neuron nodes of a float network.

    Raises:
        RangeError: values that no scale brings into the registers.
    """
    return {name: _node(net, name) for name in net.neurons}


def _node(net: FloatNet, name: str) -> NormalisedNode:
    shape, dynamics = net.neurons[name]
    level = _level(dynamics, shape)
    with np.errstate(over="ignore", invalid="ignore"):
        gain = np.asarray(dynamics.weight_gain / level)
        links = tuple(_link(net, link, gain) for link in net.links_into(name))
        bias = (dynamics.bias_gain * net.bias[name] + dynamics.drive) / level
    _check_sizes(name, (*((link.name, link.values) for link in links), ("bias", bias)))
    n_steps = max(metadata.get("n_steps", 1) for _, metadata in net.inputs.values())
    decays = Decays(
        u=np.asarray(dynamics.u_decay).ravel(),
        v=np.asarray(dynamics.v_decay).ravel(),
        spiking=dynamics.spiking,
        n_steps=n_steps if n_steps > 1 else 0,
    )
    return NormalisedNode(name, links, bias, decays)


def _level(dynamics: Dynamics, shape: Shape) -> FloatArray:
    """The unit of v: the threshold, or 1 V where there is none."""
    return dynamics.threshold if dynamics.spiking else np.ones(shape)


def _link(net: FloatNet, link: FloatLink, gain: FloatArray) -> NormalisedLink:
    with naming(link.name):
        linear = scale_rows(link.linear, gain)
    if link.source not in net.inputs:
        return NormalisedLink(link.name, linear, 1)
    metadata = net.inputs[link.source][1]
    bits, scale = int(metadata.get("message_bits", 0)), float(metadata.get("scale", 1))
    linear = scale_rows(linear, np.full(linear.out_shape, 1.0 / scale))
    return NormalisedLink(link.name, linear, (1 << bits) - 1 if bits else 1)


def _check_sizes(node: str, named: Iterable[tuple[str, FloatArray]]) -> None:
    for name, values in named:
        if not np.all(np.abs(values) < BEYOND_REGISTERS):
            raise RangeError(
                f"node '{node}': '{name}' is {np.abs(values).max():.3g} thresholds in one step; expected "
                f"less than {BEYOND_REGISTERS:.3g}. Reduce it, or raise the threshold"
            )
