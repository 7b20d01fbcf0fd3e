"""Small comforts: settings with comments, words that the shell completes, a line while kernels compile."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest import mock

import click
import pytest
from typer.main import get_command

from biril_nm import cli
from biril_nm.cli import app
from biril_nm.hardware_sim.engine import first_run
from biril_nm.models import ModelConfig
from biril_nm.training.commented import CLASSES, commented_toml, field_texts
from biril_nm.training.run_config import RunConfig
from tests.support.command_line import biril

COMMANDS = get_command(app).commands


def test_the_settings_of_a_training_are_printed_with_comments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = biril(
        "train", "--dataset", "digits", "--schedule", "BBSH", "--epochs", 4, "--precision", "auto",
        "--print-config",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    path = tmp_path / "c.toml"
    path.write_text(done.stdout, encoding="utf-8")
    run = RunConfig.read(path)
    assert run.train.schedule == "BBSH"
    assert (run.train.epochs, run.train.precision) == (4, "auto")
    assert RunConfig.read(path).to_toml() == run.to_toml()
    lines = done.stdout.splitlines()
    assert "# number of epochs." in lines[lines.index("epochs = 4") - 1]
    assert not [
        line for line in lines if line.startswith("#") and ("``" in line or ":mod:" in line)
    ]


@pytest.mark.parametrize(
    ("options", "net"),
    [
        ((), ModelConfig(neuron="lif", beta=0.5, channels=(16, 32, 32))),
        (("--neuron", "if"), ModelConfig(channels=(16, 32, 32))),
        (("--model", "mlp", "--neuron", "plif"), ModelConfig(neuron="plif", beta=0.5)),
    ],
)
def test_a_recipe_with_another_network_leaves_out_what_that_ignores(options, net, tmp_path):
    done = biril("train", "--recipe", "events", *options, "--print-config")
    assert done.returncode == 0, done.stderr
    (tmp_path / "c.toml").write_text(done.stdout, encoding="utf-8")
    run = RunConfig.read(tmp_path / "c.toml")
    assert (run.net.neuron, run.net.beta, run.net.channels) == (net.neuron, net.beta, net.channels)


def test_the_help_of_the_program_has_the_first_line_of_each_command():
    lines = {
        each.name: inspect.getdoc(each.callback).split("\n\n")[0]
        for each in app.registered_commands
    }
    assert {name: line for name, (_, line) in cli.COMMANDS.items()} == {
        name: " ".join(line.split()) for name, line in lines.items()
    }
    shown = biril("--help").stdout
    assert all(f" {name} " in shown for name in lines)


def test_the_help_of_the_program_imports_no_command():
    code = (
        "import sys; from biril_nm import cli; sys.argv[1:] = ['--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([x for x in ('numpy', 'numba', 'torch', 'biril_nm.commands.options') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_command_line_imports_the_command_that_it_names():
    assert cli.named_commands(["--debug", "eval", "info"]) == ("eval",)
    assert cli.named_commands(["--help"]) == ()
    with mock.patch.dict(os.environ, _BIRIL_COMPLETE="complete_bash"):
        assert cli.named_commands(["eval"]) == tuple(cli.COMMANDS)
    done = biril("exprot", "x.nir")
    assert done.returncode == 2
    assert "No such command" in done.stderr and "export" in done.stderr


@pytest.mark.parametrize("table", CLASSES)
def test_every_field_has_a_comment(table):
    texts = field_texts(CLASSES[table])
    assert set(CLASSES[table].__dataclass_fields__) <= set(texts)
    assert commented_toml(RunConfig()).count("\n# ") > 20


@pytest.mark.parametrize(
    ("command", "option", "typed", "found"),
    [
        ("export", "reset", "f", ["force-zero"]),
        ("export", "to", "l", ["lava", "loihi"]),
        ("export", "chip", "loihi", ["loihi1", "loihi2"]),
        ("parity", "against", "torch,s", ["torch,sim"]),
        ("eval", "decision", "s", ["score"]),
        ("export", "scale_search", "m", ["max", "mse"]),
        ("train", "neuron", "l", ["lif", "lif_tau"]),
        ("train", "recipe", "digi", ["digits"]),
    ],
)
def test_the_shell_completes_words(command, option, typed, found):
    parameter = next(p for p in COMMANDS[command].params if p.name == option)
    context = click.Context(COMMANDS[command])
    items = parameter.shell_complete(context, typed)
    assert sorted(item.value for item in items) == found


@pytest.mark.parametrize("loaded", [False, True])
def test_a_line_is_shown_while_kernels_compile(loaded, monkeypatch, caplog):
    monkeypatch.setattr(first_run, "SILENT_S", 0.02)
    kernel = SimpleNamespace(overloads={"types": 1} if loaded else {})
    end = time.monotonic() + (0.2 if loaded else 60)  # it stays silent, or a busy machine is late
    with caplog.at_level(logging.WARNING), first_run.said_while_compiling(kernel):
        while not caplog.text and time.monotonic() < end:
            time.sleep(0.01)
    assert ("compiling the kernels, once on this machine" in caplog.text) != loaded


def test_info_separates_what_is_written_from_what_runs():
    done = biril("info")
    assert done.returncode == 0
    assert "can be written here (biril export --to): " in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("can run here"))
    assert "sim" in line
    assert "netx" not in line
