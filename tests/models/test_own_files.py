"""model.pt of any module: whoever loads it names the architecture, and no name in a file is imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError
from biril_nm.models import OwnNet, load_weights
from biril_nm.models.saving import read_network
from biril_nm.storage import read_npz, write_npz
from tests.support.own_nets import CALLED, Loop, samples

X = torch.from_numpy(samples(4)[0]).float()


@pytest.fixture(scope="module")
def net() -> Loop:
    return Loop.strong()


@pytest.fixture
def path(net: Loop, tmp_path: Path) -> Path:
    bnm.save(net, tmp_path / "model.pt", coding=Coding("spikes", 8), input_shape=(12,))
    return tmp_path / "model.pt"


def header(path: Path, **changes: object) -> None:
    """Change the header of a file."""
    arrays = read_npz(path)
    record = json.loads(arrays["header"].tobytes()) | changes
    arrays["header"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
    write_npz(path, arrays, compress=False)


@pytest.mark.parametrize("of", ["class", "function", "network", "wrapped", "own"])
def test_a_module_comes_back_from_what_makes_it(net, path, of):
    made = Loop()
    architecture = {
        "class": Loop,
        "function": lambda: Loop(10),
        "network": made,
        "wrapped": nn.DataParallel(made),
        "own": OwnNet(made, Coding("spikes", 8)),
    }[of]
    found = bnm.load(path, architecture=architecture)
    inner = {"wrapped": made, "own": made}.get(of, found)
    assert not found.training and type(inner) is Loop
    assert all(torch.equal(a, b) for a, b in zip(net(X), inner(X)))
    assert net(X)[0].sum() > 10


def test_the_file_says_how_its_input_looks(path):
    stored = read_network(path, Loop)
    assert stored.coding == Coding("spikes", 8) and stored.input_shape == (12,)


def test_equal_modules_give_equal_files_which_are_not_overwritten(net, path, tmp_path):
    bnm.save(net, tmp_path / "again.pt", coding=Coding("spikes", 8), input_shape=[12])
    assert path.read_bytes() == (tmp_path / "again.pt").read_bytes()
    with pytest.raises(OutputExistsError, match="force"):
        bnm.save(net, path)
    bnm.save(torch.compile(net), path, force=True)  # without the names of a wrapper
    assert bnm.load(path, architecture=Loop).fc1.weight.equal(net.fc1.weight)
    load_weights(Loop(), path)


def test_the_architecture_is_named_and_never_imported(path):
    header(path, architecture="tests.support.no_such_module:Net")
    CALLED.clear()
    with pytest.raises(ConfigError, match=r"weights of 'tests.support.no_such_module:Net' alone"):
        bnm.load(path)
    header(path, architecture="antigravity:Net")
    with pytest.raises(ConfigError, match="no name in a file is imported. Give architecture=MyNet"):
        bnm.load(path)
    assert not CALLED and "antigravity" not in sys.modules
    assert type(bnm.load(path, architecture=Loop)) is Loop and CALLED == ["Loop"]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (lambda: 3, r"<lambda>\(\) made 3; expected a torch.nn.Module. Return the network"),
        (nn.Linear, r"Linear\(\) failed \(TypeError: .*expected a class or function that needs no"),
        ("Loop", "architecture is 'Loop'; expected a Module or a function"),
    ],
    ids=["a number", "fails", "a text"],
)
def test_what_makes_no_module_is_refused(path, architecture, message):
    with pytest.raises(ConfigError, match=message):
        bnm.load(path, architecture=architecture)


def test_weights_of_another_module_are_refused(path):
    with pytest.raises(
        FileFormatError,
        match=r"fc1.bias is torch.float32 \(10,\); expected \(11,\).*of "
        r"'tests.support.own_nets:Loop', and the architecture made Loop",
    ):
        bnm.load(path, architecture=Loop(11))
    with pytest.raises(FileFormatError, match=r"missing \['0.bias', '0.weight'\]"):
        bnm.load(path, architecture=nn.Sequential(nn.Linear(12, 10)))


@pytest.mark.parametrize(
    "change",
    [
        {"coding": {"kind": "loud"}},
        {"coding": 7},
        {"coding": {"kind": "direct", "n_steps": 2**40, "message_bits": 8}},
        {"input_shape": [2**40]},
        {"input_shape": "12"},
        {"input_shape": [12.0]},
        {"input_shape": []},
        {"input_shape": [1] * 9},
        {"input_shape": [8192, 8193]},
        {"input_shape": [True]},
    ],
    ids=str,
)
def test_a_header_that_lies_is_refused(path, change):
    header(path, **change)
    with pytest.raises(FileFormatError, match="model.pt' has a wrong header: "):
        bnm.load(path, architecture=Loop)


@pytest.mark.parametrize("name", [None, 3, "", "x" * 9000, "a\x1b[2J"])
def test_any_name_is_shown_in_one_short_line(path, name):
    header(path, architecture=name)
    with pytest.raises(ConfigError) as error:
        bnm.load(path)
    assert len(str(error.value)) < 400 and "\x1b" not in str(error.value)


def test_facts_beside_a_network_of_the_package_are_refused(tmp_path):
    net = bnm.build_model("mlp", bnm.ModelConfig(hidden=(4,)))
    with pytest.raises(ConfigError, match="are given with a BirilNet, which has its own"):
        bnm.save(net, tmp_path / "x.pt", coding=net.config.coding)
    bnm.save(net, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match="holds a network of biril-nm, and an architecture is"):
        bnm.load(tmp_path / "x.pt", architecture=Loop)
    assert type(bnm.load(tmp_path / "x.pt")) is type(net)


def test_a_shape_that_is_none_is_refused(net, tmp_path):
    with pytest.raises(ConfigError, match=r"input_shape is \(0, 3\); expected 1 to 8 sizes from 1"):
        bnm.save(net, tmp_path / "x.pt", input_shape=(0, 3))
    assert not (tmp_path / "x.pt").exists()


def test_weights_that_torch_saved_are_taken(net, tmp_path):
    path = tmp_path / "state.pth"
    torch.save(net.state_dict(), path)
    assert bnm.load(path, architecture=Loop)(X)[0].equal(net(X)[0])
    with pytest.raises(ConfigError, match="holds the weights alone; expected what builds"):
        bnm.load(path)
    torch.save({**net.state_dict(), "epoch": 3}, path)
    with pytest.raises(FileFormatError, match=r"holds \['epoch'\] besides tensors; expected the"):
        bnm.load(path, architecture=Loop)
    torch.save({"state": net.fc1}, path)
    with pytest.raises(FileFormatError, match="never loaded"):
        bnm.load(path, architecture=Loop)


def test_neurons_that_reset_in_another_way_are_refused(path):
    other = Loop.strong()
    other.lif2 = snn.Leaky(0.9, reset_mechanism="subtract")
    with pytest.raises(
        FileFormatError, match="neurons 'lif2' that reset by zero, and .* by subtract"
    ):
        bnm.load(path, other)


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_names_that_wrappers_give_are_read(prefix, averaged, net, tmp_path):
    """As DataParallel, AveragedModel and torch.compile write them."""
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    state |= {"n_averaged": torch.tensor(3)} if averaged else {}
    torch.save(state, tmp_path / "state.pth")
    assert bnm.load(tmp_path / "state.pth", architecture=Loop)(X)[0].equal(net(X)[0])


def test_a_prefix_that_the_module_has_itself_stays(tmp_path):
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Loop.strong()

    torch.save(Outer().state_dict(), tmp_path / "state.pth")
    back = bnm.load(tmp_path / "state.pth", architecture=Outer)
    assert all(name.startswith("module.") for name in back.state_dict())


class BesideALoss(nn.Module):
    """As a LightningModule holds its network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Loop.strong()


