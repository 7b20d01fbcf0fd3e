"""Learning in hardware_sim against a scalar reference, and what runs, graphs and traces promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, RangeError
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.random_streams import RandomStreams
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.learning.rules import OFFSET, OJA, PAIR
from biril_nm.recording import Recording
from tests.support.learning_checks import EVERYTHING, check_against_reference
from tests.support.learning_reference import parse
from tests.support.random_learning import random_input, random_network, random_weights


@pytest.mark.parametrize("three_factor", [False, True])
@pytest.mark.parametrize("kind", ["dense", "sparse", "deep", "loop", "two", "graded"])
def test_every_integer_equals_the_scalar_reference(kind, three_factor):
    compared = changed = 0
    for seed in range(6):
        graph = random_network([seed, len(kind)], kind, three_factor, legal=seed % 2 == 0)
        spikes = random_input(graph, 11, 2, seed)
        both = check_against_reference(graph, spikes)
        compared, changed = compared + both[0], changed + both[1]
    assert compared > 5000
    assert changed > 0


QUICK_WAYS = {
    "pair": PAIR.dw,
    "reversed": (Term(1, -3, ("y0", "x2")), Term(-1, -2, ("x0", "x1", "y1"))),
    "offset": OFFSET.dw,
    "peaks": (Term(1, 3, ("y0", "x2")), Term(-1, 5, ("y0",)), Term(1, 4, ("y0", "(x2-20)"))),
    "two traces": (Term(1, -2, ("y0", "x2", "x1")), Term(-1, -4, ("x0", "(y1-30)"))),
    "only x0": (Term(-1, -3, ("x0", "y1")),),
    "oja": OJA.dw,
}
TRACES = {"x1": Trace(40, 6), "x2": Trace(33.5, 7), "y1": Trace(29, 5)}


@pytest.mark.parametrize("t_epoch", [1, 3])
@pytest.mark.parametrize("mode", ["mixed", "excitatory", "inhibitory"])
@pytest.mark.parametrize("dw", QUICK_WAYS)
def test_quick_ways_for_additive_rules(dw, mode, t_epoch):
    """Rows at once, masked or one by one, at and off the limits, with many and with few spikes."""
    r = np.random.default_rng(len(dw) + t_epoch)
    rule = LearningRule(dw, QUICK_WAYS[dw], traces=TRACES, t_epoch=t_epoch, seed=3)
    for density, vth in ((0.5, 60), (0.05, 900)):
        weights = random_weights(r, (21, 40), mode, 8, True)
        graph = LoihiGraph(
            {
                "in": Input((40,)),
                "clock": Input((1,)),
                "fc": Dense(weights, sign_mode=mode, rule=rule, weight_exp=-2),
                "drive": Dense(np.full((21, 1), 254), weight_exp=6),
                "n": Neurons((21,), vth=vth, dv=300, bias_mant=r.integers(0, 4096, 21), bias_exp=3),
            },
            (("in", "fc"), ("fc", "n"), ("clock", "drive"), ("drive", "n")),
        )
        spikes = {
            "in": (r.random((8, 1, 40)) < density).astype(np.uint8),
            "clock": (r.random((8, 1, 1)) < 0.3).astype(np.uint8),
        }
        _, changed = check_against_reference(graph, spikes)
        assert changed > 0


def small(rule=PAIR, **fields):
    r = np.random.default_rng(1)
    weight = 2 * r.integers(-30, 60, (4, 6))
    return LoihiGraph(
        {
            "in": Input((6,)),
            "fc": Dense(weight, rule=rule, **fields),
            "n": Neurons((4,), vth=150, dv=100),
            "out": Output(),
        },
        (("in", "fc"), ("fc", "n"), ("n", "out")),
    )


def spikes_of(graph, n_steps=12, batch=3, seed=0):
    shape = (n_steps, batch, *graph.inputs["in"].shape)
    return (np.random.default_rng(seed).random(shape) < 0.5).astype(np.uint8)


def test_learned_graph_and_what_it_leaves_alone():
    graph = small()
    before = graph.nodes["fc"].weight.copy()
    run = simulate(graph, spikes_of(graph), record="s,w", learn=True)
    assert_array_equal(graph.nodes["fc"].weight, before)
    assert run.graph.plastic["fc"].rule == PAIR
    assert_array_equal(run.graph.nodes["fc"].weight, run.connections["fc"].w[-1])
    assert (run.graph.nodes["fc"].weight != before).any()
    assert (run.graph.nodes["fc"].weight % 2 != 0).any()  # learned weights may be odd
    assert run.graph.with_node("fc", weight=before) == graph
    assert run.n_spikes["n"] == run["n"].s.sum() > 0
    assert simulate(graph, spikes_of(graph)).graph is None


def test_nothing_recorded_learns_the_same():
    graph = small()
    full = simulate(graph, spikes_of(graph), record=EVERYTHING, learn=True)
    bare = simulate(graph, spikes_of(graph), record=(), learn=True)
    assert bare.graph == full.graph
    assert bare.n_spikes == full.n_spikes
    assert len(bare["n"].variables()) == 0
    assert_array_equal(bare.v_last["n"], full["n"].v[-1])
    assert full.connections["fc"].t is None  # no rule uses tags


def test_samples_learn_one_after_the_other():
    graph = small()
    spikes = spikes_of(graph, batch=4)
    run = simulate(graph, spikes, record="s,u,v,w", learn=True)
    n_rows = 4 * 12 + 1
    assert run.connections["fc"].w.shape == (n_rows, 4, 6)
    first = simulate(graph, spikes[:, :1], record="s,u,v,w", learn=True)
    assert_array_equal(first["n"].s[:, 0], run["n"].s[:, 0])
    assert_array_equal(first.connections["fc"].w[:12], run.connections["fc"].w[:12])
    assert (run.connections["fc"].w[12] != run.connections["fc"].w[-1]).any()


def test_long_runs_in_chunks_equal_short_ones(monkeypatch):
    from biril_nm.hardware_sim.engine import blocks as engine

    graph = random_network(5, "loop", True)
    spikes = random_input(graph, 9, 5, 0)
    whole = simulate(graph, spikes, record=EVERYTHING, learn=True)
    monkeypatch.setattr(engine, "SCRATCH_BYTES", 1)
    pieces = simulate(graph, spikes, record=EVERYTHING, learn=True)
    assert pieces.graph == whole.graph
    for name, trace in whole.connections.items():
        for key, rows in trace.variables().items():
            assert_array_equal(getattr(pieces.connections[name], key), rows, key)
    assert_array_equal(pieces["out_n"].v, whole["out_n"].v)


def test_delivery_uses_the_weights_from_before_learning():
    """Two steps, one spike: at step 2 the target receives the weight that learning changed in step 1."""
    rule = LearningRule("grow", (Term(1, 5, ("x0",)),))
    graph = small(rule).with_node("n", vth=131071, dv=0)
    spikes = np.zeros((3, 1, 6), np.uint8)
    spikes[0, 0, 2] = 1
    run = simulate(graph, spikes, record="u,w", learn=True)
    old = graph.nodes["fc"].weight[:, 2]
    assert_array_equal(run.chip_time()["n"].u[1], 64 * old)
    assert_array_equal(run.connections["fc"].w[0][:, 2], old + 32)


def test_silent_network_changes_nothing():
    graph = small()
    run = simulate(graph, np.zeros((7, 2, 6), np.uint8), record="w", learn=True)
    assert_array_equal(run.graph.nodes["fc"].weight, graph.nodes["fc"].weight)


def test_initial_weights_out_of_range_act_until_the_first_phase():
    rule = replace(PAIR, t_epoch=4)
    graph = small(rule, sign_mode="mixed").with_node("fc", weight=np.full((4, 6), 400))
    run = simulate(graph, spikes_of(graph, 8, 1), record="w", learn=True)
    assert (run.connections["fc"].w[2] == 400).all()
    assert (run.connections["fc"].w[3] <= 255).all()
    too_large = graph.with_node("fc", weight=np.full((4, 6), 40_000))
    with pytest.raises(RangeError, match="'fc' has weights from 40000 to 40000; expected"):
        simulate(too_large, spikes_of(graph), learn=True)


def test_random_streams_drawn_ahead_are_those_drawn_one_by_one():
    rule = replace(PAIR, t_epoch=3, seed=11)
    ahead, single = RandomStreams(rule), RandomStreams(rule)
    uniform, integer = ahead.draw(0, 20)
    parts = [single.draw(t, 1) for t in range(20)]
    assert_array_equal(uniform, np.concatenate([u for u, _ in parts]))
    assert_array_equal(integer, np.concatenate([i for _, i in parts]))
    lava = np.random.default_rng(11 + 3)
    drawn = [lava.integers(0, 128, size=1, dtype=int)[0] for _ in range(41)]
    assert_array_equal(integer[:, 2], drawn[1::2])
    assert_array_equal(integer[:, 1], drawn[2::2])
    assert integer[:, 3].any()


def test_modulators_act_in_the_target_s_own_time():
    """Reward given with input step t meets the target's answer to step t, one step later on the chip."""
    rule = LearningRule("reward", (Term(1, 0, ("u", "y2")),), three_factor=True)
    graph = LoihiGraph(
        {
            "in": Input((6,)),
            "reward": Input((1,), 7),
            "fc": Dense(np.zeros((4, 6)), rule=rule, modulators={"y2": "reward"}),
            "n": Neurons((4,), vth=150),
        },
        (("in", "fc"), ("fc", "n")),
    )
    values = np.zeros((5, 2, 1), int)
    values[3, 1] = 20
    run = simulate(graph, {"in": np.zeros((5, 2, 6), int), "reward": values}, "w,y2", learn=True)
    assert_array_equal(run.connections["fc"].y2[:, 0], [0] * 9 + [20, 0])
    assert (run.graph.nodes["fc"].weight == 20).all()
    frozen = simulate(graph, np.ones((5, 2, 6), int))  # no reward needed where nothing learns
    assert frozen.n_spikes["n"] == 0
    with pytest.raises(ConfigError, match="2 inputs .*Pass a dict"):
        simulate(graph, np.ones((5, 2, 6), int), learn=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"delay": 2}, "'fc' learns and has delay 2"),
        ({"modulators": {"y1": "in"}}, "rule 'pair' has two factors"),
        ({"rule": None, "modulators": {"y1": "in"}}, "no learning rule"),
        ({"tag_t": np.zeros((2, 2))}, r"tag_t has shape \(2, 2\)"),
        ({"tag_t": np.full((4, 6), 256)}, "tag_t holds 256 to 256; expected -257 to 255"),
        ({"tag_d": np.full((4, 6), -1)}, "tag_d holds -1"),
    ],
)
def test_what_a_plastic_connection_cannot_be(fields, message):
    with pytest.raises(ConfigError, match=message):
        small().with_node("fc", **fields)


