"""The command line on one's own samples and one's own module."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.evaluation.interval import accuracy_interval
from biril_nm.export import lower, to_nir
from tests.support.command_line import biril, refused
from tests.support.own_nets import CALLED, Loop, samples

SPIKES, LABELS = samples()
NAMED = ("--architecture", "tests.support.own_nets:Loop")
FILES = {
    "both.npz": {"spikes": SPIKES, "labels": LABELS},
    "spikes.npz": {"spikes": SPIKES},
    "input.npz": {"input": SPIKES},
    "labels.npz": {"labels": LABELS},
    "neither.npz": {"x": LABELS},
    "few.npz": {"labels": LABELS[:3]},
    "high.npz": {"labels": LABELS + 1},
    "rows.npz": {"labels": np.eye(4)[LABELS]},
    "loud.npz": {"spikes": 2 * SPIKES, "labels": LABELS},
    "wide.npz": {"spikes": SPIKES[..., :5], "labels": LABELS},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    net = Loop.strong()
    bnm.save(net, folder / "model.pt", coding=Coding("spikes", 8), input_shape=(12,))
    torch.save(net.state_dict(), folder / "state.pth")
    lower(to_nir(net, torch.from_numpy(SPIKES).float())).save(folder / "g.loihi.npz")
    for name, arrays in FILES.items():
        np.savez(folder / name, **arrays)
    np.save(folder / "spikes.npy", SPIKES)
    np.save(folder / "labels.npy", LABELS)
    return folder


@pytest.fixture(autouse=True)
def here(files, monkeypatch):
    monkeypatch.chdir(files)


def shown(*call):
    done = biril(*call, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "given",
    [
        ("both.npz",),
        ("spikes.npz", "--labels", "labels.npz"),
        ("spikes.npy", "--labels", "labels.npy"),
        ("input.npz", "--labels", "labels.npy"),
    ],
)
def test_eval_reads_samples_and_labels_in_any_form(given):
    found = shown("eval", "g.loihi.npz", "--spikes", *given)
    graph = bnm.LoihiGraph.load("g.loihi.npz")
    assert found["accuracy"] == bnm.accuracy(graph, SPIKES, LABELS)
    assert found["n_samples"] == 30 and found["spikes"] == given[0] and "dataset" not in found
    assert tuple(found["interval"]) == accuracy_interval(round(30 * found["accuracy"]), 30)


def test_eval_runs_the_float_network_or_its_integers():
    call = ("eval", "model.pt", *NAMED, "--spikes", "both.npz", "--samples", 20)
    floats, integers = shown(*call), shown(*call, "--backend", "sim")
    assert floats["accuracy"] == bnm.accuracy(Loop.strong(), SPIKES[:, :20], LABELS[:20])
    assert (floats["backend"], integers["backend"]) == ("torch", "sim")
    assert floats["n_samples"] == 20 and set(floats["firing_rates"]) == {"lif1", "lif2"}
    assert abs(floats["accuracy"] - integers["accuracy"]) <= 0.1


def test_parity_takes_labels_and_says_the_accuracy():
    call = ("parity", "model.pt", *NAMED, "--against", "torch,sim", "--samples", 30)
    found = shown(*call, "--spikes", "both.npz")
    assert found["ok"] and found["floats"]["same_predictions"] >= 28
    assert found["accuracy"]["torch"] == bnm.accuracy(Loop.strong(), SPIKES, LABELS)
    assert "accuracy" not in shown(*call, "--spikes", "spikes.npz")


def test_weights_of_torch_need_shape_and_coding():
    call = ("export", "state.pth", *NAMED, "--to", "loihi", "--force")
    refused(biril(*call), "does not say the shape of one step of its input. Give --input-shape")
    done = biril(*call, "--input-shape", "12", "--coding", "spikes:8", "-o", "x.loihi.npz")
    assert done.returncode == 0, done.stderr
    graphs = [bnm.LoihiGraph.load(name) for name in ("g.loihi.npz", "x.loihi.npz")]
    assert graphs[0].connections == graphs[1].connections


def test_a_network_that_takes_samples_first_goes_the_same_way():
    first = ("--architecture", "tests.support.own_nets:SamplesFirst")
    call = ("state.pth", *first, "--input-shape", "12", "--coding", "spikes:8")
    assert biril("export", *call, "--to", "loihi", "--force", "-o", "y.loihi.npz").returncode == 0
    graphs = [bnm.LoihiGraph.load(name) for name in ("g.loihi.npz", "y.loihi.npz")]
    assert graphs[0].connections == graphs[1].connections
    spikes = ("--spikes", "both.npz", "--samples", 30)
    found = shown("parity", *call, "--against", "torch,sim", *spikes)
    assert found["ok"]
    assert found["accuracy"]["torch"] == bnm.accuracy(Loop.strong(), SPIKES, LABELS)


def test_calibration_takes_the_same_files(tmp_path):
    found = []
    for name in ("both.npz", "spikes.npy", "input.npz"):
        out = tmp_path / f"{name}.loihi.npz"
        call = ("export", "model.pt", *NAMED, "--to", "loihi", "-o", out)
        assert biril(*call, "--calibration", name).returncode == 0
        found.append(bnm.LoihiGraph.load(out))
    assert found[0] == found[1] == found[2]
    refused(biril(*call, "--calibration", "labels.npz", "--force"), "expected 'spikes'")


def test_a_bundle_has_the_given_samples_beside_it(tmp_path):
    call = ("export", "g.loihi.npz", "--to", "lava", "-o", tmp_path / "b")
    refused(biril(*call, "--spikes", "both.npz", "--dataset", "digits"), "--dataset: --spikes")
    done = biril(*call, "--spikes", "both.npz")
    assert done.returncode == 0, done.stderr
    beside = np.load(next((tmp_path / "b").glob("input.npz")))
    assert np.array_equal(next(iter(beside.values())), SPIKES[:, :16])


REFUSED = {
    ("both.npz", "--dataset", "digits"): "--dataset: --spikes holds the samples and their steps",
    ("both.npz", "--data-root", "."): "--data-root: --spikes holds the samples",
    ("both.npz", "--labels", "labels.npy"): "expected one of them. Leave --labels out",
    (
        "spikes.npz",
    ): "'spikes.npz' holds no 'labels'; expected the class of each sample. Add --labels",
    ("spikes.npz", "--labels", "neither.npz"): "expected 'labels' (samples,)",
    ("spikes.npz", "--labels", "few.npz"): "there are 3 labels for 30 samples in 'spikes.npz'",
    ("spikes.npz", "--labels", "high.npz"): "labels are 1 to 4; expected 0 to 3",
    ("spikes.npz", "--labels", "rows.npz"): "one-hot rows into classes",
    ("labels.npz",): "expected 'spikes' of shape (n_steps, batch, *shape)",
    ("loud.npz",): "has values from 0 to 2; a binary input allows 0 to 1",
    ("wide.npz",): "has shape (8, 30, 5); expected (n_steps, batch, 12)",
    ("no.npz",): "file 'no.npz' does not exist",
}


@pytest.mark.parametrize("given", REFUSED, ids=" ".join)
def test_samples_that_do_not_fit_are_refused(given):
    refused(biril("eval", "g.loihi.npz", "--spikes", *given), REFUSED[given])


def test_labels_alone_and_steps_beside_spikes_are_refused():
    for command in ("eval", "parity"):
        done = biril(command, "g.loihi.npz", "--labels", "labels.npy")
        refused(done, "--labels is 'labels.npy', and --spikes is not given; expected both")
    done = biril("parity", "g.loihi.npz", "--spikes", "both.npz", "--steps", 3)
    refused(done, "--steps: --spikes holds the samples and their steps")


ARCHITECTURES = {
    "Loop": "expected package.module:MyNet",
    "tests.support.own_nets:No": "has no 'No'; it has ",
    "tests.support.own_nets:constant": "is of type int; expected a class or a function",
    "tests.support.own_nets:broken": "made 3; expected a torch.nn.Module",
    "no_such_module:Net": "importing no_such_module failed (ModuleNotFoundError",
    "os;system:Net": "expected package.module:MyNet",
    "failing:Net": "importing failing failed (ZeroDivisionError: division by zero)",
}


@pytest.mark.parametrize("text", ARCHITECTURES)
def test_architectures_that_lead_nowhere_are_refused(text, files):
    (files / "failing.py").write_text("1 / 0\n")
    refused(biril("info", "model.pt", "--architecture", text), ARCHITECTURES[text])


def test_a_module_is_made_only_where_the_command_line_names_it():
    CALLED.clear()
    refused(biril("export", "model.pt", "--to", "nir"), "weights of 'tests.support.own_nets:Loop'")
    assert not CALLED
    assert biril("info", "model.pt", *NAMED).returncode == 0 and CALLED == ["Loop"]
    refused(biril("info", "g.loihi.npz", *NAMED), "--architecture: 'g.loihi.npz' holds no weights")
    refused(biril("info", *NAMED), "--architecture: no file is named")
    both = ("--coding", "rate:8")
    refused(biril("eval", "model.pt", *NAMED, *both), "--coding rate:8: 'model.pt' has its own")
    shape = ("--input-shape", "3,x")
    refused(biril("info", "state.pth", *NAMED, *shape), "--input-shape is '3,x'; expected sizes")
