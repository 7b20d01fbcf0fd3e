"""examples/digits.pt: a first try without training."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import biril_nm as bnm
from biril_nm.data import Batches, load_data
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.training import evaluate
from tests.support.command_line import biril

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = EXAMPLES / "digits.pt"


@pytest.fixture(scope="module")
def graph() -> LoihiGraph:
    return lower(to_nir(bnm.load(MODEL)))


def test_it_is_small_and_as_right_as_its_script_says(graph):
    assert MODEL.stat().st_size < 1 << 20
    text = (EXAMPLES / "make_digits.py").read_text()
    in_float, on_integers = map(
        int, re.search(r"(\d+) of the test digits.*?(\d+) on", text, re.S).groups()
    )
    net, test = bnm.load(MODEL), load_data("digits").test
    found = evaluate_graph(graph, test.values(), test.labels, net.config.coding)
    assert round(found.accuracy * len(test)) == on_integers
    # Sums of floats differ between machines.
    assert abs(evaluate(net, Batches(test, 360)).accuracy * len(test) - in_float) <= 2


def test_it_exports_at_once(tmp_path):
    out = tmp_path / "lava"
    done = biril("export", MODEL, "--to", "lava", "-o", out)
    assert done.returncode == 0, done.stderr
    assert (out / "run_lava.py").is_file()
    assert (out / "network.npz").is_file()


@pytest.mark.lava
def test_its_integers_are_those_of_lava(graph):
    pytest.importorskip("lava.magma", reason="needs lava-nc (make venv)")
    from biril_nm.export.lava.backend import run_lava

    x = bnm.load(MODEL).config.coding.encode(load_data("digits").test.head(3).values())
    theirs = run_lava(graph, x, record="v")
    ours = simulate(graph, x, record="v")
    first = graph.incoming(next(iter(graph.neurons)))[0]
    other = graph.with_node(first, weight=graph.nodes[first].weight + 2)
    changed = simulate(other, x, record="v")
    for name in graph.neurons:
        np.testing.assert_array_equal(ours[name].v, theirs[name].v)
        assert (changed[name].v != theirs[name].v).any()
