"""Networks built, exported and simulated by other frameworks: our integers behave as their floats.

Each case is built in the framework, exported by the framework's own NIR exporter, written, read,
lowered and run here, and compared layer by layer with the framework's own simulation. Bounds are the share
of equal (step, sample, neuron) cells and the difference of the mean rate in spikes per neuron and step.
What they allow for: 8-bit weights are 0.4 % coarse, decays 1/4096, and a spike that moves by one step
is two cells, which later layers see as other input. Integrators are compared by their membrane.

What the exporters leave out, and how a user says it, is in docs/coming_from.md; each such step is a
function here. Frameworks that are not installed are skipped: ``pip install '.[frameworks]'``.
"""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
import pytest
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.export.nir_files.files import read_nir
from biril_nm.hardware_sim import simulate
from biril_nm.loihi import WEIGHT_SHIFT
from tests.support.nir_interpreter import NirInterpreter

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


def spikes(shape, p=0.3):
    return (np.random.default_rng(0).random((N_STEPS, BATCH, *shape)) < p).astype(np.uint8)


def driven(net, gain):
    """Weights large enough for spikes in every layer."""
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.weight.data *= gain
    return net


def through_a_file(graph, folder):
    path = folder / "net.nir"
    nir.write(path, graph, compression=None)  # nir 1.0.8 cannot compress scalars
    return read_nir(path)


def differences(case, lowered):
    """Node -> (found difference, allowed difference); layers without spikes are an error."""
    trace = simulate(lowered, case.x, record=("s", "v"))
    found = {}
    for name, (theirs, allowed) in case.layers.items():
        node = case.graph.nodes.get(name)
        if isinstance(node, (nir.LI, nir.I)):
            scale = lowered.metadata["neurons"][name]["scale"] * (1 << WEIGHT_SHIFT)
            error = np.linalg.norm(trace[name].v / scale - theirs) / np.linalg.norm(theirs)
            found[name] = (float(error), allowed)
            continue
        ours = trace[name].s
        assert theirs.sum() > 50 and ours.sum() > 50, name
        assert theirs.mean() < 0.9, name
        found[name] = (float((ours != theirs).mean()), allowed)
        assert abs(ours.mean() - theirs.mean()) <= max(0.002, allowed / 4), name
    return found


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


def sinabs_neurons(kind, **parameters):
    import sinabs.activation as sa
    import sinabs.layers as sl

    reset = {"spike_fn": sa.SingleSpike, "reset_fn": sa.MembraneReset()}
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
    "sinabs": (sinabs_sum_pooling, sinabs_convolutions, sinabs_lif),
    "snntorch": (snntorch_pooling, snntorch_recurrent),
}


def needs(framework):
    pytest.importorskip(framework, reason=f"{framework} is missing: pip install '.[frameworks]'")


@pytest.fixture(params=[(name, build) for name, builds in CASES.items() for build in builds])
def case(request):
    framework, build = request.param
    needs(framework)
    return build()


def test_behaviour_is_that_of_the_framework(case, tmp_path):
    graph = through_a_file(case.graph, tmp_path)
    lowered = lower(graph, dt_s=case.dt, calibration=case.x, reset="zero")
    assert set(case.layers) <= set(lowered.neurons)
    for name, (found, allowed) in differences(case, lowered).items():
        assert found <= allowed, (name, found)


def test_the_equations_agree_before_anything_is_rounded(case):
    """The float interpreter and the framework differ by float32 alone: ties at the threshold."""
    graph = plain_graph(case.graph)
    for name, node in graph.nodes.items():
        if name.endswith("w_rec"):  # what snnTorch feeds back is the spikes of the previous step
            node.metadata["lag"] = 1
    floats = NirInterpreter(graph, case.dt).run(case.x)
    for name, (theirs, _) in case.layers.items():
        if isinstance(case.graph.nodes.get(name), nir.LI):
            np.testing.assert_allclose(floats[name], theirs, atol=0.01 * np.abs(theirs).max())
        else:
            assert (floats[name] == theirs).mean() > 0.999, name


def test_another_threshold_is_seen(case):
    """Negative twin: the first layer a quarter less excitable breaks its bound."""
    lowered = lower(case.graph, dt_s=case.dt, calibration=case.x, reset="zero")
    name = next(iter(case.layers))
    changed = lowered.with_node(name, vth=lowered.neurons[name].vth * 5 // 4)
    with pytest.raises(AssertionError):
        for found, allowed in differences(case, changed).values():
            assert found <= allowed


def test_a_sum_that_the_tracer_loses_is_refused(tmp_path):
    """nirtorch 2.6 follows modules, not ``+``: norse writes a residual network without its last neurons."""
    needs("norse")
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.n1 = nn.Linear(12, 16), norse.IAFCell()
            self.fc2, self.skip, self.n2 = nn.Linear(16, 8), nn.Linear(16, 8), norse.IAFCell()

        def forward(self, x, state=None):
            a, _ = self.n1(self.fc1(x))
            return self.n2(self.fc2(a) + self.skip(a))

    graph = through_a_file(to_nir(Residual(), torch.zeros(12), dt=DT), tmp_path)
    with pytest.raises(
        UnsupportedNodeError, match="reads from n1 -> (fc2|skip); expected a neuron"
    ):
        lower(graph, dt_s=DT, reset="zero")


def test_layers_that_norse_does_not_write_are_named():
    needs("norse")
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    net = norse.SequentialState(
        nn.Conv2d(1, 2, 3), norse.IAFCell(), nn.Flatten(0), nn.Linear(72, 4), norse.IAFCell()
    )
    graph = to_nir(net, torch.zeros(1, 8, 8), dt=DT)
    with pytest.raises(UnsupportedNodeError, match=r"nodes '2' \(NoneType\) have no counterpart"):
        lower(graph, dt_s=DT, reset="zero")
