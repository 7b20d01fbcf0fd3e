"""Recipes of the package: each makes a run that makes sense, and is found by its name or as a file."""

from __future__ import annotations

import pytest

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import DATASETS
from biril_nm.data.augmentation import Augmentation
from biril_nm.data.datasets import find_data
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models import MODELS
from biril_nm.recipes import read_recipe, recipe_names
from biril_nm.storage import read_toml
from biril_nm.training.run_config import RunConfig


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
    assert run.net.coding == Coding("direct", 4, 8) and run.net.depths == (1, 1, 2, 1)
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
