"""Choice of scale: clip levels, split signs, proven and calibrated limits, margins in the report."""

from __future__ import annotations

import tracemalloc

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError, RangeError
from biril_nm.export import lower
from biril_nm.export.lowering import LoweringOptions, ideal_weights, lower_stages
from biril_nm.export.lowering.numbers.normalised import NormalisedLink
from biril_nm.export.lowering.numbers.weight_grid import WeightGrid
from biril_nm.export.nir_nodes.linear_maps import Matrix
from biril_nm.hardware_sim import simulate
from biril_nm.loihi import LOIHI2, STATE_LIMIT
from biril_nm.loihi.fixed_point import prepare_weights
from tests.support.nir_graphs import chain, neurons, spikes
from tests.support.nir_interpreter import NirInterpreter


def outlier_graph(size=(40, 60)):
    """Normal weights and one ten times as large as the others."""
    w = np.random.default_rng(0).normal(0, 0.1, size)
    w[0, 0] = 2.0
    return chain(size[1:], ("fc", nir.Linear(w)), ("n", neurons("LIF", size[:1], 1.0)))


def squared_error(graph, **options):
    stages = lower_stages(graph, LoweringOptions(reset="zero", **options))
    ideal, lowered = ideal_weights(stages), stages.graph
    total = 0.0
    for name, node in lowered.connections.items():
        facts = lowered.metadata["quantisation"][name]
        unit = 2.0 ** facts["weight_exp"] / facts["scale"]
        total += float(np.sum(((node.weight.ravel() - ideal[name]) * unit) ** 2))
    return total


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_mse_search_clips_outliers_where_that_makes_the_error_smaller(bits):
    graph = outlier_graph()
    plain = lower(graph, reset="zero", weight_bits=bits, scale_search="max")
    mse = lower(graph, reset="zero", weight_bits=bits, scale_search="mse")
    assert lower(graph, reset="zero", weight_bits=bits).nodes == (mse if bits < 5 else plain).nodes
    facts = mse.metadata["quantisation"]["fc"]
    assert plain.metadata["quantisation"]["fc"]["clipped"] == 0
    assert facts["clipped"] == 1
    finer = squared_error(graph, weight_bits=bits, scale_search="mse")
    assert finer <= squared_error(graph, weight_bits=bits, scale_search="max")
    node = mse.connections["fc"]
    kept = prepare_weights(node.weight, bits, node.sign_mode)
    np.testing.assert_array_equal(mse.connections["fc"].weight, kept)


def test_percentile_search_lets_the_largest_thousandth_clip():
    facts = lower(outlier_graph((80, 60)), reset="zero", weight_bits=6, scale_search="percentile")
    facts = facts.metadata["quantisation"]["fc"]
    assert 1 <= facts["clipped"] <= 5
    with pytest.raises(
        ConfigError,
        match="scale_search is 'best'; expected 'auto' or 'max' or 'percentile' or 'mse'",
    ):
        lower(outlier_graph(), reset="zero", scale_search="best")


def test_nothing_is_clipped_for_weights_without_outliers():
    w = np.random.default_rng(1).uniform(-1, 1, (20, 30))
    graph = chain((30,), ("fc", nir.Linear(w)), ("n", neurons("IF", (20,), 1.0)))
    for search in ("max", "mse"):
        lowered = lower(graph, reset="zero", scale_search=search)
        assert lowered.metadata["quantisation"]["fc"]["clipped"] == 0


@pytest.mark.parametrize("bits", range(1, 9))
def test_split_signs_halve_the_step_and_add_up(bits):
    graph = outlier_graph()
    split = lower(graph, reset="zero", weight_bits=bits, split_mixed=True)
    plus, minus = split.connections["fc.plus"], split.connections["fc.minus"]
    assert plus.weight.min() >= 0 and minus.weight.max() <= 0
    assert set(split.metadata["quantisation"]) == {"fc.plus", "fc.minus"}
    if bits > 3:  # with few levels, rounding that keeps row sums is coarser than the step
        finer = squared_error(graph, weight_bits=bits, split_mixed=True)
        assert finer < squared_error(graph, weight_bits=bits)


def test_one_bit_weights_of_both_signs_still_drive_the_neurons():
    w = np.random.default_rng(0).choice([-0.5, 0.5], (8, 30))
    graph = chain((30,), ("fc", nir.Linear(w)), ("n", neurons("IF", (8,), 1.0)))
    lowered = lower(graph, reset="zero", weight_bits=1)
    x = spikes((30,))
    ours = simulate(lowered, x, record=("s",))["n"].s
    np.testing.assert_array_equal(ours, NirInterpreter(graph, 1e-3).run(x)["n"])
    assert 0 < ours.mean() < 1


