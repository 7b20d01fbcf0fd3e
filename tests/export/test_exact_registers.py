"""Integer graphs as NIR and back: a file that was changed since is noticed and lowered again."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import nir
import numpy as np
import pytest

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.nir_files.exact_reading import exact_graph
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output


def network():
    """A grouped convolution and a matrix with delay, biased neurons with and without synaptic memory."""
    kernel = 2 * np.random.default_rng(0).integers(-60, 60, (4, 1, 2, 2))
    nodes = {
        "in": Input((2, 3, 3)),
        "conv": Conv(kernel, groups=2),
        "n": Neurons((4, 2, 2), vth=150, dv=200, bias_mant=3, bias_exp=6),
        "fc": Dense(2 * np.random.default_rng(1).integers(-60, 60, (3, 16)), delay=2),
        "m": Neurons((3,), vth=[90, 120, 90], du=1000, dv=300),
        "out": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)))


def edited(change):
    graph = exact_nir(network(), dt_s=1e-3)
    change(graph)
    return graph


def insert(name, node, before):
    """Put a node into the edge that leads to ``before``."""

    def change(graph):
        graph.nodes[name] = node
        graph.edges = [(a, name if b == before else b) for a, b in graph.edges] + [(name, before)]

    return change


def list_node(graph):
    insert("scale", nir.Scale(np.ones(16)), "fc")(graph)
    graph.metadata["nodes"] = json.dumps([*json.loads(graph.metadata["nodes"]), "scale"])


def more_delays(graph):
    for name in ("d1", "d2"):
        insert(name, nir.Delay(np.zeros((4, 2, 2))), "fc.delay")(graph)


def other_delays(graph):
    graph.nodes["fc.delay"].delay = graph.nodes["fc.delay"].delay * 1.0
    graph.nodes["fc.delay"].delay[0, 0, 0] = 1e-3


def set_bias(graph):
    graph.nodes["conv"].bias = np.full(4, 64.0)


def join_groups(graph):
    graph.nodes["conv"].weight[0, 1, 0, 0] = 4.0


def change_bias(graph):
    graph.nodes["n"].v_leak = graph.nodes["n"].v_leak * 65 / 64


def metadata(name, **changes):
    return lambda graph: graph.nodes[name].metadata.update(changes)


def scaled(name, field, factor):
    return lambda graph: setattr(
        graph.nodes[name], field, getattr(graph.nodes[name], field) * factor
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (list_node, "node 'scale' is a Scale"),
        (insert("scale", nir.Scale(np.ones(16)), "fc"), "node 'scale' is new|node 'fc'"),
        (insert("s", nir.Scale(np.ones((2, 3, 3))), "conv"), "node 's' is new|node 'conv'"),
        (more_delays, "node 'd2' is new"),
        (other_delays, "delay differs between neurons"),
        (set_bias, "a connection has a bias"),
        (join_groups, "a weight between groups is not 0"),
        (scaled("n", "r", 2), "a gain is not 1 or v_reset not 0"),
        (change_bias, "a bias is not a multiple of 2..6"),
        (scaled("n", "v_threshold", 1.001), "v_threshold is not whole"),
        (scaled("n", "v_threshold", 1e300), "v_threshold is not whole"),
        (metadata("n", bias_exp=10**9), "'bias_exp' is 1000000000"),
        (metadata("n", shape=np.array([4, 2, 2 + 1j])), "shape is not whole"),
        (metadata("fc", weight_bits=2.5), "'weight_bits' is 2.5"),
        (metadata("fc", sign_mode="odd"), "'odd' is not a valid SignMode"),
        (lambda graph: graph.metadata.update(loihi="{"), "Expecting property name"),
        (lambda graph: graph.metadata.update(nodes='["gone"]'), "gone"),
    ],
)
def test_changes_are_noticed(change, found, caplog):
    lowered = lower(edited(change), reset="zero")
    assert "was changed since its integers were written, and is lowered again" in caplog.text
    assert re.search(found, caplog.text), caplog.text
    assert set(network().neurons) <= set(lowered.neurons)


def test_unchanged_files_are_taken_as_they_are(caplog):
    assert lower(exact_nir(network(), dt_s=1e-3)) == network()
    assert not caplog.text


def test_other_marks_are_no_marks():
    graph = exact_nir(network(), dt_s=1e-3)
    for mark in (2, "1x", np.array([1, 1]), None):
        graph.metadata["exact_registers"] = mark
        assert lower(graph, reset="zero") != network()


def test_what_nir_cannot_say_is_listed():
    graph = network()
    nodes = {name.replace("fc", "f/c"): node for name, node in graph.nodes.items()}
    edges = tuple(tuple(n.replace("fc", "f/c") for n in edge) for edge in graph.edges)
    with pytest.raises(
        UnsupportedNodeError,
        match="'f/c': the name has a '/'; expected none, as in NIR files. Rename",
    ):
        exact_nir(LoihiGraph(nodes, edges), dt_s=1e-3)
    nodes = {
        "in": Input((4,)),
        "d": Dense(np.full((4, 4), 2)),
        "n": Neurons((1, 2, 2), vth=9),
        "c": Conv(np.full((1, 1, 1, 1), 4)),
        "m": Neurons((1, 2, 2), vth=9),
        "back": Dense(np.eye(4) * 2),
    }
    edges = (("in", "d"), ("d", "n"), ("n", "c"), ("c", "m"), ("m", "back"), ("back", "m"))
    with pytest.raises(UnsupportedNodeError) as refused:
        exact_nir(LoihiGraph(nodes, edges), dt_s=1e-3)
    assert "'c': a convolution behind 'n', which a matrix fills" in str(refused.value)
    assert "'back': a matrix into 'm' beside a convolution" in str(refused.value)
    with pytest.raises(
        UnsupportedNodeError, match="'n': bias_exp is -1; expected 0 or more, as on the chip"
    ):
        exact_nir(graph.with_node("n", bias_exp=-1), dt_s=1e-3)


def test_neurons_that_always_spike_come_back(tmp_path):
    """nir puts an Input of its own in front of nodes without a source."""
    graph = network()
    more = {
        "on": Neurons((2,), vth=1, dv=4096, bias_mant=255),
        "bias": Dense(np.array([[2, -4], [6, 8], [10, 12]])),
    }
    graph = LoihiGraph({**graph.nodes, **more}, (*graph.edges, ("on", "bias"), ("bias", "m")))
    written = exact_nir(graph, dt_s=1e-3)
    assert "input_on" in written.nodes
    write_nir(tmp_path / "on.nir", written)
    back = read_nir(tmp_path / "on.nir")
    assert lower(back) == graph
    back.nodes["input_on"] = nir.Input({"input": np.array([2])})
    back.edges.append(("input_on", "m"))  # a signal, not what nir adds
    assert exact_graph(back) is None


def test_requests_of_a_float_network_are_not_ignored_in_silence(caplog):
    graph = lower(exact_nir(network(), dt_s=1e-3), scale_search="mse", readout="accumulate")
    assert graph == network()
    said = [record.message for record in caplog.records]
    assert [text.split()[0] for text in said] == ["readout", "scale_search"]
    assert all("changes nothing: the file holds integers" in text for text in said)
