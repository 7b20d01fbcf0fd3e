"""Networks built and simulated by Norse, sinabs and snnTorch, with what they recorded."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
import torch
from torch import nn

DT = 1e-3
N_STEPS, BATCH = 60, 4


@dataclass
class Case:
    """One exported network and what its framework simulates.

    ``layers``: node -> (recorded values, allowed share of differing cells; of an integrator the allowed
    error of v, root mean square, relative to v).
    """

    graph: nir.NIRGraph
    x: np.ndarray
    dt: float
    layers: dict[str, tuple[np.ndarray, float]]
    reset: str = "zero"


def spikes(shape, p=0.3):
    return (np.random.default_rng(0).random((N_STEPS, BATCH, *shape)) < p).astype(np.uint8)


def driven(net, gain):
    """Weights large enough for spikes in every layer."""
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.weight.data *= gain
    return net


# --- norse --------------------------------------------------------------------------------------


def norse_case(layers, shape, allowed, gain=1.0, p=0.3):
    """``allowed``: index of each neuron layer -> allowed difference."""
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    torch.manual_seed(1)
    net = driven(norse.SequentialState(*layers()), gain)
    x = spikes(shape, p)
    recorded = {i: [] for i in allowed}
    states = dict.fromkeys(allowed)
    with torch.no_grad():
        for step in torch.from_numpy(x).float():
            signal = step
            for i, layer in enumerate(net):
                if i in states:
                    signal, states[i] = layer(signal, states[i])
                    recorded[i].append(signal.numpy())
                else:
                    signal = layer(signal)
        graph = to_nir(net, torch.from_numpy(x[0, 0]).float(), dt=DT)
    found = {str(i): (np.stack(recorded[i]), allowed[i]) for i in allowed}
    # norse 1.1.0 writes tau = dt / tau_mem_inv, that is dt tau instead of tau.
    return Case(graph, x, DT**2, found)


def with_jumping_current(graph, dt):
    """norse's LIFCell adds x to its current as it is; NIR multiplies it by w_in dt / tau_syn."""
    for node in graph.nodes.values():
        if isinstance(node, nir.CubaLIF):
            node.w_in = np.asarray(node.tau_syn) / dt
    return graph


def norse_lif():
    import norse.torch as norse

    p = norse.LIFBoxParameters(tau_mem_inv=torch.as_tensor(100.0))
    return norse_case(
        lambda: [
            nn.Linear(12, 20),
            norse.LIFBoxCell(p, dt=DT),
            nn.Linear(20, 6),
            norse.LIFBoxCell(p, dt=DT),
        ],
        (12,),
        {1: 0.01, 3: 0.02},
        gain=16.0,
    )


def norse_convolutions():
    import norse.torch as norse

    p = norse.LIFBoxParameters(tau_mem_inv=torch.as_tensor(80.0))
    case = norse_case(
        lambda: [
            nn.Conv2d(1, 4, 3, padding=1),
            norse.IAFCell(),
            nn.Conv2d(4, 4, 3, stride=2, groups=2),
            norse.LIFBoxCell(p, dt=DT),
        ],
        (1, 8, 8),
        {1: 0.01, 3: 0.03},
        gain=9.0,
    )
    for name in ("0", "2"):  # norse leaves it open, and nir 1.0.8 can neither write nor infer that
        case.graph.nodes[name].input_shape = (8, 8)
    return case


def norse_synaptic_current():
    import norse.torch as norse

    # the readout stays linear: LIBoxCell integrates without spikes
    case = norse_case(
        lambda: [
            nn.Linear(12, 20),
            norse.LIFCell(dt=DT),
            nn.Linear(20, 5),
            norse.LIBoxCell(dt=DT),
        ],
        (12,),
        {1: 0.01, 3: 0.06},
        gain=6.0,
    )
    case.graph = with_jumping_current(case.graph, case.dt)
    return case


# --- sinabs -------------------------------------------------------------------------------------


def sinabs_neurons(kind, soft=False, **parameters):
    import sinabs.activation as sa
    import sinabs.layers as sl

    reset_fn = sa.MembraneSubtract() if soft else sa.MembraneReset()
    reset = {"spike_fn": sa.SingleSpike, "reset_fn": reset_fn}
    return getattr(sl, kind)(**reset, batch_size=BATCH, **parameters)


def sinabs_case(layers, shape, allowed, gain=1.0, p=0.3):
    from sinabs.nir import to_nir

    torch.manual_seed(1)
    net = driven(nn.Sequential(*layers()), gain)
    x = spikes(shape, p)
    flat = torch.from_numpy(x).float().transpose(0, 1).reshape(-1, *shape)  # batch-major
    recorded = {}
    with torch.no_grad():
        value = flat
        for i, layer in enumerate(net):
            value = layer(value)
            if i in allowed:
                steps = value.unflatten(0, (BATCH, N_STEPS)).transpose(0, 1)
                recorded[str(i)] = (steps.numpy(), allowed[i])
                layer.reset_states()
        graph = to_nir(net, flat[:BATCH])
    return Case(graph, x, 1.0, recorded)  # sinabs counts time in steps