def test_v_keeps_room_below_zero_that_calibration_has_seen():
    w = np.full((4, 20), -1.0)
    w[:, 0] = 1.5
    graph = chain((20,), ("fc", nir.Linear(w)), ("n", neurons("IF", (4,), 1.0)))
    x = np.ones((60, 2, 20), dtype=np.int32)
    plain, seen = lower(graph, reset="zero"), lower(graph, reset="zero", calibration=x)
    lowest = -17.5 * 60  # thresholds, after 60 steps
    assert plain.metadata["neurons"]["n"]["headroom"] < -lowest
    facts = seen.metadata["neurons"]["n"]
    assert facts["margins"]["v below zero (seen)"] >= 1.25 - 1e-9
    trace = simulate(seen, x, record=("v",))["n"].v
    np.testing.assert_allclose(trace[-1] / (64 * facts["scale"]), lowest, rtol=0.02)
    assert np.abs(trace).max() < STATE_LIMIT - 1


def test_margins_are_at_least_one_and_in_the_report():
    body = [("fc", nir.Affine(np.random.default_rng(0).normal(size=(6, 9)), np.ones(6)))]
    graph = chain((9,), *body, ("n", neurons("CubaLIF", (6,), 5.0)), ("fc2", nir.Linear(np.eye(6))),
                  ("li", neurons("LI", (6,))))  # fmt: skip
    x = spikes((9,))
    for calibration in (None, x):
        lowered = lower(graph, reset="zero", calibration=calibration)
        for name, facts in lowered.metadata["neurons"].items():
            assert facts["margins"], name
            assert min(facts["margins"].values()) >= 1 - 1e-9
        text = lowered.summary()
        assert "tightest limit" in text and " x" in text
        trace = simulate(lowered, x, record=("u", "v"))
        assert all(np.abs(trace[n].u).max() < STATE_LIMIT for n in lowered.neurons)
    assert lowered.metadata["neurons"]["li"]["limits"]


def test_long_synaptic_memory_profits_from_known_steps():
    one = np.ones(4)

    def graph(**noted):
        neuron = nir.CubaLIF(tau_syn=4.0 * one, tau_mem=0.02 * one, r=one, v_leak=0 * one,
                             v_threshold=0.01 * one, w_in=one)  # fmt: skip
        body = chain((6,), ("fc", nir.Linear(np.full((4, 6), 0.3))), ("n", neuron))
        body.nodes["input"].metadata = noted
        return body

    endless, counted = lower(graph(), reset="zero"), lower(graph(n_steps=20), reset="zero")
    limit = lambda g: g.metadata["neurons"]["n"]["limits"]["u (proven)"]  # noqa: E731
    assert limit(counted) > 100 * limit(endless)
    forever = graph()
    forever.nodes["n"].tau_syn = 1e9 * one
    with pytest.raises(RangeError, match="synaptic decay.*below the smallest one, 1/4096"):
        lower(forever, reset="zero", calibration=spikes((6,)))


def test_what_no_scale_can_hold_is_refused_with_all_limits():
    w = np.full((2, 400), 1.0)
    graph = chain((400,), ("fc", nir.Linear(w)), ("n", neurons("I", (2,), r=np.full(2, 1.0))))
    graph.nodes["input"].metadata = {
        "message_bits": 16,
        "scale": 1,
        "coding": "direct",
        "n_steps": 500,
    }
    with pytest.raises(
        RangeError, match="'n': no scale keeps.*u .proven.: S <= .*v .proven.: S <="
    ):
        lower(graph)


def test_lowering_takes_little_more_memory_than_the_integers():
    w = np.random.default_rng(0).normal(size=(1024, 1024)) / 64
    graph = chain((1024,), ("fc", nir.Linear(w)), ("n", neurons("LIF", (1024,), 1.0)))
    lower(
        chain((2,), ("fc", nir.Linear(w[:2, :2])), ("n", neurons("LIF", (2,), 1.0))), reset="zero"
    )
    tracemalloc.start()
    try:
        lower(graph, reset="zero")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert w.nbytes / 2 < peak < w.nbytes  # integers take half


def test_parameters_that_neurons_share_take_no_memory_for_each():
    shape = (16, 64, 64)
    one = np.ones(shape)
    lif = nir.LIF(tau=0.02 * one, r=20 * one, v_leak=0 * one, v_threshold=one)
    conv = nir.Conv2d((64, 64), np.ones((16, 1, 3, 3)) / 8, 1, 1, 1, 1, np.arange(16) / 64)
    graph = chain((1, 64, 64), ("conv", conv), ("n", lif))
    lower(graph, reset="zero")  # loads the code
    tracemalloc.start()
    try:
        lowered = lower(graph, reset="zero")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    bias = lowered.neurons["n"].bias_mant  # of channels that differ
    assert bias.shape == shape and bias.flags.c_contiguous
    assert peak < bias.nbytes + one.nbytes


def test_stages_own_their_weights():
    graph = outlier_graph()
    stages = lower_stages(graph, LoweringOptions(reset="zero"))
    before = ideal_weights(stages)["fc"].copy()
    graph.nodes["fc"].weight[:] = 0.0
    np.testing.assert_array_equal(ideal_weights(stages)["fc"], before)


def test_one_bit_cannot_hold_both_signs():
    """Lowering splits such connections first; a grid of its own says so."""
    both = NormalisedLink("fc", Matrix(np.array([[1.0, -1.0]]), (2,), (1,)), 1, weight_bits=1)
    with pytest.raises(RangeError, match=r"'fc' has weights of both signs.*Split it by sign"):
        WeightGrid.of(both, LOIHI2)
