"""What online learning refuses, and settings that must have an effect."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models.own import OwnNet
from biril_nm.training import TrainConfig, fit
from biril_nm.training.online.kappa import readout_decay
from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.learner import OnlineLearner, online_gradients
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import NEURONS
from biril_nm.training.online.neurons.leaky import leaky_neuron
from biril_nm.training.online.neurons.neuron import OnlineNeuron
from biril_nm.training.online.rules import OnlineRule
from biril_nm.training.online.snntorch_nets import as_online
from biril_nm.training.online.tasks import TASKS, train_task
from biril_nm.training.online.tasks.task import step_gradients

CONSTANTS = {"gif": {"k_u": 0.9, "k_i": 0.99, "a2": 1.0}, "gif_cut": None}
CONSTANTS["gif_cut"] = CONSTANTS["gif"]


def readout(n_in=6, al=0.9, kind="leaky_readout"):
    return layer_of(NEURONS[kind], n_in, 3, constants=None if al is None else {"al": al})


def small(kind="lif", first_step=0, al=0.9):
    torch.manual_seed(0)
    hidden = layer_of(NEURONS[kind], 4, 6, constants=CONSTANTS.get(kind))
    with torch.no_grad():
        hidden.links()[0][1].weight.mul_(8)
    return OnlineNet([hidden, readout(al=al)], Coding("spikes", 5), first_step)


def batch(n_steps=5, n=6):
    x = torch.rand(n_steps, n, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    return x.float(), torch.arange(n) % 3


def averaged(states, p):
    """Sends the spikes less their mean over the layer."""
    s = torch.sigmoid(states[0])
    return s - s.mean(-1, keepdim=True)


def doubled(states, p):
    """Sends element by element, and not the spikes."""
    return 2 * torch.sigmoid(states[0])


def own_kind(sends):
    lif = NEURONS["lif"]
    return OnlineNeuron("own", lif.states, lif.step, lif.spikes, sends, lif.learned)


@pytest.mark.parametrize("kind", [NEURONS["gif"], NEURONS["gif_cut"], own_kind(averaged)])
def test_kappa_refuses_neurons_that_send_together(kind):
    hidden = layer_of(kind, 4, 6, constants=CONSTANTS.get(kind.name))
    net = OnlineNet([hidden, readout()])
    OnlineLearner(net, OnlineRule(), 2)
    with pytest.raises(
        ConfigError,
        match=rf"{kind.name} neurons send what depends on others of their layer; expected",
    ):
        OnlineLearner(net, OnlineRule(kappa=True), 2)


def test_kappa_is_exact_where_each_neuron_sends_its_own():
    torch.manual_seed(0)
    net = OnlineNet([layer_of(own_kind(doubled), 4, 6), readout()])
    x, labels = batch(12)
    torch.stack([functional.cross_entropy(out, labels) for out in net(x).spikes]).sum().backward()
    weight = net.stack[0].links()[0][1].weight
    expected, weight.grad = weight.grad.clone(), None
    online_gradients(
        net, x, OnlineRule(kappa=True), lambda out, t: functional.cross_entropy(out, labels)
    )
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-5)


def test_kappa_takes_leaky_and_linear_readouts_only():
    assert readout_decay(readout()) == pytest.approx(0.9)
    assert readout_decay(readout(kind="linear_readout", al=None)) == 0.0
    for kind in ("lif", "adlif"):
        constants = dict.fromkeys(NEURONS[kind].learned, 0.9)
        spiking = layer_of(NEURONS[kind], 6, 3, constants=constants)
        with pytest.raises(ConfigError, match=rf"readout has {kind} neurons; expected for kappa"):
            readout_decay(spiking)
    counting = leaky_neuron(snn.Leaky(0.9), readout=True)
    leaky = layer_of(counting, 6, 3, constants={"beta": 0.9, "threshold": 1.0})
    with pytest.raises(ConfigError, match="readout has Leaky neurons; expected for kappa"):
        readout_decay(leaky)
    with pytest.raises(ConfigError, match=r"are 0.5 to 0.9; expected one constant for kappa"):
        readout_decay(readout(al=torch.tensor([0.5, 0.9, 0.9])))


@pytest.mark.parametrize(("option", "value", "found"), [
    ("inhibition", True, "inhibition"), ("state_quant", torch.round, "state_quant"),
    ("graded_spikes_factor", torch.tensor(2.0), "graded_spikes_factor"),
    ("threshold", torch.tensor(-1.0), "a threshold below 0"),
    ("reset_mechanism", "zero", "a reset_mechanism that was changed"),
])  # fmt: skip
@pytest.mark.parametrize("recurrent", [False, True])
def test_options_of_snntorch_that_would_be_ignored_are_refused(option, value, found, recurrent):
    size = {"linear_features": 8} if recurrent else {}
    kind = snn.RLeaky if recurrent else snn.Leaky
    first = kind(0.9, init_hidden=True, **size)
    setattr(first, option, value)
    chain = [nn.Linear(6, 8), first, nn.Linear(8, 4), snn.Leaky(0.9, init_hidden=True)]
    with pytest.raises(
        ConfigError, match=rf"layer '1' of .* has {found}.*; expected a {kind.__name__}"
    ):
        as_online(OwnNet(nn.Sequential(*chain), Coding("spikes", 1)))


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


class Turned(nn.Sequential):
    def forward(self, x):
        return super().forward(-x)


def test_modules_with_a_forward_of_their_own_are_refused():
    def chain(first):
        return first, snn.Leaky(0.9, init_hidden=True)

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    for module, found in (
        (nn.Sequential(*chain(Halved(6, 4))), "Halved"),
        (nn.Sequential(*chain(normed)), "ParametrizedLinear"),
        (Turned(*chain(nn.Linear(6, 4))), "Turned"),
    ):
        with pytest.raises(ConfigError, match=rf"is a {found}; expected a Sequential of Flatten"):
            as_online(OwnNet(module, Coding("spikes", 1)))


@pytest.mark.parametrize("change", [
    {"engine": "numba"}, {"precision": "bfloat16"}, {"checkpoint_steps": 2},
])  # fmt: skip
def test_settings_that_an_online_network_ignores_are_refused(change):
    name, value = next(iter(change.items()))
    expected = rf"{name}.* {value!r}.*; expected 'auto', 'float32' and 0. Leave them out"
    with pytest.raises(ConfigError, match=r"computes its steps itself; expected") as caught:
        fit(small(), ([batch()], None), TrainConfig(schedule="B", epochs=1, **change))
    assert caught.match(expected)
    torch.manual_seed(0)
    pairs = [(nn.Linear(4, n), snn.Leaky(0.9, init_hidden=True)) for n in (4, 3)]
    own = nn.Sequential(*pairs[0], *pairs[1])
    settings = TrainConfig(schedule="d-rtrl", epochs=1, **change)
    with pytest.raises(ConfigError, match=expected):
        fit(own, ([batch()], None), settings, coding=Coding("spikes", 5))


@pytest.mark.parametrize("first_step", [5, 9, -6])
def test_a_window_outside_the_input_is_refused_everywhere(first_step):
    net, (x, labels) = small(first_step=first_step), batch()
    message = rf"first_step is {first_step} and the input has 5 steps; expected -5 to 4. Give more"
    with pytest.raises(ConfigError, match=message):
        net(x)
    for rule in (None, OnlineRule()):
        with pytest.raises(ConfigError, match=message):
            step_gradients(net, x, labels, rule)
    for schedule in ("B", "d-rtrl", "es-d-rtrl"):
        with pytest.raises(ConfigError, match=message):
            fit(net, ([(x, labels)], None), TrainConfig(schedule=schedule, epochs=1))


@pytest.mark.parametrize("loss", ["ce", "mse", "ce_smooth"])
def test_the_loss_counts_the_steps_of_the_decision(loss):
    x, labels = batch(8)
    found = []
    for given, first_step in ((x, -2), (x, 6), (x, 0)):
        net = small("lif", first_step)
        history = fit(
            net, ([(given, labels)], None), TrainConfig(schedule="B", epochs=1, loss=loss)
        )
        found.append(history.records[0]["loss"])
    assert found[0] == found[1] != found[2]
    net = small("lif", -2)
    mean = net(x).spikes[-2:].detach().sum(0) / 2
    if loss == "ce_smooth":
        expected = functional.cross_entropy(mean, labels, label_smoothing=0.1)
        assert found[0] == pytest.approx(float(expected), rel=1e-5)
    if loss == "mse":
        target = functional.one_hot(labels, 3)
        expected = 0.5 * (target - mean).square().sum(1).mean()
        assert found[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("settings", "message"), [
    ({"kind": "rtrl"}, r"kind 'rtrl' is unknown"),
    ({"kind": "es-d-rtrl", "max_norm": True}, r"max_norm is True with kind 'es-d-rtrl'; expected False"),
    ({"decay": 0.8}, r"decay is 0.8 with kind 'd-rtrl', which has no filter; expected 0.9"),
    ({"rank": 7}, r"rank is 7 with kind 'd-rtrl', which has no filter; expected None"),
    ({"debias": "exact"}, r"debias is 'exact' with kind 'd-rtrl', which has no filter"),
    ({"kind": "hybrid", "decay": 0.8, "rank": 7}, r"decay is 0.8 and rank 7; expected one of them"),
])  # fmt: skip
def test_settings_of_a_rule_without_effect_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        OnlineRule(**settings)
    mixed = {0: "es-d-rtrl", -1: "d-rtrl"}
    assert OnlineRule("d-rtrl", decay=0.8, kinds=mixed).alpha == 0.8
    assert OnlineRule("es-d-rtrl", max_norm=True, kinds=mixed).max_norm


@pytest.mark.parametrize(("kinds", "message"), [
    ({7: "es-d-rtrl"}, r"kinds names layers \[7\] of a network of 2; expected -2 to 1"),
    ({-3: "es-d-rtrl"}, r"kinds names layers \[-3\] of a network of 2"),
    ({1: "es-d-rtrl", -1: "d-rtrl"}, r"kinds names layers \[-1\] and \[1\], which are the same"),
])  # fmt: skip
def test_kinds_of_layers_that_are_not_there_are_refused(kinds, message):
    with pytest.raises(ConfigError, match=message):
        OnlineLearner(small(), OnlineRule(kinds=kinds), 2)


def test_a_network_without_a_hidden_layer_is_refused():
    with pytest.raises(ConfigError, match=r"the network has 1 layer; expected a hidden layer and"):
        OnlineNet([readout()])
    with pytest.raises(ConfigError, match=r"the network has no layers; expected a hidden layer"):
        OnlineNet([])


def fsdd(folder, **changes):
    """Twelve recordings of two digits, packed; ten of them are test recordings."""
    random = np.random.default_rng(0)
    audio = random.integers(-9000, 9000, 12 * 900, dtype=np.int16)
    arrays = {"audio": audio, "offsets": np.arange(0, 12 * 900 + 1, 900)}
    arrays |= {"label": np.arange(12) // 6, "index": np.arange(12) % 6}
    np.savez(folder / "fsdd_8khz.npz", **(arrays | changes))


def test_the_spoken_task_takes_the_files_of_the_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRIL_DATA", str(tmp_path))
    task = TASKS["spoken"]
    with pytest.raises(ConfigError, match=r"no spoken digits in '.*fsdd/recordings/\*\.wav"):
        task.test(0, 20)
    fsdd(tmp_path, label=np.full(12, 10))
    with pytest.raises(FileFormatError, match=r"labels 10 to 10; expected 1 to 80000 samples"):
        task.test(0, 20)
    fsdd(tmp_path)
    x, labels = task.test(0, 20)
    assert x.shape == (50, 10, 120)
    assert labels.tolist() == [0] * 5 + [1] * 5
    with pytest.raises(
        ConfigError, match="'spoken' has 10 test samples; expected n_test, 500. Low"
    ):
        train_task(task, "bptt", n_batches=1, batch=2, n_test=500)
    with pytest.raises(ConfigError, match="n_batches"):
        train_task(task, "bptt", n_batches=0)
