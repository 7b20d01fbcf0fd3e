"""Scalar reference of a LoihiGraph: plain Python integers, chip time, one buffer per connection.

Written from the observed semantics of lava-nc 0.10.0 ``fixed_pt``, sharing no code with the kernels:
every connection sends the buffer that it filled a step ago, every neuron then receives, is cleared
if it is its time, integrates and fires. Slow, for small nets.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Sparse


def int32(x: int) -> int:
    """Two's complement of 32 bits."""
    return (x + 2**31) % 2**32 - 2**31


def prepare(w: int, bits: int, mode: str) -> int:
    """One weight through Lava's clip_weights and truncate_weights."""
    n = 8 - bits + (1 if mode == "mixed" else 0)
    if mode == "inhibitory":
        return -((min(max(-w, 0), 255) >> n) << n)
    low = -256 if mode == "mixed" else 0
    return (min(max(w, low), 255) >> n) << n


def decay(x: int, keep: int) -> int:
    product = x * keep
    return -(-product >> 12) if product < 0 else product >> 12


class Link:
    """A connection as a list of (post, pre, weight) and a delay line."""

    def __init__(self, graph: LoihiGraph, name: str) -> None:
        node = graph.connections[name]
        self.source, self.target = graph.ends[name]
        self.node = node
        self.graded = graph.message_bits_into(name) > 0
        self.n_post = int(np.prod(graph.shape_of(self.target)))
        if isinstance(node, Conv):
            self.synapses = conv_synapses(
                node, graph.shape_of(self.source), graph.shape_of(self.target)
            )
        elif isinstance(node, Dense):
            self.synapses = [
                (i, j, prepare(int(w), node.weight_bits, node.sign_mode.value))
                for i, row in enumerate(node.weight)
                for j, w in enumerate(row)
            ]
        elif isinstance(node, Sparse):
            coo = node.weight.tocoo()
            self.synapses = [
                (int(i), int(j), prepare(int(w), node.weight_bits, node.sign_mode.value))
                for i, j, w in zip(coo.row, coo.col, coo.data)
            ]
        self.line = deque([[0] * self.n_post] * (1 + node.delay))

    def send(self) -> list[int]:
        return self.line.popleft()

    def fill(self, spikes: list[int]) -> None:
        s = [int(x) if self.graded else int(x != 0) for x in spikes]
        total = [0] * self.n_post
        keeps_products = isinstance(self.node, Dense) and self.node.delay > 0
        for i, j, w in self.synapses:
            total[i] += int32(w * s[j]) if keeps_products else w * s[j]
        self.line.append([self.finish(x, keeps_products) for x in total])

    def finish(self, x: int, wide: bool) -> int:
        if isinstance(self.node, Conv):
            if not -(2**31) <= x < 2**31:
                x = -(2**31)  # float64 to int32 on x86
            return (x + 2**23) % 2**24 - 2**23
        e = self.node.weight_exp
        if not wide:
            x = int32(x)
        return int32(x << e) if e > 0 else int32(x >> -e)


