"""Folders of ``biril train``: where a run is found again, in how many processes it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.data import load_data, make_loaders
from biril_nm.errors import ConfigError
from biril_nm.models import load
from biril_nm.training import TrainConfig, average, fit
from biril_nm.training.run_config import RunConfig
from tests.support.command_line import biril

RECIPE = """
dataset = "digits"
model = "mlp"
batch_size = 300
[net]
hidden = [16]
[train]
schedule = "B"
epochs = 2
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(RECIPE, encoding="utf-8")
    return Path("own.toml")


def ends(*words: object, epochs: int) -> str:
    done = biril("train", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch ") == epochs, done.stderr
    return done.stdout


def test_the_words_that_started_a_run_find_its_folder_again(recipe):
    start = ["--recipe", recipe]
    assert "wrote out/digits-mlp/model.pt" in ends(*start, epochs=2)
    ends(*start, "--resume", epochs=0)
    words = ["--from", "out/digits-mlp", "--integers", 8, "--epochs", 1]
    assert "wrote out/digits-mlp-integers" in ends(*words, epochs=1)
    ends(*words, "--resume", epochs=0)
    assert biril("eval", "out/digits-mlp-integers", "--dataset", "digits").returncode == 0


def test_checkpoints_and_best_epochs_are_read_as_models(recipe):
    ends("--recipe", recipe, "--validation", 0.2, "--out", "run", epochs=2)
    last, best = load("run/checkpoint.pt"), load("run/best.pt")
    chosen = load("run/model.pt").state_dict()
    assert all(torch.equal(value, chosen[name]) for name, value in best.state_dict().items())
    mean = average([last, best])
    name = next(iter(chosen))
    both = last.state_dict()[name] + best.state_dict()[name]
    assert torch.allclose(mean.state_dict()[name], both / 2)
    assert biril("eval", "run/checkpoint.pt").returncode == 0
    ends("--from", "run/checkpoint.pt", "--epochs", 1, "--schedule", "B", "--out", "next", epochs=1)


def test_the_checkpoint_of_an_own_module_says_what_to_take(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), snn.Leaky(beta=0.9, init_hidden=True))
    config = TrainConfig(schedule="B", epochs=1, device="cpu", tensorboard=False, curves=False)
    fit(net, make_loaders(load_data("digits").head(32, 16)), config, out_dir=tmp_path)
    with pytest.raises(
        ConfigError, match=r"a network that no name builds; expected its weights\. Finish"
    ):
        load(tmp_path / "checkpoint.pt")
    assert load(tmp_path / "weights.pt", architecture=net) is net


def test_what_torchrun_started_stands_before_the_processes_of_a_file(recipe, monkeypatch):
    run = RunConfig.read(recipe, devices=2)
    Path("two.toml").write_text(run.to_toml(), encoding="utf-8")
    assert "\ndevices = 2\n" in biril("train", "two.toml", "--print-config").stdout
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert "\ndevices = 1\n" in biril("train", "two.toml", "--print-config").stdout
    given = biril("train", "two.toml", "--devices", 2, "--out", "out")
    assert given.returncode == 1
    assert "devices and nodes are 2 and 1, and 3 processes were started" in given.stderr
