"""Random NIR graphs of any producer's style: node kinds, geometry, branches, loops, inputs."""

from __future__ import annotations

import nir
import numpy as np

from biril_nm.compartments import CUBA_LIF, RESET_MODELS
from biril_nm.export.nir_nodes.fixed_map import FixedMap
from biril_nm.export.nir_nodes.neurons import LARGEST
from biril_nm.export.nir_nodes.resets import reset_metadata
from biril_nm.loihi import ResetMode

DT = 1e-3
WIRINGS = (
    "plain", "residual", "loop", "feedback", "inputs", "readout", "convolutional loop", "filter", "maximum",
    "map",
)  # fmt: skip


def weights(shape, r):
    """Mixed or one-signed, some exactly zero."""
    w = r.normal(0, 1, shape)
    kind = r.choice(["mixed", "positive", "negative"], p=[0.7, 0.2, 0.1])
    w = w if kind == "mixed" else np.abs(w) * (1 if kind == "positive" else -1)
    return w * (r.random(shape) < 0.9) / np.sqrt(max(1, np.prod(shape[1:])))


def neurons(shape, r, spiking=True):
    """Any NIR neuron; parameters shared or per neuron."""

    def draw(low, high):
        return (
            r.uniform(low, high, shape)
            if r.random() < 0.3
            else np.full(shape, r.uniform(low, high))
        )

    if r.random() < 0.1:  # one set of parameters for all neurons
        shape = (1,)

    tau, r_in = draw(2, 40) * DT, draw(0.5, 30)
    leak = draw(-0.05, 0.1) if r.random() < 0.4 else np.zeros(shape)
    reset = np.full(shape, r.uniform(-0.2, 0.2)) if r.random() < 0.2 else np.zeros(shape)
    v_threshold = reset + draw(0.1, 0.8)
    if not spiking:
        kind = r.choice(["I", "LI", "CubaLI"])
    else:
        kind = r.choice(["IF", "LIF", "CubaLIF", "Threshold"], p=[0.25, 0.35, 0.3, 0.1])
    common = {"v_threshold": v_threshold, "v_reset": reset} if spiking else {}
    if kind in ("IF", "I"):
        how = {"if_integration": "per_step"}
        return getattr(nir, kind)(r=draw(0.3, 2.0), metadata=how, **common)
    if kind in ("LIF", "LI"):
        return getattr(nir, kind)(tau=tau, r=r_in, v_leak=leak, **common)
    if kind == "Threshold":
        return nir.Threshold(threshold=draw(0.1, 0.6))
    return getattr(nir, kind)(
        tau_syn=draw(1, 10) * DT, tau_mem=tau, r=r_in, v_leak=leak, w_in=float(r.uniform(0.5, 3)), **common
    )  # fmt: skip


def linear(pre, post, r, weak=False):
    """Linear or Affine between flat shapes; a weak one needs a smaller exponent than others beside it."""
    w = weights((post, pre), r) * np.sqrt(pre) / 2
    w = w * 2.0 ** -r.integers(3, 9) if weak else w
    return nir.Affine(w, r.normal(0, 0.2, post)) if r.random() < 0.5 else nir.Linear(w)


