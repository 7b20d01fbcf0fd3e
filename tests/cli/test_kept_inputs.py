"""No command replaces a file that it reads, whatever the output is called, with --force too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biril_nm.errors import OutputExistsError
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.models import ModelConfig, build_model, save
from biril_nm.storage import keep_inputs
from tests.support.command_line import biril, refused

KEPT = "which this command reads"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A network, spikes and pictures of its shape, with other names of both, in the working folder."""
    monkeypatch.chdir(tmp_path)
    nodes = {"in": Input((6,)), "fc": Dense(np.full((4, 6), 40)), "n": Neurons((4,), vth=60)}
    edges = (("in", "fc"), ("fc", "n"), ("n", "out"))
    LoihiGraph({**nodes, "out": Output()}, edges).save("g.loihi.npz")
    np.savez("x.npz", spikes=np.ones((5, 1, 6), np.uint8), pictures=np.ones((2, 6)))
    Path("folder").mkdir()
    np.save("folder/x.npy", np.ones((5, 1, 6), np.uint8))
    Path("link.loihi.npz").symlink_to("g.loihi.npz")
    Path("hard.loihi.npz").hardlink_to("g.loihi.npz")
    Path("here").symlink_to(".")
    return {path: path.read_bytes() for path in tmp_path.rglob("*.np[yz]")}


def keeps(files, *words):
    """The command is refused, and all files are as they were."""
    refused(biril(*words, "--force"), KEPT)
    assert all(path.read_bytes() == data for path, data in files.items())


@pytest.mark.parametrize(
    "words",
    [
        ("g.loihi.npz", "-o", "g.loihi.npz"),
        ("g.loihi.npz", "-o", "./here/g.loihi.npz"),
        ("g.loihi.npz", "-o", "hard.loihi.npz"),
        ("link.loihi.npz", "-o", "g.loihi.npz"),
        ("g.loihi.npz", "-o", "link.loihi.npz"),
        ("g.loihi.npz", "-o", "x.npz"),
        ("g.loihi.npz", "--learn", "--learned-out", "g.loihi.npz"),
        ("g.loihi.npz", "--learn", "--learned-out", "link.loihi.npz"),
    ],
)
def test_sim_replaces_no_input(files, words):
    keeps(files, "sim", *words, "--spikes", "x.npz")


def test_sim_replaces_no_folder_of_its_input_and_no_pictures(files):
    spikes = ("g.loihi.npz", "--spikes", "folder/x.npy")
    keeps(files, "sim", *spikes, "--record-to", "folder")
    keeps(files, "sim", *spikes, "--record-to", "here/folder")
    keeps(files, "sim", "g.loihi.npz", "--pictures", "x.npz", "-o", "x.npz")


def test_sim_writes_each_result_to_a_file_of_its_own(files):
    outputs = ("-o", "y.loihi.npz", "--learned-out", "here/y.loihi.npz")
    done = biril("sim", "g.loihi.npz", "--spikes", "x.npz", "--learn", *outputs)
    refused(done, "--out and --learned-out are both", "expected a file for each")
    assert not Path("y.loihi.npz").exists() and all(path.exists() for path in files)


def test_export_replaces_no_input(files):
    keeps(files, "export", "g.loihi.npz", "--to", "loihi")
    keeps(files, "export", "link.loihi.npz", "--to", "loihi", "-o", "hard.loihi.npz")
    bundle = ("export", "g.loihi.npz", "--to", "lava", "-o", "lava")
    assert biril(*bundle).returncode == 0
    files |= {path: path.read_bytes() for path in Path("lava").iterdir()}
    keeps(files, *bundle, "--spikes", "lava/input.npz")
    rule = Path("lava", "rule.toml")
    rule.write_text("")
    keeps(files, *bundle, "--plastic", f"fc={rule}")
    assert biril(*bundle, "--spikes", "x.npz", "--force").returncode == 0


def test_training_starts_over_no_file_that_it_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = build_model("mlp", ModelConfig(input_shape=(1, 8, 8), hidden=(8,)), seed=0)
    Path("run").mkdir()
    save(net, "run/model.pt")
    Path("run/config.toml").write_text('dataset = "digits"\nmodel = "mlp"\n')
    files = {path: path.read_bytes() for path in Path("run").iterdir()}
    words = ("train", "--epochs", 1, "--schedule", "B", "--out", "run")
    keeps(files, *words, "--from", "run/model.pt")
    keeps(files, *words, "--from", "run")
    keeps(files, *words, "run/config.toml")
    keeps(files, *words, "--recipe", "run/config.toml")


def test_a_run_replaces_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("metrics.jsonl", "curves.png", "best.pt", "study.png"):
        Path("out").mkdir()
        Path("out", name).write_text("mine")
        command = ("study", "methods", "--seeds", 1) if name == "study.png" else ("train",)
        refused(biril(*command, "--epochs", 1, "--out", "out"), name, "--force")
        assert [path.name for path in Path("out").iterdir()] == [name]
        Path("out", name).unlink()
        Path("out").rmdir()


def test_learning_on_the_chip_and_studies_start_over_no_file_that_they_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spikes = np.ones((16, 4, 6), np.uint8)
    np.savez("state.npz", spikes=spikes, labels=np.arange(4) % 2)
    Path("study.toml").write_text('name = "mine"\n[[methods]]\nname = "a"\nschedule = "B"\n')
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    keeps(files, "chip-train", "--spikes", "state.npz", "--hidden", 8, "--out", ".")
    keeps(files, "study", "study.toml", "--out", ".")


def test_no_environment_replaces_the_python_that_would_make_it(tmp_path):
    program = tmp_path / "env" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 3 10\n")
    program.chmod(0o755)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    words = ("lava-env", "--out", tmp_path / "env", "--force")
    refused(biril(*words, "--python", program), KEPT)
    refused(biril(*words), "is not an environment for Lava alone")
    assert program.is_file()


def test_outputs_that_hold_no_input_are_taken(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    places = [
        tmp_path / name for name in ("b", "folder", "new", "new/x", "dangling", "loop", "a/x")
    ]
    keep_inputs([None, *places], [None, tmp_path / "a", tmp_path / "missing"])
    with pytest.raises(OutputExistsError, match=KEPT):
        keep_inputs([tmp_path / "a"], [tmp_path / "b", tmp_path / "folder" / ".." / "a"])
