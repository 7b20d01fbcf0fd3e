"""Writing .net files, what netx cannot say, and the ways between .net, NIR and the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from biril_nm.errors import (
    ConfigError,
    OutputExistsError,
    UnsupportedNodeError,
)
from biril_nm.export import lower, read_netx, write_netx
from biril_nm.export.nir_files.exact_reading import exact_graph
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rules import RULES
from tests.support.command_line import biril, refused
from tests.support.netx_cases import CASES
from tests.support.netx_runs import dense, neuron, write_file
from tests.support.random_graphs import random_graph

# --- writing ------------------------------------------------------------------------------------


def chain(**changes):
    nodes = {
        "in": Input((3,)),
        "w1": Dense([[2, -4, 6], [8, 0, -2]]),
        "n1": Neurons((2,), vth=50, dv=100),
        "w2": Dense([[2, -4], [8, 0]]),
        "n2": Neurons((2,), vth=50),
        "out": Output(),
    }
    edges = [("in", "w1"), ("w1", "n1"), ("n1", "w2"), ("w2", "n2"), ("n2", "out")]
    edges += changes.pop("edges", [])
    return LoihiGraph(nodes | changes, tuple(edges))


UNWRITABLE = {
    "branch": (
        chain(skip=Dense([[2, 2, -4], [2, 2, 2]]), edges=[("in", "skip"), ("skip", "n2")]),
        ["'n2': receives from 2 nodes", "'in': feeds 2 nodes", "strictly sequential", "--to lava"],
    ),
    "loop": (
        chain(back=Dense([[2, -4], [8, 0]]), edges=[("n2", "back"), ("back", "n1")]),
        ["'n1': receives from 2 nodes"],
    ),
    "sign": (
        chain(**{"in": Input((3,), 4, signed=True)}),
        ["'in': takes values below zero, and netx has no sign for input. The Lava back end"],
    ),
    "amid": (chain(tap=Output(), edges=[("n1", "tap")]), ["'tap': reads 'n1' amid the chain"]),
    "range": (
        chain(n1=Neurons((2,), vth=1 << 20, dv=[0, 4097])),
        ["vth is 1048576; expected 0 to 131071", "dv is 4097; expected 0 to 4096"],
    ),
    "bias": (
        chain(n1=Neurons((2,), vth=3, bias_mant=[64, 65])),
        ["multiples of 64, the first 65", "round_bias=True"],
    ),
    "exponent": (chain(w2=Dense([[2, -6], [8, 0]], weight_exp=-2)), ["'w2': has weight_exp -2"]),
    "corrupt": (chain(w2=Dense([[-128, 0], [0, 0]])), ["'n2': netx would not keep", "-128 to -64"]),
    "zero": (chain(w2=Dense([[0, 0], [0, 0]])), ["OverflowError"]),
    "two delays": (
        chain(w3=Dense([[2, -4], [8, 0]], delay=2), edges=[("n1", "w3"), ("w3", "n2")]),
        ["'n2': has synapses with two delays"],
    ),
    "rec delay": (
        chain(w3=Dense([[2, -4], [8, 0]], delay=2), edges=[("n2", "w3"), ("w3", "n2")]),
        ["'n2': has a loop and delays"],
    ),
    "inputs": (
        chain(more=Input((3,)), w3=Dense([[2, 2, 2]] * 2), edges=[("more", "w3"), ("w3", "n1")]),
        ["2 inputs"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_netx_cannot_say(name, tmp_path):
    graph, messages = UNWRITABLE[name]
    with pytest.raises(UnsupportedNodeError) as refused:
        write_netx(graph, tmp_path / "x.net")
    for message in messages:
        assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_convolutions_that_netx_cannot_say(tmp_path):
    graph = LoihiGraph(
        {
            "in": Input((1, 2, 2)),
            "c": Conv(np.full((1, 1, 1, 1), 4), delay=3),
            "n": Neurons((1, 2, 2), vth=9),
            "loop": Conv(np.full((1, 1, 1, 1), 4)),
            "d": Dense(np.full((4, 4), 2)),
            "m": Neurons((1, 2, 2), vth=9),
            "c2": Conv(np.full((1, 1, 1, 1), 4)),
            "o": Neurons((1, 2, 2), vth=9),
        },
        (("in", "c"), ("c", "n"), ("n", "loop"), ("loop", "n"), ("n", "d"), ("d", "m"), ("m", "c2"),
         ("c2", "o")),
    )  # fmt: skip
    with pytest.raises(UnsupportedNodeError) as refused:
        write_netx(graph, tmp_path / "x.net")
    for message in (
        "'c': is a convolution with delay 3",
        "'loop': is a loop",
        "'o': is a convolution behind",
    ):
        assert message in str(refused.value)


def test_all_findings_are_listed_at_once(tmp_path):
    graph = chain(w2=Dense([[0, 0], [0, 0]]), n1=Neurons((2,), vth=1 << 17, bias_mant=1))
    with pytest.raises(UnsupportedNodeError) as refused:
        write_netx(graph, tmp_path / "x.net")
    assert str(refused.value).count("\n  - ") == 3


def test_output_files(tmp_path):
    path = tmp_path / "x.net"
    graph = chain(n1=Neurons((2,), vth=3), n2=Neurons((2,), vth=3))
    write_netx(chain(), path)
    with pytest.raises(OutputExistsError, match="force"):
        write_netx(chain(), path)
    write_netx(graph, path, force=True)
    with pytest.raises(ConfigError, match=r"expected \.net"):
        write_netx(chain(), tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == [path]
    again = read_netx(path)
    assert list(again.nodes) == list(graph.nodes)
    x = np.random.default_rng(0).integers(0, 2, (8, 2, 3))
    for name in ("n1", "n2"):
        ours, theirs = (simulate(g, x, record="s,v")[name] for g in (graph, again))
        np.testing.assert_array_equal(ours.v, theirs.v)
        assert ours.s.sum() > 0


def test_biases_are_rounded_on_request(tmp_path):
    graph = chain(n1=Neurons((2,), vth=30, bias_mant=[95, -96]))
    write_netx(graph, tmp_path / "x.net", round_bias=True)
    node = read_netx(tmp_path / "x.net").neurons["n1"]
    assert (node.bias_mant << node.bias_exp).tolist() == [64, -128]


# --- NIR ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_netx_to_nir_and_back(name, tmp_path):
    layers, _ = CASES[name](np.random.default_rng(4))
    graph = read_netx(write_file(tmp_path / "x.net", layers))
    write_nir(tmp_path / "x.nir", exact_nir(graph, dt_s=0.0007))
    assert lower(read_nir(tmp_path / "x.nir")) == graph


def test_any_graph_survives_nir(tmp_path):
    kept = refused = 0
    for seed in range(60):
        graph = random_graph(seed)
        try:
            nir_graph = exact_nir(graph, dt_s=1e-3)
        except UnsupportedNodeError as error:
            assert "Save it as .loihi.npz" in str(error) or "bias_exp is -" in str(error)
            refused += 1
            continue
        write_nir(tmp_path / "x.nir", nir_graph, force=True)
        assert exact_graph(read_nir(tmp_path / "x.nir")) == graph
        kept += 1
    assert kept >= 20


def test_a_changed_file_is_lowered_anew(tmp_path, caplog):
    nir_graph = exact_nir(chain(), dt_s=1e-3)
    assert lower(nir_graph) == chain()
    nir_graph.nodes["w1"].weight[0, 0] = 2.5
    anew = lower(nir_graph)
    assert "was changed since its integers were written" in caplog.text
    assert anew.nodes["w1"].weight.max() > 200
    assert lower(exact_nir(chain(), dt_s=1e-3), weight_bits=4).nodes["w1"].weight_bits == 4


def test_nir_refusals():
    with pytest.raises(ConfigError, match=r"dt of the graph is missing; .*Pass dt_s \(--dt\)"):
        exact_nir(chain())
    with pytest.raises(ConfigError, match="dt_s is -1; expected the width of a step in seconds"):
        exact_nir(chain(), dt_s=-1)
    with pytest.raises(ConfigError, match="expected 0.001 s, with which the graph was made"):
        exact_nir(chain().with_metadata(dt_s=1e-3), dt_s=2e-3)
    rule = next(iter(RULES.values()))
    with pytest.raises(UnsupportedNodeError, match=r"'w2': NIR has no place for its learning rule"):
        exact_nir(chain(w2=Dense([[2, -4], [8, 0]], rule=rule)), dt_s=1e-3)


# --- command line -------------------------------------------------------------------------------


def test_the_command_line_goes_around(tmp_path, netx):
    layers = dense(bias=[1, 2]), dense(weight=[[2, -4], [6, 8]], delay=[1, 2])
    path = netx(*layers)
    graph = read_netx(path)
    refused(biril("export", path, "--to", "nir"), "--dt")
    steps = [("x.net", "nir", ["--dt", "1e-3"]), ("x.nir", "netx", ["-o", tmp_path / "y.net"])]
    for name, target, more in steps:
        done = biril("export", tmp_path / name, "--to", target, *more)
        assert done.returncode == 0, done.stderr
    assert read_netx(tmp_path / "y.net").nodes == graph.nodes
    done = biril("export", tmp_path / "y.net", "--to", "loihi", "--input-message-bits", 3)
    assert done.returncode == 0, done.stderr
    assert LoihiGraph.load(tmp_path / "y.loihi.npz").inputs["input"].message_bits == 3
    assert "layer1.weight.delay2" in biril("info", path).stdout
    assert json.loads(biril("info", path, "--json").stdout)["kind"] == "netx"


def test_the_command_line_asks_before_it_rounds(tmp_path, netx):
    path = netx(dense(weight=[[2.5, -4, 6], [8, 0, -2]], neuron=neuron(vth=60)))
    refused(biril("export", path, "--to", "loihi"), "--truncate", "layer/0/weight")
    assert biril("export", path, "--to", "loihi", "--truncate").returncode == 0
    graph = LoihiGraph.load(tmp_path / "x.loihi.npz")
    graph.with_node("layer0", bias_mant=3).save(tmp_path / "b.loihi.npz")
    refused(biril("export", tmp_path / "b.loihi.npz", "--to", "netx"), "--round-bias", "--to lava")
    done = biril("export", tmp_path / "b.loihi.npz", "--to", "netx", "--round-bias")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.net").is_file()
