"""Commands that are stopped, started twice, or continued where there is nothing to continue."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer

import biril_nm as bnm
from biril_nm.commands.interrupts import check_stopped, keeping, stoppable
from biril_nm.export.report import page
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.storage import lock_folder
from biril_nm.training.run_config import RunConfig
from tests.support import killable
from tests.support.command_line import biril
from tests.support.killable import Commands

pytestmark = pytest.mark.timeout(3600)  # on a machine that may be busy
TRAIN = ["train", "--model", "mlp", "--schedule", "B", "--steps", "2", "--batch-size", "300"]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Commands:
    return Commands(tmp_path_factory.mktemp("stops"))


# A stopped recording is sent the others.
@pytest.mark.parametrize("number", [
    signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGHUP))
])  # fmt: skip
def test_a_stopped_training_says_what_it_kept_and_how_to_go_on(number, commands):
    run = commands.folder / f"my {number.name}"
    words = [*TRAIN, "--epochs", 500, "--out", run.name]
    ending = commands.signal(words, number, (run / "checkpoint.pt").exists)
    assert ending.code == 128 + number, ending.errors
    last = ending.errors.splitlines()[-1]
    assert last.startswith(
        f"stopped by {number.name}. '{run.name}' keeps checkpoint.pt after epoch "
    )
    assert last.endswith(f" of 500; continue with: biril train --resume --out '{run.name}'")
    assert "Traceback" not in ending.errors and ending.errors.count("stopped by") == 1
    assert not [p.name for p in run.iterdir() if ".biril-" in p.name]


def test_a_training_stopped_before_its_first_epoch_goes_on_as_it_was_asked_for(commands):
    run = commands.folder / "early"
    words = [*TRAIN, "--batch-size", 10, "--epochs", 1, "--seed", 5, "--out", run.name]
    ending = commands.signal(words, signal.SIGINT, (run / "config.toml").exists)
    if (run / "checkpoint.pt").exists():
        pytest.skip("the machine was too slow to stop it before its first epoch")
    assert ending.code == 130, ending.errors
    assert (
        "keeps config.toml, and no epoch was finished; continue with: biril train" in ending.errors
    )
    config = RunConfig.read(run / "config.toml")
    assert (config.seed, config.model, config.batch_size) == (5, "mlp", 10)
    refused = commands.run([*TRAIN, "--out", run.name])
    assert refused.code == 1 and "config.toml' exists already" in refused.errors
    other = commands.run(["train", "--resume", "--seed", 6, "--out", run.name])
    assert other.code == 1 and "belongs to another run" in other.errors
    assert "seed: 5 before, 6 now" in other.errors
    assert commands.run(["train", "--resume", "--out", run.name]).code == 0
    assert RunConfig.read(run / "config.toml") == config


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_recording_leaves_nothing(number, commands):
    folder = commands.folder / f"record {number.name}"
    folder.mkdir()
    weight = np.random.default_rng(0).integers(-9, 9, (200, 40)) * 2
    nodes = {"in": Input((40,)), "fc": Dense(weight), "lif": Neurons((200,), vth=20, dv=400),
             "out": Output()}  # fmt: skip
    LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"), ("lif", "out"))).save(folder / "g.loihi.npz")
    np.save(folder / "x.npy", np.ones((300_000, 1, 40), np.uint8))
    words = ["sim", folder / "g.loihi.npz", "--spikes", folder / "x.npy", "--record", "s,v"]
    ending = commands.signal(
        [*words, "--record-to", folder / "t"],
        number,
        lambda: any(p.name.endswith(".part") for p in folder.iterdir()),
    )
    assert ending.code == 128 + number, ending.errors
    assert ending.errors.startswith(
        f"stopped by {number.name}. Outputs are written whole or not at all"
    )
    assert sorted(p.name for p in folder.iterdir()) == ["g.loihi.npz", "x.npy"]


def test_signals_that_the_caller_ignores_stay_ignored(tmp_path):
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from biril_nm.commands.interrupts import stoppable\n"
        "stoppable(lambda: os.kill(os.getpid(), signal.SIGHUP))()\n"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, capture_output=True, text=True, check=True, env=killable.environment()
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize("options", [[], [*TRAIN[1:]], ["--seed", 3]])
def test_resume_without_a_run_is_refused_and_makes_nothing(options, commands):
    ending = commands.run(["train", *options, "--resume", "--out", "typo"])
    assert ending.code == 1
    assert "'typo' does not hold a run: config.toml is missing" in ending.errors
    assert not (commands.folder / "typo").exists()


def test_two_trainings_in_one_folder(commands):
    run = commands.folder / "twice"
    assert commands.run([*TRAIN, "--epochs", 1, "--out", run.name]).code == 0
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    for option in ("--force", "--resume"):
        with lock_folder(run):
            ending = commands.run([*TRAIN, "--epochs", 1, "--out", run.name, option])
        assert ending.code == 1
        assert f"output folder '{run.name}' is in use by process " in ending.errors
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


def test_a_report_waits_for_a_training_and_then_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "WAIT_S", 0.1)
    bnm.save(bnm.build_model("mlp", bnm.ModelConfig(hidden=(4,)), seed=0), tmp_path / "model.pt")
    with lock_folder(tmp_path):
        refused = biril("report", tmp_path, "--against", "", "--samples", 1)
    assert refused.returncode == 1
    assert f"output folder '{tmp_path}' is in use by process " in refused.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_training_on_a_full_disk_says_so_and_goes_on_once_there_is_room(commands, small_disk):
    run = small_disk / "run"
    assert commands.run([*TRAIN, "--epochs", 2, "--out", commands.folder / "roomy"]).code == 0
    full = small_disk / "full"
    full.write_bytes(bytes((4 << 20) - (300 << 10)))
    ending = commands.run([*TRAIN, "--epochs", 2, "--out", run])
    assert ending.code == 1
    assert "does not fit on its disk (No space left on device)" in ending.errors
    for words in ("Traceback", "Exception ignored", "Exception in thread"):
        assert words not in ending.errors
    full.unlink()
    assert commands.run(["train", "--resume", "--out", run]).code == 0
    assert not [p.name for p in run.iterdir() if ".biril-" in p.name]
    wanted = (commands.folder / "roomy" / "model.pt").read_bytes()
    assert (run / "model.pt").read_bytes() == wanted


@pytest.mark.parametrize("suffix", [".nir", ".net", ".loihi.npz", ""])
def test_an_export_on_a_full_disk_says_so(suffix, commands, small_disk):
    weight = np.random.default_rng(0).integers(-127, 127, (400, 400)) * 2
    nodes = {"in": Input((400,)), "fc": Dense(weight), "lif": Neurons((400,), vth=20, dv=400),
             "out": Output()}  # fmt: skip
    source = commands.folder / "large.loihi.npz"
    LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"), ("lif", "out"))).save(source, force=True)
    (small_disk / "full").write_bytes(bytes((4 << 20) - (60 << 10)))
    kind = {".nir": "nir", ".net": "netx", ".loihi.npz": "loihi", "": "lava"}[suffix]
    ending = commands.run(
        ["export", source, "--to", kind, "-o", small_disk / f"x{suffix}"]
        + (["--dt", "1e-3"] if kind == "nir" else [])
    )
    assert ending.code == 1
    full = rf"disk/x{suffix}(/[a-z_.]+)?' does not fit on its disk \(No space left on device\)"
    assert re.search(full, ending.errors), ending.errors
    for words in ("Traceback", "Exception ignored", "Exception in thread"):
        assert words not in ending.errors
    assert [p.name for p in small_disk.iterdir()] == ["full"]


INTERRUPTED_IMPORT = """
import os, signal, sys
from biril_nm.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
left = int(sys.argv.pop(1))
def interrupt(event, _):
    global left
    left -= event == "import"
    if not left:
        left = -1
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
main()
"""


@pytest.mark.parametrize("module", [1, 300, 1200])
def test_an_interrupt_while_modules_are_imported_is_one_line(module, tmp_path):
    words = [module, "train", "--model", "mlp", "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, *map(str, words)],
        capture_output=True, text=True, check=False, env=killable.environment(),
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr.startswith("stopped by SIGINT") and done.stderr.count("\n") == 1, done.stderr
    assert not done.stdout and not (tmp_path / "run" / "config.toml").exists()


@pytest.fixture
def interrupts():
    """Ctrl-C as in the foreground; a program in the background starts without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_import_that_turns_an_interrupt_into_another_error_is_a_stop(capsys, interrupts):
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("no module") from None

    with pytest.raises(typer.Exit) as stop:
        stoppable(command)()
    assert stop.value.exit_code == 128 + signal.SIGINT
    assert capsys.readouterr().err.startswith("stopped by SIGINT. Outputs are written whole")
    with pytest.raises(ZeroDivisionError):
        stoppable(lambda: 1 // 0)()


class Ends:
    """Is stopped as it ends, where Python drops every exception."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_stop_that_python_drops_comes_again(capsys, interrupts):
    def command() -> None:
        Ends()
        time.sleep(60)

    with pytest.raises(typer.Exit) as stop:
        stoppable(command)()
    assert stop.value.exit_code == 128 + signal.SIGINT
    said = capsys.readouterr().err
    assert said.startswith("stopped by SIGINT. Outputs are written whole") and said.count("\n") == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def another_error() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise SystemError("a result with an exception set") from None


def no_error() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("becomes", [another_error, no_error])
def test_what_is_kept_is_said_whatever_becomes_of_the_interrupt(becomes, capsys, interrupts):
    def command() -> None:
        with keeping(lambda: "'run' keeps all."):
            becomes()
            check_stopped()

    for _ in range(2):  # the second command knows nothing of the first
        with pytest.raises(typer.Exit) as stop:
            stoppable(command)()
        assert stop.value.exit_code == 128 + signal.SIGINT
        assert capsys.readouterr().err == "stopped by SIGINT. 'run' keeps all.\n"
    stoppable(check_stopped)()
    with pytest.raises(ZeroDivisionError), keeping(lambda: "nothing"):
        1 / 0


def test_the_entry_point_imports_nothing_heavy_before_it_can_be_interrupted():
    code = "import sys, biril_nm.__main__; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, capture_output=True, text=True, check=True, env=killable.environment()
    )
    assert not {"numpy", "typer", "rich", "numba", "torch"} & set(done.stdout.split())
