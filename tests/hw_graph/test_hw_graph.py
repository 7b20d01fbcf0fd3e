"""LoihiGraph: wiring checks, timing, equality, and files that may be hostile."""

from __future__ import annotations

import io
import json
import pickle
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.hw_graph.values import as_integers
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
            r"Input 'in' is joined to \['n'\]; expected connections",
        ),
        (
            {"in": Input((2,)), "w": Dense(np.eye(2, dtype=int))},
            (("in", "w"),),
            r"has targets \[\]; expected one Neurons node",
        ),
        (
            {"in": Input((2,)), "w": Dense(np.ones((3, 3), int)), "n": Neurons((3,), vth=1)},
            (("in", "w"), ("w", "n")),
            r"'w' has weights \(3, 3\); expected \(3, 2\)",
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
    with pytest.raises(ConfigError, match="expected integers"):
        Dense(np.array([[0.5]]))
    with pytest.raises(ConfigError, match="register vth has shape"):
        Neurons((3,), vth=[1, 2])
    with pytest.raises(ConfigError, match=r"Dense weights have shape .*; expected \(post, pre\)"):
        Dense(np.zeros(3, int))
    assert Dense(np.array([[2.0]])).weight.dtype == np.int32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Input(()), "positive lengths"),
        (lambda: Input((2.5,)), r"shape is \(2\.5,\); expected a sequence \(an integer"),
        (lambda: Input("3"), "shape is '3'; expected a sequence"),
        (lambda: Input((3, 0)), "positive lengths of at most"),
        (lambda: Input((1 << 20, 1 << 20)), "at most 67108864 neurons"),
        (lambda: Input((10**30,)), "positive lengths"),
        (lambda: Input((3,), message_bits="x"), "Input: message_bits is 'x'; expected an integer"),
        (lambda: Input((3,), message_bits=32), "message_bits is 32; expected 0 to 31"),
        (lambda: Input((3,), message_bits=-1), "message_bits is -1; expected 0 to 31"),
        (
            lambda: Neurons((3,), vth=1, bias_exp=1.5),
            "Neurons bias_exp: dtype is float64; expected integers",
        ),
        (lambda: Neurons((3,), vth=[[1], [2, 3]]), "register vth: .*; expected integers"),
        (
            lambda: Neurons((3,), vth=1 << 40),
            "register vth: values are .*; expected integers of 32",
        ),
        (lambda: Dense([[2]], delay=[1, 2]), r"Dense: delay is \[1, 2\]; expected an integer"),
        (lambda: Dense([[2]], weight_exp=None), "Dense: weight_exp is None; expected an integer"),
        (
            lambda: Conv(np.ones((1, 1, 1, 1)), stride=1.5),
            "Conv stride: dtype is float64; expected integers",
        ),
        (
            lambda: Conv(np.ones((1, 1, 1, 1)), padding=[1, 2, 3]),
            "Conv padding: shape is .*; expected one integer or two",
        ),
        (
            lambda: Conv(np.ones((1, 1, 1, 1)), groups=np.nan),
            "Conv: groups is nan; expected an integer",
        ),
    ],
)
def test_fields_of_the_wrong_kind_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_weights_are_checked_without_wider_copies():
    weight = np.ones((1 << 10, 1 << 10), np.int8)
    tracemalloc.start()
    as_integers(weight, "weights")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.25 * 4 * weight.size
    for value in (np.inf, 2.0**40, -(2.0**31) - 1):
        with pytest.raises(
            ConfigError, match="weights: values are .*; expected integers of 32 bits"
        ):
            as_integers([value], "weights")


def test_nodes_that_do_not_answer():
    with pytest.raises(ConfigError, match=r"node 'conv' \(Conv\) sends no spikes"):
        small().shape_of("conv")
    with pytest.raises(ConfigError, match="node 'x' is unknown; expected one of in, conv"):
        small().with_node("x", dv=1)


def _csr(data, indices, indptr, shape):
    matrix = scipy.sparse.csr_matrix(shape, dtype=np.int64)
    matrix.data, matrix.indices, matrix.indptr = map(np.array, (data, indices, indptr))
    return matrix


