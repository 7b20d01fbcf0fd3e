"""Engine ``torch-int``: integers in torch, equal to those of the kernels in every s, u and v."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_array_equal

from biril_nm.coding import Coding
from biril_nm.compartments import CUBA_LIF, register, unregister
from biril_nm.engines import Network, RunOptions, get_engine
from biril_nm.engines.torch_integers import run, sums
from biril_nm.errors import ConfigError, RangeError
from biril_nm.evaluation import evaluate_graph
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.parity import check_parity
from tests.support import toy_compartment
from tests.support.random_graphs import (
    random_graph,
    random_spikes,
    with_programs,
    with_ternary_neurons,
)

CPU = torch.device("cpu")


def refractory(graph, seed):
    """The same with neurons that wait."""
    wait = int(np.sum(seed)) % 4
    nodes = {
        name: Neurons(
            each.shape, model="cuba_lif_refractory", refractory=wait, registers=each.registers
        )
        for name, each in graph.neurons.items()
    }
    return replace(graph, nodes={**graph.nodes, **nodes})


KINDS = {
    "cuba_lif": lambda graph, seed: graph,
    "programs": with_programs,
    "ternary_lif": with_ternary_neurons,
    "refractory": refractory,
}


def assert_same(graph, spikes, device="cpu"):
    """All integers of the kernels and of torch are equal; returns the number of spikes."""
    options = RunOptions(("s", "u", "v"), device=device)
    found = get_engine("torch-int").run(Network(graph), spikes, options)
    expected = simulate(graph, spikes, record=("s", "u", "v"), n_threads=1)
    assert list(found) == list(expected)
    for name, node in expected.items():
        for variable, array in node.variables().items():
            mine = getattr(found[name], variable)
            assert mine.dtype == array.dtype
            assert_array_equal(mine, array, f"{name}.{variable}")
        assert_array_equal(found.v_last[name], expected.v_last[name])
    assert found.n_spikes == expected.n_spikes
    return sum(expected.n_spikes.values())


@pytest.mark.parametrize("kind", KINDS)
def test_random_graphs_give_the_integers_of_the_kernels(kind):
    n_spikes = 0
    for seed in range(8):
        graph = KINDS[kind](random_graph(seed), seed)
        spikes = random_spikes(graph, 7, 3, seed)
        block = run.BLOCK_BYTES["cpu"] if seed % 2 else 1  # 1: one sample and one step at a time
        with mock.patch.dict(run.BLOCK_BYTES, cpu=block):
            n_spikes += assert_same(graph, spikes)
    assert n_spikes > 500


@pytest.mark.parametrize("wiring", ["residual", "self", "loop", "inputs"])
def test_every_wiring_is_among_them(wiring):
    graph = random_graph(21, wiring)
    assert assert_same(graph, random_spikes(graph, 9, 2, 21)) > 0


def test_a_register_that_differs_by_one_is_found():
    graph = random_graph(3, "loop")
    spikes = random_spikes(graph, 12, 4, 3)
    assert check_parity(graph, spikes, against=("sim", "torch-int")).ok
    with mock.patch.object(run, "make_population", wrong_bias):
        report = check_parity(replace(graph), spikes, against=("sim", "torch-int"))
    assert [each.node for each in report.mismatches] == ["n1"]


def wrong_bias(graph, name, device):
    mantissa = graph.neurons["n1"].bias_mant + 1
    return make_population(graph.with_node("n1", bias_mant=mantissa), name, device)


make_population = run.make_population


def one_connection(connection, n_pre, shape, bits=0, signed=False, source=None):
    nodes = {
        "in": Input(source or (n_pre,), bits, signed),
        "c": connection,
        "n": Neurons(shape, vth=900, du=1000, dv=100, bias_mant=3),
        "out": Output(),
    }
    return LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))


def wide_cases():
    random = np.random.default_rng(5)
    weight = random.integers(-256, 256, (6, 40))
    kernel = random.integers(-(1 << 22), 1 << 22, (4, 3, 3, 3))
    sparse = scipy.sparse.csr_matrix(weight * (random.random(weight.shape) < 0.3))
    empty = scipy.sparse.csr_matrix((6, 40), dtype=np.int64)
    return {
        "float32": one_connection(Dense(weight), 40, (6,)),
        "float64": one_connection(Dense(weight, weight_exp=1), 40, (6,), 16),
        "sums that wrap": one_connection(Dense(weight, weight_exp=3), 40, (6,), 24),
        "a shift of all bits": one_connection(Dense(weight, weight_exp=40), 40, (6,), 8),
        "halves": one_connection(Dense(weight, weight_exp=-1), 40, (6,), 24),
        "halves kept": one_connection(Dense(weight, weight_exp=-2, delay=1), 40, (6,), 20),
        "nothing left": one_connection(Dense(weight, weight_exp=-63), 40, (6,)),
        "signed": one_connection(Sparse(sparse, weight_exp=2), 40, (6,), 20, True),
        "no synapse": one_connection(Sparse(empty), 40, (6,)),
        "modulo": one_connection(Conv(kernel, padding=1), 0, (4, 5, 5), source=(3, 5, 5)),
        "beyond 32 bits": one_connection(
            Conv(kernel, weight_exp=2), 0, (4, 3, 3), 8, source=(3, 5, 5)
        ),
    }


@pytest.mark.parametrize("case", wide_cases())
def test_wide_sums_wrap_as_in_the_kernels(case):
    graph = wide_cases()[case]
    node = graph.inputs["in"]
    random = np.random.default_rng(9)
    spikes = random.integers(node.low, node.high + 1, (6, 3, *node.shape))
    assert_same(graph, spikes)
    chosen = sums.make_sums(graph, "c", CPU).weight.dtype
    narrow = case in ("float32", "nothing left", "no synapse", "a shift of all bits")
    assert chosen == (torch.float32 if narrow else torch.float64)


def test_float32_is_left_where_torch_may_round_its_products():
    graph = random_graph(3, "plain")
    chosen = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu"):
            assert assert_same(graph, random_spikes(graph, 6, 2, 3)) > 0
    finally:
        torch.set_float32_matmul_precision(chosen)
    assert sums.make_sums(graph, "c1", CPU).weight.dtype == torch.float32
    assert sums.make_sums(graph, "c1", CPU, float32=False).weight.dtype == torch.float64


def test_precisions_that_torch_refuses_to_name_leave_float32(monkeypatch):
    """As in torch 2.9 and later, after ``torch.backends.cuda.matmul.fp32_precision = "tf32"``."""

    def mixed():
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed)
    graph, chosen = random_graph(3, "plain"), []
    made = run.make_sums
    monkeypatch.setattr(run, "make_sums", lambda *a: chosen.append(made(*a)) or chosen[-1])
    assert assert_same(graph, random_spikes(graph, 6, 2, 3)) > 0
    assert {each.weight.dtype for each in chosen} == {torch.float64}


def test_blocks_fit_what_a_cuda_device_has_free(monkeypatch):
    free = 1 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 40))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 << 20)
    few = list(run.blocks(1000, (10, 50_000), torch.device("cuda:0")))
    size, steps = few[0][1:]
    assert steps == 10 and size == ((1 << 30) + (2 << 20)) // run.FREE_SHARE // run.BYTES // 10_000
    assert sum(each[1] for each in few) == 50_000
    free = 1 << 40
    assert next(run.blocks(1000, (10, 50_000), torch.device("cuda:0")))[1] > size


def test_a_repeated_image_is_summed_once():
    graph = random_graph(3, "plain")
    image = (np.random.default_rng(2).random((2, *graph.inputs["in"].shape)) < 0.5).astype(np.uint8)
    spikes = np.broadcast_to(image, (20, *image.shape))
    assert assert_same(graph, spikes) > 0
    rows = []
    summed = sums.Sums.__call__

    def counted(link, spikes):
        rows.append((link.source, len(spikes)))
        return summed(link, spikes)

    with mock.patch.object(sums.Sums, "__call__", counted):
        get_engine("torch-int").run(Network(graph), spikes)
    assert ("in", 2) in rows
    assert ("n1", 40) in rows


def branching(a, state, constants):
    return (a, a), 1 if a > 3 else 0


def halving(a, state, constants):
    return (a, a / 2), 1 * (a > 0)


def choosing(a, state, constants):
    bias = constants[2]
    return (a, a), a > 3 if bias > 20 else a > 2


def storing(a, state, constants):
    return (constants[2], a), a > 3


def one_population(model, **registers):
    node = Neurons((4,), model=model, **{"vth": 4, "dv": 9, "bias_mant": 30, **registers})
    nodes = {"in": Input((4,)), "c": Dense(2 * np.eye(4, dtype=int)), "n": node}
    return LoihiGraph(nodes, (("in", "c"), ("c", "n")))


@pytest.fixture
def toy():
    """Registered, whatever other tests left of it."""
    yield register(toy_compartment.TOY, toy_compartment.__name__, replace=True)
    unregister(toy_compartment.TOY.name)


def test_a_model_of_ones_own_runs(toy):
    graph = one_population(toy_compartment.TOY.name, gain=100)
    assert assert_same(graph, np.ones((9, 2, 4), np.uint8)) > 0


@pytest.mark.parametrize(
    ("step", "reason"),
    [(branching, "RuntimeError: Boolean value"), (halving, "it gives other integers")],
)
def test_a_model_that_torch_cannot_run_is_refused_by_name(step, reason):
    register(replace(CUBA_LIF, name="odd", step=step), __name__)
    try:
        with pytest.raises(
            ConfigError, match=f"'n' has compartment model 'odd'.*{reason}.* engine 'sim'"
        ):
            run.make_population(one_population("odd"), "n", CPU)
    finally:
        unregister("odd")


def test_a_step_meets_the_constants_of_its_own_population():
    """A branch on a constant that all neurons share is none; words may be constants."""
    biases = np.array([30, 10, 20, 25])
    register(replace(CUBA_LIF, name="odd", step=choosing), __name__)
    register(replace(CUBA_LIF, name="stored", step=storing), __name__)
    try:
        run.make_population(one_population("odd"), "n", CPU)
        with pytest.raises(ConfigError, match="'n' has compartment model 'odd'.*Boolean value"):
            run.make_population(one_population("odd", bias_mant=biases), "n", CPU)
        for given in (30, biases):
            made = run.make_population(one_population("stored", bias_mant=given), "n", CPU)
            a = torch.arange(8, dtype=torch.int32).reshape(2, 4)
            (u, v), spikes = made.step(a, made.at_rest(2))
            assert_array_equal(u, np.broadcast_to(given, (2, 4)))
            assert_array_equal(v, a)
            assert spikes.shape == (2, 4)
    finally:
        unregister("odd")
        unregister("stored")


def only_small(a, state, constants):
    """Other integers where the bias is above 20, as in halves that floats round."""
    return (a, a + (constants[2] > 20) / 2), a > 3


def test_integers_that_differ_for_one_neuron_are_found():
    register(replace(CUBA_LIF, name="odd", step=only_small), __name__)
    try:
        run.make_population(one_population("odd", bias_mant=np.array([9, 10, 20, 5])), "n", CPU)
        with pytest.raises(ConfigError, match="'odd'.*it gives other integers"):
            run.make_population(one_population("odd", bias_mant=np.array([9, 10, 30, 5])), "n", CPU)
    finally:
        unregister("odd")


def test_sums_that_the_simulator_refuses_are_refused_alike():
    conv = Conv(np.full((1, 3, 3, 3), 1 << 30))
    graph = one_connection(conv, 0, (1, 3, 3), 25, source=(3, 5, 5))
    spikes = np.full((2, 1, 3, 5, 5), (1 << 25) - 1)
    with pytest.raises(RangeError, match=r"Conv 'c' can sum up to .* beyond the 2\*\*53") as one:
        simulate(graph, spikes)
    with pytest.raises(RangeError) as other:
        get_engine("torch-int").run(Network(graph), spikes, RunOptions(device="cpu"))
    assert str(one.value) == str(other.value)


def test_what_floats_cannot_hold_is_refused():
    weight = np.full((2, 70_000), 254)
    graph = one_connection(Dense(weight), 70_000, (2,), 30)
    with pytest.raises(
        ConfigError, match=r"connection 'c' can sum up to .* less than 2\*\*53.*'sim'"
    ):
        sums.make_sums(graph, "c", CPU)
    graph = one_connection(Dense(weight[:, :3], weight_exp=-1, delay=1), 3, (2,), 24)
    with pytest.raises(ConfigError, match=r"'c' has products up to .* less than 2\*\*31.*'sim'"):
        sums.make_sums(graph, "c", CPU)


def test_it_says_what_it_cannot_do():
    graph = random_graph(3, "plain")
    spikes = random_spikes(graph, 4, 2, 3)
    engine = get_engine("torch-int")
    assert (engine.integers, engine.learns, engine.needs_net) == (True, False, False)
    for device in ("meta", "cuda:99", "nowhere"):
        with pytest.raises(
            ConfigError, match=f"device '{device}' cannot be used: .* Choose auto or c"
        ):
            engine.run(Network(graph), spikes, RunOptions(device=device))
    with pytest.raises(ConfigError, match="engine 'torch-int' cannot run a network that learns"):
        engine.run(Network(graph), spikes, RunOptions(learn=True))
    with pytest.raises(ConfigError, match=r"cannot record \['w'\]"):
        engine.run(Network(graph), spikes, RunOptions(("w",)))


def test_it_records_what_it_is_asked_for():
    graph = random_graph(3, "plain")
    options = RunOptions(("v",), nodes=("n2",), device="cpu")
    found = get_engine("torch-int").run(Network(graph), random_spikes(graph, 4, 2, 3), options)
    assert list(found) == ["n2"]
    assert list(found["n2"].variables()) == ["v"]
    assert set(found.n_spikes) == set(found.v_last) == {"n1", "n2"}
    assert found.meta["device"] == "cpu"
    with pytest.raises(ConfigError, match=r"has node time only.* Call simulate\(graph, spikes\)"):
        found.chip_time()


def test_evaluation_classifies_as_the_simulator_does():
    graph = random_graph(3, "plain")
    values = np.random.default_rng(1).random((8, *graph.inputs["in"].shape)).astype(np.float32)
    results = [
        replace(
            evaluate_graph(graph, values, np.zeros(8), Coding("rate", 5, 0), backend=backend),
            seconds=0,
        )
        for backend in ("sim", "torch-int")
    ]
    assert results[0] == results[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_integers_of_the_kernels(kind):
    spikes = random_spikes(random_graph(3, "plain"), 2, 1, 3)
    found = run.run_integers(random_graph(3, "plain"), spikes, device="cuda")
    assert found.meta["device"].startswith("cuda:")
    for seed in range(12):
        graph = KINDS[kind](random_graph(seed), seed)
        assert_same(graph, random_spikes(graph, 7, 3, seed), "cuda")
    for graph in wide_cases().values():
        node = graph.inputs["in"]
        assert_same(
            graph,
            np.random.default_rng(9).integers(node.low, node.high + 1, (6, 3, *node.shape)),
            "cuda",
        )
