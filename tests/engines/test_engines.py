"""The registry of engines, and what an engine says when it cannot run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.coding import Coding
from biril_nm.engines import (
    Network,
    Requirement,
    RunOptions,
    available_engines,
    engine,
    get_engine,
)
from biril_nm.errors import ConfigError, MissingDependencyError
from biril_nm.evaluation import evaluate_graph
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph, Output
from biril_nm.hw_graph.outputs import output_neurons
from biril_nm.parity import check_parity
from biril_nm.recording.readout import class_scores, predict, readout_node
from tests.support.random_graphs import random_graph
from tests.support.third_party import registries_restored, write_package

GRAPH = random_graph(3, "plain")
SPIKES = (np.random.default_rng(0).random((6, 4, *GRAPH.inputs["in"].shape)) < 0.5).astype(np.uint8)
BUILT_IN = ("torch", "sim", "lava", "torch-int")


@pytest.fixture(autouse=True)
def _registries():
    with registries_restored():
        yield


def test_listing_engines_imports_none_of_their_packages():
    code = (
        "import sys; from biril_nm.engines import available_engines; "
        "from biril_nm.export.backends import available_backends; "
        "available_engines(), available_backends(); "
        "print(sorted({'torch', 'snntorch', 'lava', 'nir', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_built_in_engines_say_what_they_are():
    assert available_engines() == BUILT_IN
    kinds = {name: get_engine(name) for name in BUILT_IN}
    assert [each.integers for each in kinds.values()] == [False, True, True, True]
    assert [each.needs_net for each in kinds.values()] == [True, False, False, False]
    assert [each.learns for each in kinds.values()] == [False, True, True, False]


def test_sim_records_what_it_is_asked_for():
    options = RunOptions(("s", "v"), nodes=(readout_node(GRAPH),), n_threads=1)
    found = get_engine("sim").run(Network(GRAPH), SPIKES, options)
    expected = simulate(GRAPH, SPIKES, record=("s", "v"))
    assert list(found) == [readout_node(GRAPH)]
    assert_array_equal(found[readout_node(GRAPH)].v, expected[readout_node(GRAPH)].v)
    assert expected.n_spikes[readout_node(GRAPH)] > 0


def test_an_unknown_engine_lists_the_known_ones():
    with pytest.raises(ConfigError, match="engine 'sum' is unknown; expected one of torch, sim, l"):
        get_engine("sum")
    with pytest.raises(ConfigError, match="engine 'sum' is unknown"):
        check_parity(GRAPH, SPIKES, against=("sim", "sum"))


def test_torch_says_that_it_needs_the_network():
    with pytest.raises(ConfigError, match=r"engine 'torch' needs the torch network.*give model.pt"):
        check_parity(GRAPH, SPIKES, against=("torch", "sim"))
    with pytest.raises(ConfigError, match="engine 'torch' needs the torch network"):
        evaluate_graph(GRAPH, SPIKES[0], np.zeros(4), Coding("rate", 3, 0), backend="torch")


@pytest.mark.parametrize("against", [("sim",), (), ("sim", "sim")])
def test_one_engine_is_not_compared(against):
    with pytest.raises(ConfigError, match=r"expected at least two of torch, sim, lava"):
        check_parity(GRAPH, SPIKES, against=against)


def test_a_missing_package_names_the_command_before_anything_runs():
    ran = []

    @engine("gpu", requires=(Requirement("no_such_package"),))
    def run(network, spikes, options):
        ran.append(spikes)

    @engine("extra", requires=(Requirement("no_such_package", "cluster"),))
    def run_extra(network, spikes, options):
        ran.append(spikes)

    with pytest.raises(
        MissingDependencyError,
        match=r"'no_such_package' is needed to run the engine 'gpu' .*pip install no_such_package$",
    ):
        check_parity(GRAPH, SPIKES, against=("sim", "gpu"))
    with pytest.raises(MissingDependencyError, match=r'pip install "biril-nm\[cluster\]"'):
        get_engine("extra").run(Network(GRAPH), SPIKES)
    assert not ran


def wrong_threshold(network, spikes, options):
    twin = network.graph.with_node(readout_node(network.graph), vth=1)
    return simulate(twin, spikes, record=options.record, nodes=options.nodes)


def test_a_registered_engine_is_compared_integer_by_integer():
    engine("wrong")(wrong_threshold)
    assert available_engines() == (*BUILT_IN, "wrong")
    report = check_parity(GRAPH, SPIKES, against=("sim", "wrong"))
    assert not report.ok
    assert report.mismatches[0].engines == ("sim", "wrong")
    assert report.mismatches[0].node == readout_node(GRAPH)
    with pytest.raises(ConfigError, match="engine 'wrong' is registered already by wrong_thr"):
        engine("wrong")(lambda network, spikes, options: None)


def test_several_float_engines_are_compared_by_predictions():
    def floats(shift):
        def run(network, spikes, options):
            exact = simulate(network.graph, spikes)
            scores = np.roll(class_scores(network.graph, exact), shift, axis=-1).astype(float)
            return replace(exact, scores=scores)

        return run

    for name, shift in (("right", 0), ("shifted", 1)):
        engine(name, integers=False)(floats(shift))
    good = check_parity(GRAPH, SPIKES, against=("sim", "right"))
    assert good.ok and "right ~ sim: 4 of 4 predictions equal" in good.summary()
    bad = check_parity(GRAPH, SPIKES, against=("right", "sim", "shifted"))
    assert [each.engine for each in bad.agreements] == ["right", "shifted"]
    assert bad.float_problem is not None
    assert bad.float_problem.startswith("shifted and the integer network predict")
    with pytest.raises(ConfigError, match="with sim or another integer engine among them"):
        check_parity(GRAPH, SPIKES, against=("right", "shifted"))


def test_scores_of_an_engine_come_before_those_of_its_spikes():
    exact = simulate(GRAPH, SPIKES, record=("s",))
    own = np.zeros((4, 3))
    own[:, 2] = 1
    assert predict(GRAPH, replace(exact, scores=own)).tolist() == [2] * 4
    assert_array_equal(predict(GRAPH, exact), class_scores(GRAPH, exact).argmax(axis=-1))


def test_the_readout_is_the_output_else_what_feeds_nothing():
    last = readout_node(GRAPH)
    nodes = {name: node for name, node in GRAPH.nodes.items() if not isinstance(node, Output)}
    edges = tuple(edge for edge in GRAPH.edges if set(edge) <= set(nodes))
    bare = LoihiGraph(nodes, edges)
    assert not bare.outputs
    assert output_neurons(bare) == output_neurons(GRAPH) == (last,)
    assert readout_node(bare) == last != next(iter(GRAPH.neurons))


def test_evaluation_takes_any_engine():
    engine("wrong")(wrong_threshold)
    values = np.random.default_rng(1).random((8, *GRAPH.inputs["in"].shape)).astype(np.float32)
    coding = Coding("rate", 5, 0)
    exact = evaluate_graph(GRAPH, values, np.zeros(8), coding, backend="sim")
    wrong = evaluate_graph(GRAPH, values, np.zeros(8), coding, backend="wrong")
    last = readout_node(GRAPH)
    assert wrong.firing_rates[last] > exact.firing_rates[last] > 0


def test_entry_points_bring_engines(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(write_package(tmp_path)))
    names = ("gone", "lacking", "not_an_engine", "twin", "wrong")
    assert available_engines() == (*BUILT_IN, *names)
    assert get_engine("twin").name == "twin"
    assert check_parity(GRAPH, SPIKES, against=("sim", "twin")).ok
    assert not check_parity(GRAPH, SPIKES, against=("sim", "wrong")).ok
    with pytest.raises(
        ConfigError, match=r"'not_an_engine' .* is int; expected a biril_nm.engines"
    ):
        get_engine("not_an_engine")
    with pytest.raises(ConfigError, match=r"'gone' .* cannot be loaded \(ModuleNotFoundError"):
        get_engine("gone")


def test_the_old_list_of_engines_works_with_a_warning():
    from biril_nm import parity

    with pytest.warns(DeprecationWarning, match=r"is now biril_nm.engines.available_engines\(\)"):
        assert parity.ENGINES == BUILT_IN
    with pytest.raises(AttributeError, match="no attribute 'ENGINE'"):
        parity.ENGINE
