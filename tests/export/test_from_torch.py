"""to_nir: names, types, metadata, and the same spikes in an independent NIR interpreter."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import to_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from tests.support.nir_interpreter import NirInterpreter

ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}


def _dense() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 20),
        snn.Leaky(0.9, **ZERO),
        nn.Linear(20, 5, bias=False),
        snn.Leaky(0.8, **ZERO),
    )


def _conv() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        snn.Leaky(1.0, threshold=0.7, **ZERO),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 3 * 4, 7),
        nn.BatchNorm1d(7),
        nn.Identity(),
        snn.Leaky(0.95, **ZERO),
    )
    for layer in net:
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.1, 0.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.1, 0.4)
    return net


def _synaptic() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 15, bias=False), snn.Synaptic(0.8, 0.9, **ZERO))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 10), snn.Leaky(0.9, **ZERO)
        self.fc2, self.skip = nn.Linear(10, 10), nn.Linear(10, 10, bias=False)
        self.lif2 = snn.Leaky(0.9, threshold=torch.rand(10) + 0.5, **ZERO)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.lif1(self.fc1(x))
        return self.lif2(self.fc2(s) + self.skip(s) + s)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(_dense, (12,)), (_conv, (2, 6, 8)), (_synaptic, (12,)), (Residual, (12,))],
    ids=["dense", "conv", "synaptic", "residual"],
)
def test_read_back_graph_spikes_as_torch_does(make, shape, tmp_path):
    torch.manual_seed(3)
    net = make()
    for p in net.parameters():
        p.data.mul_(1.7)
    x = (np.random.default_rng(0).random((50, 3, *shape)) < 0.4).astype(np.int32)
    graph = to_nir(net, torch.zeros(3, *shape), dt_s=2e-3)
    write_nir(tmp_path / "net.nir", graph)
    back = read_nir(tmp_path / "net.nir")
    assert all(node.input_type and node.output_type for node in back.nodes.values())
    ours = NirInterpreter(back, float(back.metadata["dt"])).run(x)
    theirs = run_torch(net, x)
    assert set(theirs) < set(ours)
    for name in theirs:
        spikes = ours[name]
        assert spikes.sum() > 0
        np.testing.assert_array_equal(spikes, theirs[name].s, err_msg=name)


def test_names_metadata_and_coding_of_a_biril_net():
    net = bnm.build_model("convnet", bnm.ModelConfig(batch_norm=True), seed=0)
    graph = to_nir(net, dt_s=1e-3)
    assert {"input", "conv1+bn1", "if1", "pool1", "conv2+bn2", "fc2", "output"} <= set(graph.nodes)
    assert graph.nodes["if1"].metadata["reset"] == "zero"
    assert graph.metadata["dt"] == 1e-3
    metadata = graph.nodes["input"].metadata
    assert (metadata["coding"], metadata["message_bits"], metadata["scale"]) == ("direct", 8, 255)


def test_scalar_beta_gets_the_full_shape_and_subtract_is_said():
    net = nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.5, init_hidden=True))
    node = to_nir(net, torch.zeros(2, 4)).nodes["1"]
    assert node.tau.shape == node.v_threshold.shape == (3,)
    assert node.metadata["reset"] == "subtract"


def test_the_module_is_left_alone():
    net = _conv().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    to_nir(net, torch.ones(2, 2, 6, 8))
    assert net.training
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert net[2].mem.numel() == 0


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.LayerNorm(4)),
            r"'1' \(torch.*Softmax\).*\n.*'2'",
        ),
        (
            nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), snn.Leaky(0.9, **ZERO)),
            "'0' .BatchNorm1d. .*running_mean is None; expected running statistics",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.9, graded_spikes_factor=2.0, **ZERO)),
            "graded_spikes_factor is 2.0; expected 1. Scale",
        ),
        (nn.Linear(4, 4), "single layer"),
        (Branching(), "reads values of a signal .*; expected a forward that does the same"),
    ],
)
def test_refusals_name_the_layer_and_the_way_out(net, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(net, torch.zeros(2, 4))


class Loop(nn.Module):
    """A loop over time whose body is given."""

    def __init__(self, body) -> None:
        super().__init__()
        self.fc, self.lif, self.lif2 = nn.Linear(4, 4), snn.Leaky(0.9), snn.Leaky(0.9)
        self.body = body

    def forward(self, x):
        mem, mem2 = self.lif.init_leaky(), self.lif2.init_leaky()
        spk, out = torch.zeros_like(x[0]), []
        for value in x:
            spk, mem, mem2 = self.body(self, value, spk, mem, mem2)
            out.append(spk)
        return torch.stack(out)


def _rest_each_step(net, x, spk, mem, mem2):
    return *net.lif(net.fc(x), torch.zeros_like(x)), mem2


def _stolen_state(net, x, spk, mem, mem2):
    spk, mem = net.lif(net.fc(x), mem)
    spk, mem2 = net.lif2(spk, mem)
    return spk, mem, mem2


def _changed_state(net, x, spk, mem, mem2):
    return *net.lif(net.fc(x), torch.relu(mem)), mem2


def _membrane_as_signal(net, x, spk, mem, mem2):
    _, mem = net.lif(net.fc(x), mem)
    spk, mem2 = net.lif2(mem, mem2)
    return spk, mem, mem2


def _activation(net, x, spk, mem, mem2):
    return *net.lif(torch.relu(net.fc(x)), mem), mem2


def _part_of_the_input(net, x, spk, mem, mem2):
    return *net.lif(net.fc(x[:, [3, 1, 0, 2]].sort()[0]), mem), mem2


def _constant_input(net, x, spk, mem, mem2):
    return *net.lif(net.fc(torch.ones_like(x)), mem), mem2


def _shared_neurons(net, x, spk, mem, mem2):
    spk, mem = net.lif(net.fc(x), mem)
    spk, mem = net.lif(spk, mem)
    return spk, mem, mem2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_rest_each_step, "'lif' starts each step from rest.*put the loop over time into"),
        (_stolen_state, "'lif2' is given the state 'mem' of 'lif'; expected its own"),
        (_changed_state, "'lif' is given 'relu'; expected its own last state"),
        (_membrane_as_signal, "'lif2' receives the state 'mem' of 'lif', which spikes"),
        (
            _activation,
            "operation 'relu' in front of layer 'lif' is not a layer; expected additions",
        ),
        (_part_of_the_input, "operation 'sort' in front of layer 'fc'"),
        (
            _constant_input,
            "operation 'constant input' in front of layer 'fc'.*\n.*no layer receives",
        ),
        (_shared_neurons, "layer 'lif' is used .* Give each use its own module"),
    ],
)
def test_loops_with_another_meaning_are_refused(body, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(Loop(body), torch.zeros(3, 2, 4))


def test_one_step_with_states_made_in_forward_is_refused():
    class Forgets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 4), snn.Leaky(0.9)

        def forward(self, x):
            return self.lif(self.fc(x), self.lif.init_leaky())[0]

    with pytest.raises(UnsupportedNodeError, match="'lif' starts each step from rest"):
        to_nir(Forgets(), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.LPPool2d(2, 2), (3, 4, 4), "norm_type is 2.*; expected 1. Only norm 1"),
        (nn.Flatten(0), (3, 4, 4), "start_dim is 0, the batch; expected 1"),
        (snn.Alpha(0.9, 0.8, init_hidden=True), (4,), "'0' .snntorch.*Alpha. is unknown"),
        (
            snn.Lapicque(R=0.5, C=0.5, init_hidden=True),
            (4,),
            "the leak is 4 to 4 per step; expected 0 to 1",
        ),
        (
            snn.Leaky(torch.rand(2, 4, 1), **ZERO),
            (4, 2),
            r"beta has shape \(2, 4, 1\); expected one value",
        ),
        (
            snn.Leaky(0.9, state_quant=torch.round, **ZERO),
            (4,),
            "state_quant is .*; expected False",
        ),
    ],
)
def test_layers_without_nir_form_are_refused_with_the_reason(layer, shape, message):
    with pytest.raises(UnsupportedNodeError, match=f"layer.*{message}"):
        to_nir(nn.Sequential(layer, nn.Identity()), torch.zeros(2, *shape))


def test_a_trained_network_in_the_middle_of_its_graph_is_translated():
    net = _dense()
    net(torch.ones(2, 12)).sum().backward
    graph = to_nir(net, torch.zeros(2, 12))
    assert graph.edges == to_nir(torch.nn.DataParallel(net), torch.zeros(2, 12)).edges


def test_several_inputs_are_called_as_the_arguments():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.lif = nn.Linear(3, 4), nn.Linear(2, 4), snn.Leaky(0.9, **ZERO)

        def forward(self, image, sound):
            return self.lif(self.a(image) + self.b(sound))

    graph = to_nir(Two(), (torch.zeros(2, 3), torch.zeros(2, 2)))
    assert {("image", "a"), ("sound", "b")} <= set(graph.edges)


def test_a_module_used_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 4), snn.Leaky(0.9, **ZERO)

        def forward(self, x):
            return self.lif(self.fc(self.fc(x)))

    with pytest.raises(
        UnsupportedNodeError, match="'fc' is used 2 times; expected once. Give each use"
    ):
        to_nir(Twice(), torch.zeros(1, 4))


def test_bad_arguments():
    net = _dense()
    with pytest.raises(ConfigError, match="dt_s is 0"):
        to_nir(net, torch.zeros(1, 12), dt_s=0)
    with pytest.raises(ConfigError, match="sample_input"):
        to_nir(net)
    with pytest.raises(ConfigError, match=r"does not accept a sample_input of shape \(1, 9\)"):
        to_nir(net, torch.zeros(1, 9))
    assert isinstance(to_nir(net, torch.zeros(1, 12)), nir.NIRGraph)
