"""Names of nodes: what a graph accepts, every file keeps; what no file holds, no graph accepts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.export import get_backend, read_netx, write_netx
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.recording import Recording
from biril_nm.storage import read_npz, write_document, write_npz
from tests.support.command_line import biril, refused

KEPT = (
    "../../x", "/x", "a/b", "a\\b", "meta", "header", "spikes", "labels", "a.s", "x.npy", "0.weight", ".",
    " ", "{x}", "%s", "\x1b[2Jx", "a\nb", "a\u202eb", "<script>", "é" * 200, "a" * 60_000,
)  # fmt: skip
REFUSED = ("", "a\0b", "\0", "\udcff", "x\ud800", "a" * 60_001)


def graph(source="in", target="n"):
    nodes = {source: Input((6,)), "c": Dense(np.full((4, 6), 40)), target: Neurons((4,), vth=60)}
    edges = ((source, "c"), ("c", target), (target, "out"))
    return LoihiGraph({**nodes, "out": Output()}, edges)


@pytest.mark.parametrize("name", KEPT, ids=lambda name: ascii(name[:8]))
def test_files_keep_names(tmp_path, name):
    network, spikes = graph(target=name), np.ones((5, 1, 6), np.uint8)
    network.save(tmp_path / "g.loihi.npz")
    assert LoihiGraph.load(tmp_path / "g.loihi.npz") == network
    write_netx(network, tmp_path / "g.net")
    assert name in read_netx(tmp_path / "g.net").neurons
    whole = simulate(network, spikes, record=("s", "v"))
    whole.save(tmp_path / "r.npz")
    simulate(network, spikes, record=("s", "v"), record_to=tmp_path / "r")
    for path in (tmp_path / "r.npz", tmp_path / "r"):
        found = Recording.load(path)
        assert list(found) == [name]
        np.testing.assert_array_equal(found[name].v, whole[name].v)
    assert whole[name].s.any()


@pytest.mark.parametrize("name", KEPT, ids=lambda name: ascii(name[:8]))
def test_a_bundle_obeys_no_name(tmp_path, name):
    get_backend("lava").write(graph(target=name), tmp_path / "one")
    other = Dense(np.full((4, 2), 40))
    nodes = {**graph(source=name).nodes, "other": Input((2,)), "c2": other}
    edges = (*graph(source=name).edges, ("other", "c2"), ("c2", "n"))
    get_backend("lava").write(LoihiGraph(nodes, edges), tmp_path / "two")
    for folder in ("one", "two"):
        text = (tmp_path / folder / "README.txt").read_text(encoding="utf-8")
        assert all(c.isprintable() or c == "\n" for c in text)
        assert f"{name.splitlines()[0].strip()[:8]}" in text or not name.isprintable()


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name[:8]))
def test_no_graph_and_no_archive_has_a_name_that_files_cannot_hold(tmp_path, name):
    for ends in ({"source": name}, {"target": name}):
        with pytest.raises(ConfigError, match="expected"):
            graph(**ends)
    with pytest.raises(FileFormatError, match="the name .* expected"):
        write_npz(tmp_path / "x.npz", {name + 5_000 * name[:1]: np.zeros(1)})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["\udcff", {"\ud800": 1}, 1 << 64, float("inf"), b"x"])
def test_what_could_not_be_read_again_is_not_written(tmp_path, value):
    with pytest.raises(FileFormatError, match="would get holds"):
        write_document(tmp_path / "x.npz", {"a": [value]}, {})
    with pytest.raises(FileFormatError, match="would get holds"):
        graph().with_metadata(mine=[value]).save(tmp_path / "g.loihi.npz")
    assert not any(tmp_path.iterdir())


def test_the_longest_name_is_that_of_an_archive(tmp_path):
    write_npz(tmp_path / "x.npz", {"a" * 65_000: np.zeros(1)})
    assert [len(name) for name in read_npz(tmp_path / "x.npz")] == [65_000]


def test_files_with_names_that_are_not_unicode(tmp_path, monkeypatch):
    """Names on Linux are bytes; what a command writes about them can be read."""
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"m\xff")
    try:
        Path(odd).touch()
    except OSError:
        pytest.skip("this file system has Unicode names only")
    from biril_nm.models import ModelConfig, build_model, save

    save(build_model("mlp", ModelConfig(input_shape=(1, 8, 8), hidden=(8,)), seed=0), f"{odd}.pt")
    assert biril("export", f"{odd}.pt", "--to", "loihi").returncode == 0
    assert LoihiGraph.load(f"{odd}.loihi.npz").metadata["source"] == "m\\udcff.pt"
    assert biril("export", f"{odd}.loihi.npz", "--to", "lava", "-o", odd + "b").returncode == 0
    assert "m\\udcffb" in Path(odd + "b", "README.txt").read_text(encoding="utf-8")
    words = ("train", "--dataset", "digits", "--epochs", 1, "--schedule", "B")
    refused(biril(*words, "--from", f"{odd}.pt", "--out", "run"), "not Unicode", "Rename it")
    assert not Path("run").exists()
    assert biril(*words, "--model", "mlp", "--out", odd + "run").returncode == 0
    assert biril("report", odd + "run", "--samples", 1, "--against", "").returncode == 0
