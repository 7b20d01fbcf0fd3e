"""Folders of ``biril train``: where a run is found again, in how many processes it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from biril_nm.training.run_config import RunConfig
from tests.support.command_line import biril

RECIPE = """
dataset = "digits"
model = "mlp"
batch_size = 300
[net]
hidden = [16]
[train]
schedule = "B"
epochs = 2
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(RECIPE, encoding="utf-8")
    return Path("own.toml")


def ends(*words: object, epochs: int) -> str:
    done = biril("train", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch ") == epochs, done.stderr
    return done.stdout


def test_the_words_that_started_a_run_find_its_folder_again(recipe):
    start = ["--recipe", recipe]
    assert "wrote out/digits-mlp/model.pt" in ends(*start, epochs=2)
    ends(*start, "--resume", epochs=0)
    words = ["--from", "out/digits-mlp/model.pt", "--integers", 8, "--epochs", 1]
    assert "wrote out/digits-mlp-integers" in ends(*words, epochs=1)
    ends(*words, "--resume", epochs=0)


def test_what_torchrun_started_stands_before_the_processes_of_a_file(recipe, monkeypatch):
    run = RunConfig.read(recipe, devices=2)
    Path("two.toml").write_text(run.to_toml(), encoding="utf-8")
    assert "\ndevices = 2\n" in biril("train", "two.toml", "--print-config").stdout
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert "\ndevices = 1\n" in biril("train", "two.toml", "--print-config").stdout
    given = biril("train", "two.toml", "--devices", 2, "--out", "out")
    assert given.returncode == 1
    assert "devices and nodes are 2 and 1, and 3 processes were started" in given.stderr
