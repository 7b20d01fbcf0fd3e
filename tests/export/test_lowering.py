"""lower: on-grid networks keep every spike, limits hold, and loss of meaning is refused."""

from __future__ import annotations

import dataclasses
import inspect

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from torch import nn

import biril_nm as bnm
from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import BirilError, ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.lowering import LoweringOptions, ideal_weights, lower_stages
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Sparse
from biril_nm.loihi import SignMode
from biril_nm.loihi.fixed_point import prepare_weights

ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
DT = 1e-3


def on_grid(net: nn.Module, seed: int) -> nn.Module:
    """Even integers / 64 up to 254/64 in every weight, so that 8-bit lowering is exact."""
    random = np.random.default_rng(seed)
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            w = 2 * random.integers(-40, 56, layer.weight.shape)
            w.flat[0], w.flat[1] = 254, -254
            layer.weight.data = torch.from_numpy(w / 64.0).float()
            if layer.bias is not None:
                b = random.integers(-20, 40, layer.bias.shape)
                layer.bias.data = torch.from_numpy(b / 64.0).float()
    return net


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.if1 = nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(1.0, threshold=6.0, **ZERO)
        self.conv2, self.if2 = nn.Conv2d(4, 4, 3, padding=1), snn.Leaky(1.0, threshold=6.0, **ZERO)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(4, 4, 1, bias=False)
        self.if3 = snn.Leaky(1.0, threshold=8.0, **ZERO)
        self.flat, self.fc, self.out = nn.Flatten(), nn.Linear(4 * 6 * 5, 3), snn.Leaky(1.0, **ZERO)

    def forward(self, x):
        a = self.if1(self.conv1(x))
        c = self.if3(self.conv3(self.if2(self.conv2(a))) + self.skip(a))
        return self.out(self.fc(self.flat(c)))


def _dense():
    return nn.Sequential(
        nn.Linear(10, 16),
        snn.Leaky(1.0, threshold=5.0, **ZERO),
        nn.Linear(16, 4),
        snn.Leaky(1.0, **ZERO),
    )


