"""Training runs: a resumed run equals an uninterrupted one, nothing is overwritten."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import Batches, Split, load_data, make_loaders
from biril_nm.errors import (
    ConfigError,
    FileFormatError,
    MissingDependencyError,
    OutputExistsError,
)
from biril_nm.learning.rules import OJA, PAIR
from biril_nm.models import BirilNet, ModelConfig, build_model
from biril_nm.storage import read_npz, write_npz
from biril_nm.training import (
    PHASES,
    Callback,
    PhaseState,
    TrainConfig,
    evaluate,
    events,
    fit,
    resolve_device,
)
from biril_nm.training import reporting as reporting_module
from biril_nm.training.local_rule.plasticity import PlasticityConfig
from biril_nm.training.phases import Batch, Phase
from tests.support.digits import DIGITS, FLAT, SMALL

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

    net = build_model("mlp", FLAT)
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
    history = fit(build_model("mlp", FLAT), (train, None), settings(schedule="B", loss="mse"))
    assert len(history.records) == 4
    assert history.test_accuracy is None
    assert history.records[-1]["loss"] < history.records[0]["loss"]
    with pytest.raises(ConfigError, match="holds no samples"):
        fit(build_model("mlp", FLAT), ([], None), settings(schedule="B"))


class Streamed(IterableDataset[Any]):
    """Batches of no known number."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


@pytest.mark.parametrize("kind", ["no length", "loader of torch"])
def test_phases_per_batch_go_on_where_the_loader_has_no_length(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = list(make_loaders(DIGITS.head(96, 8), 32)[0])
    seen: list[str] = []

    def run(folder: str, loader: Any, **further: Any) -> str:
        seen.clear()
        config = settings(schedule="BBBBS", period="batch")
        fit(
            build_model("convnet", SMALL),
            (loader, None),
            config,
            out_dir=tmp_path / folder,
            **further,
        )
        return "".join(seen)

    for name in "BS":
        phase = PHASES[name]

        def noted(*given: Any, name: str = name, run: Any = phase.run) -> Any:
            seen.append(name)
            return run(*given)

        monkeypatch.setitem(PHASES, name, replace(phase, run=noted))
    assert run("sized", batches) == "BBBBSBBBBSBB"
    streamed = Streamed(batches)
    loader = streamed if kind == "no length" else DataLoader(streamed, batch_size=None)
    assert run("whole", loader) == "BBBBSBBBBSBB"
    with pytest.raises(KeyboardInterrupt):
        run("parts", loader, callbacks=[StopAt(2, 0)])
    assert run("parts", loader, resume=True) == "BBBSBB"


def test_learning_rate_is_a_cosine() -> None:
    config = settings(epochs=10, lr=1.0)
    assert config.lr_at(0) == 1.0
    assert config.lr_at(5) == pytest.approx(0.5)
    assert 0 < config.lr_at(9) < 0.05


def test_the_cosine_counts_the_epochs_of_the_warm_up() -> None:
    """As CosineLRScheduler of timm with t_initial=10, warmup_t=5, warmup_lr_init=1e-6."""
    config = settings(epochs=10, lr=1.0, warmup=5)
    rising = [1e-6 + (1 - 1e-6) * e / 5 for e in range(5)]
    falling = [(1 + math.cos(math.pi * e / 10)) / 2 for e in range(5, 10)]
    assert [config.lr_at(e) for e in range(10)] == pytest.approx(rising + falling)
    with pytest.raises(ConfigError, match="or no epoch is left behind the warm-up"):
        settings(epochs=2, warmup=2)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    config = settings(schedule="B", epochs=1)
    loaders = make_loaders(DIGITS, 48)
    fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path)
    before = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(OutputExistsError, match="--resume"):
        fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == before
    fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path, force=True)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["checkpoint.pt", "metrics.jsonl", "model.pt"]


