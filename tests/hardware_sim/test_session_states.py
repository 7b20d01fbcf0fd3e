"""States of sessions that an honest run reaches are taken back, however far from a chip they are."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output


@pytest.mark.parametrize("model", ["cuba_lif", "cuba_lif_subtract", "cuba_lif_subtract_guarded"])
def test_states_beyond_24_bits_go_on(model):
    """Lava wraps u once, so that large input leaves it there; a reset by a threshold below 0 raises v."""
    fc = Dense(np.full((2, 3), 254), weight_exp=3)
    neurons = Neurons((2,), vth=-131_071, du=2000, dv=100, model=model)
    edges = (("in", "fc"), ("fc", "n"), ("n", "out"))
    nodes = {"in": Input((3,), message_bits=12), "fc": fc, "n": neurons, "out": Output()}
    graph = LoihiGraph(nodes, edges)
    spikes = np.full((9, 1, 3), 4000)
    spikes[4] = 0
    whole = simulate(graph, spikes, record=("s", "u", "v"))["n"]
    first, later = Simulator(graph), Simulator(graph)
    first.run(spikes[:5])
    assert np.abs(whole.u[4].astype(np.int64)).max() > 1 << 23
    assert model == "cuba_lif" or np.abs(whole.v.astype(np.int64)).max() >= 1 << 23
    later.load_state(first.state)
    found = later.run(spikes[5:], ("s", "u", "v"))["n"]
    for name in ("s", "u", "v"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)[5:])