def convolution(r):
    """(input shape, Conv2d, output shape) of any geometry."""
    while True:
        groups = int(r.integers(1, 3))
        c_in, c_out = groups * int(r.integers(1, 3)), groups * int(r.integers(1, 3))
        size = tuple(int(n) for n in r.integers(3, 8, 2))
        kernel, stride, dilation = (tuple(int(n) for n in r.integers(1, 4, 2)) for _ in range(3))
        padding = tuple(int(n) for n in r.integers(0, 3, 2))
        out = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(size, padding, dilation, kernel, stride)
        ]
        if min(out) >= 1:
            bias = r.normal(0, 0.2, c_out) * (r.random() < 0.5)
            w = 2 * weights((c_out, c_in // groups, *kernel), r)
            node = nir.Conv2d(None, w, stride, padding, dilation, groups, bias)
            return (c_in, *size), node, (c_out, *out)


def random_nir(seed, wiring=None):
    """A graph of two or three neuron layers, and its wiring."""
    r = np.random.default_rng(seed)
    wiring = wiring or str(r.choice(WIRINGS))
    nodes, edges = {}, []
    shape_in, first, shape = _first(r)
    nodes["input"], nodes["c1"] = nir.Input({"input": np.array(shape_in)}), first
    nodes["n1"] = neurons(shape, r)
    edges += [("input", "c1"), ("c1", "n1")]
    last, size = _between(nodes, edges, shape, r, spikes_only=wiring == "maximum")
    if wiring in ("maximum", "map"):
        last, size = _mapped(wiring, nodes, edges, last, size, r)
    post = int(r.integers(2, 7))
    nodes["c2"] = linear(size, post, r)
    nodes["n2"] = neurons((post,), r, wiring != "readout")
    while wiring == "filter" and isinstance(nodes["n2"], nir.CubaLIF):
        nodes["n2"] = neurons((post,), r)
    edges += [(last, "c2"), ("n2", "output")]
    edges += _filtered(nodes, post, r) if wiring == "filter" else [("c2", "n2")]
    weak = r.random() < 0.3
    if wiring == "residual":
        nodes["c3"], nodes["n3"] = linear(size, post, r), neurons((post,), r)
        nodes["c4"] = linear(post, post, r, weak)
        edges += [(last, "c3"), ("c3", "n3"), ("n3", "c4"), ("c4", "n2")]
    elif wiring in ("loop", "feedback", "convolutional loop"):
        edges += _loop(wiring, nodes, shape, post, weak, r)
    elif wiring == "inputs":
        nodes["input2"] = nir.Input({"input": np.array([3])})
        nodes["c3"] = linear(3, post, r, weak)
        edges += [("input2", "c3"), ("c3", "n2")]
    nodes["output"] = nir.Output({"output": np.array([post])})
    if r.random() < 0.35:  # a second output reads a membrane
        nodes["c5"], nodes["read"] = linear(size, 3, r), neurons((3,), r, spiking=False)
        nodes["output2"] = nir.Output({"output": np.array([3])})
        edges += [(last, "c5"), ("c5", "read"), ("read", "output2")]
    _code(nodes, r)
    graph = nir.NIRGraph(nodes, edges, metadata={"dt": DT}, type_check=False)
    return graph, wiring


def with_resets(graph, seed):
    """The same with a random reset in each population that has memory and goes to 0 after a spike."""
    r = np.random.default_rng([seed, 2])
    for node in graph.nodes.values():
        resets = [model.reset for model in (CUBA_LIF, *RESET_MODELS)]
        if isinstance(node, nir.IF):  # without a decay v has no bound where no spike takes from it
            resets = [reset for reset in resets if reset.mode is not ResetMode.NONE]
        if isinstance(node, (nir.IF, nir.LIF, nir.CubaLIF)) and not np.any(node.v_reset):
            node.metadata |= reset_metadata(resets[r.integers(len(resets))])
    return graph


def _mapped(wiring, nodes, edges, last, size, r):
    """A sparse map between any shapes, or the largest of some spikes; the last name and size."""
    out = int(r.integers(2, 9))
    if wiring == "map":
        weight = weights((out, size), r) * (r.random((out, size)) < 0.4)
        nodes["map"] = FixedMap.of(weight, r.normal(0, 0.2, out), (size,), (out,))
        edges.append((last, "map"))
        return "map", out
    windows = (r.random((out, size)) < 0.4).astype(float)
    windows[np.arange(out), r.integers(0, size, out)] = 1
    nodes["windows"] = FixedMap.of(windows, None, (size,), (out,))
    nodes["or"] = nir.Threshold(threshold=np.full(out, 0.5), metadata={LARGEST: 1})
    edges += [(last, "windows"), ("windows", "or")]
    return "or", out


def _filtered(nodes, post, r):
    """c2 -> leaky integrator -> c3 -> n2, and now and then a loop through another one."""
    tau = np.full(post, r.uniform(1, 12) * DT)
    nodes["f"] = nir.LI(tau=tau, r=r.uniform(0.5, 3, post), v_leak=r.normal(0, 0.1, post))
    nodes["c3"] = linear(post, post, r)
    edges = [("c2", "f"), ("f", "c3"), ("c3", "n2")]
    if r.random() < 0.5:
        nodes["f2"] = nir.LI(tau=tau, r=np.ones(post), v_leak=np.zeros(post))
        nodes["c4"] = nir.Linear(weights((post, post), r))
        edges += [("n2", "f2"), ("f2", "c4"), ("c4", "n2")]
    return edges


def _loop(wiring, nodes, shape, post, weak, r):
    """Add a connection back to n2 or, where its shape allows, to n1; returns the edges."""
    if wiring == "loop":
        matrix = r.random() < 0.7
        nodes["c3"] = linear(post, post, r, weak) if matrix else nir.Scale(weights((post,), r))
        return [("n2", "c3"), ("c3", "n2")]
    if wiring == "feedback" and len(shape) == 1:
        nodes["c3"] = linear(post, int(np.prod(shape)), r, weak)
        return [("n2", "c3"), ("c3", "n1")]
    if wiring == "convolutional loop" and len(shape) == 3:
        w = weights((shape[0], shape[0], 3, 3), r)
        nodes["c3"] = nir.Conv2d(None, w, 1, 1, 1, 1, np.zeros(shape[0]))
        return [("n1", "c3"), ("c3", "n1")]
    return []


def _first(r):
    """Convolution, one-dimensional convolution or matrix from the input."""
    kind = r.choice(["conv", "conv1d", "linear"], p=[0.5, 0.15, 0.35])
    if kind == "conv":
        return convolution(r)
    if kind == "conv1d":
        groups, k, length = int(r.integers(1, 3)), 3, int(r.integers(5, 9))
        c_in, c_out = (groups * int(n) for n in r.integers(1, 3, 2))
        stride, padding, dilation = (int(n) for n in (*r.integers((1, 0), 3), r.integers(1, 3)))
        w = 2 * weights((c_out, c_in // groups, k), r)
        node = nir.Conv1d(None, w, stride, padding, dilation, groups, np.zeros(c_out))
        length_out = (length + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        return (c_in, length), node, (c_out, length_out)
    pre, post = (int(n) for n in r.integers(2, 9, 2))
    return (pre,), linear(pre, post, r), (post,)


def _between(nodes, edges, shape, r, spikes_only=False):
    """Pooling, Scale, Delay and Flatten behind the first neurons; the last name and size."""
    last = "n1"

    def follow(name, node):
        nonlocal last
        nodes[name] = node
        edges.append((last, name))
        last = name

    if r.random() < 0.3 and not spikes_only:
        follow("scale", nir.Scale(r.uniform(0.5, 2, shape)))
    if r.random() < 0.3:
        steps = r.integers(0, 4, shape) if r.random() < 0.4 else np.full(shape, r.integers(0, 4))
        follow("delay", nir.Delay(steps * DT))
    if len(shape) == 3 and r.random() < 0.5 and not spikes_only:
        kind = nir.AvgPool2d if r.random() < 0.4 else nir.SumPool2d
        k = np.minimum(r.integers(1, 4, 2), shape[1:])
        s, p = r.integers(1, 4, 2), np.minimum(r.integers(0, 2, 2), k // 2)
        follow("pool", kind(k, s, p))
        shape = (shape[0], *((n + 2 * q - a) // b + 1 for n, q, a, b in zip(shape[1:], p, k, s)))
    if len(shape) > 1:
        follow("flat", nir.Flatten({"input": np.array(shape)}, 0, -1))
    return last, int(np.prod(shape))


def _code(nodes, r):
    """Graded input now and then."""
    if r.random() < 0.3:
        nodes["input"].metadata = {"coding": "direct", "n_steps": 8, "message_bits": 4, "scale": 15}


def random_input(graph, n_steps, batch, seed):
    """Chip input of each input of ``graph``."""
    r = np.random.default_rng(seed)
    arrays = {}
    for name, node in graph.inputs.items():
        high = 1 << node.message_bits if node.message_bits else 2
        arrays[name] = r.integers(0, high, (n_steps, batch, *node.shape)) * (
            r.random((n_steps, batch, *node.shape)) < 0.6
        )
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))
