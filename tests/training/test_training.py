"""Phases change what they declare and nothing else; a resumed run equals an uninterrupted one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import load_data, make_loaders
from biril_nm.errors import (
    ConfigError,
    FileFormatError,
    MissingDependencyError,
    OutputExistsError,
)
from biril_nm.learning.rule import LearningRule, Term
from biril_nm.learning.rules import OFFSET, OJA, PAIR
from biril_nm.models import BirilNet, ModelConfig, build_model
from biril_nm.storage import read_npz, write_npz
from biril_nm.training import (
    PHASES,
    Callback,
    PhaseState,
    TrainConfig,
    evaluate,
    fit,
    plastic_links,
    resolve_device,
)
from biril_nm.training import reporting as reporting_module
from biril_nm.training.local_rule.plasticity import LocalLearner, PlasticityConfig
from biril_nm.training.local_rule.torch_engine import Activity
from biril_nm.training.phases import Batch, Phase, mean_squared

SMALL = ModelConfig(channels=(4, 6), hidden=(20,))
DIGITS = load_data("digits").head(96, 60)
INERT = LearningRule(
    "inert", tuple(Term(t.sign, t.exp, t.factors, 0) for t in OFFSET.dw), traces=OFFSET.traces
)


def warm(
    name: str = "convnet", config: ModelConfig = SMALL
) -> tuple[BirilNet, torch.optim.Adam, Batch]:
    """A net after some B steps, so that Adam has moments and BatchNorm statistics."""
    net = build_model(name, config, seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    values, labels = next(make_loaders(DIGITS, 48).train.epoch(0))
    batch = (net.encode(values), torch.from_numpy(labels))
    for _ in range(4):
        PHASES["B"].run(net, batch, optimizer, PhaseState())
    return net, optimizer, batch


def snapshot(net: BirilNet, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, buffers and Adam moments by name."""
    found = {k: v.clone() for k, v in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        for key, value in optimizer.state[parameter].items():
            found[f"adam.{name}.{key}"] = value.clone()
    return found


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


# --- phases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [OFFSET, PAIR, OJA], ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    ("name", "plastic", "kernels"),
    [
        ("convnet", "conv", {"layers.conv2.weight"}),
        ("convnet", "conv+fc", {"layers.conv2.weight", "layers.fc1.weight"}),
        ("mlp", "conv", {"layers.fc2.weight"}),
    ],
)
def test_s_changes_the_plastic_kernels_only(
    name: str, plastic: str, kernels: set[str], rule: LearningRule
) -> None:
    config = SMALL if name == "convnet" else ModelConfig(hidden=(30, 20))
    net, optimizer, batch = warm(name, config)
    before = snapshot(net, optimizer)
    state = PhaseState(plastic=plastic, plasticity=PlasticityConfig(rule=rule, eta=0.05))
    for _ in range(3):
        metrics = PHASES["S"].run(net, batch, optimizer, state)
    assert changed(before, snapshot(net, optimizer)) == kernels
    assert all(p.grad is None for p in net.parameters())
    assert {f"layers.{n}.weight" for n in PHASES["S"].updated_layers(net, plastic)} == kernels
    assert metrics["samples"] == 48
    for kernel in kernels:
        layer = kernel.split(".")[1]
        grid = state.grids[layer]
        integers = net.state_dict()[kernel] / grid.unit
        nearest = integers.round()
        torch.testing.assert_close(integers, nearest, rtol=0, atol=1e-4)  # float32 of n * unit
        np.testing.assert_array_equal(nearest.numpy() % grid.step, 0)
        assert nearest.abs().max() <= 256
        on_grid = grid.integers(before[kernel]) * grid.unit
        assert not torch.equal(
            net.state_dict()[kernel], on_grid
        )  # more than putting it on the grid


@pytest.mark.parametrize("phase", ["S", "H"])
def test_zero_coefficients_change_nothing(phase: str) -> None:
    net, optimizer, batch = warm()
    twin, twin_optimizer = _twin(net, optimizer)
    state = PhaseState(plasticity=PlasticityConfig(rule=INERT))
    PHASES[phase].run(net, batch, optimizer, state)
    if phase == "H":
        PHASES["B"].run(twin, batch, twin_optimizer, PhaseState())
    assert changed(snapshot(twin, twin_optimizer), snapshot(net, optimizer)) == set()