def test_checkpoints_of_another_run_and_damaged_ones(tmp_path: Path) -> None:
    config = settings(schedule="B", epochs=1)
    loaders = make_loaders(DIGITS, 48)
    fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"lr: 0\.002 before, 0\.1 now"):
        changed_lr = settings(schedule="B", epochs=1, lr=0.1)
        fit(build_model("mlp", FLAT), loaders, changed_lr, out_dir=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="model: mlp"):
        fit(build_model("convnet", SMALL), loaders, config, out_dir=tmp_path, resume=True)
    checkpoint = tmp_path / "checkpoint.pt"
    arrays = read_npz(checkpoint)
    key = "optimizer/0/exp_avg"
    for wrong in (np.zeros(2, np.float32), arrays[key] * np.nan, arrays[key].astype(int)):
        write_npz(checkpoint, {**arrays, key: wrong})
        with pytest.raises(FileFormatError, match="no valid optimiser state.*exp_avg"):
            fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path, resume=True)
    for index in (-1, 99, "x", ""):
        write_npz(checkpoint, {**arrays, f"optimizer/{index}/exp_avg": arrays[key]})
        with pytest.raises(FileFormatError, match="no valid optimiser state"):
            fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path, resume=True)
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
            fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path, resume=True)
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(FileFormatError, match=r"checkpoint\.pt' is not a readable model"):
        fit(build_model("mlp", FLAT), loaders, config, out_dir=tmp_path, resume=True)


def test_reports(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')
    pytest.importorskip("tensorboard", reason='needs pip install "biril-nm[report]"')
    config = TrainConfig(schedule="BSH", epochs=3, tensorboard=True, curves=True, device="cpu")
    fit(build_model("convnet", SMALL), make_loaders(DIGITS, 48), config, out_dir=tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


def _epochs_of_events(folder: Path) -> list[int]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return [event.step for event in found.Scalars("loss")]


def test_events_hold_each_epoch_of_the_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    seconds = iter(range(1000, 9000))
    monkeypatch.setattr(events.time, "time", lambda: float(next(seconds)))
    config = settings(schedule="B", epochs=3, tensorboard=True)

    def run(config: TrainConfig, **further: Any) -> list[int]:
        fit(
            build_model("mlp", FLAT),
            make_loaders(DIGITS.head(32, 8), 16),
            config,
            out_dir=tmp_path,
            **further,
        )
        return _epochs_of_events(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run(config, callbacks=[StopAt(2, 0)])
    assert run(config, resume=True) == [1, 2, 3]
    assert run(settings(schedule="B", epochs=2, tensorboard=True), force=True) == [1, 2]


def test_reports_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporting_module.importlib.util, "find_spec", lambda name: None)
    net, loaders = build_model("mlp", FLAT), make_loaders(DIGITS, 48)
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
    net = build_model("mlp", FLAT)
    loader = make_loaders(DIGITS, 48, test_batch_size=25).test
    result = evaluate(net, loader)
    assert result.n_samples == 60
    assert net.training
    net.eval()
    out = net(net.encode(DIGITS.test.values()), record=True)
    expected = float((out.predictions.numpy() == DIGITS.test.labels).mean())
    assert result.accuracy == pytest.approx(expected)
    assert result.firing_rates["if1"] == pytest.approx(float(out.recorded["if1"].mean()))
    with pytest.raises(ConfigError, match="the loader holds no samples"):
        evaluate(net, [])


@pytest.mark.slow
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


def test_the_largest_seed_serves_every_batch_of_an_evaluation():
    test = Split(np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64), 16)
    net = build_model("mlp", ModelConfig(hidden=(4,), coding=Coding("rate", 2)), seed=0)
    found = [evaluate(net, Batches(test, size), seed=(1 << 63) - 1) for size in (2, 4)]
    assert {each.n_samples for each in found} == {4}


@pytest.mark.parametrize("name", ["meta", "cpu:x", "cuda:99", "", "tpu"])
def test_devices_that_compute_nothing_are_refused(name):
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used: "):
        resolve_device(name)
