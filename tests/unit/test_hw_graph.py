"""LoihiGraph: wiring checks, timing, equality, and files that may be hostile."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.storage import read_npz


def small() -> LoihiGraph:
    nodes = {
        "in": Input((2, 5, 4), message_bits=3),
        "conv": Conv(np.arange(36).reshape(2, 2, 3, 3) - 18, padding=(1, 1)),
        "a": Neurons((2, 5, 4), vth=100, bias_mant=np.arange(40).reshape(2, 5, 4)),
        "sparse": Sparse(
            scipy.sparse.random(3, 40, 0.3, format="csr", random_state=0).ceil(), delay=2
        ),
        "b": Neurons((3,), vth=[3, 4, 5], dv=7),
        "loop": Dense(np.eye(3, dtype=int) * 4, weight_exp=-1),
        "out": Output(),
    }
    edges = [
        ("in", "conv"),
        ("conv", "a"),
        ("a", "sparse"),
        ("sparse", "b"),
        ("b", "loop"),
        ("loop", "b"),
        ("b", "out"),
    ]
    return LoihiGraph(nodes, tuple(edges), {"dt_s": 1e-3})


def test_round_trip_equality_and_immutability(tmp_path):
    graph = small()
    path = tmp_path / "x.loihi.npz"
    graph.save(path)
    assert LoihiGraph.load(path) == graph
    assert graph.with_node("b", dv=8) != graph
    with pytest.raises(OutputExistsError, match="--force"):
        graph.save(path)
    graph.save(path, force=True)
    with pytest.raises(ValueError, match="read-only"):
        graph.nodes["conv"].weight[0, 0, 0, 0] = 5
    with pytest.raises(TypeError):
        graph.nodes["x"] = Output()
    assert [p.name for p in tmp_path.iterdir()] == ["x.loihi.npz"]


def test_timing():
    graph = small()
    assert graph.latency == {"in": 0, "a": 1, "b": 4}
    assert graph.timing.slack == {"conv": 0, "sparse": 0, "loop": 1}
    assert graph.timing.order == ("a", "b")
    assert graph.sample_period(10) == 11
    feed_forward = LoihiGraph(
        {n: graph.nodes[n] for n in ("in", "conv", "a")}, (("in", "conv"), ("conv", "a"))
    )
    assert feed_forward.sample_period(10) == 10


def test_bias_only_nodes_are_placed_before_their_target():
    graph = small()
    nodes = {**graph.nodes, "on": Neurons((1,), vth=0, bias_mant=1), "w": Dense(np.full((3, 1), 2))}
    bigger = LoihiGraph(nodes, (*graph.edges, ("on", "w"), ("w", "b")))
    assert bigger.latency["on"] == 3
    assert bigger.timing.slack["w"] == 0


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ({}, (), "no Input node"),
        ({"in": Input((2,))}, (("in", "x"),), "node 'x' does not exist"),
        (
            {"in": Input((2,)), "n": Neurons((2,), vth=1)},
            (("in", "n"),),
            "joined through connections",
        ),
        (
            {"in": Input((2,)), "w": Dense(np.eye(2, dtype=int))},
            (("in", "w"),),
            "exactly one destination",
        ),
        (
            {"in": Input((2,)), "w": Dense(np.ones((3, 3), int)), "n": Neurons((3,), vth=1)},
            (("in", "w"), ("w", "n")),
            r"'w' has weights \(3, 3\), needed is \(3, 2\)",
        ),
        (
            {
                "in": Input((1, 4, 4)),
                "w": Conv(np.ones((2, 1, 3, 3), int)),
                "n": Neurons((2, 4, 4), vth=1),
            },
            (("in", "w"), ("w", "n")),
            r"makes \(2, 2, 2\)",
        ),
    ],
)
def test_wrong_wiring_is_refused(nodes, edges, message):
    with pytest.raises(ConfigError, match=message):
        LoihiGraph(nodes, edges)


def test_nodes_refuse_fractions_and_odd_shapes():
    with pytest.raises(ConfigError, match="must be integers"):
        Dense(np.array([[0.5]]))
    with pytest.raises(ConfigError, match="register vth has shape"):
        Neurons((3,), vth=[1, 2])
    with pytest.raises(ConfigError, match="Dense weights must be"):
        Dense(np.zeros(3, int))
    assert Dense(np.array([[2.0]])).weight.dtype == np.int32


def _rewrite(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)


def _npy(array, allow_pickle=False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


class Bomb:
    def __reduce__(self):
        return (open, ("/tmp/biril-nm-was-here", "w"))


def _header(path) -> dict:
    return json.loads(read_npz(path)["header"].tobytes())


def _with_header(change):
    def apply(name, data):
        if name != "header.npy":
            return data
        header = json.loads(np.lib.format.read_array(io.BytesIO(data)).tobytes())
        change(header)
        return _npy(np.frombuffer(json.dumps(header).encode(), np.uint8))

    return apply


HOSTILE = {
    "truncated member": (lambda n, d: d[: len(d) // 2] if n == "1.weight.npy" else d, "1.weight"),
    "missing array": (lambda n, d: None if n == "1.weight.npy" else d, "1.weight"),
    "pickled objects": (
        lambda n, d: _npy(np.array([Bomb()], dtype=object), True) if n == "1.weight.npy" else d,
        "pickled",
    ),
    "huge claim": (
        lambda n, d: (
            d.replace(b"(2, 2, 3, 3)", b"(2, 2, 3,300000000)") if n == "1.weight.npy" else d
        ),
        "1.weight",
    ),
    "bad shape": (
        lambda n, d: _npy(np.zeros((2, 2), np.int32)) if n == "1.weight.npy" else d,
        "Conv weights",
    ),
    "csr out of range": (
        lambda n, d: (
            _npy(np.full_like(np.lib.format.read_array(io.BytesIO(d)), 99))
            if n == "3.indices.npy"
            else d
        ),
        "CSR",
    ),
    "other version": (_with_header(lambda h: h.update(version=99)), "version 99"),
    "unknown kind": (_with_header(lambda h: h["nodes"][0].update(kind="System")), "kind 'System'"),
    "loose edge": (_with_header(lambda h: h["edges"].append(["in", "nowhere"])), "nowhere"),
    "no json": (
        lambda n, d: _npy(np.frombuffer(b"\xff{", np.uint8)) if n == "header.npy" else d,
        "no valid",
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_damaged_and_hostile_files_are_refused(attack, tmp_path):
    change, message = HOSTILE[attack]
    good, bad = tmp_path / "good.loihi.npz", tmp_path / "bad.loihi.npz"
    small().save(good)
    assert _header(good)["format"] == "biril-nm LoihiGraph"
    _rewrite(good, bad, change)
    with pytest.raises(FileFormatError, match="bad.loihi.npz|" + message) as caught:
        LoihiGraph.load(bad)
    assert message in str(caught.value)


def test_no_archive_at_all(tmp_path):
    path = tmp_path / "x.loihi.npz"
    with pytest.raises(FileFormatError, match="does not exist"):
        LoihiGraph.load(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileFormatError, match=r"no readable \.npz"):
        LoihiGraph.load(path)