def _twin(
    net: BirilNet, optimizer: torch.optim.Optimizer
) -> tuple[BirilNet, torch.optim.Optimizer]:
    twin = copy.deepcopy(net)
    twin_optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return twin, twin_optimizer


@pytest.mark.parametrize("confident", [False, True])
def test_h_is_b_plus_the_rule(confident: bool) -> None:
    net, optimizer, batch = warm()
    twin, twin_optimizer = _twin(net, optimizer)
    plasticity = PlasticityConfig(eta=0.05, confident=confident)
    PHASES["H"].run(net, batch, optimizer, PhaseState(plasticity=plasticity, seed=5))

    twin.train()
    recording = copy.deepcopy(twin)
    out = recording(batch[0], record=True)
    PHASES["B"].run(twin, batch, twin_optimizer, PhaseState())
    difference = changed(snapshot(twin, twin_optimizer), snapshot(net, optimizer))
    assert difference == {"layers.conv2.weight"}

    learner = LocalLearner(plasticity, seed=5)
    post = learner.gate(out.recorded["if2"])
    if confident:
        right = out.predictions == batch[1]
        assert 0 < int(right.sum()) < len(right)
        post = post * right.float().view(1, -1, 1, 1, 1)
    (link,) = plastic_links(twin)
    unit = float(link.weight.detach().abs().max()) / 254
    lsb = link.weight.detach() / unit
    activity = Activity(out.recorded["if1"], post, link.between)
    change = learner.change(link.layer, lsb, bnm.loihi.SignMode.MIXED, activity) - lsb
    assert change.abs().max() > 0.1
    assert torch.equal(net.layers.conv2.weight, link.weight + change * unit)


def test_b_changes_everything_it_declares() -> None:
    net, optimizer, batch = warm()
    before = snapshot(net, optimizer)
    PHASES["B"].run(net, batch, optimizer, PhaseState())
    touched = {name.split(".")[1] for name in changed(before, net.state_dict() | _adam(before))}
    assert touched == set(PHASES["B"].updated_layers(net))


def _adam(before: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in before.items() if k.startswith("adam.")}


def test_s_keeps_the_adam_momentum_out() -> None:
    """Zeroed gradients would let Adam move weights; S leaves them None and never steps."""
    net, optimizer, batch = warm()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = net.layers.fc1.weight.clone()
    PHASES["S"].run(net, batch, optimizer, PhaseState())
    assert torch.equal(net.layers.fc1.weight, before)
    assert net.layers.fc1.weight.grad is None


def test_plastic_layers() -> None:
    net = build_model("convnet", SMALL)
    assert [link.name for link in plastic_links(net)] == ["conv2"]
    assert [link.name for link in plastic_links(net, "conv+fc")] == ["conv2", "fc1"]
    with pytest.raises(ConfigError, match="expected one of conv, conv"):
        plastic_links(net, "all")
    with pytest.raises(ConfigError, match="add a hidden layer or use a schedule of B only"):
        plastic_links(build_model("mlp", ModelConfig(hidden=(8,))))


def test_mean_squared_loss() -> None:
    scores = torch.tensor([[4.0, 0.0], [2.0, 2.0]])
    loss = mean_squared(scores, torch.tensor([0, 1]), n_steps=4)
    assert float(loss) == pytest.approx(0.5 * (0 + 0.25 + 0.25) / 2)


# --- the loop -----------------------------------------------------------------------------------

QUIET = {"tensorboard": False, "curves": False, "device": "cpu"}


def settings(**changes: Any) -> TrainConfig:
    values = {"schedule": "BSH", "epochs": 4, "lr": 2e-3, **QUIET, **changes}
    return TrainConfig(**values)