class Functions(nn.Module):
    """Branches side by side, torch functions, one pooling layer at two places, Conv1d, a part of a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 3, 1)
        self.if1 = snn.Leaky(1.0, threshold=4.0, **ZERO)
        self.conv, self.if2 = nn.Conv2d(5, 4, 3, bias=False), snn.Leaky(1.0, threshold=9.0, **ZERO)
        self.pool = nn.LPPool2d(1, 2)
        self.conv1d, self.if3 = nn.Conv1d(4, 2, 3), snn.Leaky(1.0, threshold=5.0, **ZERO)
        self.fc, self.if4 = nn.Linear(6, 4), snn.Leaky(1.0, threshold=3.0, **ZERO)

    def forward(self, x):
        both = torch.cat([self.left(self.pool(x)), self.right(self.pool(x))], dim=1)
        s = self.if2(F.conv2d(self.if1(both), self.conv.weight, padding=1))
        s = self.if3(self.conv1d(self.pool(s).flatten(2)) + 1 / 16)
        return self.if4(F.linear(s.flatten(1)[:, 2:], self.fc.weight, self.fc.bias))


LEVELS = torch.tensor([2.0, 4.0, 1.0, 8.0]).reshape(4, 1, 1)


def _odd_pool():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=(1, 2), bias=False),
        snn.Leaky(1.0, threshold=4.0, **ZERO),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        snn.Leaky(1.0, threshold=LEVELS, **ZERO),
    )


@pytest.mark.parametrize(
    ("make", "shape"),
    [(_dense, (10,)), (Residual, (2, 6, 5)), (_odd_pool, (1, 7, 9)), (Functions, (1, 12, 8))],
)
def test_if_networks_on_the_grid_keep_every_spike(make, shape):
    net = on_grid(make(), seed=1)
    if make is _odd_pool:  # a threshold per channel is a gain per channel
        net[3].weight.data *= LEVELS.reshape(4, 1, 1, 1)
        net[3].bias.data *= LEVELS.reshape(4)
    x = (np.random.default_rng(2).random((40, 4, *shape)) < 0.3).astype(np.int32)
    graph = lower(to_nir(net, torch.zeros(1, *shape), DT))
    for facts in graph.metadata["quantisation"].values():
        assert facts["max_error"] < 1e-6
    ours, theirs = simulate(graph, x, record=("s",)), run_torch(net, x)
    for name in graph.neurons:
        assert 0 < ours[name].s.mean() < 1, name
        np.testing.assert_array_equal(ours[name].s, theirs[name].s, err_msg=name)


@pytest.mark.parametrize("unit", [1.0, 2.0**-3, 2.0**5, 2.0**-20])
def test_any_power_of_two_is_a_grid(unit):
    """Even integers up to 254 times a power of two, thresholds and biases in the same unit."""
    random = np.random.default_rng(4)
    net = _dense()
    for layer, low in ((net[0], -60), (net[2], -30)):
        layer.weight.data = torch.from_numpy(
            2 * unit * random.integers(low, 127, layer.weight.shape)
        )
        layer.weight.data[0, :2] = torch.tensor([254.0, -254.0]) * unit
        layer.bias.data = torch.from_numpy(unit * random.integers(-40, 40, layer.bias.shape))
    net[1].threshold, net[3].threshold = torch.tensor(700.0 * unit), torch.tensor(900.0 * unit)
    net.float()
    x = (random.random((40, 4, 10)) < 0.3).astype(np.int32)
    ours = simulate(lower(to_nir(net, torch.zeros(1, 10), DT)), x, record=("s",))
    theirs = run_torch(net, x)
    for name in theirs:
        assert 0 < ours[name].s.mean() < 1, name
        np.testing.assert_array_equal(ours[name].s, theirs[name].s, err_msg=name)


def test_paths_of_different_length_are_balanced_by_delay():
    graph = lower(to_nir(on_grid(Residual(), 1), torch.zeros(1, 2, 6, 5), DT))
    assert graph.connections["skip"].delay == 1
    assert graph.timing.max_slack == 0
    assert graph.metadata["balanced_delays"] == {"skip": 1}


def test_odd_pooling_becomes_sparse_and_even_pooling_stays_convolution():
    odd = lower(to_nir(on_grid(_odd_pool(), 1), torch.zeros(1, 1, 15, 17), DT))
    assert isinstance(odd.connections["2+3"], Sparse)
    even = lower(to_nir(on_grid(_odd_pool(), 1), torch.zeros(1, 1, 8, 16), DT))
    assert isinstance(even.connections["2+3"], Conv)
    assert even.connections["2+3"].weight.shape[2:] == (6, 6)


def test_lif_registers_follow_beta_and_bias_follows_scale():
    net = nn.Sequential(nn.Linear(6, 5), snn.Leaky(0.9, threshold=1.5, **ZERO))
    graph = lower(to_nir(net, torch.zeros(1, 6), DT))
    node, facts = graph.neurons["1"], graph.metadata["neurons"]["1"]
    assert int(node.dv) == round(4096 * 0.1)
    assert int(node.du) == 4095
    scale = facts["scale"] / 1.5
    assert int(node.vth) == round(1.5 * scale)
    bias = node.bias_mant.astype(int) << node.bias_exp
    np.testing.assert_allclose(
        bias, 64 * scale * net[0].bias.detach().numpy(), atol=1 << node.bias_exp
    )
    w = graph.connections["0"].weight * 2.0 ** graph.connections["0"].weight_exp
    step = 2 * 2.0 ** graph.connections["0"].weight_exp
    np.testing.assert_allclose(w, scale * net[0].weight.detach().numpy(), atol=step + 1e-6)


def test_cuba_gains_cancel():
    net = nn.Sequential(nn.Linear(6, 5, bias=False), snn.Synaptic(0.7, 0.9, **ZERO))
    graph = lower(to_nir(net, torch.zeros(1, 6), DT))
    node = graph.neurons["1"]
    assert (int(node.du), int(node.dv)) == (round(4096 * 0.3) - 1, round(4096 * 0.1))
    scale = graph.metadata["neurons"]["1"]["scale"]
    w = graph.connections["0"].weight * 2.0 ** graph.connections["0"].weight_exp
    np.testing.assert_allclose(w / scale, net[0].weight.detach().numpy(), atol=0.01)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("sign", [SignMode.MIXED, SignMode.EXCITATORY, SignMode.INHIBITORY])
def test_weights_pass_lavas_preparation_unchanged(bits, sign):
    net = nn.Sequential(nn.Linear(30, 20), snn.Leaky(0.9, **ZERO))
    if sign is not SignMode.MIXED:
        net[0].weight.data.abs_().mul_(1 if sign is SignMode.EXCITATORY else -1)
    source = to_nir(net, torch.zeros(1, 30), DT)
    graph = lower(source, weight_bits=bits)
    split = bits == 1 and sign is SignMode.MIXED
    assert set(graph.connections) == ({"0.plus", "0.minus"} if split else {"0"})
    for node in graph.connections.values():
        assert isinstance(node, Dense) and (split or node.sign_mode is sign)
        assert np.abs(node.weight).max() > 0
        kept = prepare_weights(node.weight, bits, node.sign_mode)
        np.testing.assert_array_equal(kept, node.weight)


def test_graded_input_divides_by_the_input_scale_and_u_cannot_overflow():
    net = bnm.build_model("convnet", bnm.ModelConfig(), seed=0)
    graph = lower(to_nir(net))
    first = graph.connections["conv1+bn1"]
    worst = np.maximum(first.weight, 0).reshape(16, -1).sum(axis=1).max() * 255
    assert worst * 64 < 2**23
    assert graph.metadata["neurons"]["if1"]["overflow_bound"] == "proven"


def test_calibration_loosens_a_costly_bound():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 7, padding=3, bias=False), snn.Leaky(1.0, threshold=0.5, **ZERO)
    )
    net[0].weight.data = net[0].weight.data.abs()
    graph = to_nir(net, torch.zeros(1, 1, 20, 20), DT)
    graph.nodes["input"].metadata.update(message_bits=8, scale=255, coding="direct", n_steps=3)
    x = np.random.default_rng(0).integers(0, 64, (3, 2, 1, 20, 20))
    proven, observed = lower(graph), lower(graph, calibration=x)
    error = lambda g: g.metadata["quantisation"]["0"]["relative_error"]  # noqa: E731
    assert error(observed) < error(proven)
    assert observed.metadata["neurons"]["1"]["overflow_bound"].startswith("calibrated")
    with pytest.raises(
        ConfigError, match=r"calibration: [^\n]*\n.*'input' has shape \(3, 2, 5\); expected"
    ):
        lower(graph, calibration=np.zeros((3, 2, 5)))


def _lif_graph(**metadata) -> nir.NIRGraph:
    ones = np.ones(2)
    lif = nir.LIF(tau=ones * 0.02, r=ones, v_leak=ones * 0, v_threshold=ones, metadata=metadata)
    return nir.NIRGraph.from_list(nir.Affine(weight=np.eye(2), bias=ones * 0.1), lif)


def test_dt_and_reset_are_asked_for_where_the_file_does_not_tell():
    with pytest.raises(ConfigError, match="dt of the graph is missing; .*Pass dt_s"):
        lower(_lif_graph(reset="zero"))
    with pytest.raises(UnsupportedNodeError, match="'lif'.*does not say.*reset='zero'"):
        lower(_lif_graph(), dt_s=DT)
    graph = lower(_lif_graph(), dt_s=DT, reset="zero")
    assert graph.metadata["reset"]["lif"]["from"].startswith("user")
    with pytest.raises(ConfigError, match="dt_s is 0.002; expected 0.001 s, with which"):
        lower(_lif_graph(reset="zero", dt=DT), dt_s=2 * DT)


def test_refusals_name_the_node():
    ones = np.ones(2)
    nodes = {
        "the threshold is -1 above v_reset": nir.LIF(
            tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=2 * ones
        ),
        "expected dt_s = 0.001 s or": nir.LIF(
            tau=ones * 1e-4, r=ones, v_leak=0 * ones, v_threshold=ones
        ),
        "the threshold is 0 above v_reset; expected more than 0": nir.IF(
            r=ones, v_threshold=ones * 0
        ),
        "not finite": nir.LIF(tau=ones, r=ones * np.nan, v_leak=0 * ones, v_threshold=ones),
    }
    for message, node in nodes.items():
        graph = nir.NIRGraph.from_list(nir.Affine(weight=np.eye(2), bias=ones), node)
        with pytest.raises(UnsupportedNodeError, match=rf"node '\w*if'.*{message}"):
            lower(graph, dt_s=DT, reset="zero")
    broken = nir.NIRGraph.from_list(
        nir.Affine(weight=np.array([[1.0, np.nan], [0.0, 1.0]]), bias=ones),
        nir.IF(r=ones, v_threshold=ones),
    )
    with pytest.raises(UnsupportedNodeError, match="'affine'.*weight is not finite"):
        lower(broken, dt_s=DT, reset="zero")
    linear_end = nir.NIRGraph.from_list(
        nir.IF(r=ones, v_threshold=ones), nir.Linear(weight=np.eye(2))
    )
    with pytest.raises(UnsupportedNodeError, match="output.*linear; expected a neuron"):
        lower(linear_end, dt_s=DT, reset="zero")


def test_impossible_bias_is_a_range_error():
    ones = np.ones(2)
    lif = nir.IF(r=ones, v_threshold=ones)
    graph = nir.NIRGraph.from_list(nir.Affine(weight=np.eye(2) * 1e-9, bias=ones * 1e9), lif)
    with pytest.raises(RangeError, match="if"):
        lower(graph, dt_s=DT, reset="zero")


def test_lowering_is_pure_and_saves(tmp_path):
    net = bnm.build_model("mlp", bnm.ModelConfig(), seed=0)
    source = to_nir(net)
    before = {
        name: getattr(node, "weight", np.zeros(1)).copy() for name, node in source.nodes.items()
    }
    graph = lower(source)
    assert graph == lower(source)
    for name, node in source.nodes.items():
        np.testing.assert_array_equal(getattr(node, "weight", np.zeros(1)), before[name])
    graph.save(tmp_path / "x.loihi.npz")
    assert LoihiGraph.load(tmp_path / "x.loihi.npz") == graph
    text = graph.summary()
    assert all(name in text for name in (*graph.neurons, *graph.connections))
    with pytest.raises(ValueError, match="read-only"):
        next(iter(graph.connections.values())).weight[0, 0] = 1


def test_keywords_of_lower_are_the_options():
    """One place knows the options; the other passes them on."""
    keywords = list(inspect.signature(lower).parameters.values())[1:]
    fields = dataclasses.fields(LoweringOptions)
    assert [k.name for k in keywords] == [f.name for f in fields]
    assert [k.default for k in keywords] == [f.default for f in fields]


def test_stages_are_kept_and_frozen():
    source = _lif_graph(dt=DT)
    stages = lower_stages(source, LoweringOptions(reset="zero"))
    assert stages.graph == lower(source, reset="zero")
    assert stages.settled.dt_s == DT
    assert set(stages.float_net.neurons) == set(stages.normalised) == set(stages.quantised)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stages.graph = None
    (link,) = stages.normalised["lif"].links
    integers = stages.quantised["lif"]
    units = integers.scale / 2.0 ** integers.links[link.name].weight_exp
    ideal = ideal_weights(stages)
    np.testing.assert_array_equal(ideal[link.name], link.values * units)
    rounded = stages.graph.connections[link.name].weight.ravel()
    assert np.abs(rounded - ideal[link.name]).max() <= integers.links[link.name].facts["step"]
    with pytest.warns(DeprecationWarning, match="is now ideal_weights.lower_stages"):
        old = ideal_weights(source, stages.graph)
    np.testing.assert_array_equal(old[link.name], ideal[link.name])


def test_weights_of_a_file_of_integers_are_ideal_as_they_are():
    graph = lower(_lif_graph(dt=DT), reset="zero")
    stages = lower_stages(exact_nir(graph))
    assert stages.graph == graph and stages.float_net is None
    (name,) = graph.connections
    np.testing.assert_array_equal(
        ideal_weights(stages)[name], graph.connections[name].weight.ravel()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 9}, "weight_bits is 9; expected a whole number from 1 to 8"),
        ({"weight_bits": 7.5}, "weight_bits is 7.5; expected an integer"),
        ({"reset": "soft"}, "reset is 'soft'; expected 'zero' or 'subtract' or"),
        ({"readout": "max"}, "readout is 'max'; expected 'accumulate'"),
        ({"scale_search": None}, "scale_search is None; expected a text"),
        ({"dt_s": float("nan")}, "dt_s is nan; expected a number"),
        ({"chip": "loihi9"}, "loihi9"),
    ],
)
def test_options_are_checked_where_they_are_made(options, message):
    with pytest.raises(BirilError, match=message):
        LoweringOptions(**options)
