"""The weights of the best epoch are left, in a folder and in memory, after a resume as well."""

from __future__ import annotations

import copy

import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.coding import Coding
from biril_nm.data import load_data, make_loaders
from biril_nm.errors import ConfigError
from biril_nm.models import ModelConfig, build_model
from biril_nm.storage import read_json_lines
from biril_nm.training import Callback, TrainConfig, average, best, evaluate, fit, loop
from biril_nm.training.run_config import RunConfig
from tests.support.command_line import biril

DATA = load_data("digits").head(60, 40)
QUIET = {"device": "cpu", "tensorboard": False, "curves": False}


class Worse(Callback):
    """Ruins the network after its second epoch, as an epoch of bad luck would."""

    def __init__(self, net):
        self.net = net

    def on_epoch_start(self, epoch, n_epochs, phase, n_batches):
        if epoch == 2:
            with torch.no_grad():
                for parameter in self.net.parameters():
                    parameter.mul_(-1.0)


def train(folder=None, keep="best", name="", **more):
    net = build_model("convnet", ModelConfig(channels=(4,), hidden=(16,)), 0)
    config = TrainConfig(schedule="B", epochs=3, lr=1e-2, keep=keep, **QUIET)
    history = fit(net, make_loaders(DATA, 10), config, [Worse(net)], folder, **more)
    name = name or (best.VALIDATION if keep == "best" else best.TEST)
    return net, [record[name] for record in history.records]


def test_the_best_epoch_is_left_in_memory_and_in_the_folder(tmp_path):
    last, accuracies = train(keep="last")
    loader = make_loaders(DATA, 10)[1]
    assert evaluate(last, loader).accuracy == accuracies[2] < max(accuracies)
    for folder in (None, tmp_path / "run"):
        net, same = train(folder)
        assert same == accuracies
        assert evaluate(net, loader).accuracy == max(accuracies)
        found = read_json_lines(tmp_path / "run" / "metrics.jsonl") if folder else []
        assert [record[best.VALIDATION] for record in found] == (accuracies if folder else [])
    assert (tmp_path / "run" / "best.pt").is_file()
    (tmp_path / "run" / "model.pt").unlink()
    again, _ = train(tmp_path / "run", resume=True)
    assert evaluate(again, loader).accuracy == max(accuracies)


def test_the_average_of_networks_has_the_mean_of_each_weight():
    nets = [
        build_model("convnet", ModelConfig(channels=(4,), hidden=(8,)), seed) for seed in (0, 1)
    ]
    mean = average(nets)
    for name, value in mean.state_dict().items():
        one, two = (net.state_dict()[name] for net in nets)
        assert torch.equal(value, (one + two) / 2 if value.is_floating_point() else one)
    assert not torch.equal(nets[0].layers.conv1.weight, mean.layers.conv1.weight)
    with pytest.raises(ConfigError, match="differ in their layers"):
        average([nets[0], build_model("mlp", ModelConfig(), 0)])
    with pytest.raises(
        ConfigError, match=r"no networks to average; .*Read files with biril_nm.load"
    ):
        average([])


def leaky(**settings):
    return nn.Sequential(
        nn.Linear(3, 2), nn.BatchNorm1d(2), snn.Leaky(init_hidden=True, **{"beta": 0.9, **settings})
    )


@pytest.mark.parametrize(("settings", "name"), [
    ({"beta": 0.5}, "2.beta"),
    ({"threshold": 2.0}, "2.threshold"),
    ({"reset_mechanism": "zero"}, "2.reset_mechanism"),
    ({"reset_delay": False}, "2.reset_delay"),
])  # fmt: skip
def test_networks_that_compute_different_things_have_no_average(settings, name):
    mean = average([leaky(), leaky()])
    assert mean[2].beta == leaky()[2].beta
    average([leaky(learn_beta=True), leaky(learn_beta=True, beta=0.5)])
    with pytest.raises(ConfigError, match=rf"differ in .*{name}"):
        average([leaky(), leaky(**settings)])


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_the_average_of_the_last_epochs_of_a_run(engine):
    neurons = [snn.Leaky(beta=0.9, init_hidden=True) for _ in range(2)]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), neurons[0], nn.Linear(16, 10), neurons[1])
    copies = []

    class Copies(Callback):
        def on_epoch_end(self, record):
            copies.append(copy.deepcopy(net))

    config = TrainConfig(schedule="B", epochs=2, engine=engine, **QUIET)
    fit(net, (make_loaders(DATA, 20)[0], None), config, [Copies()], coding=Coding("direct", 4))
    expected = (copies[0][1].weight + copies[1][1].weight) / 2
    torch.testing.assert_close(average(copies)[1].weight, expected)