class StopAt(Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        self.place, self.epoch = (epoch, batch), -1

    def on_epoch_start(self, epoch: int, n_epochs: int, phase: str, n_batches: int) -> None:
        self.epoch = epoch

    def on_batch(self, index: int, n_batches: int, metrics: dict[str, float]) -> None:
        if (self.epoch, index) == self.place:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("period", "kind"), [("epoch", "direct"), ("batch", "direct"), ("epoch", "rate")]
)
def test_resume_in_mid_cycle_is_bit_identical(tmp_path: Path, period: str, kind: str) -> None:
    model = ModelConfig(channels=(4, 6), hidden=(20,), coding=Coding(kind, 4))
    config = settings(period=period)

    def run(folder: str, **kwargs: Any) -> BirilNet:
        net = build_model("convnet", model, seed=2)
        loaders = make_loaders(DIGITS, 16, seed=3, crop_pad=1)
        fit(net, loaders, config, out_dir=tmp_path / folder, **kwargs)
        return net

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", callbacks=[StopAt(2, 3)])  # inside the third epoch
    assert len(_lines(tmp_path / "parts")) == 2
    stray = tmp_path / "parts" / "metrics.jsonl"
    stray.write_text(stray.read_text() + '{"epoch": 3, "stray": 1}\n')
    resumed = run("parts", resume=True)
    for key, value in whole.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), resumed.state_dict()[key].numpy(), key)
    first, second = _lines(tmp_path / "whole"), _lines(tmp_path / "parts")
    for line in (*first, *second):
        del line["seconds"]
    assert first == second
    assert [line["phase"] for line in first] == (
        ["B", "S", "H", "B"] if period == "epoch" else ["BSH"] * 4
    )
    again = bnm.load(tmp_path / "parts" / "model.pt")
    assert torch.equal(again.layers.conv2.weight, whole.layers.conv2.weight)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_callbacks_and_history() -> None:
    calls: list[tuple[Any, ...]] = []

    class Log(Callback):
        def on_train_start(self, *args: Any) -> None:
            calls.append(("start", *args))

        def on_epoch_start(self, *args: Any) -> None:
            calls.append(("epoch", *args))

        def on_batch(self, index: int, n_batches: int, metrics: dict[str, float]) -> None:
            calls.append(("batch", index, n_batches, sorted(metrics)))

        def on_epoch_end(self, record: dict[str, Any]) -> None:
            calls.append(("end", record["epoch"]))

        def on_train_end(self, records: list[dict[str, Any]]) -> None:
            calls.append(("done", len(records)))

    net = build_model("mlp", SMALL)
    history = fit(net, make_loaders(DIGITS, 48), settings(schedule="B", epochs=1), [Log()])
    batches = [("batch", i, 2, ["accuracy", "loss"]) for i in range(2)]
    assert calls == [("start", 0, 1), ("epoch", 0, 1, "B", 2), *batches, ("end", 1), ("done", 1)]
    record = history.records[0]
    assert record["lr"] == 2e-3
    assert set(record["firing_rates"]) == {"if1", "if_out"}
    assert history.test_accuracy == record["test_accuracy"]
    assert not net.training


def test_plain_loaders_and_no_test_set() -> None:
    values = DIGITS.train.values()
    train = [(torch.from_numpy(values[:32]), torch.from_numpy(DIGITS.train.labels[:32]))]
    history = fit(build_model("mlp", SMALL), (train, None), settings(schedule="B", loss="mse"))
    assert len(history.records) == 4
    assert history.test_accuracy is None
    assert history.records[-1]["loss"] < history.records[0]["loss"]
    with pytest.raises(ConfigError, match="holds no samples"):
        fit(build_model("mlp", SMALL), ([], None), settings(schedule="B"))


def test_learning_rate_is_a_cosine() -> None:
    config = settings(epochs=10, lr=1.0)
    assert config.lr_at(0) == 1.0
    assert config.lr_at(5) == pytest.approx(0.5)
    assert 0 < config.lr_at(9) < 0.05


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    config = settings(schedule="B", epochs=1)
    loaders = make_loaders(DIGITS, 48)
    fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path)
    before = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(OutputExistsError, match="--resume"):
        fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == before
    fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path, force=True)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["checkpoint.pt", "metrics.jsonl", "model.pt"]


def test_checkpoints_of_another_run_and_damaged_ones(tmp_path: Path) -> None:
    config = settings(schedule="B", epochs=1)
    loaders = make_loaders(DIGITS, 48)
    fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"lr: 0\.002 before, 0\.1 now"):
        changed_lr = settings(schedule="B", epochs=1, lr=0.1)
        fit(build_model("mlp", SMALL), loaders, changed_lr, out_dir=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="model: mlp"):
        fit(build_model("convnet", SMALL), loaders, config, out_dir=tmp_path, resume=True)
    checkpoint = tmp_path / "checkpoint.pt"
    arrays = read_npz(checkpoint)
    key = "optimizer/0/exp_avg"
    for wrong in (np.zeros(2, np.float32), arrays[key] * np.nan, arrays[key].astype(int)):
        write_npz(checkpoint, {**arrays, key: wrong})
        with pytest.raises(FileFormatError, match="no valid optimiser state.*exp_avg"):
            fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path, resume=True)
    for index in (-1, 99, "x", ""):
        write_npz(checkpoint, {**arrays, f"optimizer/{index}/exp_avg": arrays[key]})
        with pytest.raises(FileFormatError, match="no valid optimiser state"):
            fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path, resume=True)
    header = json.loads(arrays["header"].tobytes())
    record = header["records"][0]
    for records in (
        3,
        [3],
        [{**record, "epoch": 2}],
        [{**record, "loss": "a"}],
        [{**record, "firing_rates": [1]}],
        [{key: value for key, value in record.items() if key != "phase"}],
    ):
        text = json.dumps({**header, "records": records}).encode()
        write_npz(checkpoint, {**arrays, "header": np.frombuffer(text, np.uint8)})
        with pytest.raises(FileFormatError, match="no valid training state"):
            fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path, resume=True)
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(FileFormatError, match=r"checkpoint\.pt' is not a readable model"):
        fit(build_model("mlp", SMALL), loaders, config, out_dir=tmp_path, resume=True)


