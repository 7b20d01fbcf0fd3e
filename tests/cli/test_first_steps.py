"""The command line as a new user meets it: help, wrong values, pipes, paths, nothing destroyed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import biril_nm as bnm
from biril_nm.cli import app
from biril_nm.export import lower, to_nir
from tests.support import killable
from tests.support.command_line import biril, process, refused

COMMANDS = get_command(app).commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model and its integers, under a path with a space and letters beyond ASCII."""
    path = tmp_path_factory.mktemp("my né ts")
    net = bnm.build_model("mlp", bnm.ModelConfig(hidden=(12,)), seed=0)
    bnm.save(net, path / "model.pt")
    graph = lower(to_nir(net))
    graph.save(path / "model.loihi.npz")
    np.savez(path / "spikes.npz", spikes=np.ones((4, 2, *net.config.input_shape), int))
    return path


def examples(name: str) -> list[list[str]]:
    text = COMMANDS[name].help
    return [line.split()[1:] for line in re.findall(r"Example: (biril .*)", text)]


@pytest.mark.slow
@pytest.mark.lava
def test_the_examples_of_the_help_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(COMMANDS) == {
        "train",
        "eval",
        "export",
        "sim",
        "parity",
        "report",
        "card",
        "study",
        "chip-train",
        "info",
        "lava-env",
    }
    # lava-env would install Lava.
    for name in (
        "train", "export", "eval", "sim", "parity", "report", "card", "study", "chip-train", "info",
    ):  # fmt: skip
        assert examples(name), name
        assert COMMANDS[name].help.strip().splitlines()[-1].strip().startswith("Example: ")
        for words in examples(name):
            quick = ["--epochs", 1] if name in ("train", "study") else []
            done = biril(*words, *quick)
            assert done.returncode == 0, (words, done.stderr)
            assert done.stdout