def test_built_networks_of_other_settings_have_no_average():
    nets = [
        build_model("mlp", ModelConfig(hidden=(8,), surrogate=s), 0) for s in ("atan", "sigmoid")
    ]
    with pytest.raises(ConfigError, match="differ in config"):
        average(nets)
    one = nets[0].eval()
    assert not average([one, copy.deepcopy(one).train()]).training


def test_the_first_of_equal_epochs_is_the_best():
    records = [{"validation_accuracy": x} for x in (0.5, 0.7, 0.7)]
    assert [best.is_best(records[:n]) for n in (1, 2, 3)] == [True, True, False]


def test_a_history_has_the_accuracy_by_which_its_epoch_was_chosen():
    loaders = make_loaders(DATA, 10)
    net = build_model("mlp", ModelConfig(hidden=(8,)), 0)
    history = fit(net, loaders, TrainConfig(schedule="B", epochs=2, keep="best", **QUIET))
    assert history.test_accuracy is None
    assert history.validation_accuracy == evaluate(net, loaders[1]).accuracy
    history = fit(net, loaders, TrainConfig(schedule="B", epochs=1, **QUIET))
    assert history.test_accuracy == evaluate(net, loaders[1]).accuracy
    assert history.validation_accuracy is None


def test_checkpoints_that_call_validation_samples_a_test_go_on(tmp_path, monkeypatch):
    with monkeypatch.context() as old:
        old.setattr(loop, "VALIDATION", best.TEST)
        old.setattr(best, "VALIDATION", best.TEST)
        _, wanted = train(tmp_path, name=best.TEST)
    assert train(tmp_path, resume=True)[1] == wanted


def test_without_validation_samples_there_is_no_best():
    net = build_model("mlp", ModelConfig(), 0)
    with pytest.raises(ConfigError, match="keep is 'best', and there are no samples to measure"):
        fit(net, (make_loaders(DATA, 10)[0], None), TrainConfig(keep="best", schedule="B", **QUIET))
    with pytest.raises(ConfigError, match="keep"):
        TrainConfig(keep="worst")


def test_the_command_uses_the_test_set_once(tmp_path):
    words = ["train", "--model", "mlp", "--schedule", "B", "--epochs", 2, "--validation", 0.2]
    done = biril(*words, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "validation accuracy" in done.stdout and "test accuracy" not in done.stdout
    assert "test set, once, with the weights of epoch" in done.stdout
    records = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert all(best.VALIDATION in record and best.TEST not in record for record in records)
    assert "validation" in done.stderr and "test" not in done.stderr


def test_the_test_set_does_not_choose_its_epoch(tmp_path):
    words = ["--model", "mlp", "--schedule", "B", "--epochs", 2]
    done = biril("train", *words, "--validation", 0.2, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    config = tmp_path / "run" / "config.toml"
    own = tmp_path / "own.toml"
    own.write_text(config.read_text().replace("validation = 0.2", "validation = 0.0"))
    done = biril("train", own, "--out", tmp_path / "own")
    assert done.returncode == 1
    assert "keep is 'best' and validation 0, so that the test set would choose" in done.stderr
    assert not (tmp_path / "own").exists()
    done = biril("train", config, "--validation", 0, "--out", tmp_path / "last")
    assert done.returncode == 0, done.stderr
    assert RunConfig.read(tmp_path / "last" / "config.toml").train.keep == "last"
    assert not (tmp_path / "last" / "best.pt").exists()
