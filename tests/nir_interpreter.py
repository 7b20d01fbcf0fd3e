"""An independent float interpreter of NIR graphs: torch functions, Euler steps, no shared code.

It follows the NIR equations by the letter, with dt from the graph's metadata, and knows nothing of
snnTorch or of the lowering.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
import torch.nn.functional as F


class NirInterpreter:
    """Runs a feed-forward or recurrent NIR graph step by step; loops see the previous step."""

    def __init__(self, graph: nir.NIRGraph, dt: float) -> None:
        self.graph, self.dt = graph, dt
        self.state: dict[str, dict[str, torch.Tensor]] = {}
        self.last: dict[str, torch.Tensor] = {}
        self.order = self._order()

    def _order(self) -> list[str]:
        done, order = set(), []
        left = list(self.graph.nodes)
        while left:
            ready = [n for n in left if all(a in done for a, b in self.graph.edges if b == n)]
            ready = ready or left[:1]
            order += ready
            done |= set(ready)
            left = [n for n in left if n not in done]
        return order

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Spikes of each neuron node, (n_steps, batch, *shape), for input of the same layout."""
        out: dict[str, list[np.ndarray]] = {}
        for value in torch.from_numpy(np.asarray(x, dtype=np.float64)):
            now = dict(self.last)
            for name in self.order:
                node = self.graph.nodes[name]
                if isinstance(node, nir.Input):
                    now[name] = value
                    continue
                total = sum(now[a] for a, b in self.graph.edges if b == name and a in now)
                now[name] = self._apply(name, node, total)
                if hasattr(node, "v_threshold"):
                    out.setdefault(name, []).append(now[name].numpy())
            self.last = now
        return {name: np.stack(steps) for name, steps in out.items()}

    def _apply(self, name: str, node: nir.NIRNode, x: torch.Tensor) -> torch.Tensor:
        t = lambda key: torch.from_numpy(np.asarray(getattr(node, key), dtype=np.float64))  # noqa: E731
        if isinstance(node, (nir.Linear, nir.Affine)):
            return F.linear(x, t("weight"), t("bias") if isinstance(node, nir.Affine) else None)
        if isinstance(node, nir.Conv2d):
            pair = lambda v: tuple(int(i) for i in np.broadcast_to(v, 2))  # noqa: E731
            return F.conv2d(
                x, t("weight"), t("bias"), pair(node.stride), pair(node.padding),
                pair(node.dilation), int(node.groups),
            )  # fmt: skip
        if isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
            k, s, p = (tuple(int(i) for i in np.broadcast_to(v, 2)) for v in
                       (node.kernel_size, node.stride, node.padding))  # fmt: skip
            pooled = F.avg_pool2d(x, k, s, p)
            return pooled * (k[0] * k[1]) if isinstance(node, nir.SumPool2d) else pooled
        if isinstance(node, nir.Flatten):
            end = int(node.end_dim)
            return x.flatten(int(node.start_dim) + 1, end + 1 if end >= 0 else end)
        if isinstance(node, nir.Scale):
            return x * t("scale")
        if isinstance(node, nir.Output):
            return x
        return self._neuron(name, node, x, t)

    def _neuron(self, name, node, x, t):
        zero = torch.zeros_like(x)
        state = self.state.setdefault(name, {"u": zero, "v": zero})
        if isinstance(node, nir.IF):
            v = state["v"] + t("r") * x
        elif isinstance(node, nir.LIF):
            v = state["v"] + self.dt / t("tau") * (t("v_leak") - state["v"] + t("r") * x)
        else:
            state["u"] = state["u"] + self.dt / t("tau_syn") * (t("w_in") * x - state["u"])
            v = state["v"] + self.dt / t("tau_mem") * (
                t("v_leak") - state["v"] + t("r") * state["u"]
            )
        spikes = (v > t("v_threshold")).double()
        state["v"] = torch.where(spikes > 0, t("v_reset"), v)
        return spikes
