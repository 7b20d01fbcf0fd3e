"""The command line end to end: outputs, exit codes, errors without traceback."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.export import lower, to_nir
from tests.support.command_line import biril, refused


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A short real training run."""
    out = tmp_path_factory.mktemp("run") / "digits"
    done = biril(
        "train", "--schedule", "BBSH", "--epochs", 4, "--batch-size", 128, "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    epochs = json.loads(done.stdout)["epochs"]
    assert [e["phase"] for e in epochs] == list("BBSH")
    return out


def test_train_leaves_every_file_and_refuses_to_overwrite(run_dir):
    names = {p.name for p in run_dir.iterdir()}
    assert {"model.pt", "config.toml", "metrics.jsonl", "checkpoint.pt", "curves.png"} <= names
    if importlib.util.find_spec("tensorboard"):
        assert list((run_dir / "tensorboard").glob("events*"))
    assert not [name for name in names if name.endswith(".part")]
    refused(biril("train", "--out", run_dir), "config.toml", "--force")


def test_config_file_reproduces_the_run(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    words = ("--model", "mlp", "--schedule", "B", "--epochs", 1, "--steps", 2, "--seed", 7)
    for given in ((*words, "--out", first), (first / "config.toml", "--out", again)):
        done = biril("train", *given, "--json")
        assert done.returncode == 0, done.stderr
    assert (again / "model.pt").read_bytes() == (first / "model.pt").read_bytes()


def test_eval_export_sim_and_parity_agree(run_dir, tmp_path):
    graph, lava = tmp_path / "m.loihi.npz", tmp_path / "lava"
    assert biril("export", run_dir / "model.pt", "--to", "loihi", "-o", graph).returncode == 0
    done = biril(
        run_dir / "model.pt",
        "--to",
        "lava",
        "-o",
        lava,
        "--dataset",
        "digits",
        program="biril-export",
    )
    assert done.returncode == 0, done.stderr
    assert (lava / "run_lava.py").is_file()
    results = {
        engine: json.loads(
            biril("eval", source, "--backend", engine, "--samples", 100, "--json").stdout
        )
        for engine, source in (("torch", run_dir / "model.pt"), ("sim", graph))
    }
    assert results["torch"]["accuracy"] > 0.5
    assert abs(results["torch"]["accuracy"] - results["sim"]["accuracy"]) < 0.1
    trace = tmp_path / "t.npz"
    done = biril(
        "sim", graph, "--spikes", lava / "input.npz", "--record", "s,v", "-o", trace, "--json"
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["n_spikes"]
    arrays = np.load(trace)
    assert set(arrays) >= {"if1.s", "if1.v", "if_out.s", "meta"}
    assert int(arrays["if1.s"].sum()) == counts["if1"] > 0


@pytest.mark.lava
def test_parity_command_with_lava(run_dir, tmp_path):
    done = biril("parity", run_dir / "model.pt", "--dataset", "digits", "--samples", 20, "--json")
    report = json.loads(done.stdout)
    assert not report["mismatches"] and report["n_compared"] > 10_000
    assert report["floats"]["n_samples"] == 20
    assert done.returncode == (0 if report["ok"] else 1)
    assert all(count > 0 for count in report["n_spikes"].values())


@pytest.mark.lava
def test_report_is_one_readable_file(run_dir, tmp_path):
    page = tmp_path / "r.html"
    done = biril("report", run_dir, "--dataset", "digits", "--samples", 4, "-o", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 7
    assert "sim = lava" in text and "accuracy, integers" in text
    assert "http://" not in text and "https://" not in text
    refused(biril("report", run_dir, "-o", page), str(page), "--force")


def test_nir_export_is_read_back_by_nir(run_dir, tmp_path):
    path = tmp_path / "m.nir"
    assert biril("export", run_dir / "model.pt", "--to", "nir", "-o", path).returncode == 0
    graph = nir.read(path)
    assert "conv2+bn2" in graph.nodes
    done = biril("info", path)
    assert done.returncode == 0 and "conv2+bn2" in done.stdout


@pytest.mark.lava
def test_parity_of_a_nir_file(run_dir, tmp_path):
    path = tmp_path / "m.nir"
    assert biril("export", run_dir / "model.pt", "--to", "nir", "-o", path).returncode == 0
    done = biril("parity", path, "--against", "sim,lava", "--samples", 2, "--steps", 4)
    assert done.returncode == 0, done.stderr


def test_info_lists_versions_and_nodes():
    done = biril("info", "--json")
    facts = json.loads(done.stdout)
    assert facts["backends"] == ["nir", "loihi", "lava", "netx"]
    assert facts["engines"]["sim"] is None
    assert ["snnTorch", "Leaky"] in [row[:2] for row in facts["supported"]]


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_damaged_and_hostile_models_are_refused(run_dir, tmp_path):
    whole = (run_dir / "model.pt").read_bytes()
    cut, bomb, mark = tmp_path / "cut.pt", tmp_path / "bomb.pt", tmp_path / "exploded"
    cut.write_bytes(whole[: len(whole) // 2])
    refused(biril("eval", cut), "cut.pt")
    torch.save({"config": Bomb(mark), "state_dict": {}}, bomb)
    refused(biril("export", bomb, "--to", "lava", "-o", tmp_path / "lava"), "bomb.pt")
    bomb.write_bytes(pickle.dumps(Bomb(mark)))
    refused(biril("info", bomb), "bomb.pt")
    assert not mark.exists()
    assert not (tmp_path / "lava").exists()
    refused(biril("eval", tmp_path / "none.pt"), "none.pt")
    refused(biril("info", tmp_path / "x.onnx"), "x.onnx", ".nir")


def test_wrong_spikes_are_refused(run_dir, tmp_path):
    graph = tmp_path / "m.loihi.npz"
    biril("export", run_dir / "model.pt", "--to", "loihi", "-o", graph)
    spikes = tmp_path / "spikes.npz"
    for array, words in (
        ({"spikes": np.zeros((4, 2, 9, 9), int)}, ("(4, 2, 9, 9)", "n_steps, batch, 1, 8, 8")),
        ({"other": np.zeros((4, 2, 1, 8, 8), int)}, ("'other'", "'spikes'")),
        ({"spikes": np.zeros((4, 2, 1, 8, 8))}, ("float64", "integers")),
        ({"spikes": np.full((4, 2, 1, 8, 8), 256)}, ("input", "256")),
        ({"spikes": np.full((4, 2, 1, 8, 8), -1)}, ("input", "-1")),
    ):
        np.savez(spikes, **array)
        refused(biril("sim", graph, "--spikes", spikes, "-o", tmp_path / "t.npz"), *words)
        assert not (tmp_path / "t.npz").exists()
    stream = io.BytesIO()
    np.lib.format.write_array(
        stream, np.array([Bomb(tmp_path / "x")], dtype=object), allow_pickle=True
    )
    with zipfile.ZipFile(spikes, "w") as archive:
        archive.writestr("spikes.npy", stream.getvalue())
    refused(biril("sim", graph, "--spikes", spikes), "Objects and records are never read")
    refused(
        biril("sim", run_dir / "model.pt", "--spikes", spikes),
        "is not an integer graph",
        "biril export",
    )


def test_existing_output_stays_without_force(run_dir, tmp_path):
    target = tmp_path / "m.loihi.npz"
    target.write_text("precious")
    refused(
        biril("export", run_dir / "model.pt", "--to", "loihi", "-o", target), str(target), "--force"
    )
    assert target.read_text() == "precious"
    done = biril("export", run_dir / "model.pt", "--to", "loihi", "-o", target, "--force")
    assert done.returncode == 0
    assert bnm.LoihiGraph.load(target).neurons


def test_a_network_with_subtract_reset_is_refused_for_loihi1(tmp_path):
    import snntorch as snn

    path = tmp_path / "subtract.nir"
    net = nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.9, init_hidden=True))
    nir.write(path, to_nir(net, torch.zeros(1, 4)))
    done = biril("export", path, "--to", "lava", "--chip", "loihi1", "-o", tmp_path / "lava")
    refused(done, "'1'", "subtract", "force-zero")
    assert not (tmp_path / "lava").exists()
    done = biril(
        "export", path, "--to", "loihi", "--reset", "force-zero", "-o", tmp_path / "g.loihi.npz"
    )
    assert done.returncode == 0, done.stderr


def test_hostile_nir_files_are_refused(tmp_path):
    import h5py

    net = nn.Sequential(nn.Linear(4, 3), __import__("snntorch").Leaky(0.9, init_hidden=True))
    good = tmp_path / "good.nir"
    nir.write(good, to_nir(net, torch.zeros(1, 4)))
    cases = {}
    for name in ("truncated", "external", "cycle", "huge", "empty"):
        cases[name] = tmp_path / f"{name}.nir"
        cases[name].write_bytes(good.read_bytes())
    cases["truncated"].write_bytes(good.read_bytes()[:2000])
    with h5py.File(cases["external"], "a") as file:
        file["node/nodes/x"] = h5py.ExternalLink("/etc/hostname", "/")
    with h5py.File(cases["cycle"], "a") as file:
        file["node/nodes/again"] = file["node"]
    with h5py.File(cases["huge"], "a") as file:
        file.create_dataset("node/huge", shape=(1 << 20, 1 << 20), dtype="f8", chunks=(1024, 1024))
    with h5py.File(cases["empty"], "w"):
        pass
    for name, path in cases.items():
        refused(biril("info", path), f"{name}.nir")


def test_usage_errors_exit_with_2():
    assert biril("export").returncode == 2
    assert biril("eval", "x.pt", "--nonsense").returncode == 2
    assert biril("frobnicate").returncode == 2
    assert biril(program="biril-export").returncode == 2


def test_unknown_names_list_the_known_ones(run_dir, tmp_path):
    refused(
        biril("export", run_dir / "model.pt", "--to", "cuda", "-o", tmp_path / "x"),
        "nir, loihi, lava",
    )
    refused(biril("train", "--dataset", "imagenet", "--out", tmp_path / "o"), "digits, mnist")
    refused(biril("train", "--model", "alexnet", "--out", tmp_path / "o"), "convnet")
    refused(biril("train", "--schedule", "BXB", "--out", tmp_path / "o"), "BXB")
    refused(biril("eval", run_dir / "model.pt", "--backend", "gpu"), "torch, sim, lava")
    assert not (tmp_path / "o").exists()


@pytest.mark.lava
def test_parity_reports_the_first_difference_with_exit_1(run_dir, tmp_path, monkeypatch):
    """Lava is given a graph with one register changed by 1."""
    import biril_nm.export.lava as lava
    from biril_nm.parity import check_parity

    net = bnm.load(run_dir / "model.pt")
    graph = lower(to_nir(net))
    spikes = net.config.coding.encode(np.random.default_rng(0).random((3, 1, 8, 8)))
    original = lava.run_lava
    wrong = graph.with_node("if2", bias_mant=graph.neurons["if2"].bias_mant + 1)
    monkeypatch.setattr(lava, "run_lava", lambda g, *a, **k: original(wrong, *a, **k))
    report = check_parity(graph, spikes)
    assert not report.ok and report.mismatches[0].node == "if2"
    with pytest.raises(
        bnm.errors.ParityError, match=r"if2: v differs first at step 1, sample 0, neuron 0"
    ):
        report.raise_on_mismatch()


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert biril("info", "--json").returncode == 0
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert biril("info", "--json").returncode == 0
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
