"""An independent float interpreter of NIR graphs: torch functions, Euler steps, no shared code.

It follows the NIR equations by the letter, with dt from the graph's metadata, and knows nothing of
snnTorch or of the lowering. Metadata that it honours: ``reset``, ``reset_delay``,
``reset_drops_input``, ``reset_guarded`` of neurons, ``lag`` of nodes that receive the previous step.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
import torch.nn.functional as F

STATELESS = (
    nir.Linear, nir.Affine, nir.Conv1d, nir.Conv2d, nir.AvgPool2d, nir.SumPool2d, nir.Flatten,
    nir.Scale, nir.Delay, nir.Output, nir.Threshold,
)  # fmt: skip


def _pair(value) -> tuple[int, int]:
    return tuple(int(i) for i in np.broadcast_to(value, 2))


class NirInterpreter:
    """Runs a feed-forward or recurrent NIR graph step by step; loops see the previous step."""

    def __init__(self, graph: nir.NIRGraph, dt: float) -> None:
        self.graph, self.dt = graph, dt
        self.state: dict[str, dict[str, torch.Tensor]] = {}
        self.last: dict[str, torch.Tensor] = {}
        self.late = {
            n for n, node in graph.nodes.items() if int((node.metadata or {}).get("lag", 0))
        }
        self.order = self._order()

    def _order(self) -> list[str]:
        """Sources first; where a loop is not marked by ``lag``, any order that starts at its entry."""
        edges = [(a, b) for a, b in self.graph.edges if b not in self.late]
        done, order = set(), []
        left = list(self.graph.nodes)
        while left:
            ready = [n for n in left if all(a in done for a, b in edges if b == n)]
            fed = [n for n in left if any(a in done for a, b in edges if b == n)]
            ready = ready or fed[:1] or left[:1]
            order += ready
            done |= set(ready)
            left = [n for n in left if n not in done]
        return order

    def run(self, x: np.ndarray | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Spikes of each neuron node and values of the rest, (n_steps, batch, *shape)."""
        fed = {b for _, b in self.graph.edges}
        names = [
            n for n, m in self.graph.nodes.items() if isinstance(m, nir.Input) and n not in fed
        ]
        given = x if isinstance(x, dict) else dict.fromkeys(names, x)
        given = {n: torch.from_numpy(np.asarray(v, dtype=np.float64)) for n, v in given.items()}
        out: dict[str, list[np.ndarray]] = {}
        for t in range(len(next(iter(given.values())))):
            now: dict[str, torch.Tensor] = {n: given[n][t] for n in names}
            for name in (n for n in self.order if n not in names):
                before = self.last if name in self.late else {**self.last, **now}
                sources = [a for a, b in self.graph.edges if b == name]
                parts = [before[a] for a in sources if a in before]
                total = sum(parts) if parts else self._zeros(name, now)
                now[name] = self._apply(name, self.graph.nodes[name], total)
                out.setdefault(name, []).append(now[name].numpy())
            self.last = now
        return {name: np.stack(steps) for name, steps in out.items()}

    def _zeros(self, name, now) -> torch.Tensor:
        batch = len(next(iter(now.values())))
        shape = next(iter(self.graph.nodes[name].input_type.values()))
        return torch.zeros(batch, *(int(n) for n in shape), dtype=torch.float64)

    def _apply(self, name: str, node: nir.NIRNode, x: torch.Tensor) -> torch.Tensor:
        t = lambda key: torch.from_numpy(np.array(getattr(node, key), dtype=np.float64))  # noqa: E731
        if isinstance(node, (nir.Linear, nir.Affine)):
            return F.linear(x, t("weight"), t("bias") if isinstance(node, nir.Affine) else None)
        if isinstance(node, nir.Conv2d):
            geometry = (_pair(node.stride), _pair(node.padding), _pair(node.dilation))
            return F.conv2d(x, t("weight"), t("bias"), *geometry, int(node.groups))
        if isinstance(node, nir.Conv1d):
            geometry = (int(node.stride), int(node.padding), int(node.dilation))
            return F.conv1d(x, t("weight"), t("bias"), *geometry, int(node.groups))
        if isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
            k, s, p = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
            pooled = F.avg_pool2d(x, k, s, p)
            return pooled * (k[0] * k[1]) if isinstance(node, nir.SumPool2d) else pooled
        if isinstance(node, nir.Flatten):
            dims = (int(node.start_dim), int(node.end_dim))
            return x.flatten(*(dim + 1 if dim >= 0 else dim for dim in dims))
        if isinstance(node, nir.Scale):
            return x * t("scale")
        if isinstance(node, nir.Delay):
            return self._delay(name, x, np.asarray(node.delay))
        if isinstance(node, nir.Threshold):
            return (x > t("threshold")).double()
        return x if isinstance(node, (nir.Input, nir.Output)) else self._neuron(name, node, x, t)

    def _delay(self, name, x, delay):
        steps = round(float(delay.flat[0]) / self.dt)
        queue = self.state.setdefault(name, {"queue": [torch.zeros_like(x)] * steps})["queue"]
        queue.append(x)
        return queue.pop(0)

    def _neuron(self, name, node, x, t):
        zero = torch.zeros_like(x)
        state = self.state.setdefault(name, {"u": zero, "v": zero})
        known = node.metadata or {}
        reset = known.get("reset", "zero")
        reset = reset.decode() if isinstance(reset, bytes) else reset
        spiking = hasattr(node, "v_threshold")
        above = (state["v"] > t("v_threshold")).double() if spiking else zero
        old = state["v"]
        if reset == "zero" and not known.get("reset_drops_input"):
            old = old * (1 - above)
        v = self._integrate(node, state, old, x, t)
        if not spiking:
            state["v"] = v
            return v
        if reset == "zero" and known.get("reset_drops_input"):
            v = v * (1 - above)
        if reset != "subtract" or not (known.get("reset_delay") or known.get("reset_guarded")):
            above = zero
        if reset == "subtract":
            v = v - above * t("v_threshold")
        spikes = (v > t("v_threshold")).double()
        if not known.get("reset_delay"):
            if reset == "zero":
                v = torch.where(spikes > 0, t("v_reset"), v)
            elif reset == "subtract":
                v = v - (spikes - above) * t("v_threshold")
        state["v"] = v
        return spikes

    def _integrate(self, node, state, v, x, t):
        if isinstance(node, (nir.IF, nir.I)):
            return v + t("r") * x
        if isinstance(node, (nir.LIF, nir.LI)):
            return v + self.dt / t("tau") * (t("v_leak") - v + t("r") * x)
        state["u"] = state["u"] + self.dt / t("tau_syn") * (t("w_in") * x - state["u"])
        return v + self.dt / t("tau_mem") * (t("v_leak") - v + t("r") * state["u"])
