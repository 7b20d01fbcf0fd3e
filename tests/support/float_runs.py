"""The float network of a lowering, run by its own equations in float64, in node time."""

from __future__ import annotations

import numpy as np

from biril_nm.export.lowering.passes.float_net import FloatNet
from biril_nm.export.nir_nodes.linear_maps import as_matrix


def run_float_net(net: FloatNet, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes of every population; links from a population of a later place carry the step before.

    ``u <- (1 - a) u + c_w W s;  v <- (1 - g) v + u + c_b b + drive;  s = v > threshold, v = 0 where s``
    """
    (source,) = net.inputs
    order = sorted(net.neurons, key=lambda name: not name.endswith(".always_on"))
    batch = x.shape[1]
    state = {n: np.zeros((2, batch, int(np.prod(net.neurons[n][0])))) for n in order}
    last = {n: np.zeros((batch, int(np.prod(net.neurons[n][0])))) for n in order}
    maps = {link.name: as_matrix(link.linear).weight for link in net.links}
    out: dict[str, list[np.ndarray]] = {n: [] for n in order}
    for step in x:
        now = {source: step.reshape(batch, -1)}
        for name in order:
            _, found = net.neurons[name]
            flat = {k: np.ravel(getattr(found, k)) for k in ("u_decay", "v_decay", "weight_gain")}
            current = sum(
                (maps[link.name] @ now.get(link.source, last.get(link.source)).T).T
                for link in net.links_into(name)
            )
            constant = np.ravel(found.bias_gain * net.bias[name] + found.drive)
            u, v = state[name]
            u = (1 - flat["u_decay"]) * u + flat["weight_gain"] * current
            v = (1 - flat["v_decay"]) * v + u + constant
            spikes = v > np.ravel(found.threshold)
            state[name] = np.stack([u, np.where(spikes, 0.0, v)])
            now[name] = last[name] = spikes.astype(float)
            out[name].append(now[name].reshape(batch, *net.neurons[name][0]))
    return {name: np.stack(steps) for name, steps in out.items()}
