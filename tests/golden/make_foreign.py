"""Write NIR files with other frameworks, and what those frameworks simulate: golden inputs of the tests.

    pip install --no-deps --target DIR sinabs==3.1.3 norse==1.1.0 pbr
    PYTHONPATH=DIR python tests/golden/make_foreign.py

The files hold the versions that made them; the tests need neither framework.
"""

from __future__ import annotations

import json
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


if __name__ == "__main__":
    sinabs_conv()
    norse_mlp()
