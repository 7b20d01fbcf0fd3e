"""Questions that a NIR file leaves open, asked and answered on the command line."""

from __future__ import annotations

import nir
import numpy as np

from biril_nm.hw_graph import LoihiGraph
from tests.support.command_line import biril, refused


def write(path, r):
    one = np.ones(3)
    node = nir.IF(r=r * one, v_threshold=one)
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(np.full((3, 4), 0.3)), node))
    return path


def test_if_integration_is_asked_for_and_taken(tmp_path):
    call = ("export", write(tmp_path / "x.nir", 5.0), "--to", "loihi", "--reset", "zero")
    refused(biril(*call), "r is 5; expected 1", "--if-integration", "--dt")
    done = biril(*call, "--if-integration", "per_step", "-o", tmp_path / "x.loihi.npz")
    assert done.returncode == 0, done.stderr
    assert LoihiGraph.load(tmp_path / "x.loihi.npz").metadata["if_integration"] == "per_step"
    wrong = biril(*call, "--if-integration", "exact", "-o", tmp_path / "y.loihi.npz")
    refused(wrong, "expected 'per_step' or 'continuous'")


def test_dt_is_asked_for_by_targets_that_count_in_seconds_only(tmp_path):
    source = write(tmp_path / "x.nir", 1.0)
    assert biril("export", source, "--to", "loihi", "--reset", "zero").returncode == 0
    back = ("export", tmp_path / "x.loihi.npz", "--to", "nir", "-o", tmp_path / "y.nir")
    refused(biril(*back), "dt of the graph is missing", "--dt")
    assert biril(*back, "--dt", "1e-3").returncode == 0