def test_the_folder_of_a_training_stands_for_its_model(folder):
    for command in ("info", "eval"):
        done = biril(command, folder, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_exits_with_0_and_a_wrong_option_with_2(name):
    done = biril(name, "--help")
    assert done.returncode == 0
    assert "Example: biril" in done.stdout
    done = biril(name, "--no-such-option")
    assert done.returncode == 2
    assert not done.stdout


WRONG_VALUES = [
    ("train", "--steps", 0), ("train", "--epochs", 0), ("train", "--batch-size", 0),
    ("train", "--seed", -1), ("train", "--seed", 1 << 64), ("eval", "SRC", "--samples", 0),
    ("eval", "SRC", "--workers", 0), ("parity", "SRC", "--steps", 0), ("parity", "SRC", "--seed", -1),
    ("export", "SRC", "--to", "nir", "--weight-bits", 9), ("sim", "SRC"),
    ("sim", "SRC", "--spikes", "x.npz", "--threads", 0), ("export", "SRC"),
]  # fmt: skip


@pytest.mark.parametrize("args", WRONG_VALUES, ids=lambda args: " ".join(map(str, args)))
def test_wrong_values_are_usage_errors(args, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = biril(*(folder / "model.pt" if word == "SRC" else word for word in args))
    assert done.returncode == 2, done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir())


REFUSALS = [
    (("export", "PT", "--to", "loihi", "-o", "x.txt"), ["x.txt", "ends in .loihi.npz"]),
    (("export", "PT", "--to", "nir", "-o", "x.net"), ["x.net", "ends in .nir"]),
    (("export", "GRAPH", "--to", "netx", "-o", "x.nir"), ["x.nir", "ends in .net"]),
    (("export", "PT", "--to", "nir", "--dt", "inf", "-o", "x.nir"), ["dt_s is inf", "width of a step"]),
    (("export", "PT", "--to", "nir", "--dt", "nan", "-o", "x.nir"), ["dt_s is nan"]),
    (("export", "PT", "--to", "nir", "--plastic", "fc1=pair", "-o", "x.nir"), ["express learning rules"]),
    (("export", "PT", "--to", "loihi", "--plastic", "fc1", "-o", "x.loihi.npz"), ["CONNECTION=RULE"]),
    (("export", "PT", "--to", "loihi", "--calibration", "SPIKES2", "-o", "x.loihi.npz"), ["'spikes'"]),
    (("sim", "GRAPH", "--spikes", "SPIKES", "-o", "x.txt"), ["x.txt", "ends in .npz"]),
    (("sim", "GRAPH", "--spikes", "SPIKES", "--learned-out", "x.npz"), ["needs --learn"]),
    (("sim", "GRAPH", "--spikes", "SPIKES", "--learn", "--learned-out", "x.npz"), [".loihi.npz"]),
    (("report", "GRAPH", "-o", "x.pt"), ["x.pt", "ends in .html"]),
    (("eval", "GRAPH", "--backend", "torch"), ["no torch network"]),
    (("eval", "PT", "--workers", 2), ["integer networks only", "--backend sim"]),
    (("parity", "GRAPH", "--against", "torch,sim"), ["'torch' needs the torch network"]),
    (("train", "--coding", "spikes"), ["expected direct, rate or signed"]),
    (("train", "--model", "mlp", "--schedule", "S"), ["none that a local rule may change"]),
    (("train", "FOLDER"), ["is a folder; expected a regular file"]),
    (("info", "."), ["'.' is a folder without model.pt and model.loihi.npz; expected a folder of a"]),
    (("report", "."), ["is a folder without model.pt"]),
]  # fmt: skip


@pytest.mark.parametrize(("args", "words"), REFUSALS, ids=lambda value: str(value[-1]))
def test_what_is_refused_leaves_nothing_behind(args, words, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {
        "PT": folder / "model.pt", "GRAPH": folder / "model.loihi.npz", "FOLDER": folder,
        "SPIKES": folder / "spikes.npz", "SPIKES2": folder / "model.loihi.npz",
    }  # fmt: skip
    refused(biril(*(paths.get(word, word) for word in args)), *words)
    assert not list(tmp_path.iterdir())


def test_a_bundle_never_replaces_a_folder_or_file_of_another_kind(folder, tmp_path):
    model, thesis = tmp_path / "model.pt", tmp_path / "thesis"
    model.write_bytes((folder / "model.pt").read_bytes())
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("precious")
    for source, targets, why in (
        (folder / "model.pt", (model, thesis, tmp_path), "not a folder with run_lava.py"),
        (model, (model, tmp_path), "which this command reads"),
    ):
        for target in targets:
            done = biril("export", source, "--to", "lava", "-o", target, "--force")
            refused(done, str(target), why)
    assert model.read_bytes() == (folder / "model.pt").read_bytes()
    assert (thesis / "thesis.tex").read_text() == "precious"
    for _ in range(2):
        done = biril("export", model, "--to", "lava", "-o", tmp_path / "lava", "--force")
        assert done.returncode == 0, done.stderr
    refused(
        biril("export", model, "--to", "nir", "-o", tmp_path / "lava", "--force"), "ends in .nir"
    )


def test_a_refused_resume_keeps_the_configuration(tmp_path):
    args = ("train", "--model", "mlp", "--schedule", "B", "--epochs", 1, "--out", tmp_path)
    assert biril(*args).returncode == 0
    before = (tmp_path / "config.toml").read_text()
    refused(biril(*args, "--lr", 0.5, "--resume"), "lr: ", "another run")
    assert (tmp_path / "config.toml").read_text() == before


def test_running_out_of_memory_is_an_error_and_no_traceback(folder, monkeypatch):
    import biril_nm.hardware_sim as hardware_sim

    def exhausted(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(hardware_sim, "simulate", exhausted)
    graph, spikes = folder / "model.loihi.npz", folder / "spikes.npz"
    refused(biril("sim", graph, "--spikes", spikes), "out of memory")
    with pytest.raises(MemoryError):
        biril("--debug", "sim", graph, "--spikes", spikes)


def test_json_is_one_object_on_stdout(folder, tmp_path):
    graph, spikes = folder / "model.loihi.npz", folder / "spikes.npz"
    out = tmp_path / "a b" / "ü" / "new.loihi.npz"
    for args in (
        ("info",), ("info", graph), ("info", folder / "model.pt"),
        ("eval", graph, "--samples", 5), ("sim", graph, "--spikes", spikes),
        ("export", folder / "model.pt", "--to", "loihi", "-o", out),
    ):  # fmt: skip
        done = biril(*args, "--json")
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)
    assert out.is_file()


def test_without_home_in_a_closed_folder_and_with_a_plain_locale(folder, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH")}
    environment = {**keep, "PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C"}
    done = process(
        "sim", folder / "model.loihi.npz", "--spikes", folder / "spikes.npz",
        cwd=closed, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "if_out" in done.stdout


def test_a_reader_that_leaves_early_sees_no_traceback(folder):
    command = f"'{sys.executable}' -m biril_nm info '{folder / 'model.loihi.npz'}' | true"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.timeout(3600)
@pytest.mark.slow  # test_stops.py sends signals to forked processes
def test_ctrl_c_ends_with_130_and_keeps_the_run(tmp_path):
    command = [sys.executable, "-m", "biril_nm", "train", "--model", "mlp", "--schedule", "B", "--steps", "2",
               "--batch-size", "300", "--epochs", "500", "--out", str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=killable.restore_signals,  # noqa: PLW1509
    ) as running:  # fmt: skip
        deadline = time.monotonic() + killable.ROOM_S
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=killable.ROOM_S)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / "config.toml").is_file()
