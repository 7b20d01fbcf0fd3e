"""Wrong values for every option of every command: one error of ours, nothing written, no traceback.

The options are read from the commands, so that a new one is tested as well.
"""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer

from biril_nm.cli import app, export_app
from tests.support.command_line import biril, refused

GOLDEN = Path(__file__).parents[1] / "golden" / "v0_1_0"
# A call of each command that works; wrong values are added to it.
CALLS = {
    "train": ("train", "--out", "out/run"),
    "eval": ("eval", "chain.loihi.npz"),
    "export": ("export", "chain.nir", "--to", "loihi", "-o", "out/x.loihi.npz"),
    "sim": ("sim", "chain.loihi.npz", "--spikes", "spikes.npz", "-o", "out/t.npz"),
    "parity": ("parity", "chain.loihi.npz", "--against", "sim", "--samples", "1"),
    "report": ("report", "chain.loihi.npz", "-o", "out/r.html"),
    "card": ("card", "chain.loihi.npz", "-o", "out/c.md"),
    "study": (
        "study",
        "methods",
        "--dataset",
        "digits",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--out",
        "out/study",
    ),
    "chip-train": ("chip-train", "--hidden", "8", "--train-samples", "4", "--out", "out/chip"),
    "info": ("info",),
    "lava-env": ("lava-env", "--python", "/bin/true", "--out", "out/env"),
}
COMMANDS = {each.name: each.callback for each in app.registered_commands}
# The quick suite takes the first of each.
QUICK = 1
NUMBERS = ("-1", "9" * 5000, "1e400", "nan", "-inf", "é", "")
TEXTS = ("x\x1b[2J\udcff", "B" * 100_000, "[/red]")
ENDINGS = ("", ".npz", ".npy", ".nir", ".net", ".loihi.npz", ".html", ".pt", ".toml")
PIPES = tuple(f"pipe{ending}" for ending in ENDINGS)
PATHS = ("pipe", "text.txt/x", "", "/dev/zero", "/proc/none/x", *PIPES)


def options(command: str) -> list[tuple[str, type, bool]]:
    """Name, kind of value, and whether it is an argument."""
    parameters = inspect.signature(COMMANDS[command]).parameters
    return [
        (name, get_args(parameter.annotation)[0], _is_argument(parameter))
        for name, parameter in parameters.items()
    ]


def _is_argument(parameter: inspect.Parameter) -> bool:
    return isinstance(get_args(parameter.annotation)[1], typer.models.ArgumentInfo)


def _values(kind: object) -> tuple[str, ...]:
    kinds = {kind, *get_args(kind)}
    if kinds & {int, float}:
        return NUMBERS
    if kinds & {Path, list[Path]}:
        return PATHS
    return TEXTS if kinds & {str, list[str]} else ()


def _flags(command: str, name: str) -> list[str]:
    info = get_args(inspect.signature(COMMANDS[command]).parameters[name].annotation)[1]
    return list(getattr(info, "param_decls", None) or [f"--{name.replace('_', '-')}"])


def _with(command: str, name: str, is_argument: bool, value: str) -> list[str]:
    """The command's call with another value for one option."""
    call = list(CALLS[command])
    if is_argument:
        return [call[0], value, *call[1 if command in ("train", "info") else 2 :]]
    flags = _flags(command, name)
    for flag in flags:
        if flag in call:
            at = call.index(flag)
            del call[at : at + 2]
    return [*call, flags[0], value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("wrong")
    for name in ("chain.loihi.npz", "chain.nir"):
        shutil.copy(GOLDEN / name, place / name)
    np.savez(place / "spikes.npz", spikes=np.ones((5, 1, 10), np.uint8))
    (place / "text.txt").write_text("text")
    for ending in ENDINGS:
        os.mkfifo(place / f"pipe{ending}")
    return place


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_values_are_refused(command, folder, monkeypatch):
    _refuses(command, folder, monkeypatch, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_more_wrong_values_are_refused(command, folder, monkeypatch):
    _refuses(command, folder, monkeypatch)


def _refuses(command, folder, monkeypatch, n_values: int | None = None) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    calls = [
        (name, value, _with(command, name, is_argument, value))
        for name, kind, is_argument in options(command)
        for value in _values(kind)[:n_values]
    ]
    assert calls
    for name, value, call in calls:
        done = biril(*call)
        assert done.returncode in (1, 2), (name, value[:40], done.stdout, done.stderr)
        assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
        assert "Errno" not in done.stderr and len(done.stderr) < 4000, done.stderr
        assert done.stderr.startswith("error: ") or done.returncode == 2
        assert sorted(folder.rglob("*")) == before, (name, value[:40])


def test_an_empty_argument_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    refused(biril("train", "--out", ""), "the argument behind '--out' is empty; expected a path")
    refused(biril("sim", "--spikes=", "g"), "the argument behind '--spikes' is empty")
    refused(biril("", program="biril-export"), "the argument in first place is empty")
    assert biril("info", "x=").stderr.startswith("error: 'x=' has an unknown ending")
    refused(biril("train", "--dataset", ""), "data set '' is unknown; expected one of")


def test_both_programs_have_the_same_options():
    (export,) = (each.callback for each in export_app.registered_commands)
    found = [list(inspect.signature(each).parameters) for each in (export, COMMANDS["export"])]
    assert found[0] == found[1]


@pytest.mark.parametrize("option", ["--coding", "--neuron", "--model", "--schedule", "--device"])
def test_an_empty_choice_is_not_the_default(option, folder, monkeypatch):
    monkeypatch.chdir(folder)
    refused(biril("train", "--out", "out/empty", option, ""), "''")
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["eval", "parity"])
def test_an_empty_engine_is_not_the_default(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    option = "--backend" if command == "eval" else "--against"
    refused(biril(command, "chain.loihi.npz", option, ""), "''")
