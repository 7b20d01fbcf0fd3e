"""biril sim on streams: mapped input, recording to a folder."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.recording import Recording
from tests.support.command_line import biril, refused
from tests.support.graphs import one_layer


def test_mapped_input_is_recorded_to_a_folder(tmp_path):
    graph = one_layer()
    graph.save(tmp_path / "net.loihi.npz")
    spikes = (np.random.default_rng(0).random((50, 1, 40)) < 0.3).astype(np.uint8)
    np.save(tmp_path / "x.npy", spikes)
    call = ("sim", tmp_path / "net.loihi.npz", "--spikes", tmp_path / "x.npy", "--record", "s,v")
    done = biril(*call, "--record-to", tmp_path / "trace")
    assert done.returncode == 0, done.stderr
    assert f"wrote {tmp_path / 'trace'}" in done.stdout
    found = Recording.load(tmp_path / "trace")
    wanted = simulate(graph, spikes, record=("s", "v"))
    for variable in ("s", "v"):
        assert_array_equal(getattr(found["lif"], variable), getattr(wanted["lif"], variable))
    assert wanted.n_spikes["lif"] > 0
    refused(biril(*call, "--record-to", tmp_path / "trace"), "exists already", "--force")
    assert biril(*call, "--record-to", tmp_path / "trace", "--force").returncode == 0
    refused(biril(*call, "--record-to", tmp_path / "a", "-o", tmp_path / "b.npz"), "Give one of")


def test_a_damaged_npy_is_refused(tmp_path):
    one_layer().save(tmp_path / "net.loihi.npz")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY" + bytes(20))
    call = ("sim", tmp_path / "net.loihi.npz", "--spikes", tmp_path / "x.npy")
    refused(biril(*call), "x.npy", "is of version 0")
    np.save(tmp_path / "x.npy", np.zeros((3, 1, 7), np.uint8))
    refused(biril(*call), "expected (n_steps, batch, 40)")
    refused(biril(*call[:-1], tmp_path / "none.npy"), "does not exist")
