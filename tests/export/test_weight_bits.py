"""Bits of the weights by connection: what is asked, what is kept, and what the command line makes of it."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError, RangeError
from biril_nm.export import lower
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.export.weight_bits import parse_weight_bits
from tests.support.nir_graphs import chain, neurons


def network(graded):
    r = np.random.default_rng(3)
    graph = chain(
        (6,),
        ("fc1", nir.Linear(r.uniform(-1, 1, (5, 6)))), ("n1", neurons("IF", (5,), 1.0)),
        ("fc2", nir.Linear(r.uniform(-1, 1, (4, 5)))), ("n2", neurons("IF", (4,), 1.0)),
        ("fc3", nir.Linear(r.uniform(-1, 1, (3, 4)))), ("n3", neurons("IF", (3,), 1.0)),
    )  # fmt: skip
    if graded:
        graph.nodes["input"].metadata = {
            "message_bits": 8, "scale": 255, "coding": "direct", "n_steps": 4,
        }  # fmt: skip
    return graph


@pytest.mark.parametrize(
    ("graded", "asked", "found"),
    [
        (False, 3, (3, 3, 3)),
        (True, 3, (8, 3, 3)),
        (True, {"*": 3}, (3, 3, 3)),
        (False, {"fc1": 8, "*": 4}, (8, 4, 4)),
        (False, {"fc2": 2}, (8, 2, 8)),
    ],
)
def test_each_connection_gets_the_bits_that_are_asked_for(graded, asked, found):
    graph = lower(network(graded), reset="zero", weight_bits=asked)
    assert tuple(node.weight_bits for node in graph.connections.values()) == found
    for node in graph.connections.values():
        assert not np.any(node.weight % (2 << 8 - node.weight_bits))
        levels = 2**node.weight_bits
        assert 1 < len(np.unique(node.weight)) <= levels


def test_one_bit_of_one_connection_splits_it_alone():
    graph = lower(network(False), reset="zero", weight_bits={"fc2": 1})
    assert set(graph.connections) == {"fc1", "fc2.plus", "fc2.minus", "fc3"}
    assert {graph.connections[f"fc2.{sign}"].weight_bits for sign in ("plus", "minus")} == {1}


def test_a_file_of_integers_is_lowered_anew_where_fewer_bits_are_asked_for():
    integers = lower(network(False), reset="zero")
    assert lower(exact_nir(integers), weight_bits={"fc2": 8}).connections == integers.connections
    again = lower(exact_nir(integers), weight_bits={"fc2": 4})
    assert again.connections["fc2"].weight_bits == 4


def test_unknown_connections_and_impossible_bits_are_refused():
    with pytest.raises(ConfigError, match="weight_bits: expected some of fc1, fc2, fc3, '\\*'"):
        lower(network(False), reset="zero", weight_bits={"fc4": 3})
    with pytest.raises(RangeError, match="weight_bits of 'fc1' is 0; expected a whole number from"):
        lower(network(False), reset="zero", weight_bits={"fc1": 0})


def test_weight_bits_of_the_command_line():
    assert parse_weight_bits("4") == 4
    assert parse_weight_bits("conv1=8,*=3") == {"conv1": 8, "*": 3}
    assert parse_weight_bits("a=b=2") == {"a=b": 2}
    for text in ("", "x", "conv1=", "=3", "4,5", "a=3,a=4", "a=3,5"):
        with pytest.raises(ConfigError, match="weight bits are .*conv1=8"):
            parse_weight_bits(text)
