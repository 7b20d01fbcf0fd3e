"""QuantizedNet: every integer is the simulator's, gradients are those of the equations, low bits train."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from torch import nn

from biril_nm.coding import Coding
from biril_nm.compartments import CUBA_LIF, RESET_MODELS
from biril_nm.errors import ConfigError, DivergedError, RangeError
from biril_nm.export import lower, to_nir
from biril_nm.export.lowering import LoweringOptions, lower_stages
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi import LOIHI2, ResetMode
from biril_nm.models import build_model
from biril_nm.neurons.surrogates import make_surrogate
from biril_nm.parity import check_parity
from biril_nm.recording.readout import predict
from biril_nm.training.integers import QuantizedNet
from tests.support.quantized import assert_equal
from tests.support.random_graphs import random_graph, random_spikes, with_programs

VARIABLES = ("s", "u", "v")


@pytest.mark.parametrize("compiled", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize("wiring", ["plain", "residual", "self", "loop", "inputs"])
def test_every_integer_is_the_simulators(wiring, compiled):
    """Any exponent, sign mode, bits, delay, payload, loop and reset, at the start and away from it."""
    spikes = 0
    for seed in range(4):
        graph = with_programs(random_graph([seed, 5], wiring), seed)
        given = random_spikes(graph, 9, 2, seed)
        net = QuantizedNet(graph)
        net.compiled = compiled
        spikes += assert_equal(net, given)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1 + 0.2 * torch.randn(p.shape, generator=generator))
        assert net.graph() != graph
        spikes += assert_equal(net, given)
    assert spikes > 100


# --- gradients ------------------------------------------------------------------------------------


def exact_graph(model):
    """Two layers, the first with a loop, whose integers are exact where halving loses no bit."""
    r = np.random.default_rng(4)
    registers = {"vth": 1539, "du": 2047, "dv": 2048, "bias_mant": 64, "bias_exp": 8}
    nodes = {
        "in": Input((6,)),
        "fc": Dense(64 * r.integers(-2, 4, (8, 6)), weight_bits=3),
        "loop": Dense(64 * r.integers(-2, 3, (8, 8)), weight_bits=3),
        "n": Neurons((8,), model=model.name, registers=registers),
        "last": Dense(64 * r.integers(-2, 4, (3, 8)), weight_bits=3),
        "out": Neurons((3,), model=model.name, registers=registers),
        "end": Output(),
    }
    edges = (("in", "fc"), ("fc", "n"), ("n", "loop"), ("loop", "n"), ("n", "last"),
             ("last", "out"), ("out", "end"))  # fmt: skip
    return LoihiGraph(nodes, edges, {"decision": "score"})


def relaxed(net, x, reset):
    """The equations in floats with torch's own gradients, at values that rounding would not change."""
    surrogate = make_surrogate("sigmoid")
    latents = {id(p): p.detach().double().requires_grad_(True) for p in net.parameters()}

    def population(name):
        module = net.population(name)
        scale = latents[id(module.log_scale)].exp()
        return scale, 64 * scale * module.threshold.double(), 64 * scale * latents[id(module.drive)]

    def weight(link, scale):
        rows = scale.expand(net.base.shape_of(net.base.ends[link][1])).reshape(-1, 1)
        return latents[id(net.connection(link).weight)] * rows

    def step(a, u, v, theta, bias):
        before = (v > theta).double().detach()
        late = before if reset.delayed else 0
        zero, fall = reset.mode is ResetMode.ZERO, reset.mode is ResetMode.SUBTRACT
        u = u / 2 + 64 * a
        kept = v * (1 - late) if zero and not reset.loses_input else v
        y = kept / 2 + u + bias - (late * theta if fall else 0)
        y = y * (1 - before) if reset.loses_input else y
        s = surrogate((y - (before * theta if reset.guarded else 0)) / theta - 1)
        if reset.delayed:
            return s, u, y
        fired = s.detach()
        return s, u, y * (1 - fired) if zero else y - fired * theta if fall else y

    u, v, count = {}, {}, 0
    sizes = {"n": 8, "out": 3}
    u, v = ({k: torch.zeros(x.shape[1], n).double() for k, n in sizes.items()} for _ in "uv")
    sent = torch.zeros(x.shape[1], 8).double()
    for value in x.double():
        scale, theta, bias = population("n")
        a = value @ weight("fc", scale).T + sent @ weight("loop", scale).T
        sent, u["n"], v["n"] = step(a, u["n"], v["n"], theta, bias)
        scale, theta, bias = population("out")
        s, u["out"], v["out"] = step(
            sent @ weight("last", scale).T, u["out"], v["out"], theta, bias
        )
        count = count + s
    return count + v["out"] / theta, latents


