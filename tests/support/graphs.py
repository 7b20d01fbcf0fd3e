"""Small graphs that several test files use."""

from __future__ import annotations

import numpy as np

from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons


def one_layer(n_pre=40, n_post=64):
    """One Dense connection of fixed random weights into one population."""
    weight = 2 * np.random.default_rng(0).integers(-20, 30, (n_post, n_pre))
    nodes = {"in": Input((n_pre,)), "fc": Dense(weight), "lif": Neurons((n_post,), vth=200, dv=400)}
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "lif")))
