"""Loggers of Lightning see the epochs of a training."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from biril_nm.data import make_loaders
from biril_nm.errors import ConfigError
from biril_nm.models import build_model
from biril_nm.training import LogTo, TrainConfig, fit
from tests.support.command_line import biril
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


class Refused(Exception):
    """As wandb raises."""


class Wandb(ModuleType):
    """Stands for the package: runs by id, each with its settings and the steps that it was given."""

    errors = SimpleNamespace(Error=Refused)

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.config, self.ended, self.closed = {}, {}, [], False

    def init(self, project, name, resume, **others):
        assert (project, name, resume) == ("biril-nm", "run", "allow")
        assert Path(others["dir"]).name == "run"
        if self.closed:
            raise Refused("No API key\nconfigured.")
        steps = self.runs.setdefault(others["id"], [])
        return SimpleNamespace(
            config=SimpleNamespace(
                update=lambda values, allow_val_change: self.config.update(values)
            ),
            log=lambda metrics, step: steps.append((step, sorted(metrics))),
            finish=lambda exit_code: self.ended.append(exit_code),  # noqa: PLW0108 - a keyword
        )


WORDS = ("train", "--model", "mlp", "--schedule", "B", "--epochs", 2, "--batch-size", 300)


def test_the_command_logs_to_wandb_and_goes_on_there(tmp_path, monkeypatch):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    out = tmp_path / "run"
    done = biril(*WORDS, "--logger", "wandb", "--out", out)
    assert done.returncode == 0, done.stderr
    (name, steps), *others = wandb.runs.items()
    assert not others and [step for step, _ in steps] == [1, 2] and "test_accuracy" in steps[0][1]
    assert (wandb.config["dataset"], wandb.config["train"]["epochs"], wandb.ended) == (
        "digits",
        2,
        [0],
    )
    done = biril("train", "--resume", "--out", out)  # config.toml says the logger
    assert done.returncode == 0, done.stderr
    assert list(wandb.runs) == [name] and (out / "wandb_id.txt").read_text() == name
    assert biril(*WORDS, "--logger", "wandb", "--force", "--out", out).returncode == 0
    assert len(wandb.runs) == 2  # another run there, too
    wandb.closed = True
    done = biril(*WORDS, "--logger", "wandb", "--out", tmp_path / "no" / "run")
    assert done.returncode == 1
    assert "wandb cannot start a run: No API key configured.; expected an account" in done.stderr
    assert not (tmp_path / "no" / "run" / "wandb_id.txt").exists()


def test_loggers_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    out = tmp_path / "run"
    done = biril(*WORDS, "--logger", "tensorboard,wandb", "--out", out)
    assert done.returncode == 1 and "Install it with: pip install wandb" in done.stderr
    done = biril(*WORDS, "--logger", "wandbs", "--out", out)
    assert done.returncode == 1 and "Did you mean 'wandb'?" in done.stderr
    assert not out.exists()
    assert biril(*WORDS, "--logger", "none", "--out", out).returncode == 0
    assert not (out / "tensorboard").exists()
    printed = biril(*WORDS, "--logger", "tensorboard", "--print-config").stdout
    assert "\ntensorboard = true\n" in printed and "\nloggers = []\n" in printed