def conv_synapses(
    node: Conv, pre: tuple[int, ...], post: tuple[int, ...]
) -> list[tuple[int, int, int]]:
    out = []
    group_out = node.weight.shape[0] // node.groups
    for o in range(post[0]):
        for y in range(post[1]):
            for x in range(post[2]):
                for i in range(node.weight.shape[1]):
                    c = (o // group_out) * node.weight.shape[1] + i
                    for ky in range(node.weight.shape[2]):
                        for kx in range(node.weight.shape[3]):
                            h = y * node.stride[0] - node.padding[0] + ky * node.dilation[0]
                            w = x * node.stride[1] - node.padding[1] + kx * node.dilation[1]
                            if 0 <= h < pre[1] and 0 <= w < pre[2]:
                                weight = int(node.weight[o, i, ky, kx]) * 2**node.weight_exp
                                out.append(
                                    (
                                        (o * post[1] + y) * post[2] + x,
                                        (c * pre[1] + h) * pre[2] + w,
                                        weight,
                                    )
                                )
    return out


class Cell:
    """State and registers of one Neurons node."""

    def __init__(self, node) -> None:
        n = node.size

        def per_neuron(value) -> list[int]:
            return [int(x) for x in np.broadcast_to(value, node.shape).ravel()]

        def int16(x: int) -> int:
            return (x + 2**15) % 2**16 - 2**15

        e = node.bias_exp
        self.du, self.dv = per_neuron(node.du), per_neuron(node.dv)
        if node.model == "ternary_lif":
            self.vth, self.low = (
                [int32(x << 6) for x in per_neuron(r)] for r in (node.vth_hi, node.vth_lo)
            )
        else:
            self.vth = [int32(x << 6) if node.vth.ndim else x << 6 for x in per_neuron(node.vth)]
        self.bias = [
            int32(int16(x) << e) if e >= 0 else int16(x) >> -e for x in per_neuron(node.bias_mant)
        ]
        self.reset = node.model.removeprefix("cuba_lif").lstrip("_") or "zero"
        self.u, self.v, self.s = [0] * n, [0] * n, [0] * n
        self.fired = [0] * n  # spikes of the step before
        self.wait = per_neuron(getattr(node, "refractory", 0))
        self.since = [2**40] * n  # steps since the last spike

    def clear(self) -> None:
        self.u, self.v = [0] * len(self.u), [0] * len(self.v)
        self.fired = [0] * len(self.fired)
        self.since = [2**40] * len(self.since)

    def rest(self) -> None:
        self.clear()
        self.s = [0] * len(self.s)

    def step(self, a: list[int]) -> None:
        for i, total in enumerate(a):
            x = int32(decay(self.u[i], 4096 - self.du[i] - 1) + int32(int32(total) << 6))
            if x > 2**23:
                x -= 2**24
            elif x <= -(2**23):
                x += 2**24
            self.u[i] = x
            self.s[i], self.v[i] = self.fire(i, x)
            self.fired[i] = self.s[i]
            self.since[i] = 0 if self.s[i] else self.since[i] + 1

    def fire(self, i: int, x: int) -> tuple[int, int]:
        """Spike and v of neuron i with the new u: v sums up, the reset of its kind takes place."""
        v, vth, reset = self.v[i], self.vth[i], self.reset
        if reset == "zero_delayed" and self.fired[i]:
            v = 0
        y = int32(decay(v, 4096 - self.dv[i])) + x + self.bias[i]
        if reset == "subtract_delayed" and self.fired[i]:
            y -= vth
        y = min(max(int32(y), -(2**23) + 1), 2**23 - 1)
        if reset == "zero_delayed_lossy" and self.fired[i]:
            y = 0
        if self.since[i] < self.wait[i]:
            y = v
        if reset == "ternary_lif":
            s = int(y > vth) - int(y < self.low[i])
            return s, 0 if s else y
        needed = 2 * vth if reset == "subtract_guarded" and v > vth else vth
        s = int(y > needed)
        if s and reset in ("zero", "refractory"):
            return 1, 0
        return s, y - vth if s and reset in ("subtract", "subtract_guarded") else y


def run_chip(graph: LoihiGraph, spikes) -> dict[str, dict[str, np.ndarray]]:
    """All samples in one stream: node -> s, u, v of shape (n_chip_steps, *shape)."""
    inputs = spikes if isinstance(spikes, dict) else {next(iter(graph.inputs)): spikes}
    n_steps, batch = next(iter(inputs.values())).shape[:2]
    period = n_steps + max(graph.timing.slack.values(), default=0)
    gated = period > n_steps
    links = [Link(graph, name) for name in graph.connections]
    cells = {name: Cell(node) for name, node in graph.neurons.items()}
    length = (batch - 1) * period + n_steps + max(graph.latency.values())
    record = {name: {"s": [], "u": [], "v": []} for name in cells}
    for c in range(length):
        arriving = {name: [0] * len(cell.u) for name, cell in cells.items()}
        for link in links:
            arriving[link.target] = [
                int32(x + y) for x, y in zip(arriving[link.target], link.send())
            ]
        for name, cell in cells.items():
            age = c - graph.latency[name]
            if gated and (age < 0 or age % period >= n_steps):
                cell.rest()
            else:
                if age % period == 0:
                    cell.clear()
                cell.step(arriving[name])
            for key in ("s", "u", "v"):
                record[name][key].append(list(getattr(cell, key)))
        sample, step = divmod(c, period)
        for link in links:
            if isinstance(graph.nodes[link.source], Input):
                array = inputs[link.source]
                inside = sample < batch and step < n_steps
                link.fill(
                    [int(x) for x in array[step, sample].ravel()]
                    if inside
                    else [0] * array[0, 0].size
                )
            else:
                link.fill(cells[link.source].s)
    return {
        name: {
            key: np.array(rows, dtype=np.int64).reshape(length, *graph.neurons[name].shape)
            for key, rows in parts.items()
        }
        for name, parts in record.items()
    }


def to_node_time(
    graph: LoihiGraph, chip: dict[str, dict[str, np.ndarray]], n_steps: int, batch: int
) -> dict[str, dict[str, np.ndarray]]:
    """Rows of a chip-time recording that answer input steps: (n_steps, batch, *shape)."""
    period = n_steps + max(graph.timing.slack.values(), default=0)
    return {
        name: {
            key: np.stack(
                [rows[graph.latency[name] + i * period :][:n_steps] for i in range(batch)],
                axis=1,
            )
            for key, rows in parts.items()
        }
        for name, parts in chip.items()
    }


def run_node(graph: LoihiGraph, spikes) -> dict[str, dict[str, np.ndarray]]:
    """Node -> s, u, v of shape (n_steps, batch, *shape)."""
    inputs = spikes if isinstance(spikes, dict) else {"": spikes}
    n_steps, batch = next(iter(inputs.values())).shape[:2]
    return to_node_time(graph, run_chip(graph, spikes), n_steps, batch)
