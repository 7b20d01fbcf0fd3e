"""A session cut anywhere equals one long run, in every integer; and Lava run in one piece."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError, RangeError
from biril_nm.export.lava import run_lava
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hardware_sim.engine import blocks
from biril_nm.hardware_sim.engine.stepper import Stepper
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.loihi import SignMode
from tests.support.random_graphs import random_graph, random_spikes
from tests.support.random_learning import random_input, random_network

VARIABLES = ("s", "u", "v")


def loop_graph(bits=0):
    """A convolution, a delay beside a shorter path, and a loop."""
    r = np.random.default_rng(1)
    nodes = {
        "in": Input((1, 5, 5), bits),
        "conv": Conv(r.integers(-20, 40, (2, 1, 3, 3)), 1, 1),
        "a": Neurons((2, 5, 5), vth=90, dv=400),
        "fc": Dense(2 * r.integers(-30, 50, (6, 50)), delay=2),
        "skip": Dense(2 * r.integers(-20, 40, (6, 25)), delay=1),
        "b": Neurons((6,), vth=300, du=1200, dv=200, model="cuba_lif_subtract_delayed"),
        "back": Dense(2 * r.integers(-30, 30, (6, 6))),
        "out": Output(),
    }
    edges = (("in", "conv"), ("conv", "a"), ("a", "fc"), ("fc", "b"), ("in", "skip"), ("skip", "b"),
             ("b", "back"), ("back", "b"), ("b", "out"))  # fmt: skip
    return LoihiGraph(nodes, edges)


def spikes_for(graph, n_steps, batch, seed=0):
    r = np.random.default_rng(seed)
    return {
        name: r.integers(
            0, (1 << node.message_bits) if node.message_bits else 2, (n_steps, batch, *node.shape)
        )
        for name, node in graph.inputs.items()
    }


def cuts(n_steps, seed):
    r = np.random.default_rng(seed)
    inner = sorted(r.choice(np.arange(1, n_steps), min(4, n_steps - 1), replace=False))
    return list(zip([0, *inner], [*inner, n_steps]))


def in_pieces(session, spikes, seed=0, **options):
    n_steps = len(next(iter(spikes.values())))
    return [
        session.run({name: a[first:last] for name, a in spikes.items()}, **options)
        for first, last in cuts(n_steps, seed)
    ]


def joined(runs, name, variable):
    return np.concatenate([np.asarray(getattr(run[name], variable)) for run in runs])


@pytest.mark.parametrize("bits", [0, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_session_in_node_time_is_one_run(bits, seed):
    graph = loop_graph(bits)
    spikes = spikes_for(graph, 23, 3, seed)
    whole = simulate(graph, spikes, record=VARIABLES)
    runs = in_pieces(Simulator(graph, batch=3), spikes, seed, record=VARIABLES)
    for name in graph.neurons:
        for variable in VARIABLES:
            assert np.array_equal(joined(runs, name, variable), getattr(whole[name], variable))
        assert sum(run.n_spikes[name] for run in runs) == whole.n_spikes[name] > 0
    assert np.array_equal(runs[-1].v_last["b"], whole.v_last["b"])
    again = Simulator(graph, batch=3)
    cold = [
        again.run({n: a[i:j] for n, a in spikes.items()}, VARIABLES) for i, j in cuts(23, seed)[1:]
    ]
    assert not np.array_equal(joined(cold, "b", "v"), whole["b"].v[len(runs[0]["b"].v) :])


@pytest.mark.parametrize("samples", [None, 7])
def test_a_session_in_chip_time_is_the_stream_of_the_chip(samples):
    graph = loop_graph()
    spikes = spikes_for(graph, 7, 4, 5)
    whole = simulate(graph, spikes, record=VARIABLES).chip_time()
    session = Simulator(graph, chip_time=True, sample_steps=samples)
    if samples is None:
        spikes = {name: a[:, :1] for name, a in spikes.items()}
        whole = simulate(graph, spikes, record=VARIABLES).chip_time()
        rows = dict(spikes)
    else:
        rows = session.in_chip_time(spikes)
    length = len(whole["b"].s)
    n_rows = len(rows["in"])
    pad = np.zeros((max(0, length - n_rows), *rows["in"].shape[1:]), int)
    rows = {"in": np.concatenate([rows["in"], pad])}
    runs = in_pieces(session, rows, 2, record=VARIABLES)
    for name in graph.neurons:
        for variable in VARIABLES:
            # A run of samples clears a population behind its sample, which a stream without samples does not.
            shown = length if samples else graph.latency[name] + 7
            got = joined(runs, name, variable)[:shown, 0]
            assert np.array_equal(got, getattr(whole[name], variable)[:shown]), (name, variable)


@pytest.mark.parametrize("seed", range(2))
def test_learning_goes_on(seed):
    graph = random_network(seed)
    spikes = random_input(graph, 9, 5, seed)
    record = ("s", "u", "v", "w", "t", "d", "x1", "x2", "y1", "y2", "y3")
    whole = simulate(graph, spikes, record=record, learn=True)
    session = Simulator(graph, learn=True, sample_steps=9)
    rows = session.in_chip_time(spikes)
    length = len(whole.chip_time()[next(iter(graph.neurons))].s)
    pad = max(0, length - len(next(iter(rows.values()))))
    rows = {
        n: np.concatenate([a, np.zeros((pad, *a.shape[1:]), a.dtype)])[:length]
        for n, a in rows.items()
    }
    runs = in_pieces(session, rows, seed, record=record)
    for name in graph.neurons:
        for variable in VARIABLES:
            got = joined(runs, name, variable)[:, 0]
            assert np.array_equal(got, getattr(whole.chip_time()[name], variable)), (name, variable)
    for name in graph.plastic:
        for key in ("w", "x1", "y1"):
            parts = [getattr(run.connections[name], key) for run in runs]
            assert np.array_equal(np.concatenate(parts), getattr(whole.connections[name], key))
        learned, expected = session.graph.nodes[name].weight, whole.graph.nodes[name].weight
        same = np.asarray(getattr(learned, "data", learned)) == np.asarray(
            getattr(expected, "data", expected)
        )
        assert np.all(same)
    assert runs[-1].graph is not None
    session.reset()
    again = in_pieces(session, rows, seed + 1, record=("s",))
    for name in graph.neurons:
        assert np.array_equal(joined(again, name, "s")[:, 0], whole.chip_time()[name].s)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_in_pieces(seed):
    graph = random_graph(seed)
    spikes = random_spikes(graph, 20, 2, seed)
    spikes = spikes if isinstance(spikes, dict) else {next(iter(graph.inputs)): spikes}
    whole = simulate(graph, spikes, record=VARIABLES)
    runs = in_pieces(Simulator(graph, batch=2), spikes, seed, record=VARIABLES)
    for name in graph.neurons:
        for variable in VARIABLES:
            assert np.array_equal(joined(runs, name, variable), getattr(whole[name], variable))


@pytest.mark.parametrize("learn", [False, True])
def test_a_state_is_put_back(learn):
    graph = random_network(1) if learn else loop_graph()
    make = (lambda: Simulator(graph, learn=True)) if learn else (lambda: Simulator(graph, batch=1))
    spikes = random_input(graph, 16, 1, 3) if learn else spikes_for(graph, 16, 1)
    spikes = spikes if isinstance(spikes, dict) else {next(iter(graph.inputs)): spikes}
    first, second = ({n: a[i:j] for n, a in spikes.items()} for i, j in ((0, 7), (7, 16)))
    session = make()
    session.run(first)
    state = session.state
    expected = session.run(second, ("s", "v"))
    other = make()
    other.load_state(state)
    assert other.steps_done == 7
    found = other.run(second, ("s", "v"))
    for name in graph.neurons:
        assert np.array_equal(found[name].v, expected[name].v)
    session.load_state(state)  # the copy has not gone on
    assert np.array_equal(session.run(second, ("v",))[name].v, expected[name].v)
    with pytest.raises(ConfigError, match="too much or too little"):
        other.load_state({"age": 3})
    key = next(key for key in state if "/v/" in key)
    with pytest.raises(ConfigError, match="expected int32"):
        other.load_state({**state, key: state[key][:, 1:]})


@pytest.mark.parametrize("sparse", [False, True])
def test_a_state_with_weights_outside_their_range_is_clipped_as_at_first(sparse):
    rule = LearningRule("r", (Term(1, -6, ("x1", "x0")),), traces={"x1": Trace(1, 1)})
    graph = LoihiGraph(
        {
            "in": Input((3,)),
            "fc": Dense([[-2, 4, -6]], sign_mode=SignMode.EXCITATORY, rule=rule),
            "n": Neurons((1,), vth=100),
        },
        (("in", "fc"), ("fc", "n")),
    )
    if sparse:
        weight = scipy.sparse.csr_matrix(graph.nodes["fc"].weight)
        node = Sparse(weight, sign_mode=SignMode.EXCITATORY, rule=rule)
        graph = LoihiGraph({**graph.nodes, "fc": node}, graph.edges)
    spikes = np.zeros((4, 1, 3), int)

    def weights(*states):
        session = Simulator(graph, learn=True)
        first = session.state
        for state in states:
            session.run(spikes)
            session.load_state(first if state == "first" else state)
        found = np.asarray(session.run(spikes, ("w",)).connections["fc"].w)
        return found, session.state

    fresh, state = weights()
    assert fresh[-1].ravel().tolist() == [0, 4, 0]
    assert np.array_equal(weights("first")[0], fresh)
    assert np.array_equal(weights(state)[0], np.broadcast_to(fresh[-1], fresh.shape))


@pytest.mark.parametrize("damage", ["places", "age", "spikes", "v", "random", "long"])
def test_states_that_no_session_has_are_refused(damage):
    graph = random_network(1)
    spikes = random_input(graph, 16, 1, 3)
    spikes = spikes if isinstance(spikes, dict) else {next(iter(graph.inputs)): spikes}
    session = Simulator(graph, learn=True)
    session.run(spikes)
    state = session.state
    bad = {name: array.copy() for name, array in state.items()}
    if damage == "places":
        bad["0/group/ints"][:] = 1 << 30
    elif damage == "age":
        bad["age"] = np.array(-1.5)
    elif damage == "spikes":
        name = next(n for n, a in bad.items() if "/s/" in n and a.size)
        bad[name][:] = 255
    elif damage == "long":
        bad["0/random"] = np.frombuffer(b'[{"":0}' + b',{"":0}' * 2_000_000 + b"]", np.uint8)
    elif damage == "v":
        name = next(n for n, a in bad.items() if "/v/" in n and a.size)
        bad[name][:] = 1 << 30
    else:
        bad["0/random"][-20:] = 0
    with pytest.raises(ConfigError, match="state"):
        session.load_state(bad)
    expected = session.run(spikes, ("v",))
    session.load_state(state)
    for name in graph.neurons:
        assert np.array_equal(session.run(spikes, ("v",))[name].v, expected[name].v)
        session.load_state(state)


def test_a_step_is_a_run_of_one_step():
    graph = loop_graph()
    spikes = spikes_for(graph, 12, 2)["in"]
    whole = simulate(graph, spikes)["b"].s
    session = Simulator(graph, batch=2)
    assert np.array_equal(np.stack([session.step(x) for x in spikes]), whole)
    assert session.steps_done == 12
    session.reset()
    assert np.array_equal(session.step({"in": spikes[0]}), whole[0])


@pytest.mark.parametrize("chip_time", [False, True])
@pytest.mark.parametrize("wiring", ["plain", "residual", "self", "loop", "inputs"])
def test_steps_and_runs_in_turn_are_one_run(wiring, chip_time, monkeypatch):
    """Bytes take the quick way, other integers the slow one; both leave the same state."""
    quickly = []
    step = Stepper.step
    monkeypatch.setattr(Stepper, "step", lambda *a: quickly.append(a) or step(*a))
    for seed in range(4):
        graph = random_graph([seed, len(wiring)], wiring)
        spikes = random_spikes(graph, 24, 2, seed)
        spikes = spikes if isinstance(spikes, dict) else {next(iter(graph.inputs)): spikes}
        one, other = (Simulator(graph, batch=2, chip_time=chip_time) for _ in range(2))
        for t in range(0, 24, 3):
            quick = {name: a[t] if graph.inputs[name].message_bits else a[t].astype(np.uint8)
                     for name, a in spikes.items()}  # fmt: skip
            found = [
                other.step({k: a[t + i].astype(np.int64) for k, a in spikes.items()})
                for i in range(3)
            ]
            assert np.array_equal(one.step(quick), found[0])
            rest = {name: a[t + 1 : t + 3] for name, a in spikes.items()}
            run = one.run(rest, ("s",))
            if len(run.keys()) == 1:
                (name,) = run.keys()
                assert np.array_equal(run[name].s, np.stack(found[1:]))
            assert one.state.keys() == other.state.keys()
            for name, array in one.state.items():
                assert np.array_equal(array, other.state[name]), name
    assert len(quickly) >= 6  # of at least one graph, whose input is binary


def test_a_wrong_value_in_a_step_leaves_the_state_alone():
    graph = loop_graph()
    spikes = spikes_for(graph, 20, 1)["in"].astype(np.uint8)
    session = Simulator(graph)
    for x in spikes[:10]:
        session.step(x)
    with pytest.raises(RangeError, match="values from 2 to 2; a binary input allows 0 to 1"):
        session.step(2 * np.ones_like(spikes[0]))
    with pytest.raises(ConfigError, match="has shape"):
        session.step(spikes[0][:, :, 1:])
    rest = np.stack([session.step(x) for x in spikes[10:]])
    assert np.array_equal(rest, simulate(graph, spikes)["b"].s[10:])


def test_several_inputs_need_names():
    graph = random_graph([0, 6], "inputs")
    assert len(graph.inputs) > 1
    with pytest.raises(ConfigError, match="Pass a dict with one array for each"):
        Simulator(graph).step(np.zeros((1, 3), np.uint8))


@pytest.mark.lava
def test_lava_in_one_piece_is_a_session_in_pieces():
    graph = loop_graph()
    spikes = spikes_for(graph, 10, 2, 4)
    lava = run_lava(graph, spikes, record=VARIABLES).chip_time()
    session = Simulator(graph, chip_time=True, sample_steps=10)
    rows = session.in_chip_time(spikes)["in"]
    length = len(lava["b"].s)
    rows = np.concatenate([rows, np.zeros((length, *rows.shape[1:]), int)])[:length]
    runs = in_pieces(session, {"in": rows}, 3, record=VARIABLES)
    for name in graph.neurons:
        for variable in VARIABLES:
            assert np.array_equal(joined(runs, name, variable)[:, 0], getattr(lava[name], variable))


def test_blocks_of_instances_in_threads_give_the_same(monkeypatch):
    from biril_nm.hardware_sim.engine import blocks

    graph = loop_graph()
    spikes = spikes_for(graph, 11, 7)
    whole = simulate(graph, spikes, record=VARIABLES)
    monkeypatch.setattr(blocks, "SCRATCH_BYTES", 2000)  # blocks of a few samples and steps
    runs = in_pieces(Simulator(graph, batch=7), spikes, 1, record=VARIABLES, n_threads=2)
    for variable in VARIABLES:
        assert np.array_equal(joined(runs, "b", variable), getattr(whole["b"], variable))


@pytest.mark.parametrize(("make", "message"), [
    (lambda g: Simulator(g, batch=0), "batch is 0"),
    (lambda g: Simulator(g, learn=True), "no connection of the graph has a learning rule"),
    (lambda g: Simulator(g, sample_steps=4), "sample_steps is 4; expected at least 1, and chip_time=True"),
    (lambda g: Simulator(g, batch=2).run(np.zeros((3, 1, 1, 5, 5), int)), "have 1 samples; expected 2"),
    (lambda g: Simulator(g).in_chip_time(np.zeros((3, 1, 1, 5, 5), int)), "a period of 0"),
    (lambda g: Simulator(g).run(np.zeros((3, 1, 4), int)), "do not fit the graph"),
])  # fmt: skip
def test_wrong_sessions(make, message):
    with pytest.raises(ConfigError, match=message):
        make(loop_graph())


def test_values_that_the_input_does_not_carry_leave_the_state_alone():
    graph = loop_graph()
    spikes = spikes_for(graph, 6, 1)["in"]
    session = Simulator(graph)
    session.run(spikes[:3])
    with pytest.raises(RangeError):
        session.run(2 * np.ones_like(spikes[:2]))
    assert np.array_equal(session.run(spikes[3:])["b"].s, simulate(graph, spikes)["b"].s[3:])


@pytest.mark.parametrize(
    "scratch", [1, blocks.SCRATCH_BYTES]
)  # 1: a block for each sample and step
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_refused_value_of_the_last_step_leaves_the_state_as_it_was(scratch, dtype):
    graph = random_graph([0, 6], "inputs")
    spikes = {k: np.array(x, dtype) for k, x in random_spikes(graph, 9, 2, 6).items()}
    bad = {key: x[3:].copy() for key, x in spikes.items()}
    bad["in2"][-1, -1, -1] = 3
    with mock.patch.object(blocks, "SCRATCH_BYTES", scratch):
        session = Simulator(graph, batch=2)
        session.run({key: x[:3] for key, x in spikes.items()})
        before = session.state
        with pytest.raises(RangeError, match="'in2' has values from 0 to 3"):
            session.run(bad)
        assert all(np.array_equal(x, before[key]) for key, x in session.state.items())
        rest = session.run({key: x[3:] for key, x in spikes.items()}, VARIABLES)
    whole = simulate(graph, spikes, record=VARIABLES)
    for name in graph.neurons:
        for variable in VARIABLES:
            assert np.array_equal(getattr(rest[name], variable), getattr(whole[name], variable)[3:])


def test_the_snippet_of_the_page_runs():
    text = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(block, "docs/sessions.md", "exec"), {})


def test_only_one_instance_learns():
    with pytest.raises(ConfigError, match="weights that learn belong to one instance"):
        Simulator(random_network(0), batch=2, learn=True)
