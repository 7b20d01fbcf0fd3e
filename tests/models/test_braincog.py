"""BrainCog's neurons, surrogates and networks, against their equations and sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from biril_nm.errors import ConfigError
from biril_nm.models import MODELS, ModelConfig, build_model
from biril_nm.models.running import run_in_loop
from biril_nm.neurons import make_neuron, make_surrogate
from biril_nm.neurons.surrogates import slope
from biril_nm.neurons.unroll import engine, unroll
from tests.support.unrolled import check, currents, measured, stepped

SMALL = {"input_shape": (2, 8, 8), "n_classes": 3, "threshold": 0.5, "beta": 0.5}


def braincog_node(kind: str, inputs: list[float], tau: float, w: float) -> list[tuple[int, float]]:
    """Table of its nodes, written out: spike if m - 0.5 > 0, then m = 0."""
    m, found = 0.0, []
    for x in inputs:
        m += {"if": x, "lif_tau": (x - m) / tau, "plif": (x - m) / (1 + math.exp(-w))}[kind]
        spike = int(m - 0.5 > 0)
        m *= 1 - spike
        found.append((spike, m))
    return found


@pytest.mark.parametrize("tau", [2.0, 4.0, 1.25])
@pytest.mark.parametrize("kind", ["if", "lif_tau", "plif"])
def test_traces_of_one_neuron_are_those_of_braincogs_nodes(kind, tau):
    inputs = [0.3, 0.9, 1.4, -0.2, 2.5, 0.5, 0.4, 0.6, 0.0, 1.1]
    neuron = make_neuron(kind, beta=1 - 1 / tau, threshold=0.5)
    spikes, membranes = [], []
    for x in inputs:
        spikes.append(int(neuron(torch.tensor([x]))))
        membranes.append(float(neuron.mem.detach()))
    wanted = braincog_node(kind, inputs, tau, w=-math.log(tau - 1))
    assert spikes == [spike for spike, _ in wanted] and 0 < sum(spikes) < len(inputs)
    np.testing.assert_allclose(membranes, [m for _, m in wanted], atol=1e-6)


def test_the_threshold_itself_is_no_spike():
    neuron = make_neuron("lif_tau", beta=0.5, threshold=0.5)
    assert [float(neuron(torch.tensor([x]))) for x in (1.0, 0.5)] == [0, 0]
    assert float(neuron(torch.tensor([0.5 + 1e-6]))) == 1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [  # at 0, 1/4, 1/2 and 1
        ("atan", [1.0, 1 / (1 + (math.pi / 4) ** 2), 1 / (1 + (math.pi / 2) ** 2), 1 / (1 + math.pi**2)]),
        ("qgate", [2.0, 1.0, 0.0, 0.0]),
        ("qgate:1.5", [1.5, 1.5 - 2.25 / 4, 1.5 - 2.25 / 2, 0.0]),
        ("atan:4", [2.0, 2 / (1 + (math.pi / 2) ** 2), 2 / (1 + math.pi**2), 2 / (1 + 4 * math.pi**2)]),
    ],
)  # fmt: skip
def test_values_of_the_surrogates(name, wanted):
    x = torch.tensor([0.0, 0.25, 0.5, 1.0])
    for sign in (1, -1):
        np.testing.assert_allclose(slope(make_surrogate(name), sign * x).numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["numba", "eager"])
@pytest.mark.parametrize("kind", ["lif_tau", "plif"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("surrogate", ["qgate:1.3", "atan"])
def test_engines_and_the_loop_agree_with_the_gradient_of_tau(surrogate, reset, kind, name):
    for shape in ((3, 2, 6, 8), (7, 13)):
        neuron = make_neuron(kind, 0.6, 0.3, surrogate, reset)
        assert len(list(neuron.parameters())) == (kind == "plif")
        with engine(name):
            check(
                measured(unroll, neuron, currents(shape)),
                measured(stepped, neuron, currents(shape)),
            )


@pytest.mark.slow
def test_the_compiled_engine_agrees_with_the_gradient_of_tau():
    neuron = make_neuron("plif", 0.6, 0.3, "qgate:1.3")
    with engine("compiled"):
        check(
            measured(unroll, neuron, currents((7, 13))),
            measured(stepped, neuron, currents((7, 13))),
        )


def test_the_gradient_of_tau_is_that_of_small_steps():
    """The last membrane of neurons that never spike is smooth in w."""
    neuron, current = make_neuron("plif", 0.75, 1e6), currents((4, 5)).double()
    neuron.double()

    def last(step: float) -> float:
        with torch.no_grad():
            neuron.w += step
            found = float(unroll(neuron, current)[1].square().sum())
            neuron.w -= step
        return found

    unroll(neuron, current)[1].square().sum().backward()
    numeric = (last(1e-5) - last(-1e-5)) / 2e-5
    assert abs(numeric) > 0.1 and float(neuron.w.grad) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("kind", ["lif_tau", "plif"])
def test_tau_of_one_or_without_end_is_refused(kind):
    for beta in (0.0, 1.0):
        with pytest.raises(
            ConfigError, match=f"beta of neuron '{kind}' is {beta}; expected .* Use neuron 'if'"
        ):
            make_neuron(kind, beta)


@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        ("qgate:0", "surrogate is 'qgate:0'; expected qgate or qgate:ALPHA with a number above 0"),
        ("qgate:x", "surrogate is 'qgate:x'; expected qgate or qgate:ALPHA"),
        ("straight_through:2", "straight_through takes no number; expected 'straight_through'"),
        ("gate:2", "surrogate 'gate' is unknown; expected one of"),
    ],
)  # fmt: skip
def test_surrogates_that_make_no_sense(surrogate, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(surrogate=surrogate)


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("braincog_cifar", (3, 32, 32), 19_489_546),
        ("braincog_dvs", (2, 48, 48), 7_532_810),
        ("braincog_resnet18", (3, 32, 32), 11_173_066),
        ("braincog_mnist", (1, 28, 28), 13_016_714),
    ],
)
def test_parameters_of_the_published_networks(name, shape, parameters):
    with torch.device("meta"):
        net = MODELS[name](ModelConfig(input_shape=shape))
    assert sum(p.numel() for p in net.parameters()) == parameters
    with torch.device("meta"):  # PLIF has one number more for each layer of neurons but the readout
        learned = MODELS[name](ModelConfig(input_shape=shape, neuron="plif"))
    layers = sum(key.endswith(".w") for key, _ in learned.named_parameters())
    assert sum(p.numel() for p in learned.parameters()) == parameters + layers
    assert (
        layers == {"cifar": 8, "dvs": 8, "mnist": 4, "resnet18": 19}[name.removeprefix("braincog_")]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "steps"),
    [
        ("braincog_cifar", (3, 32, 32), 4),
        ("braincog_dvs", (2, 48, 48), 10),
        ("braincog_mnist", (1, 28, 28), 4),
        ("braincog_resnet18", (3, 32, 32), 4),
    ],
)
def test_the_published_networks_run(name, shape, steps):
    net = build_model(name, ModelConfig(input_shape=shape, threshold=0.5, neuron="plif", beta=0.5))
    with torch.no_grad():
        out = net(torch.rand(steps, 1, *shape))
    assert out.scores.shape == (1, 10) and bool(out.scores.isfinite().all())


def small(name: str, **more):
    """A network of the kind with few channels, whose BatchNorm has seen data."""
    sizes = {"channels": (4, 6), "depths": (2, 1)} | ({"depths": ()} if name == "vgg" else {})
    torch.manual_seed(0)
    net = build_model(name, ModelConfig(**SMALL, **sizes, neuron="plif", surrogate="qgate", **more))
    net.train()
    for _ in range(10):
        net(torch.rand(3, 8, 2, 8, 8))
    return net.eval()


def test_the_score_is_the_sum_of_the_last_layer():
    """Spikes and membrane of a readout that resets by subtraction add up to what entered it."""
    net, x = small("braincog_convnet"), torch.rand(6, 4, 2, 8, 8) * 3
    entered = []
    net.layers.fc1.register_forward_hook(lambda m, i, o: entered.append(o))
    net.layers.fc1.weight.data.mul_(20)
    out = net(x)
    assert 0 < out.spikes.mean() < 1
    torch.testing.assert_close(out.scores, torch.stack(entered).sum(0), rtol=1e-5, atol=1e-5)
    (given,) = torch.autograd.grad(out.scores.sum(), net.layers.fc1.bias)
    assert given.tolist() == pytest.approx([6 * 4] * 3)


@pytest.mark.parametrize("name", ["auto", "eager"])
def test_all_steps_at_once_equal_the_loop(name):
    net, x = small("braincog_convnet"), torch.rand(4, 3, 2, 8, 8)
    with engine(name), torch.no_grad():
        ours, loop = net(x), run_in_loop(net.layers, x)
    assert loop.membranes["if_out"].abs().max() > 0
    torch.testing.assert_close(ours.membrane, loop.membranes["if_out"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("braincog_convnet", {"depths": (1,)}, "depths of 'braincog_convnet' has 1 entries, and channels 2"),
        ("braincog_convnet", {"input_shape": (9,)}, r"input_shape of .* is \(9,\); expected \(C, H, W\)"),
        ("braincog_convnet", {"input_shape": (1, 1, 9)}, "expected at least 2x2, which .* Use larger"),
        ("braincog_convnet", {"hidden": (7,)}, "hidden of 'braincog_convnet' are .* or use model 'vgg'"),
        ("braincog_dvs", {}, "channels, depths of 'braincog_dvs' are .* or use model 'braincog_convnet'"),
        ("braincog_mnist", {"depths": ()}, "channels of 'braincog_mnist' are .* or use model 'convnet'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(name, change, message):
    config = ModelConfig(**{**SMALL, "channels": (4, 6), "depths": (2, 1), **change})
    with pytest.raises(ConfigError, match=message):
        build_model(name, config)


@pytest.mark.parametrize("kind", ["lif_tau", "plif"])
def test_loops_of_neurons_that_scale_their_input_are_refused(kind):
    message = f"neuron is '{kind}', and model 'recurrent' .* expected 'if' or 'lif'. Choose one"
    with pytest.raises(ConfigError, match=message):
        build_model("recurrent", ModelConfig(neuron=kind, beta=0.5))
