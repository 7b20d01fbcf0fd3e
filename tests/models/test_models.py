"""Networks: names, the fast pass against snnTorch step by step, surrogates, and model.pt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError
from biril_nm.models import BirilNet, ModelConfig, build_model, load, save
from biril_nm.neurons import SURROGATES, make_neuron, make_surrogate
from biril_nm.neurons.surrogates import slope
from biril_nm.neurons.unroll import can_unroll, unroll
from biril_nm.storage import read_npz, write_npz

FLAT = {"hidden": (20,)}
SMALL = {"channels": (4, 6), **FLAT}


def values(shape: tuple[int, ...], batch: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((batch, *shape))


def trained_norms(net: BirilNet) -> BirilNet:
    """BatchNorm with statistics of its own, and a readout that fires."""
    net.train()
    for seed in range(25):
        net(net.encode(values(net.config.input_shape, 16, seed)))
    with torch.no_grad():
        net.layers.fc2.weight.mul_(3.0)
        net.layers.fc2.bias.add_(0.5)
    return net.eval()


# --- architecture -------------------------------------------------------------------------------


def test_names_are_the_contract() -> None:
    names = [name for name, _ in build_model("convnet").layers.named_children()]
    assert names == (
        [
            "conv1",
            "bn1",
            "if1",
            "pool1",
            "conv2",
            "bn2",
            "if2",
            "pool2",
            "flatten",
            "fc1",
            "bn3",
            "if3",
            "fc2",
            "if_out",
        ]
    )
    config = ModelConfig(input_shape=(20,), neuron="lif", batch_norm=False, hidden=(8, 8))
    names = [name for name, _ in build_model("mlp", config).layers.named_children()]
    assert names == ["fc1", "lif1", "fc2", "lif2", "fc3", "lif_out"]


def test_mnist_size_of_the_specification() -> None:
    net = build_model("convnet", ModelConfig(input_shape=(1, 28, 28), batch_norm=False))
    assert sum(p.numel() for p in net.parameters()) == 16 * 10 + 32 * 145 + 128 * 1569 + 1290


def test_links_join_populations() -> None:
    links = {link.name: link for link in build_model("convnet").links()}
    assert list(links) == ["conv1", "conv2", "fc1", "fc2"]
    assert (links["conv1"].pre, links["conv1"].post) == ("input", "if1")
    assert (links["fc1"].pre, links["fc1"].post) == ("if2", "if3")
    assert [type(m) for m in links["conv2"].between] == [nn.AvgPool2d]
    assert [type(m) for m in links["fc1"].between] == [nn.AvgPool2d, nn.Flatten]


def test_neurons_reset_as_the_chip_does() -> None:
    for kind, beta in (("if", 1.0), ("lif", 0.9)):
        neuron = make_neuron(kind, beta=0.9)
        assert float(neuron.beta) == pytest.approx(beta)
        assert neuron.reset_mechanism == "zero"
        assert neuron.reset_delay is False
        assert can_unroll(neuron)
    neuron = make_neuron("if")
    assert [float(neuron(torch.tensor([0.5]))) for _ in range(5)] == [0, 0, 1, 0, 0]


def test_sizes_that_no_machine_holds_are_refused() -> None:
    for name, changes in (
        ("mlp", {"hidden": (1 << 20, 1 << 20)}),
        ("convnet", {"channels": (1 << 20,), "input_shape": (1, 1 << 20, 1 << 20)}),
    ):
        with pytest.raises(ConfigError, match=f"'{name}' would have [0-9,]+ parameters or more"):
            build_model(name, ModelConfig(**changes))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="n_steps is 1048577; expected 1 to 1048576"):
        Coding(n_steps=(1 << 20) + 1)
    for seed in (-1, 1 << 63):
        with pytest.raises(ConfigError, match=f"seed is {seed}; expected an integer from 0 to"):
            build_model("mlp", seed=seed)


def test_seed_decides_the_weights() -> None:
    before = torch.random.get_rng_state()
    first, second = build_model("mlp", seed=3), build_model("mlp", seed=3)
    other = build_model("mlp", seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.layers.fc1.weight, second.layers.fc1.weight)
    assert not torch.equal(first.layers.fc1.weight, other.layers.fc1.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neuron": "izhikevich"}, "neuron 'izhikevich' is unknown; expected one of if, lif"),
        (
            {"surrogate": "relu"},
            "surrogate 'relu' is unknown; expected one of sigmoid, fast_sigmoid",
        ),
        ({"input_shape": (1, 8, 8, 8)}, r"expected \(features,\), \(C, L\) or \(C, H, W\)"),
        ({"kernel": 4}, "kernel is 4; expected an odd number from 1 to 255"),
        ({"init": "zeros"}, "init 'zeros' is unknown; expected one of kaiming, torch"),
        ({"hidden": (0,)}, r"hidden is \(0,\); expected integers from 1 to 1048576"),
        ({"channels": (1 << 40,)}, "integers from 1 to 1048576"),
        ({"n_classes": 1}, "n_classes is 1; expected 2 to"),
        ({"n_classes": 10**30}, "n_classes is 1000"),
        ({"threshold": -1.0}, "threshold is -1.0"),
        ({"beta": 1.5}, "beta is 1.5"),
        ({"batch_norm": 1}, "batch_norm is 1; expected True or False"),
    ],
)
def test_wrong_configurations(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**changes)  # type: ignore[arg-type]


def test_configurations_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="model 'alexnet' is unknown; expected one of "):
        build_model("alexnet")
    with pytest.raises(
        ConfigError,
        match=r"input_shape of 'convnet' is .*; expected \(C, H, W\) or \(C, L\). Use model 'mlp'",
    ):
        build_model("convnet", ModelConfig(input_shape=(64,)))
    with pytest.raises(
        ConfigError,
        match=r"is \(1, 3, 3\); expected a size of at least 4, .* Use fewer channels, or model .mlp",
    ):
        build_model("convnet", ModelConfig(input_shape=(1, 3, 3)))
    with pytest.raises(ConfigError, match=r"shape \(4, 2, 1, 7, 8\); expected \(n_steps, batch"):
        build_model("convnet")(torch.zeros(4, 2, 1, 7, 8))
    config = ModelConfig(**SMALL, coding=Coding("rate", 7))  # type: ignore[arg-type]
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match=r"\['depth'\] are unknown"):
        ModelConfig.from_dict({"depth": 3})


# --- forward ------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [Coding("direct", 6), Coding("rate", 6)], ids=["direct", "rate"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("neuron", ["if", "lif"])
@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_all_at_once_equals_step_by_step(
    name: str, neuron: str, batch_norm: bool, coding: Coding
) -> None:
    sizes = SMALL if name == "convnet" else FLAT
    config = ModelConfig(neuron=neuron, batch_norm=batch_norm, coding=coding, **sizes)  # type: ignore[arg-type]
    net = trained_norms(build_model(name, config, seed=2))
    x = net.encode(values((1, 8, 8)), seed=5)
    with torch.no_grad():
        out = net(x, record=True)
        net.reset()
        steps = []
        recorded: dict[str, list[torch.Tensor]] = {name: [] for name in net.neurons}
        hooks = [
            layer.register_forward_hook(lambda m, i, o, name=name: recorded[name].append(o))
            for name, layer in net.neurons.items()
        ]
        for t in range(x.shape[0]):
            steps.append(net.layers(x[t]))
    for hook in hooks:
        hook.remove()
    spikes = torch.stack(steps)
    assert spikes.sum() > 0
    np.testing.assert_array_equal(out.spikes.numpy(), spikes.numpy())
    for name_, trace in recorded.items():
        assert torch.stack(trace).sum() > 0
        np.testing.assert_array_equal(out.recorded[name_].numpy(), torch.stack(trace).numpy())
    scores = spikes.sum(dim=0) + net.readout.mem / net.readout.threshold
    # the same sums in another order: at most some float32 roundings of order-1 values
    torch.testing.assert_close(out.scores, scores, rtol=0, atol=2e-5)
    assert set(out.recorded) == {"input", *net.neurons}


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
def test_gradients_of_the_fast_path_are_bptt(surrogate: str) -> None:
    config = ModelConfig(neuron="lif", surrogate=surrogate, **FLAT)  # type: ignore[arg-type]
    net = build_model("mlp", config).eval()
    x = net.encode(values((1, 8, 8)))
    net(x).scores.square().sum().backward()
    fast = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net.reset()
    spikes = torch.stack([net.layers(step) for step in x])
    (spikes.sum(dim=0) + net.readout.mem).square().sum().backward()
    for ours, p in zip(fast, net.parameters()):
        assert p.grad.abs().sum() > 0
        # snnTorch's surrogates work in float32: sums of the same numbers in another order
        torch.testing.assert_close(ours, p.grad, rtol=1e-4, atol=1e-5 * float(p.grad.abs().max()))


def test_other_neurons_take_the_slow_path() -> None:
    layer = snn.Leaky(beta=0.5, init_hidden=True, graded_spikes_factor=2.0)
    assert not can_unroll(layer)
    net = build_model("mlp", ModelConfig(batch_norm=False, **FLAT))  # type: ignore[arg-type]
    net.layers.if1 = layer
    x = net.encode(values((1, 8, 8)))
    out = net(x)
    net.reset()
    np.testing.assert_array_equal(
        out.spikes.detach().numpy(), torch.stack([net.layers(s) for s in x]).detach().numpy()
    )


def test_state_starts_at_rest_each_time() -> None:
    net = trained_norms(build_model("mlp", ModelConfig(**FLAT)))  # type: ignore[arg-type]
    x = net.encode(values((1, 8, 8)))
    first, second = net(x), net(x)
    assert torch.equal(first.scores, second.scores)
    assert first.recorded == {}
    assert list(net(x, record=["if1"]).recorded) == ["if1"]


def test_batch_of_one_can_be_trained() -> None:
    net = build_model("mlp", ModelConfig(**FLAT)).train()  # type: ignore[arg-type]
    net(net.encode(values((1, 8, 8), batch=1))).scores.sum().backward()
    assert net.layers.fc2.bias.grad is not None


def test_unroll_of_nothing_but_rest() -> None:
    spikes, mem = unroll(make_neuron("if"), torch.zeros(3, 2, 4))
    assert spikes.shape == (3, 2, 4)
    assert mem.shape == (2, 4)
    assert spikes.sum() == mem.sum() == 0


def test_direct_coding_shows_the_message() -> None:
    net = build_model("mlp", ModelConfig())
    x = net.encode(np.full((1, 1, 8, 8), 0.3))
    assert x.stride(0) == 0
    assert float(x[0, 0, 0, 0, 0]) == pytest.approx(round(0.3 * 255) / 255)


def test_surrogate_slopes() -> None:
    x = torch.tensor([-300.0, -1.0, 0.0, 1e-9, 2.0])
    sigmoid = make_surrogate("sigmoid")
    gate = 1 / (1 + np.exp(-4 * np.asarray(x, dtype=np.float64)[1:]))
    # 1 - gate has the error of gate, which is near 1
    np.testing.assert_allclose(
        slope(sigmoid, x)[1:].numpy(), 4 * gate * (1 - gate), rtol=1e-6, atol=1e-6
    )
    assert slope(sigmoid, x).isfinite().all()
    assert sigmoid(x).tolist() == [0, 0, 0, 1, 1]
    assert float(slope(sigmoid, torch.zeros(1))) == 1.0
    with pytest.raises(ConfigError, match="expected one of sigmoid, fast_sigmoid, atan"):
        make_surrogate("tanh")
    with pytest.raises(ConfigError, match="neuron 'x' is unknown"):
        make_neuron("x")


# --- model.pt -----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    net = trained_norms(build_model("convnet", ModelConfig(**SMALL), seed=1))  # type: ignore[arg-type]
    save(net, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_round_trip(saved: Path) -> None:
    net = bnm.load(saved)
    again = bnm.load(saved)
    assert isinstance(net, bnm.BirilNet)
    assert net.config == ModelConfig(**SMALL)  # type: ignore[arg-type]
    assert not net.training
    x = net.encode(values((1, 8, 8)))
    assert net(x).spikes.sum() > 0
    assert torch.equal(net(x).scores, again(x).scores)
    original = trained_norms(build_model("convnet", net.config, seed=1))
    assert torch.equal(net(x).scores, original(x).scores)


def test_nothing_is_overwritten(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(OutputExistsError, match="--force"):
        save(load(saved), saved)
    assert saved.read_bytes() == before
    save(load(saved), saved, force=True)
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model.pt"]


def test_equal_nets_give_equal_files(saved: Path, tmp_path: Path) -> None:
    save(load(saved), tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == saved.read_bytes()


def test_half_precision_arrives_as_single(tmp_path: Path) -> None:
    net = build_model("convnet", ModelConfig(**SMALL)).to(torch.bfloat16)  # type: ignore[arg-type]
    save(net, tmp_path / "model.pt")
    weight = load(tmp_path / "model.pt").layers.fc1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, net.layers.fc1.weight.float())


@pytest.mark.parametrize("keep", [0, 10, 1000, -10])
def test_truncated_file(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"model\.pt' is not a readable model file"):
        load(saved)


Arrays = dict[str, Any]


def edit(path: Path, change: Callable[[dict[str, Any], Arrays], object]) -> None:
    """Change header and arrays of a file."""
    arrays = read_npz(path)
    header = json.loads(arrays.pop("header").tobytes())
    change(header, arrays)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_npz(path, {"header": text, **arrays})


FC1 = "weights/layers.fc1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, a: h.update(format="other"), r"\('other', 2\); expected 'biril-nm model'"),
        (lambda h, a: h.update(version=99), r"\('biril-nm model', 99\); expected .* version 2"),
        (lambda h, a: h.pop("config"), "no valid configuration"),
        (lambda h, a: h.update(model="alexnet"), "'alexnet' is unknown"),
        (lambda h, a: h.update(config=[1]), "no valid configuration"),
        (lambda h, a: h["config"].update(neuron="x"), "neuron 'x' is unknown"),
        (lambda h, a: h["config"].update(hidden=["a"]), r"hidden is \['a'\]; expected a sequence"),
        (lambda h, a: h["config"].update(hidden=[10**6]), "layers.fc1.weight is torch.float32"),
        (lambda h, a: h["config"].update(hidden=[10**9]), "hidden is .*integers from 1 to"),
        (lambda h, a: h["config"].update(hidden=[1] * 10**5), "hidden has 100000 layers"),
        (lambda h, a: h["config"].update(beta=10**30), "header .* an integer of 31 digits"),
        (lambda h, a: a.pop(FC1), r"missing \['layers.fc1.weight'\]"),
        (lambda h, a: a.update({"weights/x": np.zeros(1)}), r"unknown \['x'\]"),
        (lambda h, a: a.update({FC1: np.array("text")}), "arrays that are not tensors"),
        (lambda h, a: a.update({FC1: a[FC1].astype(">f4")}), "arrays that are not tensors"),
        (
            lambda h, a: a.update({FC1: a[FC1].astype(complex)}),
            r"layers.fc1.weight is torch.complex",
        ),
        (
            lambda h, a: a.update({FC1: np.zeros((2, 2), np.float32)}),
            r"layers.fc1.weight is torch.float32 \(2, 2\); expected \(20, 24\)",
        ),
        (lambda h, a: a.update({FC1: np.zeros((3000, 3000))}), "unpacks to more than"),
        (lambda h, a: a[FC1].fill(np.nan), "hold nan"),
    ],
)
def test_inconsistent_files(
    saved: Path, change: Callable[[dict[str, Any], Arrays], object], message: str
) -> None:
    edit(saved, change)
    with pytest.raises(FileFormatError, match=message):
        load(saved)


def test_missing_file_and_foreign_content(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        load(tmp_path / "model.pt")
    write_npz(tmp_path / "x.pt", {"a": np.arange(3)})
    with pytest.raises(FileFormatError, match="x.pt' has no header"):
        load(tmp_path / "x.pt")
