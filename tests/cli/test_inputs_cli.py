"""Input on the command line: codings of NIR files, values refused, and random input that wakes layers."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from biril_nm.coding import Coding
from biril_nm.commands.inputs import random_input, silent_layers, waking_input
from biril_nm.export import to_nir
from biril_nm.export.nir_files.files import write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from tests.support.command_line import biril, refused
from tests.support.torch_nets import small_net


def deep(first, second, message_bits=0, signed=False, weight=40):
    """Two layers of four neurons with these thresholds."""
    nodes = {
        "in": Input((4,), message_bits, signed),
        "w1": Dense(np.full((4, 4), weight)),
        "n1": Neurons((4,), vth=first, dv=1024),
        "w2": Dense(np.full((4, 4), 40)),
        "n2": Neurons((4,), vth=second, dv=256),
        "out": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)))


# Input at which n2 spikes: usual, dense, long. With a sign: enough of one sign.
WAKING = {
    "usual": (deep(50, 100), 12),
    "dense": (deep(155, 400), 12),
    "longer": (deep(155, 2000), 12),
    "inhibited at full drive": (deep(10, 10, weight=20), 12),
    "graded": (deep(40 * 4 * 42, 150, message_bits=4), 12),
    "signed": (deep(40 * 3 * 15, 300, message_bits=4, signed=True), 12),
}


@pytest.mark.parametrize("case", WAKING)
def test_the_drive_rises_until_every_layer_spikes(case):
    graph, n_steps = WAKING[case]
    usual = random_input(graph, n_steps, 8, seed=1)
    found = waking_input(graph, n_steps, 8, seed=1)
    asleep = {name: silent_layers(graph, simulate(graph, x, record=()).n_spikes) for name, x in
              (("usual", usual), ("found", found))}  # fmt: skip
    assert asleep["found"] == []
    assert (asleep["usual"] == []) == (case in ("usual", "inhibited at full drive"))
    if not asleep["usual"]:
        np.testing.assert_array_equal(usual["in"], found["in"])
    assert (len(found["in"]) > n_steps) == (case == "longer")
    again = waking_input(graph, n_steps, 8, seed=1)
    np.testing.assert_array_equal(again["in"], found["in"])


@pytest.mark.lava
def test_a_layer_that_cannot_spike_is_named_and_fails_under_strict(tmp_path):
    path = tmp_path / "dead.loihi.npz"
    deep(50, 100_000).save(path)
    arguments = ("parity", path, "--samples", 2, "--against", "sim,lava", "--steps", 5)
    pytest.importorskip("lava")
    for extra, code in (((), 0), (("--strict",), 1)):
        done = biril(*arguments, *extra)
        assert done.returncode == code, done.stderr
        assert "n2 did not spike on any random input that was tried" in " ".join(
            done.stderr.split()
        )
    deep(50, 100).save(path, force=True)
    done = biril(*arguments, "--strict")
    assert done.returncode == 0 and "did not spike" not in done.stderr


def test_readouts_without_a_threshold_are_not_silent_layers():
    graph = deep(50, 131_071)
    assert silent_layers(graph, {"n1": 0, "n2": 0}) == ["n1"]


@pytest.fixture
def nir_file(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "x.nir"
    write_nir(path, to_nir(small_net(), torch.zeros(1, 4), dt_s=1e-3))
    return path


def test_a_nir_file_takes_a_coding(nir_file, tmp_path):
    out = tmp_path / "x.loihi.npz"
    options = ("--reset", "force-zero", "-o", out, "--force", "--json")
    for text, bits, signed in (
        ("signed:9:3", 3, True),
        ("counts:9:2", 2, False),
        ("spikes:9", 0, False),
    ):
        done = biril("export", nir_file, "--to", "loihi", "--coding", text, *options)
        assert done.returncode == 0, done.stderr
        assert (
            json.loads(done.stdout)["metadata"]["coding"]["input"] == Coding.parse(text).to_dict()
        )
        assert LoihiGraph.load(out).inputs["input"] == Input((4,), bits, signed)


def test_a_coding_is_refused_where_it_means_nothing(nir_file, tmp_path):
    refused(
        biril("export", nir_file, "--to", "loihi", "--coding", "loud"), "coding 'loud' is unknown"
    )
    graph = tmp_path / "x.loihi.npz"
    deep(50, 100).save(graph)
    refused(biril("parity", graph, "--coding", "counts:3:3"), "has its own input", "Leave it out")


def test_values_that_the_input_does_not_carry_are_refused_with_the_way_out(tmp_path):
    graph, spikes = tmp_path / "x.loihi.npz", tmp_path / "spikes.npz"
    deep(50, 100).save(graph)
    np.savez(spikes, spikes=np.full((6, 2, 4), 3))
    for command in ("sim", "parity"):
        done = biril(command, graph, "--spikes", spikes)
        refused(done, "values from 3 to 3", "a binary input allows 0 to 1", "--coding counts:6:2")


def test_pictures_of_another_shape_or_coding_are_refused_with_both(tmp_path):
    vector = tmp_path / "vector.loihi.npz"
    deep(10, 10).save(vector)
    nodes = {
        "in": Input((1, 8, 8)),
        "fc": Dense(np.ones((3, 64))),
        "n": Neurons((3,), vth=9),
        "out": Output(),
    }
    binary = tmp_path / "binary.loihi.npz"
    LoihiGraph(nodes, tuple(pairwise(nodes))).save(binary)
    out = ("-o", tmp_path / "r.html")
    commands = {"eval": (), "parity": ("--against", "sim,lava"), "report": out}
    for command, options in commands.items():
        words = (*options, "--dataset", "digits", "--samples", 2)
        refused(biril(command, vector, *words), "input 'in' has shape (4,)", "have (1, 8, 8)")
        refused(
            biril(command, binary, *words), "the coding of input 'in' is spikes", "--coding rate:16"
        )
