"""Weights and biases per unit of v: all gains of neurons and inputs folded in.

For a node with weight gain c_w, bias gain c_b, constant drive v_in and unit v_1 (the threshold v_th, or
what :mod:`units` takes where thresholds differ; 1 V where there is none): ``W' = c_w W / v_1``,
``b' = (c_b b + v_in) / v_1``, ``v_th' = v_th / v_1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray
from biril_nm.errors import RangeError
from biril_nm.export.lowering.numbers.normalised import Decays, NormalisedLink, NormalisedNode
from biril_nm.export.lowering.numbers.units import unit_of
from biril_nm.export.lowering.passes.float_net import FloatLink, FloatNet
from biril_nm.export.nir_nodes.linear_maps import Weighted, naming, row_factors, scale_rows
from biril_nm.export.nir_nodes.repeats import combined, distinct
from biril_nm.loihi import ResetMode

__all__ = ["level_of", "normalise"]

# Weight per unit of v; the largest that any chip holds is 255 * 2**7 / 2.
BEYOND_REGISTERS = 2.0**60


def normalise(net: FloatNet) -> Iterator[tuple[str, NormalisedNode]]:
    """Yield all neuron nodes of a float network by name; none is kept here, since weights may be large.

    Raises:
        RangeError: values that no scale brings into the registers.
    """
    for name in net.neurons:
        yield name, _node(net, name)


def _node(net: FloatNet, name: str) -> NormalisedNode:
    shape, dynamics = net.neurons[name]
    level = level_of(net, name)
    with np.errstate(over="ignore", invalid="ignore"):
        gain = combined(np.divide, shape, dynamics.weight_gain, level)
        links = tuple(_link(net, link, gain) for link in net.links_into(name))
        current = combined(np.multiply, shape, dynamics.bias_gain, net.bias[name])
        bias = combined(
            lambda one, other, unit: (one + other) / unit, shape, current, dynamics.drive, level
        )
    peaks = {link.name: link.survey.peak for link in links}
    _check_sizes(name, (*peaks.items(), ("bias", float(np.abs(distinct(bias)).max(initial=0.0)))))
    n_steps = max(metadata.get("n_steps", 1) for _, metadata in net.inputs.values())
    decays = Decays(
        u=dynamics.u_decay,
        v=dynamics.v_decay,
        spiking=dynamics.spiking,
        n_steps=n_steps if n_steps > 1 else 0,
        keeps_surplus=dynamics.spiking and dynamics.reset.mode is not ResetMode.ZERO,
    )
    threshold = np.broadcast_to(1.0, shape)
    if dynamics.spiking:
        threshold = combined(np.divide, shape, dynamics.threshold, level)
    return NormalisedNode(name, links, bias, decays, threshold)


def level_of(net: FloatNet, name: str) -> FloatArray:
    """The unit of v of each neuron, in volts."""
    _, dynamics = net.neurons[name]
    maps = [link.linear for link in net.links_into(name)]
    return unit_of(dynamics.threshold, dynamics.weight_gain, maps)


def _link(net: FloatNet, link: FloatLink, gain: FloatArray) -> NormalisedLink:
    with naming(link.name):
        linear, gains = _with_gain(link.linear, gain)
    if link.source not in net.inputs:
        return NormalisedLink(link.name, linear, 1, False, link.weight_bits, gains)
    scale = float(net.inputs[link.source][1].get("scale", 1))
    node = net.input_nodes[link.source]
    if scale != 1 and gains:
        gains = (*gains, np.full_like(gains[0], 1.0 / scale))
    elif scale != 1:
        linear = scale_rows(linear, np.full(linear.out_shape, 1.0 / scale))
    return NormalisedLink(link.name, linear, node.high, node.signed, link.weight_bits, gains)


def _with_gain(linear: Weighted, gain: FloatArray) -> tuple[Weighted, tuple[FloatArray, ...]]:
    """The map, and the gain of each of its rows; of a sparse matrix, multiplied."""
    rows = row_factors(linear, gain)
    if rows is None or scipy.sparse.issparse(linear.weight):
        return scale_rows(linear, gain), ()
    return linear, (rows,)


def _check_sizes(node: str, named: Iterable[tuple[str, float]]) -> None:
    for name, peak in named:
        if not peak < BEYOND_REGISTERS:
            raise RangeError(
                f"node '{node}': '{name}' is {peak:.3g} thresholds in one step; expected "
                f"less than {BEYOND_REGISTERS:.3g}. Reduce it, or raise the threshold"
            )
