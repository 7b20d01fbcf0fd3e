"""NIR files of other frameworks: they lower, run, and behave as those frameworks simulate them.

The files and the recorded spikes come from ``tests/golden/make_foreign.py``. Bounds: the share of
equal (step, sample, neuron) cells, and the difference of the mean rate in spikes per neuron and step.
A spike that moves by one step is two cells; 8-bit weights are 0.4 % coarse.
"""

from __future__ import annotations

import json
from pathlib import Path

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
    "sinabs_conv": {"dt": lambda dt: dt, "cells": (0.98, 0.88), "rate": 0.01},
    "norse_mlp": {"dt": lambda dt: dt**2, "cells": (0.99, 0.98), "rate": 0.002},
}


def load(name):
    arrays = np.load(GOLDEN / f"{name}.npz")
    meta = json.loads(str(arrays["meta"]))
    spikes = {k.removeprefix("spikes."): arrays[k] for k in arrays if k.startswith("spikes.")}
    return (
        read_nir(GOLDEN / f"{name}.nir"),
        arrays["input"],
        spikes,
        CASES[name]["dt"](meta["dt_s"]),
    )


@pytest.mark.parametrize("name", CASES)
def test_behaviour_is_that_of_the_framework(name):
    graph, x, theirs, dt = load(name)
    lowered = lower(graph, dt_s=dt, reset="zero", calibration=x)
    trace = simulate(lowered, x, record=("s",))
    assert set(theirs) == set(lowered.neurons)
    for (node, spikes), share in zip(theirs.items(), CASES[name]["cells"]):
        ours = trace[node].s
        assert spikes.sum() > 50
        assert (ours == spikes).mean() >= share, (node, (ours == spikes).mean())
        assert abs(ours.mean() - spikes.mean()) < CASES[name]["rate"], node


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
