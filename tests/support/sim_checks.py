"""The comparison that simulator tests share."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from tests.support.reference import run_chip, to_node_time


def assert_equals_reference(graph, spikes, n_threads=1):
    """Compare all recordings, and the shorter steps of a run that does not record u; returns the spikes."""
    trace = simulate(graph, spikes, record=("s", "u", "v"), n_threads=n_threads)
    chip = trace.chip_time()
    n_steps, batch = trace.meta["n_steps"], trace.meta["batch"]
    expected_chip = run_chip(graph, spikes)
    expected = to_node_time(graph, expected_chip, n_steps, batch)
    assert list(trace) == list(chip) == list(graph.neurons)
    for name in graph.neurons:
        for variable in ("s", "u", "v"):
            where = f"{name}.{variable}"
            assert_array_equal(getattr(trace[name], variable), expected[name][variable], where)
            assert_array_equal(getattr(chip[name], variable), expected_chip[name][variable], where)
        assert trace.n_spikes[name] == np.count_nonzero(expected[name]["s"])
        assert_array_equal(trace.v_last[name], expected[name]["v"][-1])
    for record in (("s", "v"), ()):
        short = simulate(graph, spikes, record=record, n_threads=n_threads)
        assert short.n_spikes == trace.n_spikes
        for name in graph.neurons:
            assert_array_equal(short.v_last[name], trace.v_last[name], name)
            for variable in record:
                where = f"{name}.{variable}, u not recorded"
                assert_array_equal(getattr(short[name], variable), expected[name][variable], where)
    return sum(trace.n_spikes.values())
