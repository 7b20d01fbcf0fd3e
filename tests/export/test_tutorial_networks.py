"""benchmarks/tutorial_networks.py: networks of snnTorch's tutorials, as their authors define them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from biril_nm.coding import Coding
from biril_nm.data import load_data
from biril_nm.export import lower, to_nir
from biril_nm.parity import check_parity

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FALLS = "cuba_lif_subtract_delayed"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tutorial_networks

    return tutorial_networks


@pytest.fixture
def data(script):
    return script.large_digits(load_data("digits").head(256, 40))


def lowered(script, name, n_steps):
    torch.manual_seed(0)
    net = script.TUTORIALS[name].make(n_steps)
    coding = Coding("direct", n_steps)
    return lower(to_nir(net, torch.zeros(1, 1, 28, 28), dt_s=1e-3, coding=coding)), coding


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("dense", [FALLS, FALLS]),
        # Pools are ORs of Lava's LIF.
        ("convolutional", [FALLS, "cuba_lif", FALLS, "cuba_lif", FALLS]),
        ("recurrent", [FALLS, FALLS]),
    ],
)
def test_neurons_keep_their_default_reset(script, name, models):
    graph, _ = lowered(script, name, 3)
    assert [node.model for node in graph.neurons.values()] == models
    assert sum(a == b for a, b in graph.ends.values()) == (2 if name == "recurrent" else 0)


def test_training_goes_on_where_it_stopped(script, data, tmp_path):
    tutorial = replace(script.TUTORIALS["recurrent"], n_steps=3, n_batches=3)
    whole = script.train(tutorial, data.train, tmp_path / "whole.pt")
    script.train(replace(tutorial, n_batches=1), data.train, tmp_path / "part.pt")
    stopped = torch.load(tmp_path / "part.pt", weights_only=True)
    resumed = script.train(tutorial, data.train, tmp_path / "part.pt").state_dict()
    assert stopped["batches"] == 1
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed[key], value), key
    assert not torch.equal(stopped["net"]["fc1.weight"], resumed["fc1.weight"])


def test_the_script_compares_float_and_integers(script, data, tmp_path, capsys):
    tutorial = replace(script.TUTORIALS["recurrent"], n_steps=6, n_batches=4)
    lost = script.show("recurrent", tutorial, data, tmp_path, n_lava=0)
    text = capsys.readouterr().out
    assert "of 40 test pictures" in text and f"{-lost:+.2f} points" in text
    assert (tmp_path / "recurrent.loihi.npz").exists()


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("name", ["dense", "convolutional", "recurrent"])
def test_lava_gives_the_same_integers(script, data, name):
    graph, coding = lowered(script, name, 6)
    spikes = coding.encode(data.test.values(slice(0, 2)))
    assert check_parity(graph, spikes, against=("sim", "lava")).raise_on_mismatch().ok
