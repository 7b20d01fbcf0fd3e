"""NeuroBench metrics against the definitions of its harness."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import snntorch as snn
import torch

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import neurobench_metrics, simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from tests.support.random_graphs import random_graph, random_spikes


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


def test_the_footprint_does_not_grow_with_the_samples_of_the_run():
    """The trap of the harness on snnTorch: the membrane is a buffer of the shape of the last batch."""
    graph, leaky = chain(np.full((2, 3), 2)), snn.Leaky(beta=1.0, init_hidden=True)
    trap = []
    for batch in (1, 7):
        found = metrics(graph, np.ones((2, batch, 3)))
        assert found.footprint_bytes == metrics(graph, np.ones((2, 1, 3))).footprint_bytes
        leaky(torch.ones(batch, 2))
        trap.append(sum(b.numel() * b.element_size() for b in leaky.buffers()))
    assert trap[1] - trap[0] == 6 * 2 * 4


def integrators(*nodes):
    """A chain of the nodes of an input, connections and integrate-and-fire neurons."""
    names = [*(f"n{i}" for i in range(len(nodes))), "output"]
    return LoihiGraph(dict(zip(names, (*nodes, Output()))), tuple(pairwise(names)))


def harness_cases():
    """Networks and inputs, and what the neurobench package 2.3.0 counted on them in snnTorch 1.0.0.

    snnTorch: Linear and Conv2d without bias, Leaky(beta=1, reset_mechanism="zero", reset_delay=False,
    init_hidden=True) with the same thresholds, whose spikes are the same in every step.
    Values: activation sparsity, effective MACs, effective ACs, dense operations, membrane updates,
    connection sparsity (4 digits).
    """
    r = np.random.default_rng(0)

    def weights(*shape):
        return 2 * r.integers(-20, 30, shape) * (r.random(shape) > 0.3)

    first, second = Dense(weights(30, 20)), Dense(weights(10, 30))
    graph = integrators(
        Input((20,)), first, Neurons((30,), vth=100), second, Neurons((10,), vth=100)
    )
    yield graph, r.random((8, 5, 20)) < 0.3, (0.6525, 0, 1651.8, 7200, 282, 0.3133)
    first = Conv(weights(4, 1, 3, 3), padding=1)
    second = Conv(weights(8, 2, 3, 3), stride=2, padding=1, groups=2)
    third = Dense(weights(10, 128))
    graph = integrators(
        Input((1, 8, 8)), first, Neurons((4, 8, 8), vth=60), second, Neurons((8, 4, 4), vth=60),
        third, Neurons((10,), vth=120),
    )  # fmt: skip
    inputs = r.random((6, 7, 1, 8, 8)) < 0.3
    yield graph, inputs, (0.8992023205221175, 0, 28376 / 7, 30912, 12577 / 7, 0.3096)
    first, second = Conv(weights(6, 2, 3, 3), dilation=2), Dense(weights(5, 54))
    graph = integrators(
        Input((2, 7, 7), 4), first, Neurons((6, 3, 3), vth=900), second, Neurons((5,), vth=90)
    )
    graded = r.integers(0, 16, (5, 4, 2, 7, 7))
    graded[2], graded[3] = graded[2] > 9, 0
    yield graph, graded, (0.559322033898305, 1931.75, 629.5, 6210, 199, 0.3307)


@pytest.mark.parametrize("case", harness_cases(), ids=["mlp", "groups", "graded"])
def test_numbers_are_those_of_the_neurobench_harness(case):
    graph, inputs, wanted = case
    found = metrics(graph, inputs)
    measured = (
        found.activation_sparsity,
        found.effective_macs,
        found.effective_acs,
        found.dense_operations,
        found.membrane_updates,
        round(found.connection_sparsity, 4),
    )
    assert measured == pytest.approx(wanted, rel=1e-12)


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


def test_missing_parts_are_reported():
    graph = chain(np.full((2, 3), 2))
    inputs = np.ones((2, 1, 3), dtype=np.int32)
    with pytest.raises(ConfigError, match="Pass the simulated spikes as inputs"):
        neurobench_metrics(graph, simulate(graph, inputs), None)
    with pytest.raises(ConfigError, match="no spikes of 'out'"):
        neurobench_metrics(graph, simulate(graph, inputs, record=("v",)), inputs)
    with pytest.raises(
        ConfigError, match=r"input and recording have \(steps, samples\) .*; expected one"
    ):
        neurobench_metrics(graph, simulate(graph, inputs), inputs[:1])
