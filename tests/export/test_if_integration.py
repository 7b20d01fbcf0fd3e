"""IF and I grow by r x or by dt r x: r decides, or the file, or the caller, or the question is asked."""

from __future__ import annotations

import itertools

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.hardware_sim import simulate

DT = 2e-3
N_IN, N = 7, 5


def network(node):
    weight = np.random.default_rng(3).normal(0.1, 0.4, (N, N_IN))
    return nir.NIRGraph.from_list(nir.Linear(weight), node)


def neurons(r, **metadata):
    node = nir.IF(r=np.full(N, float(r)), v_threshold=np.ones(N))
    node.metadata = dict(metadata)
    return node


def integer_weights(graph):
    (link,) = graph.connections.values()
    return link.weight


def vth_per_unit(graph, name="if"):
    """Threshold over the largest weight, which a change of the gain changes."""
    (link,) = graph.connections.values()
    return float(graph.neurons[name].vth) / (np.abs(link.weight).max() * 2.0**link.weight_exp)


@pytest.mark.parametrize(("r", "asked", "metadata", "gain"), [
    (1.0, None, {}, 1.0),
    (1 / DT, None, {}, 1.0),
    (np.float32(1 / DT), None, {}, 1.0),
    (4.0, "per_step", {}, 4.0),
    (4.0 / DT, "continuous", {}, 4.0),
    (1.0, "continuous", {"if_integration": "per_step"}, 1.0),
    (1 / DT, "per_step", {"if_integration": "continuous"}, 1.0),
    (3 / DT, None, {"if_integration": "continuous"}, 3.0),
])  # fmt: skip
def test_gain_of_one_step(r, asked, metadata, gain):
    graph = lower(network(neurons(r, **metadata)), dt_s=DT, reset="zero", if_integration=asked)
    weight = np.abs(network(neurons(1)).nodes["linear"].weight)
    assert vth_per_unit(graph) == pytest.approx(1.0 / (gain * weight.max()), rel=0.01)


def test_what_the_file_contradicts_is_a_note():
    node = neurons(1.0, if_integration="per_step", reset="subtract")
    graph = lower(network(node), dt_s=DT, reset="zero", if_integration="continuous")
    notes = "\n".join(graph.metadata["notes"])
    assert "'if' keeps the reset 'subtract', because the file says so: reset='zero' is for" in notes
    assert "'if' keeps if_integration = 'per_step', because the file says so" in notes
    same = lower(network(node), dt_s=DT, reset="subtract", if_integration="per_step")
    assert not [note for note in same.metadata.get("notes", ()) if "keeps" in note]


def test_by_the_letter_the_spikes_are_those_of_the_equation():
    graph = lower(network(neurons(1 / DT)), dt_s=DT, reset="zero")
    weight = network(neurons(1)).nodes["linear"].weight
    x = (np.random.default_rng(4).random((80, 3, N_IN)) < 0.4).astype(np.int32)
    v, want = np.zeros((3, N)), []
    for step in x:
        v = v + DT * (1 / DT) * (step @ weight.T)
        want.append(v > 1)
        v = np.where(v > 1, 0.0, v)
    got = simulate(graph, x, record=("s",))["if"].s
    assert np.mean(want) > 0.05
    assert np.mean(got == np.array(want)) > 0.98
    other = lower(network(neurons(5 / DT)), dt_s=DT, reset="zero", if_integration="continuous")
    assert np.mean(simulate(other, x, record=("s",))["if"].s == np.array(want)) < 0.95


def test_both_readings_agree_at_a_step_of_one_second():
    plain = lower(network(neurons(1)), dt_s=1.0, reset="zero")
    asked = lower(network(neurons(1)), dt_s=1.0, reset="zero", if_integration="continuous")
    np.testing.assert_array_equal(integer_weights(plain), integer_weights(asked))
    assert plain.neurons["if"] == asked.neurons["if"]


@pytest.mark.parametrize("node", [neurons(7.0), nir.I(r=np.full(N, 7.0))], ids=["IF", "I"])
def test_other_values_are_asked_for(node):
    expected = r"r is 7; expected 1 .* or 1/dt .*Pass if_integration='per_step' or 'continuous'"
    with pytest.raises(UnsupportedNodeError, match=expected):
        lower(network(node), dt_s=DT, reset="zero")


