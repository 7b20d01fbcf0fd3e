"""Networks that learn deep on the chip, in hardware_sim and in Lava: every integer at every step."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.onchip import DeepConfig, dfa_network, lessons
from biril_nm.recording import LEARNING_VARIABLES, VARIABLES
from tests.support.lava_runs import load_lava

pytestmark = pytest.mark.lava
EVERYTHING = (*VARIABLES, *LEARNING_VARIABLES)


def lesson(sizes, n_samples, config):
    """A network and what it learns from."""
    r = np.random.default_rng(1)
    graph = dfa_network(sizes, config, seed=2)
    rate = 0.4 * r.random((n_samples, sizes[0]))
    spikes = (r.random((16, n_samples, sizes[0])) < rate).astype(np.uint8)
    window = config.teaching_steps(len(sizes) - 2)
    return graph, lessons(spikes, r.integers(0, sizes[-1], n_samples), sizes[-1], window)


def compare(sizes, n_samples, config):
    """Integers compared; every connection learned something."""
    graph, given = lesson(sizes, n_samples, config)
    sim = simulate(graph, given, record=EVERYTHING, learn=True)
    lava = run_lava(graph, given, record=EVERYTHING, learn=True)
    for name, connection in sim.connections.items():
        assert np.any(connection.w[0] != connection.w[-1]), name
    assert sim.graph == lava.graph
    return same(sim, lava)


def registers(recording):
    """Rows of all that was recorded, by node or connection and variable."""
    parts = {**recording.chip_time(), **recording.connections}
    return {(n, k): rows for n, part in parts.items() for k, rows in part.variables().items()}


def same(one, two):
    """Integers compared."""
    others = registers(two)
    for (name, key), rows in registers(one).items():
        assert_array_equal(rows, others[name, key], f"{name}.{key}")
    return sum(rows.size for rows in registers(one).values())


def test_one_register_that_is_off_by_one_is_found():
    config = DeepConfig(spread=200, vth=(120, 200), readout_vth=40)
    graph, given = lesson((14, 9, 3), 2, config)
    one, two = (simulate(graph, given, record=EVERYTHING, learn=True) for _ in range(2))
    assert same(one, two) > 3_000
    assert {key for _, key in registers(two)} >= {"s", "u", "v", "w", "x1", "y1", "y2", "y3"}
    for (name, key), rows in registers(two).items():
        place = tuple(n // 2 for n in rows.shape)
        rows[place] += 1
        with pytest.raises(AssertionError, match=f"{name}.{key}"):
            same(one, two)
        rows[place] -= 1
    assert same(one, two)


@pytest.mark.parametrize(
    ("sizes", "method"),
    [
        ((14, 9, 3), "dfa"),
        pytest.param((14, 9, 3), "label", marks=pytest.mark.slow),
        pytest.param((14, 9, 7, 3), "dfa", marks=pytest.mark.slow),
    ],
)
def test_a_few_samples_are_learned_as_lava_learns_them(sizes, method):
    config = DeepConfig(method=method, spread=200, vth=(120, 200), readout_vth=40)
    assert compare(sizes, 6, config) > 10_000


@pytest.mark.slow
def test_50_samples_at_full_size():
    assert compare((784, 300, 10), 50, DeepConfig()) > 180_000_000


def test_impulses_changed_in_a_session_are_those_of_a_host_that_filters():
    """The filter of a third factor is the host's: its values as graded input, in Lava in one run."""
    r = np.random.default_rng(0)
    n_steps, half = 40, 17
    spikes = {
        "in": (r.random((n_steps, 1, 9)) < 0.4).astype(np.int32),
        "y2": (r.random((n_steps, 1, 4)) < 0.3).astype(np.int32),
    }
    tau, impulses = 4.0, (40, 12)
    y, values = np.zeros(4), np.zeros((n_steps, 1, 4), np.int32)
    for t in range(n_steps):  # what reaches the connection at chip step t + 1
        impulse = impulses[t + 1 >= half]
        y = np.floor(np.exp(-1 / tau) * y) + impulse * spikes["y2"][t, 0]
        values[t, 0] = y

    def network(trace, bits):
        traces = {"x1": Trace(30, 5), **({"y2": trace} if trace else {})}
        rule = LearningRule(
            "r", (Term(1, -2, ("u", "x1", "y2")),), traces=traces, three_factor=True
        )
        nodes = {
            "in": Input((9,)),
            "y2": Input((4,), bits),
            "fc": Dense(np.zeros((4, 9), int), rule=rule, modulators={"y2": "y2"}),
            "n": Neurons((4,), vth=400, dv=100),
            "out": Output(),
        }
        return LoihiGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out")))

    session = Simulator(network(Trace(impulses[0], tau), 0), learn=True)
    runs = [session.run({k: a[:half] for k, a in spikes.items()}, EVERYTHING)]
    session.set_impulses("fc", {"y2": impulses[1]})
    runs.append(session.run({k: a[half:] for k, a in spikes.items()}, EVERYTHING))
    lava = run_lava(network(None, 7), {**spikes, "y2": values}, record=EVERYTHING, learn=True)
    for key in ("w", "x1", "y2"):
        found = np.concatenate([getattr(run.connections["fc"], key) for run in runs])
        assert_array_equal(found, getattr(lava.connections["fc"], key)[:n_steps], key)
    assert np.any(np.asarray(runs[1].connections["fc"].w) != runs[0].connections["fc"].w[-1])


