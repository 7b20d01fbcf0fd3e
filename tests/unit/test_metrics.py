"""NeuroBench metrics against the definitions of its harness."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import neurobench_metrics, simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from tests.random_graphs import random_graph, random_spikes


def chain(weight, message_bits=0, vth=1000, **fields):
    node = Dense(weight, **fields) if np.ndim(weight) == 2 else Conv(weight, **fields)
    shape = (node.weight.shape[1],) if np.ndim(weight) == 2 else (1, 3, 3)
    post = (node.weight.shape[0],) if np.ndim(weight) == 2 else (1, 3, 3)
    return LoihiGraph(
        {
            "input": Input(shape, message_bits),
            "fc": node,
            "out": Neurons(post, vth=vth),
            "output": Output(),
        },
        (("input", "fc"), ("fc", "out"), ("out", "output")),
    )


def metrics(graph, inputs, record=("s", "v")):
    inputs = np.asarray(inputs, dtype=np.int32)
    return neurobench_metrics(graph, simulate(graph, inputs, record=record), inputs)


def test_three_by_three_example():
    weight = [[2, 0, 4], [0, 6, 2], [8, 2, 0]]  # two active inputs with two synapses each
    found = metrics(chain(weight), [[[1, 0, 1]]])
    assert found.dense_operations == 9
    assert found.effective_acs == 4
    assert found.effective_macs == 0
    assert found.connection_sparsity == pytest.approx(3 / 9)


def test_convolution_counts_no_padding():
    found = metrics(chain(np.full((1, 1, 3, 3), 2), padding=1), np.ones((2, 1, 1, 3, 3)))
    per_step = 4 * 4 + 4 * 6 + 9  # corners, edges, centre
    assert found.dense_operations == found.effective_acs == 2 * per_step


def test_graded_steps_are_macs_and_binary_steps_acs():
    inputs = np.array([[[1, 0, 1]], [[7, 0, 1]], [[0, 0, 0]]])
    found = metrics(chain(np.full((2, 3), 2), message_bits=8), inputs)
    assert (found.effective_acs, found.effective_macs) == (4, 4)
    assert found.dense_operations == 3 * 6


def test_operations_are_per_sample_with_all_steps():
    inputs = np.ones((5, 4, 3))
    found = metrics(chain(np.full((2, 3), 2)), inputs)
    assert found.effective_acs == found.dense_operations == 5 * 6
    assert (found.n_steps, found.n_samples) == (5, 4)


def test_activation_sparsity_of_silence_and_of_fire():
    silent = metrics(chain(np.full((2, 3), 2)), np.ones((4, 2, 3)))
    assert silent.activation_sparsity == 1
    firing = metrics(chain(np.full((2, 3), 200), vth=1), np.ones((4, 2, 3)))
    assert firing.activation_sparsity == 0


def test_membrane_updates_count_changes_after_a_full_first_step():
    inputs = np.array([1, 0, 1, 0, 0]).reshape(5, 1, 1) * np.ones((1, 1, 3))
    found = metrics(chain(np.array([[2, 2, 2], [0, 0, 0]])), inputs)  # integrator: v moves at 1, 3
    assert found.membrane_updates == 2 + 1
    assert metrics(chain(np.full((2, 3), 2)), inputs, record=("s",)).membrane_updates is None


def test_footprint_counts_zeros_and_states():
    found = metrics(chain(np.zeros((2, 3), dtype=int)), np.ones((1, 1, 3)))
    assert found.n_parameters == 6 + 4  # weights and vth, du, dv, bias_mant
    assert found.footprint_bytes == 4 * 10 + 2 * 2 * 4
    assert found.chip_footprint_bytes == -(-(6 * 9 + 2 * 2 * 24) // 8)
    assert found.connection_sparsity == 1


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_keep_the_order_of_the_counts(seed):
    graph = random_graph(seed)
    inputs = random_spikes(graph, 5, 2, seed)
    trace = simulate(graph, inputs, record=("s", "v"))
    found = neurobench_metrics(graph, trace, inputs)
    effective = found.effective_acs + found.effective_macs
    assert 0 < effective <= found.dense_operations
    assert 0 <= found.activation_sparsity <= 1
    assert found.membrane_updates <= 5 * sum(node.size for node in graph.neurons.values())
    assert len(found.rows()) == 9


def test_missing_parts_are_told():
    graph = chain(np.full((2, 3), 2))
    inputs = np.ones((2, 1, 3), dtype=np.int32)
    with pytest.raises(ConfigError, match="pass the simulated spikes as inputs"):
        neurobench_metrics(graph, simulate(graph, inputs), None)
    with pytest.raises(ConfigError, match="no spikes of 'out'"):
        neurobench_metrics(graph, simulate(graph, inputs, record=("v",)), inputs)
    with pytest.raises(ConfigError, match="different runs"):
        neurobench_metrics(graph, simulate(graph, inputs), inputs[:1])