def test_a_part_of_the_neurons_at_one_is_not_enough():
    node = neurons(1.0)
    node.r = np.array([1, 1, 1, 1, 2.0])
    with pytest.raises(UnsupportedNodeError, match="r is 1 to 2; expected 1"):
        lower(network(node), dt_s=DT, reset="zero")


def test_unknown_answers_are_refused():
    with pytest.raises(ConfigError, match="if_integration is 'exact'; expected 'per_step' or 'co"):
        lower(network(neurons(1)), dt_s=DT, reset="zero", if_integration="exact")


# --- what nothing depends on is not asked for -------------------------------------------------------


@pytest.mark.parametrize("node", [neurons(1.0), nir.Threshold(np.ones(N)), nir.I(r=np.ones(N))],
                         ids=["IF", "Threshold", "I"])  # fmt: skip
def test_dt_is_not_asked_for_where_nothing_depends_on_it(node):
    graph = lower(network(node), reset="zero")
    assert "dt_s" not in graph.metadata
    timed = lower(network(node), reset="zero", dt_s=0.3)
    np.testing.assert_array_equal(integer_weights(graph), integer_weights(timed))
    graph.summary()


@pytest.mark.parametrize("node", [
    neurons(1.0, if_integration="continuous"),
    nir.LIF(tau=np.ones(N), r=np.ones(N), v_leak=np.zeros(N), v_threshold=np.ones(N)),
], ids=["continuous", "LIF"])  # fmt: skip
def test_dt_and_reset_are_asked_for_together(node):
    with pytest.raises(ConfigError) as error:
        lower(network(node))
    text = str(error.value)
    assert "dt of the graph is missing" in text and "Pass dt_s (--dt)" in text
    assert "does not say what a spike does to v" in text and "reset='zero'" in text
    assert len(text.splitlines()) == 3


def test_a_delay_depends_on_dt():
    nodes = {"in": nir.Input((N_IN,)), "w": nir.Linear(np.ones((N, N_IN))), "d": nir.Delay(np.full(N, 0.004)),
             "n": neurons(1.0), "out": nir.Output((N,))}  # fmt: skip
    order = list(nodes)
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(order)))
    with pytest.raises(ConfigError, match="dt of the graph is missing.*'d'"):
        lower(graph, reset="zero")
    assert next(iter(lower(graph, reset="zero", dt_s=DT).connections.values())).delay == 2


def test_reset_and_integration_are_asked_for_together():
    with pytest.raises(UnsupportedNodeError) as error:
        lower(network(neurons(7.0)), dt_s=DT)
    assert "r is 7" in str(error.value) and "reset='zero'" in str(error.value)


# --- what exporters leave out ----------------------------------------------------------------------


def filtered(w_in, tau_syn):
    one = np.ones(N)
    return network(nir.CubaLIF(tau_syn=tau_syn * one, tau_mem=0.02 * one, r=one, v_leak=0 * one,
                               v_threshold=0.1 * one, w_in=w_in * one))  # fmt: skip


@pytest.mark.parametrize("steps", [5, 20], ids=["norse's default", "long"])
def test_a_gain_left_at_one_is_noted(steps):
    lowered = lower(filtered(1.0, steps * DT), dt_s=DT, reset="zero")
    (note,) = [n for n in lowered.metadata["notes"] if "w_in" in n]
    assert (
        f"w_in of 'cubalif' is 1 beside a tau_syn of {steps} steps" in note and "Rockpool" in note
    )


@pytest.mark.parametrize(("w_in", "tau_syn"), [(20.0, 0.04), (1.0, 2 * DT)], ids=["set", "short"])
def test_other_gains_and_short_synapses_are_not_noted(w_in, tau_syn):
    notes = lower(filtered(w_in, tau_syn), dt_s=DT, reset="zero").metadata["notes"]
    assert not [n for n in notes if "w_in" in n]


def test_soft_reset_that_a_producer_leaves_out_is_noted():
    graph = lower(network(neurons(1 / DT)), dt_s=DT, reset="zero")
    assert any("SpikingJelly leaves its soft reset" in note for note in graph.metadata["notes"])
    written = lower(network(neurons(1 / DT, reset="zero")), dt_s=DT)
    assert not any("SpikingJelly" in note for note in written.metadata["notes"])