@pytest.mark.parametrize("model", [CUBA_LIF, *RESET_MODELS], ids=lambda model: model.name)
def test_gradients_are_those_of_the_equations(model):
    net = QuantizedNet(exact_graph(model))
    for name, node in net.base.neurons.items():
        registers = (model.prepare(each.registers) for each in (node, net.graph().neurons[name]))
        assert all(np.all(one == other) for one, other in zip(*registers)), "nothing is rounded"
    x = torch.as_tensor(np.random.default_rng(1).integers(0, 2, (6, 5, 6)))
    assert assert_equal(net, x.numpy()) > 20
    factor = torch.linspace(-1, 2, 15).reshape(5, 3)
    scores = net(x).scores
    (scores * factor).sum().backward()
    wanted, latents = relaxed(net, x, model.reset)
    torch.testing.assert_close(scores, wanted, rtol=1e-5, atol=1e-5)
    (wanted * factor).sum().backward()
    for name, parameter in net.named_parameters():
        found, expected = parameter.grad.double(), latents[id(parameter)].grad
        if name.endswith("log_scale"):  # weights, bias and threshold grow together: nothing changes
            assert found.abs().max() < 1e-3
            continue
        assert expected.abs().max() > 1e-3, name
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5, msg=name)


# --- networks that are lowered --------------------------------------------------------------------


