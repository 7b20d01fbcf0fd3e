"""Recipes of the package: each makes a run that makes sense, and is found by its name or as a file."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import DATASETS
from biril_nm.data.augmentation import Augmentation
from biril_nm.data.datasets import find_data
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models import MODELS, ModelConfig
from biril_nm.models.plans import refuse_ignored_by_neurons
from biril_nm.neurons import NEURONS
from biril_nm.recipes import read_recipe, recipe_names
from biril_nm.storage import read_toml
from biril_nm.training.run_config import RunConfig
from tests.support.command_line import biril


def test_the_names_are_the_files():
    assert {"digits", "mnist", "mnist_long", "cifar10"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_makes_sense(name):
    run = RunConfig.make(recipe=name)
    source = DATASETS[run.dataset.partition(":")[0]]
    Augmentation(run.augment, 0, frames="steps" in source.options)
    find_data(run.dataset)
    assert run.model in MODELS
    values = read_recipe(name)
    assert values["dataset"] == run.dataset and run.batch_size == values["batch_size"]
    if "epochs" in values.get("train", {}):
        assert run.train.epochs % len(run.train.phases) == 0, "the last cycle is cut off"
    assert source.classes >= 0


def test_the_recipe_of_a_data_set_has_its_name_and_options_come_first(tmp_path):
    assert RunConfig.make(dataset="cifar10") == RunConfig.make(recipe="cifar10")
    run = RunConfig.make(recipe="cifar10", dataset="pictures:side=32", epochs=2, augment=[])
    assert (run.dataset, run.model, run.train.epochs, run.augment) == (
        "pictures:side=32",
        "vgg",
        2,
        (),
    )
    assert run.net.coding == Coding("direct", 1, 8) and run.net.depths == (1, 1, 2, 1)
    run.write(tmp_path / "own.toml")
    assert RunConfig.make(recipe=str(tmp_path / "own.toml")) == run
    assert RunConfig.read(tmp_path / "own.toml") == run


def test_the_name_of_a_set_of_events_means_the_options_of_its_recipe():
    assert RunConfig.make(dataset="events").dataset == "events:window_ms=200,side=32,steps=10"
    assert RunConfig.make(dataset="events:side=16").dataset == "events:side=16"
    assert RunConfig.make(dataset="events:side=16").net.neuron == "lif"


def test_a_recipe_may_set_a_part_of_the_local_rule_and_a_file_another(tmp_path):
    (tmp_path / "own.toml").write_text("[train.plasticity]\nw_clip = 0.5\n")
    run = RunConfig.make(
        {"train": {"plasticity": {"rule": "oja"}}}, recipe=str(tmp_path / "own.toml")
    )
    assert (run.train.plasticity.w_clip, run.train.plasticity.rule.name) == (0.5, "oja")


SHAPES = {  # of a sample, with the options of the recipe
    "digits": (1, 8, 8), "mnist": (1, 28, 28), "spoken": (30, 30), "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32), "pictures": (3, 32, 32), "nmnist": (2, 34, 34), "dvs128_gesture": (2, 32, 32),
    "dvs_cifar10": (2, 48, 48), "ncaltech101": (2, 36, 48), "shd": (1, 1, 700), "events": (2, 32, 32),
}  # fmt: skip
# Why a network does not take a data set: its shape; resnet has no sizes of its own.
NO_FIT = (
    r"input_shape of '|^depths is \(\) and channels \(16, 32\); expected the channels of the stem"
)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_network_is_built_for_every_data_set_of_a_fitting_shape(dataset):
    built = []
    for model in MODELS:
        run = RunConfig.make(dataset=dataset, model=model)
        config = replace(run.net, input_shape=SHAPES[dataset])
        try:
            with torch.device("meta"):
                MODELS[model](config)
            built.append(model)
        except ConfigError as error:
            assert re.search(NO_FIT, str(error)), (model, str(error))
    assert {"mlp", "recurrent"} <= set(built)
    if len(SHAPES[dataset]) == 3 and dataset not in ("shd", "digits"):
        assert set(MODELS) - set(built) == {"resnet"}


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("neuron", NEURONS)
def test_other_neurons_take_what_they_have_a_use_for(name, neuron):
    run = RunConfig.make(recipe=name, neuron=neuron)
    assert run.net.neuron == neuron
    refuse_ignored_by_neurons(run.net)


def test_sizes_of_a_recipe_belong_to_its_model():
    small = ModelConfig()
    run = RunConfig.make(dataset="cifar10", model="convnet")
    assert (run.net.channels, run.net.depths, run.net.hidden) == (small.channels, (), small.hidden)
    assert run.net.coding.n_steps == 1 and run.augment == ("crop:4", "flip")
    own = {"model": "convnet", "net": {"channels": [3, 4]}}
    assert RunConfig.make(own, recipe="cifar10").net.channels == (3, 4)
    assert RunConfig.make(recipe="cifar10", model="vgg").net.depths == (1, 1, 2, 1)
    mine = RunConfig.make({"net": {"depths": [2, 2]}}, recipe="cifar10", model="convnet")
    with pytest.raises(ConfigError, match="stages of convnet have one convolution"):
        bnm.build_model(mine.model, mine.net)  # what the user gave is refused as before
    assert RunConfig.make(dataset="events", neuron="lif").net.beta == 0.5
    assert RunConfig.make({"net": {"neuron": "if"}}, dataset="events").net.beta == small.beta


def test_the_command_trains_another_network_than_the_recipe_has(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in ("one", "two"):
            (tmp_path / "pictures" / part / label).mkdir(parents=True)
            for i in range(2):
                picture = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(picture).save(tmp_path / "pictures" / part / label / f"{i}.png")
    options = ("--data-root", tmp_path / "pictures", "--epochs", 1, "--schedule", "B")
    for how in ("--dataset", "--recipe"):
        done = biril(
            "train",
            how,
            "pictures",
            *options,
            "--model",
            "mlp",
            "--neuron",
            "lif",
            "--out",
            tmp_path / how[2:],
        )
        assert done.returncode == 0, done.stderr


def test_wrong_recipes_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="recipe 'mnist_lang' is unknown; .*Did you mean 'mnist_long'"
    ):
        RunConfig.make(recipe="mnist_lang")
    with pytest.raises(FileFormatError, match=r"none\.toml' does not exist"):
        RunConfig.make(recipe=str(tmp_path / "none.toml"))
    (tmp_path / "own.toml").write_text("version = 9\n")
    with pytest.raises(FileFormatError, match=r"own\.toml' is of another version; expected 1"):
        RunConfig.make(recipe=str(tmp_path / "own.toml"))
    (tmp_path / "own.toml").write_text("bacth_size = 9\n")
    with pytest.raises(
        ConfigError, match=r"recipe '.*own\.toml' has unknown fields \['bacth_size'\]"
    ):
        RunConfig.make(recipe=str(tmp_path / "own.toml"))
    assert "dataset" in read_toml(_file("mnist"))


def _file(name):
    from importlib.resources import files

    return files("biril_nm.recipes") / f"{name}.toml"


def test_vgg_has_several_convolutions_a_stage():
    run = RunConfig.make(recipe="cifar10")
    config = bnm.ModelConfig.from_dict(run.net.to_dict() | {"input_shape": (3, 32, 32)})
    net = bnm.build_model(run.model, config)
    names = [name for name, _ in net.layers.named_children()]
    assert [name for name in names if name.startswith(("conv", "pool"))] == (
        ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "pool3", "conv5", "pool4"]
    )
    assert sum(p.numel() for p in net.parameters()) == 801_834
    two = bnm.build_model("vgg", bnm.ModelConfig(channels=(2, 3), hidden=()))
    assert len([n for n, _ in two.layers.named_children() if n.startswith("conv")]) == 4
    with pytest.raises(
        ConfigError, match=r"depths of '.*' has 1 entries, and channels 2; expected one for each"
    ):
        bnm.build_model("vgg", bnm.ModelConfig(channels=(2, 3), depths=(1,)))
    with pytest.raises(
        ConfigError, match="stages of convnet have one convolution; .*Use model 'vgg'"
    ):
        bnm.build_model("convnet", bnm.ModelConfig(depths=(1, 1)))
    with pytest.raises(ConfigError, match="depths add up to 1200; expected at most 1000"):
        bnm.ModelConfig(depths=(600, 600))
