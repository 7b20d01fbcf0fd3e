"""Ternary neurons: simulator and scalar reference agree, spikes of -1 pass everything, or it is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export import lower, write_netx
from biril_nm.export.design_rules import check_design, warnings
from biril_nm.export.nir_files import read_nir, write_nir
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.hardware_sim import map_to_chip, neurobench_metrics, simulate
from biril_nm.hardware_sim.cost.activity import Activity
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.plastic import make_plastic
from biril_nm.recording import Recording
from biril_nm.recording.readout import predict
from tests.support.random_graphs import random_graph, random_spikes, with_ternary_neurons
from tests.support.sim_checks import assert_equals_reference

TERNARY = {"model": "ternary_lif", "vth_hi": 60, "vth_lo": -45}
STEPS, BATCH = 30, 3


def graph(loop: bool = True) -> LoihiGraph:
    """Image, convolution, ternary neurons, matrix, ternary neurons with a loop."""
    rng = np.random.default_rng(1)
    nodes = {
        "in": Input((1, 5, 5), 3, signed=True),
        "conv": Conv(rng.integers(-12, 13, (3, 1, 3, 3))),
        "one": Neurons((3, 3, 3), dv=300, **TERNARY),
        "fc": Dense(2 * rng.integers(-30, 31, (4, 27)), delay=1),
        "two": Neurons((4,), dv=100, bias_mant=rng.integers(-99, 99, 4), **TERNARY),
        "back": Dense(2 * rng.integers(-20, 21, (4, 4))),
        "out": Output(),
    }
    edges = tuple(pairwise(name for name in nodes if name != "back"))
    edges += (("two", "back"), ("back", "two")) if loop else ()
    kept = {name: node for name, node in nodes.items() if loop or name != "back"}
    return LoihiGraph(kept, edges)


def image():
    return np.random.default_rng(2).integers(-7, 8, (STEPS, BATCH, 1, 5, 5))


@pytest.fixture(scope="module")
def run():
    return simulate(graph(), image(), record=("s", "u", "v"))


def test_the_simulator_equals_the_scalar_reference():
    net, x = graph(), image()[:12, :2]
    assert assert_equals_reference(net, x) > 100
    spikes = np.asarray(simulate(net, x)["one"].s)
    assert spikes.dtype == np.int8
    assert set(np.unique(spikes)) == {-1, 0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_equal_the_scalar_reference(seed):
    net = with_ternary_neurons(random_graph([seed, 3]), seed)
    assert_equals_reference(net, random_spikes(net, 7, 2, seed))


def test_both_thresholds_are_strict_and_both_spikes_reset():
    nodes = {
        "in": Input((4,), 8, signed=True),
        "w": Dense(2 * np.eye(4, dtype=int)),
        "n": Neurons((4,), vth_hi=20, vth_lo=[-20, -20, -20, -40], model="ternary_lif"),
        "out": Output(),
    }
    net = LoihiGraph(nodes, tuple(pairwise(nodes)))
    x = np.array([[10, -10, 11, -11], [1, -1, 0, -10]])[:, None]
    found = simulate(net, x, record=("s", "v"))["n"]
    assert_array_equal(np.asarray(found.s)[:, 0], [[0, 0, 1, 0], [1, -1, 0, -1]])
    assert_array_equal(np.asarray(found.v)[:, 0] // 64, [[20, -20, 0, -22], [0, 0, 0, 0]])


def test_a_register_that_is_off_by_one_is_seen(run):
    for change in ({"vth_lo": -46}, {"vth_hi": 61}, {"dv": 301}):
        other = simulate(graph().with_node("one", **change), image(), record=("s", "v"))
        assert (np.asarray(other["one"].v) != np.asarray(run["one"].v)).any(), change


def test_recordings_keep_the_sign(run, tmp_path):
    x = image()
    run.save(tmp_path / "run.npz")
    folder = simulate(graph(), x, record_to=tmp_path / "run")
    for found in (Recording.load(tmp_path / "run.npz"), folder, Recording.load(tmp_path / "run")):
        for name in ("one", "two"):
            assert_array_equal(np.asarray(found[name].s), np.asarray(run[name].s))
        assert found.n_spikes["one"] == np.count_nonzero(run["one"].s)


def test_spikes_of_minus_one_count_as_spikes_and_against_their_class(run):
    net, x = graph(), image()
    activity = Activity.of(net, run, x)
    assert activity.spikes["two"].sum() == run.n_spikes["two"]
    metrics = neurobench_metrics(net, run, x)
    assert metrics.layers["fc"].effective_acs > 0 == metrics.layers["fc"].effective_macs
    sums = np.asarray(run["two"].s).sum(axis=0)
    best = predict(net, run)
    assert (sums[np.arange(BATCH), best] == sums.max(axis=1)).all()
    assert len(map_to_chip(net, "loihi2").cores) >= 1


def test_files_keep_the_registers(tmp_path):
    net = graph().with_metadata(dt_s=1e-3)
    net.save(tmp_path / "x.loihi.npz")
    assert LoihiGraph.load(tmp_path / "x.loihi.npz") == net
    assert "vth_lo" in str(net.neurons["one"].registers)
    write_nir(tmp_path / "x.nir", exact_nir(net))
    back = lower(read_nir(tmp_path / "x.nir"))
    assert back.neurons["one"] == net.neurons["one"]


def test_what_cannot_run_them_says_so(tmp_path):
    net = graph(loop=False)
    check_design(net, "loihi2")
    with pytest.raises(
        RangeError, match=r"'ternary_lif' does not run on loihi1; expected cuba_lif\."
    ):
        check_design(net, "loihi1")
    with pytest.raises(RangeError, match="spikes of 'ternary_lif' have 1 message bits and a sign"):
        check_design(net, "loihi1")
    with pytest.raises(RangeError, match="vth_lo is 1 .*expected -131071 to 0"):
        check_design(net.with_node("one", vth_lo=1), "loihi2")
    with pytest.raises(UnsupportedNodeError, match="two thresholds and spikes with a sign"):
        write_netx(net, tmp_path / "x.net")
    assert any("runs on the CPU alone (TernaryLIF)" in str(each) for each in warnings(net))
    with pytest.raises(ConfigError, match="'ternary_lif' needs a value for vth_hi, vth_lo"):
        Neurons((3,), model="ternary_lif")


def test_traces_have_no_sign():
    net = graph(loop=False)
    for name, role in (("fc", "source 'one'"), ("fc", "target 'two'")):
        with pytest.raises(
            ConfigError, match=f"'{name}': {role} sends spikes of -1 and 1; traces have"
        ):
            make_plastic(net.with_node(name, delay=0), name, "pair")
    nodes = {**net.nodes, "x": Input((4,)), "c": Dense([[2] * 4] * 4), "lif": Neurons((4,), vth=9)}
    wider = replace(net, nodes=nodes, edges=(*net.edges, ("x", "c"), ("c", "lif")))
    with pytest.raises(ConfigError, match="modulator 'two' sends spikes of -1 and 1"):
        make_plastic(
            wider, "c", {"dw": "u0*x1*y2", "three_factor": True, "x1_impulse": 9}, {"y2": "two"}
        )
    looped = replace(
        wider,
        nodes={**nodes, "to": Dense([[2] * 4] * 4), "fro": Dense([[2] * 4] * 4)},
        edges=(*wider.edges, ("two", "to"), ("to", "lif"), ("lif", "fro"), ("fro", "two")),
    )
    plastic = make_plastic(looped, "c", "pair")
    x = {"in": image(), "x": np.ones((STEPS, BATCH, 4), int)}
    simulate(plastic, x)
    with pytest.raises(
        ConfigError, match="'two' sends spikes of -1 and 1 and lies in a loop with a"
    ):
        simulate(plastic, x, learn=True)
    beside = make_plastic(wider, "c", "pair")
    assert (
        simulate(beside, x, learn=True).n_spikes["one"] == simulate(beside, x).n_spikes["one"] > 0
    )
