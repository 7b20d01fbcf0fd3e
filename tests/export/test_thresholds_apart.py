"""Thresholds that differ within a population: a register for each neuron, weights that keep their bits."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from biril_nm.export import lower
from biril_nm.export.lowering.numbers.units import unit_of
from biril_nm.export.nir_nodes.linear_maps import Matrix
from biril_nm.hardware_sim import simulate

N_IN, N = 12, 24
RNG = np.random.default_rng


def lif(shape, threshold, r=1.0):
    one = np.ones(shape)
    return nir.LIF(tau=0.01 * one, r=r * one * 10, v_leak=0 * one, v_threshold=threshold * one)


def dense(threshold, r=1.0, weight=None):
    weight = RNG(1).normal(0, 0.4, (N, N_IN)) if weight is None else weight
    graph = lower(
        nir.NIRGraph.from_list(nir.Linear(weight), lif(N, threshold, r)), dt_s=1e-3, reset="zero"
    )
    return graph, weight


def float_spikes(x, weight, threshold, r=1.0):
    v, spikes = np.zeros((x.shape[1], N)), []
    for step in x:
        v = 0.9 * v + r * (step @ weight.T)
        spikes.append(v > threshold)
        v = np.where(v > threshold, 0.0, v)
    return np.array(spikes)


def share_equal(graph, x, want):
    return float(np.mean(simulate(graph, x, record=("s",))["lif"].s == want))


X = (RNG(2).random((60, 4, N_IN)) < 0.3).astype(np.int32)
APART = RNG(3).uniform(0.02, 1.0, N)


def test_weights_stay_and_thresholds_differ():
    graph, weight = dense(APART)
    vth = graph.neurons["lif"].vth
    scale = graph.metadata["neurons"]["lif"]["scale"] / APART.max()
    assert vth.shape == (N,)
    np.testing.assert_allclose(vth, APART * scale, atol=0.5)
    link = graph.connections["linear"]
    np.testing.assert_allclose(
        link.weight * 2.0**link.weight_exp, weight * scale, atol=2.0 ** (link.weight_exp + 1)
    )
    want = float_spikes(X, weight, APART)
    assert want.mean() > 0.05
    assert share_equal(graph, X, want) > 0.985
    facts = graph.metadata["neurons"]["lif"]
    assert (facts["vth_min"], facts["vth"]) == (vth.min(), vth.max())


def test_a_wrong_threshold_would_show():
    graph, weight = dense(APART)
    shared = graph.with_node("lif", vth=int(np.median(graph.neurons["lif"].vth)))
    assert share_equal(shared, X, float_spikes(X, weight, APART)) < 0.97


def test_equal_thresholds_give_one_register_and_do_not_depend_on_the_unit():
    one, weight = dense(1.0)
    other, _ = dense(0.25, weight=weight * 0.25)
    assert one.neurons["lif"].vth.ndim == 0
    assert one.neurons["lif"] == other.neurons["lif"]
    np.testing.assert_array_equal(
        one.connections["linear"].weight, other.connections["linear"].weight
    )


def test_neurons_whose_gain_grows_with_their_threshold_share_one_register():
    """v in other units for each neuron: the same network, and the same integers."""
    plain, weight = dense(1.0)
    scaled, _ = dense(APART, r=APART, weight=weight)
    assert scaled.neurons["lif"].vth.ndim == 0
    np.testing.assert_array_equal(
        plain.connections["linear"].weight, scaled.connections["linear"].weight
    )


@pytest.mark.parametrize("shape", [(6, 1, 1), (6, 4, 4)], ids=["per channel", "per neuron"])
def test_a_convolution_stays_one(shape):
    threshold = np.broadcast_to(RNG(5).uniform(0.1, 1.0, shape), (6, 4, 4)).copy()
    conv = nir.Conv2d((6, 6), RNG(6).normal(0, 0.3, (6, 2, 3, 3)), 1, 0, 1, 1, np.zeros(6))
    graph = lower(nir.NIRGraph.from_list(conv, lif((6, 4, 4), threshold)), dt_s=1e-3, reset="zero")
    (link,) = graph.connections.values()
    assert type(link).__name__ == "Conv"
    vth = graph.neurons["lif"].vth
    assert vth.shape == (6, 4, 4)
    np.testing.assert_allclose(
        vth / vth.max(), threshold / threshold.max(), atol=0.5 / vth.max() * 2
    )


def test_calibration_counts_in_the_same_unit():
    weight = RNG(1).normal(0, 0.4, (N, N_IN))
    nir_graph = nir.NIRGraph.from_list(nir.Linear(weight), lif(N, APART))
    graph = lower(nir_graph, dt_s=1e-3, reset="zero", calibration=X)
    assert share_equal(graph, X, float_spikes(X, weight, APART)) > 0.985


def test_no_threshold_becomes_zero():
    graph, _ = dense(np.where(np.arange(N) == 0, 1e-3, 1.0))
    assert graph.neurons["lif"].vth.min() >= 1


def test_thresholds_that_no_register_holds_together_are_divided_out():
    threshold = np.where(np.arange(N) == 0, 1e-7, 1.0)
    maps = [Matrix(np.ones((N, N_IN)), (N_IN,), (N,))]
    np.testing.assert_array_equal(unit_of(threshold, np.ones(N), maps), threshold)
    near = np.where(np.arange(N) == 0, 0.5, 1.0)
    np.testing.assert_array_equal(unit_of(near, np.ones(N), maps), np.ones(N))


# --- bits of the worst neuron -----------------------------------------------------------------------


def rows(*peaks):
    weight = RNG(7).uniform(-1, 1, (len(peaks), N_IN))
    weight /= np.abs(weight).max(axis=1, keepdims=True)
    weight *= np.array(peaks)[:, None]
    one = np.ones(len(peaks))
    node = nir.LIF(tau=0.01 * one, r=10 * one, v_leak=0 * one, v_threshold=0.5 * one)
    return lower(nir.NIRGraph.from_list(nir.Linear(weight), node), dt_s=1e-3, reset="zero")


def test_neurons_with_few_bits_are_counted_and_noted():
    graph = rows(1.0, 1.0, 0.02, 0.04, 0.0)
    facts = graph.metadata["quantisation"]["linear"]
    largest = np.abs(graph.connections["linear"].weight).max(axis=1) // facts["step"]
    assert facts["bits_worst"] == int(largest[2]).bit_length() == 2
    assert facts["neurons_below"] == 2
    (note,) = [note for note in graph.metadata["notes"] if "fewer than 4 bits" in note]
    assert note.startswith("2 neurons of 'lif'") and "the worst keeps 2" in note
    assert "worst neuron" in graph.summary()


def test_neurons_alike_are_not_noted():
    graph = rows(1.0, 0.9, 0.4)
    facts = graph.metadata["quantisation"]["linear"]
    assert (facts["bits_used"], facts["bits_worst"], facts["neurons_below"]) == (7, 6, 0)
    assert not [note for note in graph.metadata["notes"] if "bits" in note]