class Small(nn.Module):
    """A convolution with snnTorch's default neurons, pooling behind them, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        surrogate = snn.surrogate.fast_sigmoid(slope=10)
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.lif1 = snn.Leaky(beta=0.9, spike_grad=surrogate)
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(96, 10)
        self.lif2 = snn.Leaky(beta=0.9, spike_grad=surrogate)

    def forward(self, image):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        found = []
        for _ in range(5):
            spikes, mem1 = self.lif1(self.conv(image), mem1)
            spikes, mem2 = self.lif2(self.fc(self.pool(spikes).flatten(1)), mem2)
            found.append(spikes)
        return torch.stack(found)


def chip_input(images):
    return np.broadcast_to(images, (5, *images.shape))


def train(forward, parameters, images, labels, rate, epochs, last=1.0):
    """Adam, whose rate falls to the share ``last`` of it."""
    optimizer = torch.optim.Adam(parameters, rate)
    n_batches = epochs * -(-len(labels) // 64)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, last, n_batches)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(64):
            loss = nn.functional.cross_entropy(forward(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()


@pytest.fixture(scope="module")
def trained():
    """A float network, the NIR graph of it, and images as the chip receives them."""
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images / 16 * 255).astype(np.int64).reshape(-1, 1, 8, 8)
    net = Small()
    floats, classes = torch.as_tensor(images / 255).float(), torch.as_tensor(labels)
    train(lambda x: net(x).sum(0), net.parameters(), floats[:1000], classes[:1000], 3e-3, 12)
    return to_nir(net, floats[:2], dt_s=1e-3, coding=Coding("direct", 5, 8)), images, labels


def accuracy(graph, images, labels):
    return float(
        (predict(graph, simulate(graph, chip_input(images), record=("s", "v"))) == labels).mean()
    )


def test_low_bits_learn_on_the_integers(trained):
    nir_graph, images, labels = trained
    data = chip_input(images[:100])
    options = LoweringOptions(weight_bits={"*": 3}, calibration=data, scale_search="max")
    stages = lower_stages(nir_graph, options)
    net = QuantizedNet(stages)
    before = accuracy(stages.graph, images[1000:], labels[1000:])

    def forward(batch):
        return net(batch.expand(5, *batch.shape)).scores

    # a rate that falls: weights of 3 bits jump, and a last bit of a float decides which of them do
    train(forward, net.parameters(), torch.as_tensor(images[:1000]), torch.as_tensor(labels[:1000]),
          1.6e-2, 10, last=0.02)  # fmt: skip
    graph = net.graph()
    after = accuracy(graph, images[1000:], labels[1000:])
    assert after > max(0.85, before + 0.2), (before, after)
    assert assert_equal(net, chip_input(images[:5])) > 100
    for name in ("conv", "fc"):
        assert set(np.unique(graph.connections[name].weight % 64)) == {0}, "3 bits"
    (pool,) = (name for name in graph.neurons if name not in ("lif1", "lif2"))
    assert graph.neurons[pool] == stages.graph.neurons[pool], "pooling learns nothing"
    assert [n for n in graph.neurons if not QuantizedNet(graph).population(n).trained] == [pool]

    again = QuantizedNet(stages)
    again.load_state_dict(net.state_dict())
    assert again.graph() == graph


@pytest.mark.lava
def test_torch_simulator_and_lava_agree_in_every_integer(trained):
    nir_graph, images, _ = trained
    net = QuantizedNet(lower_stages(nir_graph, LoweringOptions(weight_bits=4)))
    spikes = chip_input(images[:2])
    found = check_parity(net.graph(), spikes, ("torch", "sim", "lava"), net=net)
    assert found.ok and found.integer_engines == ("torch", "sim", "lava"), found.summary()
    assert found.n_compared > 2 * 2 * 5 * 3 * 300


def test_another_network_is_not_taken_for_it(trained):
    nir_graph, images, _ = trained
    net = QuantizedNet(lower_stages(nir_graph))
    graph = net.graph()
    with torch.no_grad():
        net.connection("fc").weight[3, 7] += 0.5
    found = check_parity(graph, chip_input(images[:8]), ("torch", "sim"), net=net)
    assert not found.ok and found.mismatches[0].node == "lif2"


def test_fixed_connections_keep_their_weights(trained):
    nir_graph, images, labels = trained
    stages = lower_stages(nir_graph)
    net = QuantizedNet(stages, fixed=("conv",))
    classes = torch.as_tensor(labels[:8])
    images = torch.as_tensor(images[:8])
    nn.functional.cross_entropy(net(images.expand(5, *images.shape)).scores, classes).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad.sign() * 0.01)
    graph = net.graph()
    assert graph.connections["conv"] == stages.graph.connections["conv"]
    assert graph.connections["fc"] != stages.graph.connections["fc"]


def test_the_page_about_it_runs():
    page = Path(__file__).parents[2] / "docs" / "training_on_integers.md"
    block, *_ = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    exec(compile(block, str(page), "exec"), {})


def test_what_cannot_be_trained_is_refused():
    graph = exact_graph(CUBA_LIF)
    with pytest.raises(ConfigError, match="'fd' is not a connection"):
        QuantizedNet(graph, fixed=("fd",))
    with pytest.raises(ConfigError, match="surrogate"):
        QuantizedNet(graph, surrogate="step")
    with pytest.raises(ConfigError, match="'learned_atan'; expected one without parameters"):
        QuantizedNet(graph, surrogate="learned_atan")
    resting = Neurons((8,), model="cuba_lif_refractory", vth=300)
    other = replace(graph, nodes={**graph.nodes, "n": resting})
    with pytest.raises(ConfigError, match="'cuba_lif_refractory' has no gradient; expected one of"):
        QuantizedNet(other)
    with pytest.raises(ConfigError, match="source is"):
        QuantizedNet(nn.Linear(2, 2))


def test_integers_that_training_would_change_at_once_are_refused():
    """A graph trains on from where it stands: thresholds of 0 would become 1, kernels would be clipped."""
    kernel = np.array([[[[301, -3], [7, -300]]]])
    nodes = {
        "in": Input((1, 4, 4)),
        "conv": Conv(kernel),
        "n": Neurons((1, 3, 3), registers={"vth": 0, "dv": 100}),
        "end": Output(),
    }
    graph = LoihiGraph(nodes, (("in", "conv"), ("conv", "n"), ("n", "end")))
    with pytest.raises(ConfigError, match="'n' have a threshold of 0; expected 1 or more\n.*'conv' holds "
                       "-300 to 301; expected -256 to 255, or its name in fixed"):  # fmt: skip
        QuantizedNet(graph)
    awake = Neurons((1, 3, 3), registers={"vth": 1, "dv": 100})
    net = QuantizedNet(replace(graph, nodes={**nodes, "n": awake}), fixed=("conv",))
    assert net.graph().connections["conv"] == graph.connections["conv"]
    assert assert_equal(net, np.ones((3, 2, 1, 4, 4), int)) > 0


def test_limits_of_a_chip_of_ones_own_hold_while_integers_train():
    chip = replace(LOIHI2, name="narrow", vth_bits=9, bias_mant_bits=5, bias_exp_max=3)
    layers = nn.Sequential(nn.Linear(6, 4), snn.Leaky(beta=0.9, threshold=0.2, init_hidden=True))
    stages = lower_stages(to_nir(layers, torch.zeros(2, 6), dt_s=1e-3), LoweringOptions(chip=chip))
    net = QuantizedNet(stages)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(8)
    (node,) = net.graph().neurons.values()
    assert node.vth.max() == chip.vth_max - 1
    assert np.abs(node.bias_mant).max() <= chip.bias_mant_max and node.bias_exp <= 3


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        (np.full((3, 2, 6), 0.5), ConfigError, "float64"),
        (np.full((3, 2, 6), 2), RangeError, "'in'"),
        (np.full((3, 2, 6), -1), RangeError, "'in'"),
        (np.zeros((3, 2, 7), int), ConfigError, r"shape \(3, 2, 7\)"),
    ],
)
def test_input_that_the_chip_does_not_receive_is_refused(values, error, match):
    net = QuantizedNet(exact_graph(CUBA_LIF))
    with pytest.raises(error, match=match):
        net(torch.as_tensor(values))


def test_arrays_and_unknown_names_are_refused():
    net = QuantizedNet(exact_graph(CUBA_LIF))
    values = np.zeros((3, 2, 6), int)
    with pytest.raises(ConfigError, match=r"input 'in' is a ndarray; expected a tensor\. Wrap it"):
        net(values)
    for record in (("zz", "n"), "zz"):
        with pytest.raises(ConfigError, match=r"record is \['zz'\]; expected True, or a list of some of "
                           "input, n, out"):  # fmt: skip
            net(torch.as_tensor(values), record=record)
    with pytest.raises(ConfigError, match=r"record is \['lif9'\]; expected True"):
        build_model("mlp")(torch.zeros(6, 1, 1, 8, 8), record=("lif9",))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [("weight", math.nan, "'loop'"), ("drive", math.inf, "'n'"), ("log_scale", 1e3, "'n'")],
)
def test_latents_that_are_not_finite_say_that_training_diverged(name, value, found):
    net = QuantizedNet(exact_graph(CUBA_LIF))
    part = net.connection("loop") if name == "weight" else net.population("n")
    with torch.no_grad():
        getattr(part, name).view(-1)[0] = value
    values = torch.zeros((3, 2, 6), dtype=torch.int32)
    named = name.removeprefix("log_")
    for call in (net.graph, lambda: net(values), lambda: net.run_integers(values.numpy())):
        with pytest.raises(DivergedError, match=f"^{named} of {found} hold values that are not finite; "
                           r"expected finite numbers\. The training diverged"):  # fmt: skip
            call()


def test_a_lowered_graph_alone_is_enough(trained):
    nir_graph, images, _ = trained
    net = QuantizedNet(lower(nir_graph))
    assert assert_equal(net, chip_input(images[:3])) > 100
