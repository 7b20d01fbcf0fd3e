"""Float run of the lowered network on calibration data: peaks of u and v per node.

Plain Euler steps in float64 with sparse matrices, in node time. Spikes of a loop arrive one step late,
as on the chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arrays import FloatArray, Shape
from biril_nm.compartments import SpikeReset
from biril_nm.errors import ConfigError, RangeError
from biril_nm.export.lowering.numbers.state_bounds import Peaks
from biril_nm.export.lowering.passes.float_net import FloatNet
from biril_nm.export.lowering.passes.normalise import level_of
from biril_nm.export.nir_nodes.linear_maps import as_matrix
from biril_nm.hw_graph.inputs import check_arrays, check_values
from biril_nm.hw_graph.timing import Timing
from biril_nm.loihi import ResetMode

__all__ = ["calibrate_peaks", "float_activity"]

BoolArray = NDArray[np.bool_]


def calibrate_peaks(
    net: FloatNet, calibration: ArrayLike | Mapping[str, ArrayLike] | None
) -> dict[str, Peaks]:
    """Largest |u| and the extremes of v of each neuron node, per unit of v.

    Args:
        net: the float network.
        calibration: chip input, integers ``(n_steps, batch, *shape)``; a dict for several inputs;
            None for no calibration, of which nothing follows.

    Raises:
        ConfigError: inputs are missing, or a shape does not fit.
        RangeError: values that an input does not carry.
    """
    return {} if calibration is None else _ran(net, calibration).peaks


def float_activity(
    net: FloatNet, calibration: ArrayLike | Mapping[str, ArrayLike]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Neuron node -> its spikes, and its score ``n_spikes + v / threshold``, both (batch, neurons)."""
    run = _ran(net, calibration)
    return {
        name: (count.T, (count + run.v[name] / run.levels[name]).T)
        for name, count in run.counts.items()
    }


def _ran(net: FloatNet, calibration: ArrayLike | Mapping[str, ArrayLike]) -> _Run:
    arrays = _scaled(net, calibration)
    n_steps, batch = next(iter(arrays.values())).shape[:2]
    run = _Run(net, batch)
    for t in range(n_steps):
        run.step(t, {name: array[t].reshape(batch, -1).T for name, array in arrays.items()})
    return run


def _scaled(
    net: FloatNet, calibration: ArrayLike | Mapping[str, ArrayLike]
) -> dict[str, FloatArray]:
    """Input of the float network by name."""
    inputs = net.input_nodes
    try:
        arrays = check_arrays(inputs, calibration, kinds="biuf")
        check_values(inputs, arrays)
    except (ConfigError, RangeError) as error:
        raise type(error)(f"calibration: {error}") from error
    scales = {name: float(metadata.get("scale", 1)) for name, (_, metadata) in net.inputs.items()}
    return {name: array / scales[name] for name, array in arrays.items()}


class _Run:
    """State of the float run; arrays are (neurons, batch)."""

    def __init__(self, net: FloatNet, batch: int) -> None:
        self.net = net
        self.timing = Timing.of(
            tuple(net.inputs),
            tuple(net.neurons),
            {link.name: (link.source, link.destination, link.delay) for link in net.links},
        )
        self.matrices = {link.name: as_matrix(link.linear).weight for link in net.links}
        self.u = {n: np.zeros((int(np.prod(s)), batch)) for n, (s, _) in net.neurons.items()}
        self.v = {n: np.zeros_like(u) for n, u in self.u.items()}
        self.counts = {n: np.zeros_like(u) for n, u in self.u.items()}
        self.sent: dict[str, list[FloatArray]] = {name: [] for name in (*net.inputs, *net.neurons)}
        self.peaks = dict.fromkeys(net.neurons, Peaks())
        self.levels = {name: level_of(net, name).reshape(-1, 1) for name in net.neurons}
        self.columns = {name: _columns(shape, d) for name, (shape, d) in net.neurons.items()}

    def step(self, t: int, inputs: Mapping[str, FloatArray]) -> None:
        """One step of all nodes in order of latency."""
        for name, value in inputs.items():
            self.sent[name].append(value)
        for name in self.timing.order:
            column = self.columns[name]
            current = np.zeros_like(self.u[name])
            for link in self.net.links_into(name):
                then = t - self.timing.slack[link.name]
                if then >= 0:
                    current += self.matrices[link.name] @ self.sent[link.source][then]
            self.u[name] = (1 - column["u_decay"]) * self.u[name] + current * column["weight_gain"]
            bias = self.net.bias[name].reshape(-1, 1) * column["bias_gain"]
            gain = self.u[name] + bias + column["drive"]
            reset = self.net.neurons[name][1].reset
            v, spikes = _integrate(
                self.v[name], gain, 1 - column["v_decay"], column["threshold"], reset
            )
            self._note(name, v)
            self.v[name] = v if reset.delayed else _after(v, spikes, column["threshold"], reset)
            self.sent[name].append(spikes.astype(np.float64))
            self.counts[name] += spikes

    def _note(self, name: str, v: FloatArray) -> None:
        level = self.levels[name]
        so_far = self.peaks[name]
        self.peaks[name] = Peaks(
            u=max(so_far.u, float(np.abs(self.u[name] / level).max())),
            v_below=max(so_far.v_below, -float((v / level).min())),
            v_above=max(so_far.v_above, float((v / level).max())),
        )


def _after(
    v: FloatArray, spikes: BoolArray, threshold: FloatArray, reset: SpikeReset
) -> FloatArray:
    """Potential after its spikes."""
    if reset.mode is ResetMode.NONE:
        return v
    return np.where(spikes, v - threshold if reset.mode is ResetMode.SUBTRACT else 0.0, v)


def _integrate(
    v: FloatArray, gain: FloatArray, keep: FloatArray, threshold: FloatArray, reset: SpikeReset
) -> tuple[FloatArray, BoolArray]:
    """Potential before its spikes, and the spikes; resets of the step before that come late act here."""
    before = v > threshold
    late = _after(v, before, threshold, reset)
    if reset.mode is ResetMode.SUBTRACT and reset.delayed:
        v = keep * v + gain - before * threshold
    elif reset.loses_input:
        v = np.where(before, 0.0, keep * v + gain)
    else:
        v = keep * (late if reset.delayed else v) + gain
    return v, v - (before * threshold if reset.guarded else 0.0) > threshold


def _columns(shape: Shape, dynamics: Any) -> dict[str, FloatArray]:
    keys = ("u_decay", "v_decay", "weight_gain", "bias_gain", "drive", "threshold")
    return {key: np.broadcast_to(getattr(dynamics, key), shape).reshape(-1, 1) for key in keys}
