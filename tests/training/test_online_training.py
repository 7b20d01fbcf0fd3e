"""Online learning in schedules, on the tasks, and on the way to the chip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biril_nm.data import make_loaders
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.hardware_sim import simulate
from biril_nm.models import ModelConfig, build_model, load, save
from biril_nm.parity import check_parity
from biril_nm.recording.readout import predict
from biril_nm.training import Callback, TrainConfig, fit
from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import ADLIF, LEAKY_READOUT, LIF
from biril_nm.training.online.rules import OnlineRule
from biril_nm.training.online.tasks import TASKS, train_task
from biril_nm.training.online.tasks.spoken import spike_coded
from biril_nm.training.online.tasks.task import step_gradients
from biril_nm.training.online.to_nir import online_to_nir
from tests.support.digits import DIGITS

PLAIN = {"neuron": "lif", "reset": "subtract", "batch_norm": False}


@pytest.fixture(scope="module")
def trained() -> tuple[OnlineNet, np.ndarray]:
    """RLIF and a leaky readout, taught by ES-D-RTRL which third of the inputs is busiest."""
    torch.manual_seed(0)
    net = OnlineNet([layer_of(LIF, 12, 20, recurrent=True), layer_of(LEAKY_READOUT, 20, 3)])
    with torch.no_grad():
        net.stack[0].links()[0][1].weight.mul_(8)
    labels = torch.arange(30) % 3
    busy = (torch.arange(12) // 4 == labels[:, None]).float()
    x = (torch.rand(20, 30, 12) < 0.15 + 0.4 * busy).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        outputs, loss = step_gradients(net, x, labels, OnlineRule("es-d-rtrl"))
        losses.append(loss)
        optimizer.step()
        net.constrain()
    assert losses[-1] < 0.95 * losses[0]
    assert float((outputs.sum(0).argmax(1) == labels).float().mean()) > 0.9
    return net, x.numpy().astype(np.int64)


def exported(net, x, first_step=-1):
    """The graph of the network with another window of decision."""
    other = OnlineNet(net.stack, net.coding, first_step)
    return other, lower(online_to_nir(other), calibration=x)


def test_integers_decide_as_the_online_network(trained):
    net, x = trained
    net, graph = exported(net, x)
    assert graph.metadata["decision"] == "membrane"
    assert graph.metadata["coding"]["input"]["kind"] == "spikes"
    found = predict(graph, simulate(graph, x))
    expected = net(torch.from_numpy(x).float()).predictions.numpy()
    assert (found == expected).mean() > 0.9
    assert (expected == np.arange(30) % 3).mean() > 0.6
    with pytest.warns(UserWarning, match="from step 0 on, and the chip by the membrane after the"):
        exported(net, x, first_step=0)


def test_integers_follow_the_online_network(trained):
    net, x = trained
    net, graph = exported(net, x)
    assert graph.neurons["lif1"].model == "cuba_lif_subtract"
    run = check_rates(graph, x)
    spikes = net(torch.from_numpy(x).float(), record=True).recorded["layers.0"]
    assert abs(run - spikes.mean().item()) < 0.02
    assert run > 0.05


def check_rates(graph, x) -> float:
    return float(np.mean(simulate(graph, x)["lif1"].s))


@pytest.mark.lava
def test_an_online_network_is_equal_in_lava(trained):
    net, x = trained
    net, graph = exported(net, x)
    report = check_parity(graph, x[:, :2]).raise_on_mismatch()
    assert not report.silent


def test_what_the_chip_lacks_is_refused():
    net = OnlineNet([layer_of(ADLIF, 3, 4), layer_of(LEAKY_READOUT, 4, 2)])
    with pytest.raises(UnsupportedNodeError, match=r"'adlif1' has adlif neurons; expected lif or"):
        online_to_nir(net)
    for task in TASKS.values():
        if task.name != "spoken":
            with pytest.raises(UnsupportedNodeError, match=r"expected lif or leaky_readout"):
                online_to_nir(task.make_net(0, False))


@pytest.mark.parametrize("schedule", ["d-rtrl", "B,es-d-rtrl"])
@pytest.mark.parametrize("model", ["mlp", "recurrent"])
def test_phases_train_networks(schedule, model, tmp_path):
    net = build_model(model, ModelConfig(hidden=(16,), **PLAIN), seed=0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    loaders = make_loaders(DIGITS, 48)
    history = fit(net, (loaders.train, None), TrainConfig(schedule=schedule, epochs=2, lr=5e-3))
    assert history.records[-1]["loss"] < history.records[0]["loss"]
    assert all(not torch.equal(before[name], p) for name, p in net.named_parameters())
    save(net, tmp_path / "model.pt")
    loaded = load(tmp_path / "model.pt").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in net.state_dict().items())


def test_phases_refuse_what_they_cannot_train():
    loaders = make_loaders(DIGITS, 48)
    for name, found in (("mlp", "BatchNorm1d"), ("convnet", "Conv2d")):
        net = build_model(name, ModelConfig(hidden=(8,)), seed=0)
        with pytest.raises(ConfigError, match=rf"is a {found}; expected a Sequential of Flatten"):
            fit(net, (loaders.train, None), TrainConfig(schedule="d-rtrl", epochs=1))
    plain = build_model("mlp", ModelConfig(hidden=(8,), **PLAIN), seed=0)
    settings = TrainConfig(schedule="es-d-rtrl", epochs=1, precision="bfloat16")
    with pytest.raises(
        ConfigError, match=r"precision 'bfloat16'.*learns online; expected 'auto', 'float32'"
    ):
        fit(plain, (loaders.train, None), settings)


def test_an_online_network_trains_in_schedules():
    torch.manual_seed(0)
    net = OnlineNet([layer_of(LIF, 64, 16, recurrent=True), layer_of(LEAKY_READOUT, 16, 10)])
    net.coding = build_model("mlp", ModelConfig(), seed=0).coding
    loaders = make_loaders(DIGITS, 48)
    fit(net, (loaders.train, loaders.test), TrainConfig(schedule="B,d-rtrl", epochs=2, lr=1e-2))
    loop = net.stack[0].links()[1][1].weight
    assert not loop.diagonal().any()  # the bounds hold after B too
    with pytest.raises(ConfigError, match=r"expected a schedule of B, d-rtrl"):
        fit(net, (loaders.train, None), TrainConfig(schedule="BSB", epochs=1))


@pytest.mark.parametrize("schedule", ["d-rtrl", "es-d-rtrl"])
def test_a_resumed_run_is_equal_bit_for_bit(schedule, tmp_path):
    class Stop(Exception):
        pass

    class Stops(Callback):
        def on_epoch_end(self, record):
            if record["epoch"] == 1:
                raise Stop

    loaders = (make_loaders(DIGITS, 48).train, None)
    settings = TrainConfig(schedule=schedule, epochs=2, tensorboard=False, curves=False)
    nets = [build_model("recurrent", ModelConfig(hidden=(8,), **PLAIN), seed=s) for s in (0, 0, 1)]
    fit(nets[0], loaders, settings)
    with pytest.raises(Stop):
        fit(nets[1], loaders, settings, [Stops()], tmp_path / "run")
    first = {name: value.clone() for name, value in nets[1].state_dict().items()}
    fit(nets[2], loaders, settings, out_dir=tmp_path / "run", resume=True)
    whole, resumed = (net.state_dict() for net in (nets[0], nets[2]))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert any(not torch.equal(value, first[name]) for name, value in whole.items())


@pytest.mark.parametrize("method", ["bptt", "d-rtrl", "es-d-rtrl"])
def test_signs_hold_after_every_update(method):
    task = TASKS["evidence"]
    seen = []

    def look(batch, loss, accuracy):
        seen.append(loss)

    before = task.make_net(0, task.methods[method].cut).stack[0]
    net, result = train_task(task, method, n_batches=2, on_batch=look, batch=4, n_test=4)
    after = net.stack[0]
    for (_, old), (name, new) in zip(before.links(), after.links()):
        assert not torch.equal(old.weight, new.weight), name
        assert (new.weight >= 0).all(), name
        if new.mask is not None:
            assert not new.weight[new.mask == 0].any()
    assert len(seen) == result.batches == 2


def test_samples_of_the_tasks():
    for name, steps in (("dms", 201), ("evidence", 220)):
        x, labels = TASKS[name].sample(torch.Generator().manual_seed(0), 64)
        again, _ = TASKS[name].sample(torch.Generator().manual_seed(0), 64)
        assert x.shape == (steps, 64, 100)
        assert torch.equal(x, again)
        assert 0.2 < float(labels.float().mean()) < 0.8
    x, labels = TASKS["evidence"].sample(torch.Generator().manual_seed(0), 200)
    left = x[:105, :, :25].sum((0, 2)) > x[:105, :, 25:50].sum((0, 2))
    assert float((left == labels).float().mean()) > 0.98


def test_clips_become_spikes():
    time = np.arange(4000) / 8000
    low, high = (spike_coded(3000 * np.sin(2 * np.pi * f * time)) for f in (300.0, 3000.0))
    assert low.shape == (50, 120)
    assert set(np.unique(low)) == {0.0, 1.0}
    assert low[:, :40].sum(0).argmax() < high[:, :40].sum(0).argmax()
    assert (low[:, 80:] <= low[:, :40]).all()  # what exceeds the highest level exceeds the lowest