@pytest.mark.parametrize(
    ("name", "impulse", "taus"),
    [
        ("x1", 9, (6, 7)),
        pytest.param("y1", 5, (4, 9), marks=pytest.mark.slow),
        pytest.param("x1", 0, (0, 3), marks=pytest.mark.slow),  # is 0 at the next step
    ],
)
def test_an_impulse_is_changed_as_between_two_runs_of_lava(name, impulse, taus):
    load_lava()
    from lava.magma.core.learning.learning_rule import Loihi2FLearningRule
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import LearningDense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF

    r = np.random.default_rng(4)
    steps = 30
    pattern = (r.random((2 * steps, 12)) < 0.4).astype(np.int32)
    weights = 2 * r.integers(10, 60, (5, 12))
    terms = (Term(1, -3, ("x1", "y0")), Term(-1, 0, ("y0",)), Term(-1, -4, ("y1", "x0")))
    traces = {trace: Trace(40, tau) for trace, tau in zip(("x1", "y1"), taus)}
    rule = LearningRule("r", terms, traces=traces)
    cells = {"vth": 500, "du": 4095, "dv": 400}
    source, lif = RingBuffer(data=pattern.T), LIF(shape=(5,), **cells)
    arguments = Loihi2FLearningRule(**rule.lava_arguments())
    dense = LearningDense(weights=weights.copy(), learning_rule=arguments)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(lif.a_in)
    lif.s_out.connect(dense.s_in_bap)
    how = Loihi2SimCfg(select_tag="fixed_pt")
    source.run(condition=RunSteps(num_steps=steps), run_cfg=how)
    getattr(dense, f"{name}_impulse").set(np.array([impulse]))
    source.run(condition=RunSteps(num_steps=steps), run_cfg=how)
    expected = dense.weights.get().copy()
    source.stop()

    nodes = {"in": Input((12,)), "fc": Dense(weights, rule=rule), "n": Neurons((5,), **cells)}
    graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "n")))

    def learned(value):
        session = Simulator(graph, learn=True)
        session.run(pattern[:steps, None])
        session.set_impulses("fc", {name: value})
        session.run(pattern[steps:, None])
        return session.graph.plastic["fc"].weight

    assert_array_equal(learned(impulse), expected)
    assert np.any(learned(40) != expected)
