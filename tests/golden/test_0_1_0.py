"""What version 0.1.0 wrote loads for ever and means the same (files by make_0_1_0.py)."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import biril_nm as bnm
from biril_nm import cli
from biril_nm.export import lower, read_netx
from biril_nm.export.nir_files import read_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Neurons, Sparse
from biril_nm.hw_graph.plastic import read_rule
from biril_nm.recording import Recording
from biril_nm.training.run_config import RunConfig

FILES = Path(__file__).parent / "v0_1_0"
LOGIT_TOLERANCE = 1e-4  # float sums in another order: torch versions and vector widths differ


def arrays(name):
    with np.load(FILES / name, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def expected():
    return arrays("expected.npz")


def biril(monkeypatch, *arguments):
    """Run the command line; it must succeed."""
    monkeypatch.setattr(sys, "argv", ["biril", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


def equal_to_recorded(recording, expected, prefix, variables):
    for name in recording:
        for variable in variables:
            wanted = expected[f"{prefix}.{name}.{variable}"]
            assert wanted.any(), "a silent golden file proves nothing"
            np.testing.assert_array_equal(getattr(recording[name], variable), wanted)


# --- integer graphs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_kind():
    return LoihiGraph.load(FILES / "every_kind.loihi.npz")


def test_a_graph_of_every_kind_simulates_as_before(every_kind, expected):
    kinds = {type(node) for node in every_kind.connections.values()}
    assert kinds == {Dense, Sparse, Conv}
    recording = simulate(every_kind, arrays("every_kind_spikes.npz"), record="s,u,v")
    assert set(recording) == {"c", "h", "o"}
    equal_to_recorded(recording, expected, "every_kind", "suv")


def test_one_register_of_the_old_file_matters(every_kind, expected):
    node = every_kind.neurons["h"]
    assert isinstance(node, Neurons)
    other = every_kind.with_node("h", dv=np.asarray(node.dv) + 1)
    recording = simulate(other, arrays("every_kind_spikes.npz"), record="v")
    assert (recording["h"].v != expected["every_kind.h.v"]).any()


def test_rules_tags_and_modulators_learn_as_before(every_kind, expected):
    assert set(every_kind.plastic) == {"sparse", "fc"}
    assert every_kind.plastic["fc"].modulators
    result = simulate(every_kind, arrays("every_kind_spikes.npz"), record="s", learn=True)
    for name, node in result.graph.plastic.items():
        weight = node.weight.data if isinstance(node, Sparse) else node.weight
        np.testing.assert_array_equal(weight, expected[f"learned.{name}.weight"])
    tags = result.graph.plastic["sparse"].tag_t
    np.testing.assert_array_equal(tags, expected["learned.sparse.tag_t"])
    assert (tags != every_kind.plastic["sparse"].tag_t).any()


def test_metadata_and_delays_are_kept(every_kind):
    assert every_kind.metadata["note"] == "golden"
    assert every_kind.metadata["dt_s"] == 1e-3
    assert every_kind.connections["side"].delay == 2


def test_a_lowered_graph_simulates_as_before(expected):
    graph = LoihiGraph.load(FILES / "lowered.loihi.npz")
    recording = simulate(graph, arrays("spikes.npz")["spikes"], record="s,v")
    equal_to_recorded(recording, expected, "lowered", "sv")


def test_saving_again_keeps_the_graph(every_kind, tmp_path):
    every_kind.save(tmp_path / "again.loihi.npz")
    assert LoihiGraph.load(tmp_path / "again.loihi.npz") == every_kind


# --- other writings of the same network ---------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda: LoihiGraph.load(FILES / "chain.loihi.npz"),
        lambda: lower(read_nir(FILES / "chain.nir")),
        lambda: read_netx(FILES / "chain.net"),
    ],
    ids=["loihi", "nir", "netx"],
)
def test_the_chain_simulates_as_before(read, expected):
    graph = read()
    spikes = simulate(graph, expected["chain.input"])["n2"].s
    assert expected["chain.s"].any()
    np.testing.assert_array_equal(spikes, expected["chain.s"])


# --- torch --------------------------------------------------------------------------------------


def scores(net):
    x = torch.from_numpy(net.config.coding.to_float(arrays("spikes.npz")["spikes"]))
    with torch.no_grad():
        return net(x).scores.numpy()


def test_a_model_computes_as_before(expected):
    net = bnm.load(FILES / "model.pt")
    assert np.abs(expected["model.logits"]).max() > 1000 * LOGIT_TOLERANCE
    np.testing.assert_allclose(scores(net), expected["model.logits"], atol=LOGIT_TOLERANCE)


def test_a_configuration_reads_as_before():
    run = RunConfig.read(FILES / "run" / "config.toml")
    assert (run.dataset, run.model, run.batch_size) == ("digits", "mlp", 64)
    assert run.net.hidden == (12, 10)
    assert run.train.schedule == "BSH"
    assert run.train.plasticity.rule.name == "offset"


def test_an_interrupted_run_resumes(expected, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(FILES / "run", folder)
    before = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    biril(monkeypatch, "train", "--resume", "--out", folder)
    after = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (len(before), len(after)) == (2, 3)
    assert after[:2] == before
    found = scores(bnm.load(folder / "model.pt"))
    # One epoch of training multiplies the differences of float sums.
    np.testing.assert_allclose(found, expected["run.logits"], atol=0.05)


# --- recordings, rules, spikes ------------------------------------------------------------------


def test_a_recording_reads_as_before(expected):
    recording = Recording.load(FILES / "trace.npz")
    assert set(recording) == {"lif1", "lif2", "lif_out"}
    equal_to_recorded(recording, expected, "lowered", "sv")
    assert recording.n_spikes["lif1"] == expected["lowered.lif1.s"].sum()


def test_a_folder_of_a_recording_reads_as_before(expected):
    recording = Recording.load(FILES / "trace")
    assert set(recording) == {"lif1", "lif2", "lif_out"}
    equal_to_recorded(recording, expected, "lowered", "s")


def test_a_recording_of_learning_reads_as_before(expected):
    recording = Recording.load(FILES / "learning_trace.npz")
    last = recording.connections["fc"].w[-1]
    np.testing.assert_array_equal(last, expected["learned.fc.weight"])


@pytest.mark.parametrize("name", ["rule.json", "rule.toml"])
def test_a_rule_reads_as_before(name, every_kind):
    assert read_rule(FILES / name) == every_kind.plastic["sparse"].rule


def test_spikes_are_taken_by_the_command_line(expected, tmp_path, monkeypatch):
    out = tmp_path / "trace.npz"
    spikes = ["--spikes", FILES / "spikes.npz", "--record", "s,v", "-o", out]
    biril(monkeypatch, "sim", FILES / "lowered.loihi.npz", *spikes)
    equal_to_recorded(Recording.load(out), expected, "lowered", "sv")


def test_the_versions_that_made_the_files_stand_in_them(expected):
    versions = json.loads(str(expected["versions"]))
    assert versions["biril-nm"] == "0.1.0"
    assert {"torch", "nir", "numpy", "python"} <= set(versions)
