"""Comparison of a QuantizedNet with the simulator."""

from __future__ import annotations

import numpy as np

from biril_nm.hardware_sim import simulate

VARIABLES = ("s", "u", "v")


def assert_equal(net, spikes):
    """All integers of the torch module and of the simulator on its graph; returns the spikes."""
    graph = net.graph()
    ours, theirs = simulate(graph, spikes, record=VARIABLES), net.run_integers(spikes, VARIABLES)
    for name in graph.neurons:
        for variable in VARIABLES:
            one, other = getattr(ours[name], variable), getattr(theirs[name], variable)
            np.testing.assert_array_equal(one, other, err_msg=f"{name} {variable}")
        np.testing.assert_array_equal(ours.v_last[name], theirs.v_last[name])
    return sum(ours.n_spikes.values())
