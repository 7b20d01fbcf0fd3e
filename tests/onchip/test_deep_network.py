"""Networks that learn deep on the chip: wiring, refusals, rates between calls, hidden layers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.coding import Coding, grey_values, regular_spikes
from biril_nm.data import load_data
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.onchip import (
    ChipPlan,
    DeepConfig,
    accuracy,
    dfa_network,
    halved_impulse,
    learn_on_chip,
    learned_layers,
    lessons,
    pictures,
    recorded,
)
from biril_nm.onchip.timing import check_teaching

SMALL = (12, 8, 3)


def small_samples(n=6, n_steps=16, seed=0):
    r = np.random.default_rng(seed)
    grey = r.integers(0, 256, (n, 12)).astype(np.uint8)
    return recorded(regular_spikes(grey, n_steps), r.integers(0, 3, n))


def taught(graph, samples, config, n_hidden=1):
    rows = np.arange(len(samples))
    window = config.teaching_steps(n_hidden)
    return lessons(samples.spikes(rows), samples.labels, 3, window)


# --- coding -------------------------------------------------------------------------------------


def test_regular_spikes_count_the_grey_value_and_come_at_equal_distances():
    grey = np.arange(256, dtype=np.uint8)[np.newaxis]
    spikes = regular_spikes(grey, 255)
    assert_array_equal(spikes.sum(axis=0), grey)
    phase, expected = np.full(256, 128), []
    for _ in range(255):
        phase += grey[0]
        expected.append(phase >= 255)
        phase -= 255 * expected[-1]
    assert_array_equal(spikes[:, 0], expected)


def test_regular_coding_takes_floats_and_grey_values():
    coding = Coding.parse("regular:16")
    grey = np.array([[0, 128, 255]], np.uint8)
    assert_array_equal(coding.encode(grey), regular_spikes(grey, 16))
    assert_array_equal(coding.encode(grey / 255.0), coding.encode(grey))
    with pytest.raises(ConfigError, match=r"integers of type int64; expected floats in 0\.\.1"):
        coding.encode(np.array([[3]]))
    with pytest.raises(ConfigError, match="expected 0 to 1 for regular coding"):
        grey_values([1.5])


# --- wiring -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dfa", "label", "untrained"])
@pytest.mark.parametrize("sizes", [SMALL, (12, 8, 6, 3)])
def test_every_modulator_reaches_the_phase_of_its_own_sample(method, sizes):
    config = DeepConfig(method=method, n_steps=32, decimation=5)
    graph = dfa_network(sizes, config)
    n_hidden = len(sizes) - 2
    _, stop = config.teaching_steps(n_hidden)
    assert graph.sample_period(32) == 32
    late = [
        graph.latency[source]
        for name, node in graph.plastic.items()
        for factor, source in node.modulators.items()
        if factor != "y1"
    ]
    assert stop - 1 + max(late) == 31  # the last teaching step is the last that counts
    assert len(graph.plastic) == (1 if method == "untrained" else n_hidden + 1)


def test_the_graph_survives_a_file(tmp_path):
    graph = dfa_network(SMALL, seed=3, input_shape=(3, 4))
    graph.save(tmp_path / "x.loihi.npz")
    assert type(graph).load(tmp_path / "x.loihi.npz") == graph
    assert dfa_network(SMALL, seed=3, input_shape=(3, 4)) == graph
    assert dfa_network(SMALL, seed=4, input_shape=(3, 4)) != graph


REFUSED = [
    ({"window": (4, 13)}, r"'fc1': y2 of teaching step 12 comes from 'up1' at step 16, after the last phase"),
    ({"window": (4, 14)}, r"'fc2': y2 of teaching step 13 comes from 'missing' at step 16"),
    ({"window": (9, 4)}, r"the teaching window is steps 9 to 3; expected one or more of the 16 steps"),
    ({"n_steps": 24}, r"'fc1' learns every 16 steps, and a sample takes 24; expected whole phases"),
    ({"feedback_impulse": 1}, r"'fc1': y2 has impulse 1 and tau 5, which is 0 after one step"),
    ({"x_impulse": 0}, r"'fc1': x1 has impulse 0 and tau 5, which is 0 after one step; expected larger"),
    ({"error_impulse": 0}, r"'fc2': y2 has impulse 0 and tau 5, which is 0 after one step"),
    ({"tau": 0}, r"'fc2': x1 has impulse 8 and tau 0, which is 0 after one step; expected larger"),
    ({"n_steps": 4, "decimation": 2}, r"the teaching window is steps 1 to -1"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_could_not_learn_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dfa_network(SMALL, DeepConfig(**changes))


def test_the_timing_of_other_networks_can_be_checked_too():
    graph = dfa_network(SMALL)
    check_teaching(graph, 32, (4, 12))
    with pytest.raises(ConfigError, match="ends 1 steps earlier"):
        check_teaching(graph, 32, (4, 29))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((12, 3), "one or two hidden layers"),
        ((12, 4, 4, 4, 3), "one or two hidden layers"),
        ((12, 0, 3), "one or two hidden layers"),
        ((12, 4, 1), "two classes or more"),
    ],
)
def test_sizes_of_another_form_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=message):
        dfa_network(sizes)


def test_settings_of_another_form_are_refused():
    with pytest.raises(ConfigError, match="method 'x' is unknown"):
        DeepConfig(method="x")
    with pytest.raises(ConfigError, match="expected 2 thresholds"):
        DeepConfig(vth=(1,))
    for changes in ({"vth": (0, 9)}, {"vth": (9, -1)}, {"readout_vth": 0}):
        with pytest.raises(ConfigError, match="expected thresholds of at least 1"):
            DeepConfig(**changes)
    with pytest.raises(ConfigError, match="spread is 256; expected 1 to 255"):
        DeepConfig(spread=256)
    with pytest.raises(ConfigError, match="input_shape is .* expected 12 elements"):
        dfa_network(SMALL, input_shape=(5, 2))
    with pytest.raises(ConfigError, match="expected numbers of passes above 0"):
        ChipPlan(halve=(0.0,))


@pytest.mark.parametrize("window", [(4, -2), (-3, 99), (9, 4), (4, 4), (0, 17), (16, 17), (-2, 0)])
def test_windows_outside_a_sample_are_refused(window):
    spikes = np.zeros((16, 2, 12), np.uint8)
    with pytest.raises(ConfigError, match=r"window is .*; expected 0 <= first < stop <= 16"):
        lessons(spikes, [0, 1], 3, window)
    for good, n in (((0, 0), 0), ((0, 16), 32), ((15, 16), 2)):
        assert lessons(spikes, [0, 1], 3, good)["label"].sum() == n


def test_no_samples_are_refused():
    with pytest.raises(ConfigError, match="the samples are 0; expected at least 1. Take more"):
        small_samples().take(np.zeros(0, np.int64))


# --- learning -----------------------------------------------------------------------------------


def test_hidden_weights_change_by_the_error_alone():
    samples = small_samples()
    for method, changed in (("dfa", True), ("label", True), ("untrained", False)):
        config = DeepConfig(method=method, spread=120, vth=(100, 100), readout_vth=50)
        graph = dfa_network(SMALL, config)
        given = taught(graph, samples, config)
        learned = simulate(graph, given, record=(), learn=True).graph
        assert np.any(learned.nodes["fc1"].weight != graph.nodes["fc1"].weight) is np.bool_(changed)
        assert np.any(learned.nodes["fc2"].weight)
        silent = {**given, "label": 0 * given["label"], "teaching": 0 * given["teaching"]}
        assert simulate(graph, silent, record=(), learn=True).graph == graph


def test_learned_layers_answer_as_the_network_that_learned():
    samples = small_samples()
    config = DeepConfig(spread=120, vth=(100, 100), readout_vth=50)
    session = Simulator(dfa_network(SMALL, config), learn=True, sample_steps=16)
    session.run(session.in_chip_time(taught(session.graph, samples, config)), record=())
    spikes = samples.spikes(np.arange(len(samples)))
    quiet = session.in_chip_time(lessons(spikes, samples.labels, 3, (0, 0)))
    session.run(quiet, record=())  # third factors fade
    learned = session.graph
    answer = session.run(quiet, ("s",), ("hidden1", "out"))
    assert session.graph == learned
    assert np.any(learned.nodes["fc1"].weight & 1)
    layers = learned_layers(learned)
    assert not layers.plastic
    assert list(layers.inputs) == ["input"]
    found = simulate(layers, spikes)
    odd = layers.nodes["fc1.ones"]
    without = simulate(layers.with_node("fc1.ones", weight=0 * odd.weight), spikes)
    late = layers.latency["out"]
    in_stream = np.asarray(answer["out"].s)[late:, 0]

    def stream(run):
        return np.asarray(run["out"].s).swapaxes(0, 1).reshape(-1, 3)[: len(in_stream)]

    assert_array_equal(stream(found), in_stream)
    assert stream(found).any()
    assert np.any(np.asarray(without["hidden1"].s) != np.asarray(found["hidden1"].s))


def test_layers_of_another_network_are_refused():
    with pytest.raises(ConfigError, match="expected a network of dfa_network"):
        learned_layers(LoihiGraph({"input": Input((2,))}, ()))


# --- rates between calls ------------------------------------------------------------------------


def test_impulses_change_from_the_next_step_on():
    samples = small_samples(8)
    config = DeepConfig(spread=120, vth=(100, 100), readout_vth=50)
    graph = dfa_network(SMALL, config)
    session = Simulator(graph, learn=True, sample_steps=16)
    given = session.in_chip_time(taught(graph, samples, config))
    first, second = ({k: a[i : i + 64] for k, a in given.items()} for i in (0, 64))

    def learn(*changes):
        session.reset()
        session.run(first, record=())
        for change in changes:
            change()
        session.run(second, record=())
        return session.graph

    plain = learn()
    state = {}

    def halve():
        session.set_impulses("fc1", {"y2": 4, "y3": 4})
        state.update(session.state)

    halved = learn(halve)
    assert np.any(halved.nodes["fc1"].weight != plain.nodes["fc1"].weight)
    assert halved.nodes["fc1"].rule.trace("y2").impulse == 4
    assert halved.nodes["fc2"].rule == graph.nodes["fc2"].rule
    same = learn(lambda: session.set_impulses("fc1", {"y2": 24}))
    assert same == plain
    session.reset()
    session.load_state(state)  # with the impulses
    session.run(second, record=())
    assert session.graph == halved
    session.reset()
    assert session.graph == graph


def test_impulses_that_cannot_be_are_refused_and_change_nothing():
    graph = dfa_network(SMALL)
    session = Simulator(graph, learn=True, sample_steps=16)
    with pytest.raises(
        ConfigError, match="connection that learns in this session 'up1' is unknown"
    ):
        session.set_impulses("up1", {"y2": 4})
    with pytest.raises(ConfigError, match="trace of connection 'fc2' 'y1' is unknown"):
        session.set_impulses("fc2", {"y1": 4})
    with pytest.raises(ConfigError, match="impulse is 3.5"):
        session.set_impulses("fc2", {"y2": 3.5})
    damaged = {**session.state, "0/impulses": np.full((2, 5), np.nan)}
    with pytest.raises(ConfigError, match="impulses are damaged"):
        session.load_state(damaged)
    assert session.graph == graph


def small_rule(**traces):
    """A rule of two factors and its network: one source, one target."""
    rule = LearningRule("r", (Term(1, -2, ("u", "x1")),), traces=traces)
    nodes = {"in": Input((1,)), "fc": Dense([[2]], rule=rule), "n": Neurons((1,), vth=100)}
    return Simulator(LoihiGraph(nodes, (("in", "fc"), ("fc", "n"))), learn=True)


@pytest.mark.parametrize(
    ("traces", "changes", "message"),
    [
        ({"x1": Trace(8, 6.5)}, {"x1": 4}, "'fc', trace x1: tau is 6.5; expected whole numbers"),
        ({"x1": Trace(8, 6)}, {"x1": 4.5}, "trace x1: impulse is 4.5; expected whole"),
        ({"x1": Trace(8, 6), "y1": Trace(3, 2.5)}, {"x1": 4}, "trace y1: tau is 2.5; expected"),
        ({"x1": Trace(8, 6), "y1": Trace(3.5, 2)}, {"x1": 4}, "trace y1: impulse is 3.5; .*"),
    ],
)
def test_fractions_that_lava_would_cut_are_refused(traces, changes, message):
    session = small_rule(**traces)
    with pytest.raises(ConfigError, match=message):
        session.set_impulses("fc", changes)
    filtered = Simulator(dfa_network(SMALL, DeepConfig(tau=6.5)), learn=True, sample_steps=16)
    filtered.set_impulses("fc1", {"y2": 4})  # its filter is the host's
    assert filtered.graph.nodes["fc1"].rule.trace("y2").impulse == 4


def test_a_trace_without_memory_and_impulse_is_0():
    session = small_rule(x1=Trace(40, 0))
    on, off = np.ones((3, 1, 1), int), np.zeros((3, 1, 1), int)
    session.run(on)
    session.set_impulses("fc", {"x1": 0})
    found = [session.run(x, ("w", "x1")).connections["fc"] for x in (on, off)]
    assert not np.any(found[0].x1[1:]) and not np.any(found[1].x1)
    assert np.all(found[1].w == found[1].w[0])


@pytest.mark.parametrize("tau", [1, 2, 5, 6.5, 30])
def test_halved_impulses_last_for_a_step(tau):
    trace = Trace(100, tau)
    assert [halved_impulse(trace, n) for n in (0, 1)] == [100, 50]
    least = halved_impulse(trace, 50)
    kept = np.floor(trace.decay * np.array([least - 1, least]))
    assert kept.tolist() == [0, 1]
    assert halved_impulse(Trace(1, tau), 3) == 1
    with pytest.raises(ConfigError, match="halvings"):
        halved_impulse(trace, -1)


# --- training -----------------------------------------------------------------------------------


@cache
def digits():
    data = load_data("digits")
    return pictures(data.train, 16), pictures(data.test, 16)


def test_digits_are_learned_and_a_hidden_layer_that_learns_is_better():
    train, test = digits()
    found = {}
    for method in ("dfa", "untrained"):
        config = DeepConfig(method=method, vth=(600, 600))
        plan = ChipPlan((24,), passes=3, halve=(2.0,), every=1437, config=config)
        found[method] = learn_on_chip(train, test, plan=plan)
    scores = {m: r.records[-1]["test_accuracy"] for m, r in found.items()}
    assert scores["dfa"] > 0.75
    assert scores["dfa"] > scores["untrained"] + 0.03
    assert scores["dfa"] == accuracy(found["dfa"].layers, test)


def test_where_a_run_is_cut_changes_no_bit(monkeypatch):
    from biril_nm.onchip import training

    train, _ = digits()
    few = train.take(np.arange(60))
    config = DeepConfig(vth=(300, 300))
    whole = learn_on_chip(few, plan=ChipPlan((20,), passes=2, every=60, config=config))
    monkeypatch.setattr(training, "CHUNK", 7)
    again = learn_on_chip(few, plan=ChipPlan((20,), passes=2, every=13, config=config))
    assert whole.graph == again.graph
    assert len(again.records) > len(whole.records)
    other = learn_on_chip(few, plan=ChipPlan((20,), passes=2, every=60, seed=1, config=config))
    assert other.graph != whole.graph


def test_samples_that_do_not_fit_are_refused():
    train, _ = digits()
    with pytest.raises(ConfigError, match="the samples have 16 steps; expected 32"):
        learn_on_chip(train, plan=ChipPlan(config=DeepConfig(n_steps=32, decimation=5)))
    with pytest.raises(ConfigError, match=r"spikes have shape \(2, 3\)"):
        recorded(np.zeros((2, 3), int), [0])
    with pytest.raises(ConfigError, match="spikes are 0 to 2; expected 0 and 1"):
        recorded(np.array([[[0, 2]]]), [0])
