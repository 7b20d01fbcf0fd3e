"""fit and ``biril train`` on the chip's integers: phases, resumed runs, files, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm import build_model, load, save
from biril_nm.coding import Coding
from biril_nm.data import Batches, load_data
from biril_nm.errors import ConfigError
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.models import ModelConfig
from biril_nm.parity import check_parity
from biril_nm.training import TrainConfig, evaluate, fit
from biril_nm.training.callbacks import Callback
from biril_nm.training.integers import quantized
from biril_nm.training.integers.from_float import learning_rate
from biril_nm.training.plastic import plastic_links
from tests.support.command_line import biril, refused

CONFIG = ModelConfig(coding=Coding("direct", 4, 8), channels=(6, 8), hidden=(24,))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits").head(600, 200)


@pytest.fixture(scope="module")
def parent(digits):
    """A float network that has learned a little."""
    torch.manual_seed(0)
    net = build_model("convnet", CONFIG, 0)
    fit(net, loaders(digits), TrainConfig(schedule="B", epochs=4, lr=4e-3, curves=False))
    return net


def loaders(data):
    return Batches(data.train, 50, shuffle=True, seed=1), Batches(data.test, 100)


def settings(**options):
    given = {"schedule": "B", "epochs": 2, "lr": 1e-3, "tensorboard": False, "curves": False}
    return TrainConfig(**{**given, **options})


@pytest.mark.parametrize(("integers", "levels"), [("3", 8), ("ternary", 3)])
def test_few_bits_gain_accuracy_and_stay_the_chips_integers(parent, digits, integers, levels):
    net = quantized(parent, integers)
    before = evaluate(net, loaders(digits)[1]).accuracy
    history = fit(net, loaders(digits), settings(epochs=3, lr=2e-3))
    graph, test = net.graph(), digits.test
    found = evaluate_graph(graph, test.values(), test.labels, net.coding).accuracy
    assert history.test_accuracy == found > before + 0.1, (before, found)
    first, *others = graph.connections.values()
    assert first.weight_bits == 8 and len(np.unique(first.weight)) > 8
    for node in others:
        assert 2 < len(np.unique(node.weight)) <= levels
    x = net.encode(test.values(slice(8))).numpy()
    assert check_parity(graph, x, ("torch", "sim"), net=net).integer_engines == ("torch", "sim")


@pytest.mark.parametrize("schedule", ["S", "H", "BSH"])
def test_local_rules_move_the_latents_of_hidden_connections(parent, digits, schedule):
    net = quantized(parent, "8")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    (link,) = [link for link in net.links() if link.name == "pool1+conv2+bn2"]
    fit(net, loaders(digits.head(100)), settings(schedule=schedule, epochs=len(schedule)))
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    (plastic,) = (name for name, p in net.named_parameters() if p is link.weight)
    assert plastic in changed and (changed == {plastic} or schedule != "S")


def test_paths_around_a_block_stay_as_they_are(digits):
    config = replace(CONFIG, channels=(4, 4), depths=(1,))
    net = quantized(build_model("resnet", config, 0).eval(), "4")
    (skip,) = (name for name, node in net.base.connections.items() if isinstance(node, Sparse))
    before = net.connection(skip).weight.detach().clone()
    fit(net, loaders(digits.head(100)), settings(epochs=1, lr=5e-3))
    assert torch.equal(net.connection(skip).weight, before) and len(before.unique()) == 1
    graph, x = net.graph(), net.encode(digits.test.values(slice(4))).numpy()
    assert graph.connections != net.base.connections
    found = check_parity(graph, x, ("torch", "sim"), net=net)
    assert found.ok and found.integer_engines == ("torch", "sim")


class _StopsError(Exception):
    pass


class _Stops(Callback):
    def on_epoch_end(self, record):
        if record["epoch"] == 1:
            raise _StopsError


def test_a_resumed_run_ends_in_the_same_weights(parent, digits, tmp_path):
    whole, part = quantized(parent, "4"), quantized(parent, "4")
    fit(whole, loaders(digits), settings(), out_dir=tmp_path / "whole")
    with pytest.raises(_StopsError):
        fit(part, loaders(digits), settings(), callbacks=[_Stops()], out_dir=tmp_path / "part")
    again = quantized(parent, "4")
    fit(again, loaders(digits), settings(), out_dir=tmp_path / "part", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    graph = LoihiGraph.load(tmp_path / "part" / "model.loihi.npz")
    assert graph == LoihiGraph.load(tmp_path / "whole" / "model.loihi.npz")
    assert graph.nodes == whole.graph().nodes
    other = quantized(parent, "3")
    with pytest.raises(ConfigError, match="belongs to another run"):
        fit(other, loaders(digits), settings(), out_dir=tmp_path / "part", resume=True)


def test_the_command_trains_resumes_and_evaluates(parent, tmp_path):
    save(parent, tmp_path / "model.pt")
    words = ("--dataset", "digits", "--integers", "4", "--out", tmp_path / "out")
    done = biril("train", *words, "--from", tmp_path / "model.pt", "--epochs", 1, "--json")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "config.toml").read_text()
    assert 'integers = "4"' in text and 'schedule = "B"' in text
    assert f"lr = {learning_rate('4')}" in text
    (tmp_path / "model.pt").unlink()  # a copy lies in the folder
    assert biril("train", "--resume", "--out", tmp_path / "out").returncode == 0
    found = biril("eval", tmp_path / "out" / "model.loihi.npz", "--dataset", "digits", "--json")
    assert found.returncode == 0 and '"accuracy"' in found.stdout
    engines = ("--dataset", "digits", "--samples", 4, "--against", "torch,sim")
    same = biril("parity", tmp_path / "out" / "model.loihi.npz", *engines)
    assert same.returncode == 0 and "integers (s, u, v) equal" in same.stdout
    source = ("--from", tmp_path / "out" / "parent.pt")
    refused(biril("train", *words, *source), "config.toml", "--force")


def filtered(*between):
    """Neurons with a filtered current, whose bias lowering brings by a population of its own."""
    torch.manual_seed(0)
    options = {"init_hidden": True, "threshold": 0.5, "beta": 0.9}
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), snn.Leaky(**options), nn.Conv2d(4, 4, 3), snn.Synaptic(alpha=0.5, **options),
        nn.Flatten(), nn.Linear(64, 32), *between, snn.Leaky(**options),
        nn.Flatten(), nn.Linear(32, 10), snn.Leaky(**options),
    )  # fmt: skip


PLASTIC = {"schedule": "S", "epochs": 1, "plastic": "conv+fc"}


def test_biases_are_no_layers_that_learn_locally(digits):
    coding = Coding("direct", 3)
    sample = torch.rand(2, 1, 8, 8)
    net = quantized(filtered(), "4", sample_input=sample, dt_s=1e-3, coding=coding)
    (bias,) = (name for name, ends in net.base.ends.items() if ends[0].endswith(".always_on"))
    chosen = plastic_links(net, "conv+fc")
    assert [type(link.layer) for link in chosen] == [nn.Conv2d, nn.Linear]
    assert bias not in {link.name for link in net.links()}
    latent = net.connection(bias).weight
    before, at_first = net.graph(), latent.detach().clone()
    fit(net, loaders(digits.head(100, 50)), settings(**PLASTIC))
    assert torch.equal(latent, at_first)
    after = net.graph()
    changed = {name for name in before.nodes if after.nodes[name] != before.nodes[name]}
    assert changed == {link.name for link in chosen}
    fit(net, loaders(digits.head(100, 50)), settings(**{**PLASTIC, "schedule": "H"}))
    assert not torch.equal(latent, at_first), "it learns by gradients"


def test_dense_layers_learn_locally_behind_neurons_of_any_shape(digits):
    net = filtered(nn.Unflatten(1, (2, 4, 4)))
    before = net[5].weight.detach().clone()
    fit(net, loaders(digits.head(100, 50)), settings(**PLASTIC), coding=Coding("direct", 3))
    assert not torch.equal(net[5].weight, before)


def test_a_precision_that_nobody_gave_is_that_of_integers(parent, digits, tmp_path):
    """A recipe has it for floats; "auto" means what suits."""
    save(parent, tmp_path / "model.pt")
    recipe = tmp_path / "low.toml"
    recipe.write_text('dataset = "digits"\n[train]\nschedule = "B"\nprecision = "bfloat16"\n')
    words = ("--recipe", recipe, "--from", tmp_path / "model.pt", "--integers", "8", "--epochs", 1)
    done = biril("train", *words, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert 'precision = "float32"' in (tmp_path / "out" / "config.toml").read_text()
    low = ("--precision", "bfloat16", "--out", tmp_path / "low")
    refused(biril("train", *words, *low), "'bfloat16'", "computes in integers; expected")
    auto = fit(quantized(parent, "8"), loaders(digits.head(100, 50)), settings(precision="auto"))
    plain = fit(quantized(parent, "8"), loaders(digits.head(100, 50)), settings())
    assert [r["loss"] for r in auto.records] == [r["loss"] for r in plain.records]


@pytest.mark.parametrize("setting", [{"engine": "eager"}, {"precision": "bfloat16"}])
def test_settings_that_integers_do_not_follow_are_refused(setting, parent):
    config = TrainConfig(schedule="B", epochs=1, device="cpu", **setting)
    with pytest.raises(ConfigError, match="computes in integers; expected 'auto', 'float32' and 0"):
        fit(quantized(parent, "4"), ([], None), config)


def test_a_parent_trains_on_with_more_steps_and_resumes(parent, tmp_path):
    save(parent, tmp_path / "model.pt")
    out = tmp_path / "out"
    words = ("--dataset", "digits", "--from", tmp_path / "model.pt", "--out", out)
    done = biril("train", *words, "--steps", 6, "--lr", 1e-9, "--epochs", 1, "--schedule", "B")
    assert done.returncode == 0, done.stderr
    child = load(out / "model.pt")
    assert parent.coding.n_steps != 6 and child.coding == replace(parent.coding, n_steps=6)
    for name, value in parent.named_parameters():  # its own weights, not new ones
        assert torch.allclose(value, child.state_dict()[name], atol=1e-5), name
    assert biril("train", "--resume", "--out", out).returncode == 0
    again = biril("train", out / "config.toml", "--out", tmp_path / "again", "--epochs", 1)
    assert again.returncode == 0, again.stderr
    assert load(tmp_path / "again" / "model.pt").coding == child.coding
    text = (out / "config.toml").read_text().replace("kernel = 3", "kernel = 5")
    (tmp_path / "other.toml").write_text(text)
    refused(biril("train", tmp_path / "other.toml"), "kernel is 5", "Leave [net] out")


def test_what_cannot_start_is_refused(parent, tmp_path):
    save(parent, tmp_path / "model.pt")
    source = ("--from", tmp_path / "model.pt", "--out", tmp_path / "out")
    refused(biril("train", "--integers", "4"), "no network is given", "Add --from model.pt")
    refused(biril("train", *source, "--integers", "x"), "weight bits are 'x'")
    refused(biril("train", *source, "--neuron", "lif"), "--neuron: ", "model.pt' says it")
    other = build_model("convnet", replace(CONFIG, input_shape=(1, 12, 12)), 0)
    save(other, tmp_path / "other.pt")
    done = biril("train", "--from", tmp_path / "other.pt", "--out", tmp_path / "out")
    refused(done, "takes samples of shape (1, 12, 12) in 10 classes", "'digits' has (1, 8, 8)")
    assert not (tmp_path / "out").exists()
