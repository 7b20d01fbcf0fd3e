"""to_nir on networks as people write them: written, read back, interpreted, compared with torch."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import BirilError, UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from tests.support.nir_interpreter import NirInterpreter
from tests.support.zoo import N_STEPS, ZOO
from tests.support.zoo.registry import louder


def sample(shape, style):
    return torch.rand(*{"step": (2,), "loop": (3, 2), "static": (2,)}[style], *shape)


def spikes(shape, style):
    x = (np.random.default_rng(0).random((N_STEPS, 3, *shape)) < 0.4).astype(np.int32)
    return np.repeat(x[:1], N_STEPS, axis=0) if style == "static" else x


def test_the_zoo_is_large():
    assert len(ZOO) >= 48


@pytest.mark.parametrize("name", ZOO)
def test_read_back_graph_computes_what_torch_does(name, tmp_path):
    torch.manual_seed(3)
    net, shape, style = ZOO[name]()
    graph = to_nir(net, sample(shape, style), dt_s=2e-3)
    write_nir(tmp_path / "net.nir", graph)
    back = read_nir(tmp_path / "net.nir")  # with nir's type check
    for node_name, node in back.nodes.items():
        for kinds in (node.input_type, node.output_type):
            assert kinds and all(v is not None for v in kinds.values()), node_name
    assert back.check_types()
    assert [n for n, node in back.nodes.items() if isinstance(node, nir.Input)] == ["input"]
    x = spikes(shape, style)
    ours = NirInterpreter(back, float(back.metadata["dt"])).run(x)
    run = run_torch(net, x)
    neurons = {n for n, node in back.nodes.items() if hasattr(node, "v_threshold")}
    assert neurons == set(run) - {
        n for n, node in back.nodes.items() if isinstance(node, (nir.LI, nir.I, nir.CubaLI))
    }
    for node in neurons:
        assert ours[node].sum() > 0, node
        np.testing.assert_array_equal(ours[node], run[node].s, err_msg=node)


REFUSED_BY_THE_CHIP = {
    "feedback_without_weights": "'output' reads from lif2 -> avg_pool2d; .*Pass readout='accumulate'",
    "hand_made_loop": "'back' take 2 steps on chip.*expected 1 step.*Close the loop over one neuron layer",
    "synaptic_alpha_one": "node '1': no scale keeps.*pass calibration data",
}


@pytest.mark.parametrize("name", ZOO)
def test_the_way_to_the_chip(name):
    torch.manual_seed(3)
    net, shape, style = ZOO[name]()
    graph = to_nir(net, sample(shape, style), dt_s=2e-3)
    if name in REFUSED_BY_THE_CHIP:
        with pytest.raises(BirilError, match=REFUSED_BY_THE_CHIP[name]):
            lower(graph)
        return
    x = spikes(shape, style)[:20]
    integers = lower(graph)
    trace = simulate(integers, x, record=("s", "v"))
    for node in integers.neurons:
        assert np.any(trace[node].v) or np.any(trace[node].s), node
    assert any(trace[node].s.sum() > 0 for node in integers.neurons)


@pytest.mark.parametrize("name", [n for n in ZOO if n.startswith("membrane")])
def test_membranes_of_integrators_are_the_output(name):
    torch.manual_seed(3)
    net, shape, style = ZOO[name]()
    graph = to_nir(net, sample(shape, style))
    assert isinstance(graph.nodes["readout"], (nir.LI, nir.I))
    assert graph.nodes["output"].metadata["readout"] == "membrane"
    x = spikes(shape, style)
    ours = NirInterpreter(graph, 1e-4).run(x)["output"]
    with torch.no_grad():
        theirs = net(torch.from_numpy(x).float())
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(ours).max() > 0.1


def test_a_linear_end_stays_a_linear_end_and_tells_its_readout():
    net, shape, style = ZOO["linear_end"]()
    graph = to_nir(net, sample(shape, style))
    assert ("fc2", "output") in graph.edges
    assert graph.nodes["output"].metadata["readout"] == "mean"


class AnyAxis(nn.Module):
    """A loop over the time axis, however the forward gets at it."""

    def __init__(self, steps) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(5, 8), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(8, 4), snn.Leaky(beta=0.9)
        self.steps = steps

    def forward(self, x):
        mem1, mem2, self.sent = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for value in self.steps(x):
            spk1, mem1 = self.lif1(self.fc1(value), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            self.sent.append(spk2)
        return torch.stack(self.sent, dim=1).transpose(0, 1)


@pytest.mark.parametrize(
    ("axes", "steps"),
    [
        ((0, 1, 2), lambda x: x),
        ((1, 0, 2), lambda x: (x[:, t] for t in range(x.size(1)))),
        ((1, 0, 2), lambda x: (x[:, t, :] for t in range(x.shape[1]))),
        ((1, 0, 2), lambda x: x.permute(1, 0, 2)),
        ((1, 0, 2), lambda x: x.transpose(0, 1).contiguous()),
        ((1, 0, 2), lambda x: x.swapaxes(1, 0).unbind(0)),
        ((1, 0, 2), lambda x: torch.unbind(x, dim=1)),
        ((1, 2, 0), lambda x: (x[..., t] for t in range(x.size(-1)))),
        ((1, 2, 0), lambda x: x.permute((2, 0, 1))),
        ((1, 2, 0), lambda x: x.movedim(-1, 0)),
        ((1, 2, 0), lambda x: x.transpose(1, 2).transpose(0, 1)),
    ],
)
def test_time_may_be_any_axis(axes, steps):
    """``axes``: where time, batch and features of the usual order have gone."""
    torch.manual_seed(0)
    net = louder(AnyAxis(steps), 3.0)
    x = torch.from_numpy(spikes((5,), "loop"))
    graph = to_nir(net, x[:3].permute(axes).float())
    assert graph.nodes["input"].output_type["output"].tolist() == [5]
    ours = NirInterpreter(graph, 1e-4).run(x.numpy())["output"]
    with torch.no_grad():
        net(x.permute(axes).float())
    assert ours.sum() > 0
    np.testing.assert_array_equal(ours, torch.stack(net.sent))


@pytest.mark.parametrize(
    "steps",
    [lambda x: x.permute(2, 1, 0), lambda x: x.transpose(1, 2)],
    ids=["features", "swapped"],
)
def test_another_order_within_a_step_is_refused(steps):
    with pytest.raises(
        UnsupportedNodeError,
        match="(permute|transpose)' in front of layer 'fc1'.*Reorder the input",
    ):
        to_nir(AnyAxis(steps), torch.zeros(5, 5, 5))