def with_exponential_decay(graph):
    """sinabs decays by exp(-1 / tau), a NIR Euler step by 1 - 1 / tau."""
    for node in graph.nodes.values():
        if isinstance(node, (nir.LIF, nir.LI)):
            node.tau = 1.0 / (1.0 - np.exp(-1.0 / np.asarray(node.tau)))
    return graph


def sinabs_sum_pooling():
    import sinabs.layers as sl

    case = sinabs_case(
        lambda: [
            nn.Conv2d(1, 4, 3, bias=False),
            sinabs_neurons("IAFSqueeze"),
            sl.SumPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 3 * 3, 6),
            sinabs_neurons("IAFSqueeze"),
        ],
        (1, 8, 8),
        {1: 0.02, 5: 0.12},
        gain=2.5,
    )
    case.graph.infer_types()  # sinabs leaves types open, which nir 1.0.8 cannot write
    return case


def sinabs_convolutions():
    case = sinabs_case(
        lambda: [
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            sinabs_neurons("IAFSqueeze", spike_threshold=torch.as_tensor(1.5)),
            nn.Conv2d(4, 6, 3, bias=False),
            sinabs_neurons("IAFSqueeze"),
        ],
        (2, 9, 9),
        {1: 0.02, 3: 0.08},
        gain=2.0,
    )
    case.graph.infer_types()
    return case


def sinabs_lif():
    import sinabs.layers as sl

    case = sinabs_case(
        lambda: [
            nn.Linear(12, 20),
            sinabs_neurons("LIFSqueeze", tau_mem=8.0),
            nn.Linear(20, 6),
            sl.ExpLeakSqueeze(tau_mem=12.0, norm_input=True, batch_size=BATCH),
        ],
        (12,),
        {1: 0.01, 3: 0.08},
        gain=10.0,
    )
    case.graph = with_exponential_decay(case.graph)
    return case


def sinabs_soft_reset():
    case = sinabs_case(
        lambda: [
            nn.Linear(12, 20),
            sinabs_neurons("IAFSqueeze", soft=True, spike_threshold=torch.as_tensor(1.5)),
            nn.Linear(20, 6),
            sinabs_neurons("IAFSqueeze", soft=True),
        ],
        (12,),
        {1: 0.02, 3: 0.08},
        gain=2.0,
    )
    case.reset = "subtract"
    return case


# --- snnTorch's own exporter --------------------------------------------------------------------

ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}


def snntorch_case(layers, shape, allowed, gain=1.0, p=0.3):
    """Exported by snnTorch itself, not by our to_nir; it writes dt = 1e-4 whatever the network is."""
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(1)
    net = driven(nn.Sequential(*layers()), gain)
    x = spikes(shape, p)
    recorded = {i: [] for i in allowed}
    with torch.no_grad():
        for step in torch.from_numpy(x).float():
            value = step
            for i, layer in enumerate(net):
                value = layer(value)
                if i in recorded:
                    recorded[i].append(value.numpy())
        for layer in net:
            if hasattr(layer, "init_hidden"):
                layer.detach_hidden()
                layer.reset_mem()
        graph = export_to_nir(net, torch.from_numpy(x[0]).float(), ignore_dims=[0])
    names = {i: f"{i}.lif" if f"{i}.lif" in graph.nodes else str(i) for i in allowed}
    return Case(graph, x, 1e-4, {names[i]: (np.stack(recorded[i]), allowed[i]) for i in allowed})


def snntorch_pooling():
    import snntorch as snn

    level = {"threshold": torch.full((4, 6, 6), 1.0)}
    return snntorch_case(
        lambda: [
            nn.Conv2d(1, 4, 3),
            snn.Leaky(torch.full((4, 6, 6), 0.9), **level, **ZERO),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 6),
            snn.Leaky(torch.full((6,), 0.8), threshold=torch.ones(6), **ZERO),
        ],
        (1, 8, 8),
        {1: 0.01, 5: 0.05},
        gain=5.0,
    )


def snntorch_recurrent():
    import snntorch as snn

    def layers():
        first = snn.RLeaky(beta=0.85, linear_features=16, all_to_all=True, **ZERO)
        second = snn.Synaptic(
            torch.full((5,), 0.6), torch.full((5,), 0.8), threshold=torch.ones(5), **ZERO
        )
        return [nn.Linear(12, 16), first, nn.Linear(16, 5), second]

    return snntorch_case(layers, (12,), {1: 0.05, 3: 0.1}, gain=2.0)


CASES = {
    "norse": (norse_lif, norse_convolutions, norse_synaptic_current),
    "sinabs": (sinabs_sum_pooling, sinabs_convolutions, sinabs_lif, sinabs_soft_reset),
    "snntorch": (snntorch_pooling, snntorch_recurrent),
}