CHECKPOINTS = {
    "as in torch's documentation": lambda net, rest: {"epoch": 3, "model_state_dict": net, **rest},
    "beside tensors": lambda net, rest: {"net": net, "loss": torch.tensor(0.5), **rest},
    "of Lightning": lambda net, rest: {
        "state_dict": {f"model.{name}": value for name, value in net.items()},
        "callbacks": {"best": {"k": 0.5}},
        "pytorch-lightning_version": "2.2.0",
        **rest,
    },
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_only_weights_in_a_checkpoint_are_taken(kind, net, tmp_path):
    optimizer = torch.optim.Adam(net.parameters())
    rest = {"optimizer": optimizer.state_dict(), "accuracy": 0.97}
    torch.save(CHECKPOINTS[kind](net.state_dict(), rest), tmp_path / "last.ckpt")
    assert bnm.load(tmp_path / "last.ckpt", architecture=Loop)(X)[0].equal(net(X)[0])


def test_several_weights_in_a_checkpoint_are_refused(net, tmp_path):
    path = tmp_path / "agent.pt"
    torch.save({"actor": net.state_dict(), "critic": nn.Linear(2, 1).state_dict()}, path)
    with pytest.raises(FileFormatError, match=r"several sets of weights, \['actor', 'critic'\]"):
        bnm.load(path, architecture=Loop)
    torch.save(torch.load(path, weights_only=True)["actor"], path)  # what the message says
    assert bnm.load(path, architecture=Loop)(X)[0].equal(net(X)[0])


def test_files_of_torch_that_are_no_archives_are_saved_anew(net, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(FileFormatError, match="file of torch before 1.6.*Save it anew"):
        bnm.load(path, architecture=Loop)
    torch.save(torch.load(path, weights_only=True), path)
    assert bnm.load(path, architecture=Loop)(X)[0].equal(net(X)[0])


def test_the_attribute_of_a_wrapper_is_left_out_where_all_names_have_it(tmp_path):
    outer = BesideALoss()
    torch.save(outer.state_dict(), tmp_path / "state.pth")
    found = bnm.load(tmp_path / "state.pth", architecture=Loop)
    assert found.fc1.weight.equal(outer.model.fc1.weight)
    assert type(bnm.load(tmp_path / "state.pth", architecture=BesideALoss)) is BesideALoss
    outer.loss = nn.Linear(2, 2)
    torch.save(outer.state_dict(), tmp_path / "state.pth")
    with pytest.raises(FileFormatError, match=r"unknown \['loss.bias', .*Make it as the network"):
        bnm.load(tmp_path / "state.pth", architecture=Loop)


class Quiet(Loop):
    """Its train() returns nothing, as users write it."""

    def train(self, mode=True):
        super().train(mode)


def test_a_train_that_returns_nothing_does(net, path):
    assert bnm.load(path, architecture=Quiet)(X)[0].equal(net(X)[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_weights_of_torchscript_and_of_objects_have_a_way_out(net, tmp_path):
    path = tmp_path / "net.pt"
    layers = nn.Sequential(nn.Linear(12, 10), nn.Linear(10, 4))
    torch.jit.trace(layers, torch.rand(1, 12)).save(path)
    with pytest.raises(FileFormatError, match=r"torch.save\(torch.jit.load\(path\).state_dict\(\)"):
        bnm.load(path, architecture=layers)
    torch.save(torch.jit.load(path).state_dict(), path)
    assert bnm.load(path, architecture=layers) is layers
    torch.save({"state_dict": net.state_dict(), "hyper_parameters": {"model": layers}}, path)
    with pytest.raises(
        FileFormatError, match=r"if you trust it, .*weights_only=False\)\['state_dict'\]"
    ):
        bnm.load(path, architecture=Loop)
    torch.save(torch.load(path, weights_only=False)["state_dict"], path)
    assert bnm.load(path, architecture=Loop)(X)[0].equal(net(X)[0])
