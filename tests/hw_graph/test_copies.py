"""Copies and pickles of LoihiGraph and its nodes: equal, checked, and as immutable as the original."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rules import RULES

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


def small() -> LoihiGraph:
    sparse = scipy.sparse.random(3, 40, 0.3, format="csr", random_state=0).ceil()
    nodes = {
        "in": Input((2, 5, 4), message_bits=3),
        "conv": Conv(np.arange(36).reshape(2, 2, 3, 3) - 18, padding=(1, 1)),
        "a": Neurons((2, 5, 4), vth=100, bias_mant=np.arange(40).reshape(2, 5, 4)),
        "sparse": Sparse(sparse, delay=2),
        "b": Neurons((3,), vth=[3, 4, 5], dv=7),
        "out": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)), {"scales": {"conv": [1, 2]}})


@pytest.mark.parametrize("way", COPIES)
def test_copies_are_equal_and_cannot_be_changed(way):
    graph = small()
    made = COPIES[way](graph)
    assert made == graph
    assert made.timing.slack == graph.timing.slack
    assert made.with_node("b", vth=[3, 4, 6]) != graph
    for array in (made.nodes["conv"].weight, made.nodes["sparse"].weight.data, made.nodes["b"].vth):
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 5
    with pytest.raises(TypeError):
        made.nodes["x"] = Output()
    with pytest.raises(TypeError):
        made.metadata["x"] = 1


@pytest.mark.parametrize("way", COPIES)
def test_each_kind_of_node_is_copied(way):
    tags = {"tag_t": [[0, 1]], "tag_d": [[3, 4]]}
    plastic = Dense([[1, 2]], rule=RULES["reward_stdp"], modulators={"y1": "reward"}, **tags)
    for node in (*small().nodes.values(), plastic, Input((3,), 2, signed=True)):
        assert COPIES[way](node) == node


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_what_is_known_of_a_graph_is_copied_with_it(way):
    graph = small()
    COPIES[way](graph).metadata["scales"]["conv"].append(3)
    assert graph.metadata["scales"] == {"conv": [1, 2]}


def test_what_a_pickle_holds_is_checked_like_any_other_graph():
    kind, (nodes, edges, metadata) = small().__reduce__()
    with pytest.raises(ConfigError, match="nowhere"):
        kind(nodes, (*edges, ("b", "nowhere")), metadata)
    make, (node, values) = small().nodes["conv"].__reduce__()
    with pytest.raises(ConfigError, match="expected integers"):
        make(node, {**values, "weight": np.full((1, 1, 1, 1), 0.5)})
