"""One way from file and options to a configuration; trainings that diverge stop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import make_loaders
from biril_nm.errors import ConfigError, DivergedError
from biril_nm.storage import read_json_lines
from biril_nm.training import Callback, TrainConfig, fit, run_config
from biril_nm.training.phases import PHASES, Phase
from biril_nm.training.run_config import RunConfig
from tests.support.digits import DIGITS


def read(tmp_path, text, **options):
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    return RunConfig.read(tmp_path / "c.toml", **options)


# Settings of 0.1.0, which its files leave out: they never change.
RECIPES = {
    "digits": {"batch_size": 32, "lr": 4e-3},
    "mnist": {"batch_size": 64, "lr": 2e-3, "crop_pad": 2},
}


@pytest.mark.parametrize("dataset", RECIPES)
def test_a_file_and_options_that_say_the_same_mean_the_same(dataset, tmp_path):
    """The recipe applies to both; a file once trained with the defaults instead."""
    text = f'dataset = "{dataset}"\nseed = 3\n[train]\nschedule = "BSH"\n'
    run = read(tmp_path, text)
    assert run == RunConfig.make(dataset=dataset, seed=3, schedule="BSH")
    assert run == read(tmp_path, "", dataset=dataset, seed=3, schedule="BSH")
    recipe = RECIPES[dataset]
    assert (run.batch_size, run.train.lr) == (recipe["batch_size"], recipe["lr"])
    assert run.crop_pad == recipe.get("crop_pad", 0)
    assert (run.train.epochs, run.train.seed) == (3, 3)
    assert run.train.lr != TrainConfig.lr, (
        "the recipe differs from the defaults, or nothing is shown"
    )


def test_options_come_before_the_file_and_the_file_before_the_recipe(tmp_path):
    text = "batch_size = 7\ncrop_pad = 1\n[train]\nlr = 0.5\nepochs = 4\nseed = 9\n[net]\nhidden = [6]\n"
    run = read(tmp_path, text)
    assert (run.batch_size, run.crop_pad, run.train.lr, run.train.epochs) == (7, 1, 0.5, 4)
    assert (run.net.hidden, run.train.seed, run.seed) == ((6,), 9, 0)
    run = read(tmp_path, text, batch_size=5, lr=0.25, epochs=2, dataset="mnist")
    assert (run.batch_size, run.crop_pad, run.train.lr, run.train.epochs) == (5, 1, 0.25, 2)
    assert run.dataset == "mnist" and run.net.hidden == (6,)


def test_a_written_configuration_is_read_as_it_is(tmp_path):
    for run in (RunConfig(), RunConfig.make(dataset="mnist", epochs=5, seed=2, lr=0.1)):
        run.write(tmp_path / "c.toml")
        assert RunConfig.read(tmp_path / "c.toml") == run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = 3", r"'.*c\.toml' has unknown fields \['batch'\]"),
        ("batch_size = 1.5", "batch_size is 1.5; expected int"),
        ('crop_pad = "a"', "crop_pad is 'a'; expected int"),
        ("train = 3", "train is 3; expected a table"),
        ("augment = 'flip'", "augment is 'flip'; expected a list of texts"),
        ("validation = 1.0", r"validation is 1\.0; expected a share from 0, below 1"),
        ("[train]\nlr = -1.0", "lr is -1.0; expected a number above 0, up to"),
    ],
)
def test_files_that_make_no_sense_are_refused(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


# --- divergence ---------------------------------------------------------------------------------

LOADERS = make_loaders(DIGITS, batch_size=32)
QUIET = {"tensorboard": False, "curves": False, "device": "cpu", "schedule": "B", "epochs": 3}


def small_net():
    return bnm.build_model("mlp", bnm.ModelConfig(hidden=(6,)), 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_diverges_stops_the_run_before_it_is_written(value, tmp_path, monkeypatch):
    real = PHASES["B"]
    seen = []

    def run(net, batch, optimizer, state):
        seen.append(batch)
        metrics = real.run(net, batch, optimizer, state)
        return {**metrics, "loss": value} if len(seen) > len(LOADERS.train) + 1 else metrics

    monkeypatch.setitem(PHASES, "B", Phase(run, "STBP", "all"))
    with pytest.raises(DivergedError, match=rf"epoch 2 of 3 diverged: the loss of batch 2 is {value} "
                       r"in phase B; expected finite numbers\. Lower lr \(0\.001\)"):  # fmt: skip
        fit(small_net(), LOADERS, TrainConfig(**QUIET), out_dir=tmp_path / "run")
    (record,) = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert record["epoch"] == 1 and math.isfinite(record["loss"])
    assert not (tmp_path / "run" / "model.pt").exists()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('kind = "direct"\nn_steps = 3', Coding("direct", 3, 8)),
        ('kind = "spikes"', Coding("spikes", 10)),
        ("message_bits = 4", Coding("direct", 10, 4)),
        ("n_steps = 2", Coding("direct", 2, 8)),
    ],
)
def test_a_part_of_a_coding_leaves_the_rest_as_it_was(table, expected, tmp_path):
    before = RunConfig().net.coding
    text = f'dataset = "digits"\n[net.coding]\n{table}\n'
    found = read(tmp_path, text).net.coding
    n_steps = expected.n_steps if "n_steps" in table else before.n_steps
    assert found == Coding(expected.kind, n_steps, expected.message_bits)
    with pytest.raises(ConfigError, match=r"net.coding has unknown fields \['steps'\]; expected"):
        read(tmp_path, '[net.coding]\nkind = "direct"\nsteps = 3\n')


class Spoil(Callback):
    """Makes one weight NaN after the last batch, when no further loss shows it."""

    def __init__(self, net):
        self.net = net

    def on_batch(self, index, n_batches, metrics):
        if index == n_batches - 1:
            with torch.no_grad():
                self.net.layers.fc1.weight[0, 0] = np.nan


def test_weights_that_diverge_are_not_written(tmp_path):
    net = small_net()
    with pytest.raises(
        DivergedError, match=r"epoch 1 of 3 diverged: layers\.fc1\.weight hold values"
    ):
        fit(net, LOADERS, TrainConfig(**QUIET), [Spoil(net)], out_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_what_is_written_is_json_that_is_read_again(tmp_path):
    fit(small_net(), LOADERS, TrainConfig(**{**QUIET, "epochs": 1}), out_dir=tmp_path / "run")
    text = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == read_json_lines(
        tmp_path / "run" / "metrics.jsonl"
    )


def test_the_old_table_of_recipes_is_what_it_was():
    with pytest.deprecated_call(match="'RECIPES' is now 'biril_nm.recipes'"):
        found = run_config.RECIPES
    assert found["digits"] == {"batch_size": 32, "lr": 4e-3}
    assert found["mnist"] == {"batch_size": 64, "lr": 2e-3, "crop_pad": 2}
