"""Write NIR files with other frameworks, and what those frameworks simulate: golden inputs of the tests.

    pip install --no-deps --target DIR sinabs==3.1.3 norse==1.1.0 pbr rockpool==3.1.0
    PYTHONPATH=DIR python tests/golden/make_foreign.py [NAME ...]

SpikingJelly 2.0.0 needs Python 3.11 and torch 2.6. With older ones its exporter runs as well, and its neurons
by their reference formulas, once the registration of its compiled operators is taken out of ``_ops``.
The files hold the versions that made them; the tests need none of the frameworks.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import nir
import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
N_STEPS, BATCH = 60, 4
DT = 1e-3


def spikes(shape, p):
    return (np.random.default_rng(0).random((N_STEPS, BATCH, *shape)) < p).astype(np.uint8)


def save(name, graph, x, recorded, compression="gzip", **facts):
    nir.write(HERE / f"{name}.nir", graph, compression=compression)
    facts = {
        **facts,
        "versions": {p: version(p) for p in (name.split("_")[0], "torch", "nir", "nirtorch")},
    }
    arrays = {f"spikes.{key}": value.astype(np.uint8) for key, value in recorded.items()}
    np.savez_compressed(HERE / f"{name}.npz", input=x, meta=json.dumps(facts), **arrays)


def scaled(net, gain):
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.weight.data *= gain
    return net


def sinabs_conv():
    """IAF neurons that reset to zero, sum pooling, convolution."""
    import sinabs.activation as sa
    import sinabs.layers as sl
    from sinabs.nir import to_nir

    torch.manual_seed(1)
    kind = {"spike_fn": sa.SingleSpike, "reset_fn": sa.MembraneReset(), "batch_size": BATCH}
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        sl.IAFSqueeze(**kind),
        sl.SumPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 3 * 3, 6),
        sl.IAFSqueeze(**kind),
    )
    net = scaled(net, 2.5)
    x = spikes((1, 8, 8), 0.3)
    flat = torch.from_numpy(x).float().transpose(0, 1).reshape(-1, 1, 8, 8)  # batch-major
    recorded = {}
    with torch.no_grad():
        value = flat
        for i, layer in enumerate(net):
            value = layer(value)
            if isinstance(layer, sl.IAFSqueeze):
                recorded[str(i)] = value.unflatten(0, (BATCH, N_STEPS)).transpose(0, 1).numpy()
    for layer in net:
        if isinstance(layer, sl.IAFSqueeze):
            layer.reset_states()
    graph = to_nir(net, flat[:BATCH])
    graph.infer_types()  # sinabs leaves types open, which nir 1.0.8 cannot write
    save("sinabs_conv", graph, x, recorded, dt_s=DT)


def norse_mlp():
    """LIF neurons without synaptic memory, 10 ms."""
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    torch.manual_seed(1)
    p = norse.LIFBoxParameters(tau_mem_inv=torch.as_tensor(100.0))
    net = norse.SequentialState(
        nn.Linear(12, 20), norse.LIFBoxCell(p, dt=DT), nn.Linear(20, 6), norse.LIFBoxCell(p, dt=DT)
    )
    net = scaled(net, 16.0)
    x = spikes((12,), 0.3)
    recorded = {"1": [], "3": []}
    with torch.no_grad():
        states = {1: None, 3: None}
        for step in torch.from_numpy(x).float():
            signal = step
            for i, layer in enumerate(net):
                if i in states:
                    signal, states[i] = layer(signal, states[i])
                    recorded[str(i)].append(signal.numpy())
                else:
                    signal = layer(signal)
    recorded = {key: np.stack(steps) for key, steps in recorded.items()}
    graph = to_nir(net, torch.from_numpy(x[0, 0]).float(), dt=DT)
    # nir 1.0.8 cannot compress the scalars that norse writes.
    save("norse_mlp", graph, x, recorded, compression=None, dt_s=DT)


def spikingjelly_conv():
    """IF, LIF and PLIF that reset to zero, average pooling, and votes as the mean of a matrix."""
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(1)
    net = nn.Sequential(
        layer.Conv2d(1, 4, 3, bias=False),
        neuron.IFNode(),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(4 * 3 * 3, 40),
        neuron.LIFNode(tau=2.0),
        layer.Linear(40, 20, bias=False),
        neuron.ParametricLIFNode(init_tau=3.0, decay_input=False),
        layer.Linear(20, 5, bias=False),
    )
    net = scaled(net, 4.0)
    net[4].weight.data *= 3
    net[6].weight.data *= 2
    net[8].weight.data = torch.eye(5).repeat_interleave(4, 1) / 4  # layer.VotingLayer(4)
    x = spikes((1, 8, 8), 0.3)
    _save_spikingjelly("spikingjelly_conv", net, x)


def spikingjelly_soft():
    """LIF neurons that lose the threshold: v_reset=None, which the exporter refuses."""
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(1)
    soft = {"tau": 4.0, "v_reset": None}
    net = nn.Sequential(
        layer.Linear(12, 20), neuron.LIFNode(**soft), layer.Linear(20, 6), neuron.LIFNode(**soft)
    )
    _save_spikingjelly("spikingjelly_soft", scaled(net, 8.0), spikes((12,), 0.3))


def _save_spikingjelly(name, net, x):
    from spikingjelly.activation_based import base, functional
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    functional.reset_net(net)
    kept = [i for i, layer in enumerate(net) if isinstance(layer, base.MemoryModule)]
    recorded = {f"_{i}": [] for i in kept}
    with torch.no_grad():
        for step in torch.from_numpy(x).float():
            signal = step
            for i, layer in enumerate(net):
                signal = layer(signal)
                if i in kept:
                    recorded[f"_{i}"].append(signal.numpy())
    functional.reset_net(net)
    for i in kept:
        net[i].v_reset = 0.0  # of a soft reset: the equation between spikes stays the same
    graph = export_to_nir(net, torch.from_numpy(x[0]).float(), dt=DT)
    graph.infer_types()
    save(name, graph, x, {key: np.stack(steps) for key, steps in recorded.items()}, dt_s=DT)


def rockpool_lif():
    """LIF neurons with synapses, which lose the threshold at a spike."""
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import LIFTorch, LinearTorch
    from rockpool.nn.modules.torch.nir import to_nir

    torch.manual_seed(1)
    neurons = {"tau_mem": 0.02, "tau_syn": 0.01, "dt": DT, "max_spikes_per_dt": 1}
    net = Sequential(
        LinearTorch((12, 20)), LIFTorch(20, **neurons), LinearTorch((20, 6)), LIFTorch(6, **neurons)
    )
    x = spikes((12,), 0.3)
    for layer in net.modules().values():
        if isinstance(layer, LinearTorch):
            layer.weight.data *= 0.3
    signal, recorded = torch.from_numpy(x).float().transpose(0, 1), {}
    with torch.no_grad():
        for name, layer in net.modules().items():
            signal, _, _ = layer(signal)
            if isinstance(layer, LIFTorch):
                recorded[name] = signal.transpose(0, 1).numpy()
    graph = to_nir(net, torch.from_numpy(x[0, 0]).float())
    save("rockpool_lif", graph, x, recorded, compression=None, dt_s=DT)


MAKERS = {
    make.__name__: make
    for make in (sinabs_conv, norse_mlp, spikingjelly_conv, spikingjelly_soft, rockpool_lif)
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or MAKERS:
        MAKERS[wanted]()