REWARD = LearningRule("r", (Term(1, 0, ("u", "y2")),), three_factor=True)


@pytest.mark.parametrize(
    ("modulators", "message"),
    [
        ({}, "needs y2 from outside"),
        ({"y2": "nobody"}, "'nobody' is not allowed"),
        ({"y2": "in"}, "'in' has 6 elements; expected 1 or 4"),
        ({"y2": "wide"}, "'wide' has 8 message bits"),
        ({"y2": "n", "y4": "n"}, "modulator y4"),
    ],
)
def test_modulators_that_do_not_fit(modulators, message):
    nodes = {**small().nodes, "wide": Input((4,), 8)}
    nodes["fc"] = replace(nodes["fc"], rule=REWARD, modulators=modulators)
    with pytest.raises(ConfigError, match=message):
        LoihiGraph(nodes, small().edges)


def test_files_keep_tags_modulators_and_recordings(tmp_path):
    for kind, seed in (("dense", 2), ("sparse", 3)):
        graph = random_network([seed], kind, True)
        graph.save(tmp_path / f"{kind}.loihi.npz")
        assert LoihiGraph.load(tmp_path / f"{kind}.loihi.npz") == graph
        run = simulate(graph, random_input(graph, 6, 2, 1), record=EVERYTHING, learn=True)
        run.graph.save(tmp_path / f"{kind}_learned.loihi.npz")
        assert LoihiGraph.load(tmp_path / f"{kind}_learned.loihi.npz") == run.graph
        run.save(tmp_path / f"{kind}.npz")
        loaded = Recording.load(tmp_path / f"{kind}.npz")
        for name, trace in run.connections.items():
            for key, rows in trace.variables().items():
                assert_array_equal(getattr(loaded.connections[name], key), rows)
    tagged = graph.with_node("c1", tag_t=np.zeros(graph.nodes["c1"].weight.nnz, int))
    assert tagged != tagged.with_node("c1", tag_t=np.ones(graph.nodes["c1"].weight.nnz, int))


def test_sparse_weights_that_truncate_to_zero_stay_there():
    """Lava's LearningSparse drops them when it starts, so that they never learn."""
    rule = LearningRule("grow", (Term(1, 3, ("u",)),))
    weight = scipy.sparse.csr_matrix(np.array([[1, 20], [0, -40]]))
    graph = LoihiGraph(
        {"in": Input((2,)), "sp": Sparse(weight, rule=rule), "n": Neurons((2,), vth=50)},
        (("in", "sp"), ("sp", "n")),
    )
    run = simulate(graph, np.ones((3, 1, 2), int), learn=True)
    assert_array_equal(run.graph.nodes["sp"].weight.data, [0, 52, -8])


def test_the_reference_parses_lava_s_text():
    rule = LearningRule(
        "t", (Term(-1, -3, ("u", "(x1-5)", "sgn(w+3)"), 3), Term(1, 2, ("y0", "x0"))),
        traces={"x1": Trace(1, 1)}, decimation=2,
    )  # fmt: skip
    assert parse(rule.lava_text("dw")) == [
        ("u", 2, -3, -3, [("plain", "x1", -5), ("sgn", "w", 3)]),
        ("y0", None, 1, 2, [("plain", "x0", 0)]),
    ]
