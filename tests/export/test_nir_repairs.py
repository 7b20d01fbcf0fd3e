"""Recurrent .nir files of 2023 that nir 1.0.8 refuses: mended where one way is possible, else named."""

from __future__ import annotations

import h5py
import nir
import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.export import lower
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate

N_IN, N = 3, 5
ONE = np.ones(N)
WEIGHTS = np.random.default_rng(0)
ENTER, LOOP = WEIGHTS.normal(0.4, 0.8, (N, N_IN)), WEIGHTS.normal(0, 0.5, (N, N))
X = (np.random.default_rng(1).random((40, 2, N_IN)) < 0.4).astype(np.int32)
RIGHT = [("input", "lif"), ("lif", "output"), ("lif", "w_rec"), ("w_rec", "lif")]


def lif():
    return "LIF", {"tau": 0.02 * ONE, "r": 20 * ONE, "v_leak": 0 * ONE, "v_threshold": ONE}


def end(kind, *shape):
    return kind, {"shape": np.array(shape)}


def put(group, nodes, edges):
    group.create_dataset("type", data="NIRGraph")
    for name, (kind, fields) in nodes.items():
        node = group.create_group(f"nodes/{name}")
        if kind == "NIRGraph":
            put(node, *fields)
            continue
        for key, value in {"type": kind, **fields}.items():
            node.create_dataset(key, data=value)
    group.create_dataset("edges", data=np.array([[end.encode() for end in edge] for edge in edges]))


@pytest.fixture
def write(tmp_path):
    """(inner nodes, inner edges, outer weight) -> a file of nir 0.2, loop in a nested graph 'rnn'."""

    def write(edges=RIGHT, name="lif", enter=ENTER, **changes):
        inner = {
            "input": end("Input", N), name: lif(), "output": end("Output", N),
            "w_rec": ("Affine", {"weight": LOOP, "bias": 0 * ONE}), **changes,
        }  # fmt: skip
        outer = {
            "input": end("Input", N_IN), "fc": ("Linear", {"weight": enter}),
            "rnn": ("NIRGraph", (inner, edges)), "output": end("Output", N),
        }  # fmt: skip
        with h5py.File(tmp_path / "x.nir", "w") as file:
            file.create_dataset("version", data="0.2")
            put(
                file.create_group("node"),
                outer,
                [("input", "fc"), ("fc", "rnn"), ("rnn", "output")],
            )
        return tmp_path / "x.nir"

    return write


def spikes_of(path, name):
    graph = lower(read_nir(path), dt_s=1e-3, reset="zero")
    mended = [note for note in graph.metadata["notes"] if note.startswith("the file was mended")]
    return simulate(graph, X, record=("s",))[f"rnn.{name}"].s, mended


MENDED = {
    "input too small": ({"input": end("Input", N_IN)}, "lif", RIGHT,
                        ["Input 'rnn.input' of shape (3,) got (5,)"]),
    "input with a batch": ({"input": end("Input", 1, N)}, "lif", RIGHT,
                           ["of shape (1, 5) got (5,), the shape of 'lif'"]),
    "output": ({"output": end("Output", N_IN)}, "lif", RIGHT, ["Output 'rnn.output' of shape (3,) got (5,)"]),
    "all edges": ({}, "lif1", RIGHT,
                  ["end at 'lif', which is not a node, end at 'lif1'"]),
    "one edge": ({}, "lif1",
                 [("input", "lif"), ("lif1", "output"), ("lif1", "w_rec"), ("w_rec", "lif1")],
                 ["end at 'lif', which is not a node, end at 'lif1'"]),
    "another name": ({}, "cells", RIGHT, ["end at 'lif', which is not a node, end at 'cells'"]),
    "both": ({"input": end("Input", 2)}, "lif1", RIGHT, ["end at 'lif1'", "of shape (2,) got (5,)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MENDED)
def test_what_is_mended_runs_as_the_right_file(write, case):
    changes, name, edges, expected = MENDED[case]
    want, notes = spikes_of(write(), "lif")
    assert not notes and want.mean() > 0.02
    path = write(edges, name, **changes)
    with pytest.raises(ValueError, match="Type inference error|does not exist"):
        nir.read(path, type_check=False)
    got, notes = spikes_of(path, name)
    np.testing.assert_array_equal(got, want)
    assert len(notes) == len(expected)
    for note, text in zip(notes, expected):
        assert text in note


def test_the_loop_matters(write):
    want, _ = spikes_of(write(), "lif")
    other, _ = spikes_of(write(w_rec=("Affine", {"weight": -LOOP, "bias": 0 * ONE})), "lif")
    assert not np.array_equal(want, other)


def test_a_mended_graph_keeps_its_notes_in_a_file(write, tmp_path):
    graph = read_nir(write(name="lif1"))
    write_nir(tmp_path / "again.nir", graph)
    assert len(spikes_of(tmp_path / "again.nir", "lif1")[1]) == 1


REFUSED = {
    "two candidates": ({"lif2": lif()}, "lif1", RIGHT,
                       r"edge \('input', 'lif'\) of graph 'rnn' ends at 'lif', "
                       r"which is not a node; expected one of lif1, lif2\. Mend that edge"),
    "no candidate": ({}, "lif", [*RIGHT, ("w_rec", "gone")],
                     r"edge \('w_rec', 'gone'\) .* is not a node; expected"),
    "a second edge": ({}, "lif1", [("input", "lif1"), ("input", "lif"), ("lif1", "output")], "ends at 'lif'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_several_ways_are_refused_with_the_edge(write, case):
    changes, name, edges, expected = REFUSED[case]
    with pytest.raises(FileFormatError, match=expected):
        read_nir(write(edges, name, **changes))


def test_a_shape_on_which_inside_and_outside_differ_is_refused(write):
    path = write(input=end("Input", N_IN), enter=np.ones((4, N_IN)))
    expected = r"Input 'rnn.input' has shape \(3,\), .*ask for \(4,\), \(5,\)"
    with pytest.raises(FileFormatError, match=expected):
        read_nir(path)


def test_damage_of_another_kind_is_reported_as_before(write):
    path = write(w_rec=("Affine", {"weight": np.ones((N, N + 1)), "bias": 0 * ONE}))
    with pytest.raises(FileFormatError, match="is not a readable NIR file"):
        read_nir(path)
