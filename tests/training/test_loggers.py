"""Loggers of Lightning see the epochs of a training."""

from __future__ import annotations

import csv

import pytest

from biril_nm.data import make_loaders
from biril_nm.errors import ConfigError
from biril_nm.models import build_model
from biril_nm.training import LogTo, TrainConfig, fit
from tests.support.digits import DIGITS, FLAT

SETTINGS = TrainConfig(schedule="B", epochs=2, device="cpu", tensorboard=False, curves=False)


class Noted:
    def __init__(self):
        self.calls = []

    def log_hyperparams(self, params):
        self.calls.append(("hyperparameters", params["lr"]))

    def log_metrics(self, metrics, step):
        self.calls.append((step, metrics))

    def finalize(self, status):
        self.calls.append(("end", status))


def train(logger, hyperparameters):
    callback = LogTo(logger, hyperparameters)
    loaders = make_loaders(DIGITS.head(32, 16), 16)
    return fit(build_model("mlp", FLAT), loaders, SETTINGS, [callback]).records


def test_a_logger_has_settings_numbers_and_an_end():
    logger = Noted()
    records = train(logger, SETTINGS.to_dict())
    assert [name for name, _ in logger.calls] == ["hyperparameters", 1, 2, "end"]
    assert logger.calls[0][1] == SETTINGS.lr and logger.calls[-1][1] == "success"
    for (_, metrics), record in zip(logger.calls[1:3], records):
        assert metrics["loss"] == record["loss"]
        assert metrics["test_accuracy"] == record["test_accuracy"]
        name, rate = next(iter(record["firing_rates"].items()))
        assert metrics[f"firing_rate/{name}"] == rate
        assert all(isinstance(value, (int, float)) for value in metrics.values())


def test_the_table_of_lightning(tmp_path):
    loggers = pytest.importorskip("lightning_fabric.loggers")
    table = loggers.CSVLogger(tmp_path, name="run", version=0)
    records = train(table, SETTINGS.to_dict())
    with (tmp_path / "run" / "version_0" / "metrics.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [int(line["step"]) for line in lines] == [1, 2]
    assert [float(line["loss"]) for line in lines] == [record["loss"] for record in records]


def test_the_events_of_lightning(tmp_path):
    loggers = pytest.importorskip("lightning_fabric.loggers")
    pytest.importorskip("tensorboard")
    train(loggers.TensorBoardLogger(tmp_path), SETTINGS.to_dict())
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_what_is_no_logger():
    with pytest.raises(
        ConfigError, match="'wandb', without log_metrics, log_hyperparams, finalize"
    ):
        LogTo("wandb")
