"""NIR files of other frameworks: they lower, run, and behave as those frameworks simulate them.

The files and the recorded spikes come from ``tests/golden/make_foreign.py``. Bounds: the share of
equal (step, sample, neuron) cells, and the difference of the mean rate in spikes per neuron and step.
A spike that moves by one step is two cells; 8-bit weights are 0.4 % coarse.
"""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np
import pytest

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.nir_files.files import read_nir
from biril_nm.hardware_sim import simulate
from tests.support.nir_interpreter import NirInterpreter

GOLDEN = Path(__file__).parents[1] / "golden"
# norse 1.1.0 writes tau = dt / tau_mem_inv, that is dt tau instead of tau: lower it with dt_s = dt ** 2.
CASES = {
    "sinabs_conv": {"cells": (0.98, 0.88), "rate": 0.01},
    "norse_mlp": {"dt": lambda dt: dt**2, "cells": (0.99, 0.98), "rate": 0.002},
    "spikingjelly_conv": {"readout": "accumulate", "cells": (0.98, 0.96, 0.9), "rate": 0.003},
    "spikingjelly_soft": {"reset": "subtract", "cells": (0.99, 0.98), "rate": 0.002},
    "rockpool_lif": {"reset": "subtract", "cells": (0.97, 0.93), "rate": 0.006},
}


def load(name):
    arrays = np.load(GOLDEN / f"{name}.npz")
    meta = json.loads(str(arrays["meta"]))
    spikes = {k.removeprefix("spikes."): arrays[k] for k in arrays if k.startswith("spikes.")}
    graph, dt = read_nir(GOLDEN / f"{name}.nir"), meta["dt_s"]
    if name == "rockpool_lif":
        as_rockpool_decays(graph, dt)
    return graph, arrays["input"], spikes, CASES[name].get("dt", lambda dt: dt)(dt)


def as_rockpool_decays(graph, dt):
    """The decays and gains that Rockpool's neurons have; docs/coming_from.md."""
    for node in graph.nodes.values():
        if isinstance(node, nir.CubaLIF):
            keep = np.exp(-dt / node.tau_syn)
            node.tau_syn, node.tau_mem = (
                dt / (1 - np.exp(-dt / tau)) for tau in (node.tau_syn, node.tau_mem)
            )
            node.w_in, node.r = keep * node.tau_syn / dt, node.tau_mem / dt


@pytest.mark.parametrize("name", CASES)
def test_behaviour_is_that_of_the_framework(name):
    graph, x, theirs, dt = load(name)
    case = CASES[name]
    how = {"reset": case.get("reset", "zero"), "readout": case.get("readout")}
    lowered = lower(graph, dt_s=dt, calibration=x, **how)
    trace = simulate(lowered, x, record=("s",))
    assert set(theirs) == {node for node in lowered.neurons if not node.endswith(".sum")}
    assert len(theirs) == len(case["cells"])
    for (node, spikes), share in zip(theirs.items(), case["cells"]):
        ours = trace[node].s
        assert spikes.sum() > 50
        assert (ours == spikes).mean() >= share, (node, (ours == spikes).mean())
        assert abs(ours.mean() - spikes.mean()) < case["rate"], node


def test_votes_are_the_mean_of_their_group():
    """The matrix in place of SpikingJelly's VotingLayer(4), summed by neurons without threshold."""
    graph, x, _, dt = load("spikingjelly_conv")
    lowered = lower(graph, dt_s=dt, reset="zero", readout="accumulate", calibration=x)
    trace = simulate(lowered, x, record=("s", "v"))
    votes = trace["_7"].s.astype(int).sum(0).reshape(-1, 5, 4).sum(2)
    assert len(np.unique(votes)) > 4
    last = trace["_8.sum"].v[-1]
    unit = last.sum() / votes.sum()
    np.testing.assert_array_equal(last, votes * unit)


@pytest.mark.parametrize("name", ["spikingjelly_soft", "rockpool_lif"])
def test_the_other_reset_is_another_network(name):
    graph, x, theirs, dt = load(name)
    trace = simulate(lower(graph, dt_s=dt, reset="zero", calibration=x), x, record=("s",))
    node, spikes = next(iter(theirs.items()))
    assert (trace[node].s == spikes).mean() < CASES[name]["cells"][0] - 0.02


def test_rockpool_by_the_letter_is_another_network():
    _, x, theirs, dt = load("rockpool_lif")
    raw = read_nir(GOLDEN / "rockpool_lif.nir")
    lowered = lower(raw, dt_s=dt, reset="subtract", calibration=x)
    assert "w_in = 1" in str(lowered.metadata["notes"])
    trace = simulate(lowered, x, record=("s",))
    assert trace["1_LIFTorch"].s.mean() < 0.2 * theirs["1_LIFTorch"].mean()


def test_the_float_interpreter_agrees_with_norse_in_every_spike():
    graph, x, theirs, dt = load("norse_mlp")
    ours = NirInterpreter(graph, dt).run(x)
    for node, spikes in theirs.items():
        np.testing.assert_array_equal(ours[node], spikes, err_msg=node)


@pytest.mark.parametrize("name", CASES)
def test_what_the_file_does_not_say_is_asked_for(name):
    graph, _, _, dt = load(name)
    with pytest.raises(UnsupportedNodeError, match="does not say what a spike does to v"):
        lower(graph, dt_s=dt)


def test_the_plain_step_of_norse_is_refused_with_the_reason():
    graph, _, _, _ = load("norse_mlp")
    with pytest.raises(
        UnsupportedNodeError, match="tau is 1e-05 s; expected dt_s = 0.001 s or more"
    ):
        lower(graph, dt_s=1e-3, reset="zero")
