"""What a spike does to v: from the file or the caller to a compartment model, or a reason why not."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.hardware_sim import simulate
from biril_nm.loihi import LOIHI1

DT = 1e-3


def _lif_graph(**metadata) -> nir.NIRGraph:
    ones = np.ones(2)
    lif = nir.LIF(tau=ones * 0.02, r=ones, v_leak=ones * 0, v_threshold=ones, metadata=metadata)
    return nir.NIRGraph.from_list(nir.Affine(weight=np.eye(2), bias=ones * 0.1), lif)


@pytest.mark.parametrize(
    ("metadata", "model"),
    [
        ({"reset": "zero"}, "cuba_lif"),
        ({"reset": "zero", "reset_delay": 1}, "cuba_lif"),
        ({"reset": "subtract"}, "cuba_lif_subtract"),
        ({"reset": "subtract", "reset_delay": 1, "reset_guarded": 1}, "cuba_lif_subtract_delayed"),
        ({"reset": "subtract", "reset_guarded": 1}, "cuba_lif_subtract_guarded"),
        ({"reset": "none", "reset_delay": 1}, "cuba_lif_none"),
    ],
)
def test_resets_become_programs(metadata, model):
    graph = lower(_lif_graph(dt=DT, **metadata), reset="zero")  # which the file overrides
    assert graph.neurons["lif"].model == model
    assert graph.metadata["reset"]["lif"]["from"] == "file"
    assert (
        lower(_lif_graph(dt=DT, **metadata), reset="force-zero").neurons["lif"].model == "cuba_lif"
    )


def test_a_soft_reset_that_the_file_leaves_out_is_given():
    graph = lower(_lif_graph(dt=DT), reset="subtract")
    assert graph.neurons["lif"].model == "cuba_lif_subtract"
    assert graph.metadata["reset"]["lif"] == {
        "reset": "subtract", "from": "user (unknown in the file)",
    }  # fmt: skip


@pytest.mark.parametrize(("weight", "noted"), [(14.0, False), (90.0, True)])
def test_input_for_two_spikes_in_a_step_is_noted(weight, noted):
    """sinabs sends two by default, and its file does not say so."""
    file = _lif_graph(dt=DT)
    file.nodes["affine"].weight = np.array([[weight, 0.0], [0.0, 1.0]])
    data = np.ones((6, 2, 2))
    graph = lower(file, reset="subtract", calibration=data)
    found = [line for line in graph.metadata["notes"] if "one spike per step" in line]
    assert bool(found) == noted and all("'lif' reached" in line for line in found)
    written = _lif_graph(reset="subtract", dt=DT)
    written.nodes["affine"].weight = file.nodes["affine"].weight
    notes = lower(written, calibration=data).metadata["notes"]
    assert not [line for line in notes if "one spike per step" in line]


def test_subtract_reset_is_refused_on_loihi1_unless_forced():
    with pytest.raises(
        UnsupportedNodeError,
        match="'lif'.*reset is 'subtract'; expected 'zero', the reset of 'loihi1'. Lower for loihi2",
    ):
        lower(_lif_graph(reset="subtract", dt=DT), chip=LOIHI1, reset="zero")
    graph = lower(_lif_graph(reset="subtract", dt=DT), chip=LOIHI1, reset="force-zero")
    assert "subtract" in graph.metadata["reset"]["lif"]["from"]


def test_force_zero_says_what_it_changes(caplog):
    lower(_lif_graph(reset="subtract", dt=DT), reset="force-zero")
    assert "'lif' (subtract). Pass calibration data" in caplog.text
    file = _lif_graph(reset="subtract", dt=DT)
    file.nodes["affine"].weight = np.array([[14.0, 0.0], [0.0, 9.0]])
    data = np.ones((50, 4, 2))
    forced = lower(file, reset="force-zero", calibration=data)
    (note,) = (line for line in forced.metadata["notes"] if "force-zero" in line)
    spikes = [
        simulate(graph, data.astype(int), record=("s",))["lif"].s.sum(0).mean()
        for graph in (lower(file, calibration=data), forced)
    ]
    assert f"'lif' from {spikes[0]:.4g} to {spikes[1]:.4g}" in note
    assert spikes[0] > spikes[1]
    assert note.endswith("4 of 4 predictions of 'lif' stay")
    assert not [n for n in lower(file).metadata["notes"] if "force-zero" in n]


def test_unknown_resets_are_refused():
    with pytest.raises(UnsupportedNodeError, match="reset is 'soft'; expected one of 'zero', 'sub"):
        lower(_lif_graph(dt=DT, reset="soft"))
    with pytest.raises(ConfigError, match="reset is 'soft'; expected 'zero' or 'subtract' or"):
        lower(_lif_graph(dt=DT), reset="soft")
    graph = _lif_graph(dt=DT, reset="subtract")
    graph.nodes["lif"].v_reset = np.full(2, 0.5)
    with pytest.raises(
        UnsupportedNodeError, match="v_reset is 0.5 beside reset 'subtract'; expect"
    ):
        lower(graph)
