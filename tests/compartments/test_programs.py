"""Neurons that Lava has not: simulator, scalar reference and the bundle's Process agree in all integers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.compartments import RESET_MODELS
from biril_nm.errors import RangeError, UnsupportedNodeError
from biril_nm.export import write_netx
from biril_nm.export.design_rules import check_design
from biril_nm.export.lava import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rules import PAIR
from tests.support.sim_checks import assert_equals_reference

RESETS = tuple(model.name for model in RESET_MODELS)
PROGRAMS = (*RESETS, "cuba_lif_refractory")
STEPS, BATCH, N_IN, N = 40, 3, 6, 70  # more neurons than one block of lanes, and a rest


def graph(model: str, **registers) -> LoihiGraph:
    """Two populations of one model with a loop; v of some is often above two thresholds."""
    rng = np.random.default_rng(1)
    own = {"refractory": rng.integers(0, 5, N)} if model == "cuba_lif_refractory" else {}
    nodes = {
        "in": Input((N_IN,)),
        "w1": Dense(2 * rng.integers(-20, 50, (N, N_IN)), weight_exp=1),
        "one": Neurons((N,), model=model, vth=rng.integers(40, 90, N), dv=300, bias_mant=7, **own),
        "w2": Dense(2 * rng.integers(-40, 50, (5, N))),
        "two": Neurons((5,), model=model, vth=300, du=2500, dv=1000, **registers),
        "back": Dense(2 * rng.integers(-50, 30, (N, 5)), delay=1),
        "out": Output(),
    }
    names = [name for name in nodes if name != "back"]
    return LoihiGraph(nodes, (*pairwise(names), ("two", "back"), ("back", "one")))


def spikes():
    return (np.random.default_rng(2).random((STEPS, BATCH, N_IN)) < 0.5).astype(np.int64)


@pytest.mark.parametrize("model", PROGRAMS)
def test_the_simulator_equals_the_scalar_reference(model):
    x = spikes()[:, :2]
    assert 100 < assert_equals_reference(graph(model), x) < 2 * STEPS * (N + 5)


def test_programs_differ_from_each_other():
    found = {
        m: simulate(graph(m), spikes(), record=("s", "v"))["one"] for m in ("cuba_lif", *PROGRAMS)
    }
    for one, other in combinations(found, 2):
        assert (found[one].v != found[other].v).any(), (one, other)
        assert (found[one].s != found[other].s).any() or {one, other} == {
            "cuba_lif", "cuba_lif_zero_delayed",
        }, (one, other)  # fmt: skip


@pytest.mark.lava
def test_lava_gives_the_same_integers():
    """All programs side by side in one run; a change of one register shows."""
    parts = {model: graph(model) for model in PROGRAMS}
    nodes = {f"{m}.{name}": node for m, g in parts.items() for name, node in g.nodes.items()}
    edges = tuple((f"{m}.{a}", f"{m}.{b}") for m, g in parts.items() for a, b in g.edges)
    whole = LoihiGraph(nodes, edges)
    x = {name: spikes() for name in whole.inputs}
    lava = run_lava(whole, x, record=("s", "u", "v"))
    sim = simulate(whole, x, record=("s", "u", "v"))
    for name in whole.neurons:
        for variable in ("s", "u", "v"):
            for ours, theirs in ((sim, lava), (sim.chip_time(), lava.chip_time())):
                assert_array_equal(getattr(ours[name], variable), getattr(theirs[name], variable))
        assert sim.n_spikes[name] > 0
    for model in PROGRAMS:
        twin = graph(model).with_node("one", bias_mant=8)
        changed = simulate(twin, spikes(), record=("v",))["one"].v
        assert (changed != lava[f"{model}.one"].v).any(), model


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning")
def test_refractory_neurons_are_those_of_lava_s_float_model():
    """Whole numbers without decay of v are exact in both."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIFRefractory

    given = np.random.default_rng(4).integers(-3, 9, (3, 200))
    source = Source(data=given.astype(float))
    lif = LIFRefractory(shape=(3,), vth=20, du=1, dv=0, refractory_period=3)
    sink = Sink(shape=(3,), buffer=200)
    source.s_out.connect(lif.a_in)
    lif.s_out.connect(sink.a_in)
    try:
        lif.run(RunSteps(200), Loihi2SimCfg(select_tag="floating_pt"))
        want = sink.data.get().T
    finally:
        lif.stop()
    nodes = {
        "in": Input((3,), 4, signed=True),
        "w": Dense(2 * np.eye(3, dtype=int)),
        "lif": Neurons((3,), model="cuba_lif_refractory", vth=40, refractory=3),
        "out": Output(),
    }
    net = LoihiGraph(nodes, tuple(pairwise(nodes)))
    found = simulate(net, given.T[:, None], record=("s",))["lif"].s[:, 0]
    assert_array_equal(found, want)
    assert want.sum() > 30
    other = simulate(net.with_node("lif", refractory=2), given.T[:, None], record=("s",))
    assert (other["lif"].s[:, 0] != want).any()


@pytest.mark.lava
def test_programs_learn():
    net = graph("cuba_lif_subtract_delayed")
    plastic = net.with_node("w1", rule=replace(PAIR, t_epoch=4))
    x, record = spikes(), ("s", "u", "v", "w")
    sim = simulate(plastic, x, record=record, learn=True)
    lava = run_lava(plastic, x, record=record, learn=True)
    for name in net.neurons:
        for variable in ("s", "u", "v"):
            assert_array_equal(getattr(sim[name], variable), getattr(lava[name], variable))
    assert_array_equal(sim.connections["w1"].w, lava.connections["w1"].w)
    assert (sim.graph.nodes["w1"].weight != net.nodes["w1"].weight).any()


@pytest.mark.parametrize("model", PROGRAMS)
def test_what_cannot_run_them_says_so(model, tmp_path):
    check_design(graph(model), "loihi2")
    with pytest.raises(RangeError, match=f"'{model}' does not run on loihi1; expected cuba_lif\\."):
        check_design(graph(model), "loihi1")
    with pytest.raises(UnsupportedNodeError, match=f"'one': has the compartment model '{model}'"):
        write_netx(graph(model), tmp_path / "x.net")