def test_sparse_weights_are_brought_into_one_form():
    """Unsorted and repeated indices mean what scipy says: a sum."""
    node = Sparse(_csr([2, 4, 6], [1, 0, 1], [0, 3], (1, 2)))
    assert node.weight.data.tolist() == [4, 8]
    assert node.weight.indices.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="tags need a CSR matrix.*sum_duplicates"):
        Sparse(_csr([2, 4], [1, 0], [0, 2], (1, 2)), tag_t=[1, 2])
    for indices, indptr in (([0, 2], [0, 2]), ([0, -1], [0, 2]), ([0, 1], [1, 2])):
        with pytest.raises(ConfigError, match="not a valid CSR matrix"):
            Sparse(_csr([2, 4], indices, indptr, (1, 2)))


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
        "Objects and records are never read",
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
    "other version": (_with_header(lambda h: h.update(version=99)), "LoihiGraph', 99"),
    "unknown kind": (_with_header(lambda h: h["nodes"][0].update(kind="System")), "kind 'System'"),
    "loose edge": (_with_header(lambda h: h["edges"].append(["in", "nowhere"])), "nowhere"),
    "names twice": (
        _with_header(lambda h: h["nodes"][1].update(name="in")),
        "expected texts, each once",
    ),
    "name of no text": (_with_header(lambda h: h["nodes"][1].update(name=7)), "texts"),
    "huge population": (_with_header(lambda h: h["nodes"][0].update(shape=[1 << 40])), "neurons"),
    "fraction": (
        _with_header(lambda h: h["nodes"][1].update(delay=0.5)),
        "delay is 0.5; expected an integer",
    ),
    "no stride": (_with_header(lambda h: h["nodes"][1].update(stride=0)), "start at 1"),
    "no groups": (_with_header(lambda h: h["nodes"][1].update(groups=-1)), "start at 1"),
    "padding": (_with_header(lambda h: h["nodes"][1].update(padding=[-1, 0])), "padding at 0"),
    "deep header": (
        lambda n, d: _npy(np.frombuffer(b"[" * 100_000, np.uint8)) if n == "header.npy" else d,
        "nests deeper than 64 levels",
    ),
    "header of no text": (
        lambda n, d: d.replace(b"'shape': (", b"'shape': ((") if n == "1.weight.npy" else d,
        "not a plain array",
    ),
    "negative length": (
        lambda n, d: d.replace(b"(2, 2, 3, 3)", b"(2, 2, 3,-3)") if n == "1.weight.npy" else d,
        "not a plain array",
    ),
    "no json": (
        lambda n, d: _npy(np.frombuffer(b"\xff{", np.uint8)) if n == "header.npy" else d,
        "is not JSON",
    ),
}


METADATA = {
    "no table": ([1], "metadata is list"),
    "coding": ({"coding": {"in": {"kind": "direct", "n_steps": "4"}}}, "n_steps is '4'"),
    "coding misses": (
        {"coding": {"in": {"kind": "direct", "n_steps": 4}}},
        "message_bits is missing",
    ),
    "coding of no table": ({"coding": {"in": 5}}, "coding of 'in' is 5; needed: table"),
    "chip": ({"chip": ["loihi2"]}, "chip is ['loihi2']; needed: text"),
    "dt": ({"dt_s": 0}, "dt_s is 0; needed: width"),
    "notes": ({"notes": "x"}, "notes is 'x'; needed: texts"),
    "neurons": ({"neurons": {"a": {"scale": "1"}}}, "scale is '1'; needed: number"),
    "margins": ({"neurons": {"a": {"margins": {"u": None}}}}, "needed: numbers"),
    "errors": ({"quantisation": {"conv": {"zeros": 0.5}}}, "zeros is 0.5; needed: integer"),
    "netx": ({"netx": 3}, "netx is 3; needed: table"),
    "netx input": ({"netx": {"input": {"weight": 3, "bias": 0}}}, "iDecay is missing"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_the_wrong_kind_are_refused(name, tmp_path):
    metadata, message = METADATA[name]
    good, bad = tmp_path / "good.loihi.npz", tmp_path / "bad.loihi.npz"
    small().save(good)
    _rewrite(good, bad, _with_header(lambda h: h.update(metadata=metadata)))
    with pytest.raises(FileFormatError, match=f"bad.loihi.npz(?s:.)*{re.escape(message)}"):
        LoihiGraph.load(bad)


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
    with pytest.raises(FileFormatError, match=r"not a readable \.npz"):
        LoihiGraph.load(path)


def test_integers_that_nobody_can_write_are_not_copied():
    weight = np.full((3, 2), 2)
    first = Dense(weight).weight
    assert Dense(first).weight is first
    weight[:] = 4  # which the node must not see
    assert first.max() == 2
    view = first[:2]  # of memory that its owner could make writable
    assert Dense(view).weight is not view


def test_countless_nodes_take_time_in_proportion():
    """Thousands of outputs, and of connections into one population."""
    count = 4_000
    nodes = {"in": Input((1,)), "n": Neurons((1,), vth=2)}
    nodes |= {f"f{i}": Dense([[2]]) for i in range(count)} | {
        f"o{i}": Output() for i in range(count)
    }
    edges = [
        edge for i in range(count) for edge in (("in", f"f{i}"), (f"f{i}", "n"), ("n", f"o{i}"))
    ]
    graph = LoihiGraph(nodes, tuple(edges))
    assert len(graph.incoming("n")) == len(graph.outputs) == count
    assert graph.incoming("in") == []
