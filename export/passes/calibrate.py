"""Float run of the lowered network on calibration data: peaks of the summed input per node.

Plain Euler steps in float64 with sparse matrices, in node time. Loops are followed one step late,
as on the chip.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.errors import ConfigError
from biril_nm.export.passes.linear_maps import as_matrix
from biril_nm.export.passes.links import FloatNet
from biril_nm.timing import Timing

__all__ = ["calibrate_peaks"]

FloatArray = NDArray[np.float64]


def calibrate_peaks(net: FloatNet, calibration: ArrayLike) -> dict[str, float]:
    """Largest |input current| of each neuron node, in units of its weight gain over threshold.

    Args:
        net: the float network; its one input is driven with ``calibration``.
        calibration: chip input, integers ``(n_steps, batch, *shape)``.

    Raises:
        ConfigError: the shape does not fit, or the net has several inputs.
    """
    spikes = np.asarray(calibration)
    if len(net.inputs) != 1:
        raise ConfigError("calibration data fit networks with one input only")
    ((source, (shape, metadata)),) = net.inputs.items()
    if spikes.ndim < 2 or spikes.shape[2:] != shape:
        raise ConfigError(
            f"calibration data have shape {spikes.shape}; needed is (n_steps, batch, "
            f"{', '.join(map(str, shape))})"
        )
    timing = Timing.of(
        tuple(net.inputs),
        tuple(net.neurons),
        {link.name: (link.source, link.destination, link.delay) for link in net.links},
    )
    run = _Run(net, timing, spikes.shape[1])
    scale = float(metadata.get("scale", 1))
    for t in range(spikes.shape[0]):
        run.step(t, {source: spikes[t].reshape(spikes.shape[1], -1).T / scale})
    return run.peaks


class _Run:
    """State of the float run; arrays are (neurons, batch)."""

    def __init__(self, net: FloatNet, timing: Timing, batch: int) -> None:
        self.net, self.timing = net, timing
        self.matrices = {link.name: as_matrix(link.linear).weight for link in net.links}
        self.u = {n: np.zeros((int(np.prod(s)), batch)) for n, (s, _) in net.neurons.items()}
        self.v = {n: np.zeros_like(u) for n, u in self.u.items()}
        self.sent: dict[str, list[FloatArray]] = {name: [] for name in (*net.inputs, *net.neurons)}
        self.peaks = dict.fromkeys(net.neurons, 0.0)

    def step(self, t: int, inputs: Mapping[str, FloatArray]) -> None:
        """One step of all nodes in order of latency."""
        for name, value in inputs.items():
            self.sent[name].append(value)
        for name in self.timing.order:
            shape, d = self.net.neurons[name]
            column = {
                key: np.broadcast_to(getattr(d, key), shape).reshape(-1, 1)
                for key in ("u_decay", "v_decay", "weight_gain", "bias_gain", "drive", "threshold")
            }
            current = np.zeros_like(self.u[name])
            for link in self.net.links_into(name):
                then = t - self.timing.slack[link.name]
                if then >= 0:
                    current += self.matrices[link.name] @ self.sent[link.source][then]
            current *= column["weight_gain"]
            level = np.where(np.isinf(column["threshold"]), 1.0, column["threshold"])
            self.peaks[name] = max(self.peaks[name], float(np.abs(current / level).max()))
            self.u[name] = (1 - column["u_decay"]) * self.u[name] + current
            bias = self.net.bias[name].reshape(-1, 1) * column["bias_gain"]
            v = (1 - column["v_decay"]) * self.v[name] + self.u[name] + bias + column["drive"]
            spikes = v > column["threshold"]
            self.v[name] = np.where(spikes, 0.0, v)
            self.sent[name].append(spikes.astype(np.float64))