def test_reports(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')
    pytest.importorskip("tensorboard", reason='needs pip install "biril-nm[report]"')
    config = TrainConfig(schedule="BSH", epochs=3, tensorboard=True, curves=True, device="cpu")
    fit(build_model("convnet", SMALL), make_loaders(DIGITS, 48), config, out_dir=tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


def test_reports_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporting_module.importlib.util, "find_spec", lambda name: None)
    net, loaders = build_model("mlp", SMALL), make_loaders(DIGITS, 48)
    wanted = TrainConfig(schedule="B", epochs=1, tensorboard=True)
    with pytest.raises(MissingDependencyError, match=r'pip install "biril-nm\[report\]"'):
        fit(net, loaders, wanted, out_dir=tmp_path)
    caplog.set_level("INFO")
    fit(net, loaders, TrainConfig(schedule="B", epochs=1), out_dir=tmp_path)
    assert "matplotlib is not installed; skipping" in caplog.text
    assert not (tmp_path / "curves.png").exists()


def test_train_config_round_trip_and_errors() -> None:
    config = settings(plasticity=PlasticityConfig(rule=OJA, winners=3))
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert TrainConfig.from_dict({"plasticity": {"rule": "pair"}}).plasticity.rule == PAIR
    with pytest.raises(ConfigError, match=r"\['epoch'\] are unknown"):
        TrainConfig.from_dict({"epoch": 3})
    with pytest.raises(ConfigError, match="learning rule 'x' is unknown"):
        TrainConfig.from_dict({"plasticity": {"rule": "x"}})
    with pytest.raises(ConfigError) as caught:
        TrainConfig(epochs=0, lr=-1.0, loss="l1", period="day", plastic="x", seed=-1)
    for part in (
        "epochs is 0",
        "lr is -1.0",
        "expected one of ce, mse",
        "expected one of epoch, batch",
    ):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
        resolve_device("abacus")


def test_evaluate_counts() -> None:
    net = build_model("mlp", SMALL)
    loader = make_loaders(DIGITS, 48, test_batch_size=25).test
    result = evaluate(net, loader)
    assert result.n_samples == 60
    assert net.training
    net.eval()
    out = net(net.encode(DIGITS.test.values()), record=True)
    expected = float((out.predictions.numpy() == DIGITS.test.labels).mean())
    assert result.accuracy == pytest.approx(expected)
    assert result.firing_rates["if1"] == pytest.approx(float(out.recorded["if1"].mean()))
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        evaluate(net, [])


def test_digits_are_learned() -> None:
    digits = load_data("digits")
    net = build_model("convnet", ModelConfig(), seed=0)
    config = settings(schedule="BBSBBH", epochs=6, lr=4e-3)
    history = fit(net, make_loaders(digits, 32), config)
    assert history.test_accuracy is not None
    assert history.test_accuracy >= 0.95


def test_eta_is_a_budget_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []

    def record(net: Any, batch: Batch, optimizer: Any, state: PhaseState) -> dict[str, float]:
        scales.append(state.eta_scale)
        return {"loss": 0.0, "correct": 0.0, "samples": 1.0}

    monkeypatch.setitem(PHASES, "S", Phase(record, "STDP", "plastic"))
    for batch_size in (48, 12):
        scales.clear()
        net = build_model("convnet", SMALL)
        fit(net, (make_loaders(DIGITS, batch_size).train, None), settings(schedule="S", epochs=1))
        assert len(scales) == 96 // batch_size
        assert sum(scales) == pytest.approx(1.0)
