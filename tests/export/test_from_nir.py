"""NIR to torch: the spikes of the graph, of its integers, and of the graph that comes back."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.compartments import CUBA_LIF, RESET_MODELS, SpikeReset
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.nir_files.files import write_nir
from biril_nm.export.nir_nodes.fixed_map import FixedMap
from biril_nm.export.nir_nodes.resets import reset_metadata
from biril_nm.hardware_sim import simulate
from biril_nm.loihi import ResetMode
from biril_nm.models.nir_net import NirNet
from tests.support.nir_graphs import DT, chain, grid, neurons, spikes
from tests.support.nir_interpreter import NirInterpreter
from tests.support.random_nets import random_nir, with_resets

RESETS = [model.reset for model in (CUBA_LIF, *RESET_MODELS)]
WAYS_OUT = ("Lower the graph", "lower the graph", "Mark the node at which it closes")


def given(graph: nir.NIRGraph, seed: int, n_steps: int = 10) -> dict[str, np.ndarray]:
    """Binary spikes for each input."""
    random = np.random.default_rng(seed)
    shapes = {n: m.input_type["input"] for n, m in graph.nodes.items() if isinstance(m, nir.Input)}
    return {
        name: (random.random((n_steps, 2, *(int(n) for n in shape))) < 0.3).astype(float)
        for name, shape in shapes.items()
    }


def outputs_of(net: NirNet, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = net.run({name: torch.from_numpy(value) for name, value in x.items()})
    found = found if isinstance(found, dict) else {net.outputs[0]: found}
    return {name: value.numpy() for name, value in found.items()}


def back(net: nn.Module, x: dict[str, np.ndarray]) -> nir.NIRGraph:
    samples = tuple(torch.zeros(1, *value.shape[2:]) for value in x.values())
    return to_nir(net, samples if len(samples) > 1 else samples[0], dt_s=DT)


def same_integers(first: nir.NIRGraph, second: nir.NIRGraph, x: dict[str, np.ndarray]) -> None:
    """Both lower to networks whose populations have the same spikes."""
    a, b = lower(first, dt_s=DT, reset="zero"), lower(second, reset="zero")
    assert set(a.neurons) == set(b.neurons)
    messages = {name: value.astype(int) for name, value in x.items()}
    alone = len(messages) == 1
    one = next(iter(messages.values()))
    runs = [simulate(g, one if alone else messages, record="s") for g in (a, b)]
    for name in a.neurons:
        np.testing.assert_array_equal(runs[0][name].s, runs[1][name].s)


@pytest.mark.parametrize("first", (0, 20))
def test_random_graphs_become_torch_and_come_back(first):
    translated = compared = 0
    for seed in range(first, first + 10):
        graph, _ = random_nir(seed)
        graph = with_resets(graph, seed) if seed % 4 == 1 else graph
        try:
            net = bnm.from_nir(graph, reset="zero", double=True)
        except UnsupportedNodeError as refusal:
            assert any(text in str(refusal) for text in WAYS_OUT), refusal
            continue
        translated += 1
        x = given(graph, seed)
        found = outputs_of(net, x)
        same_integers(graph, back(net, x), x)
        kinds = [type(node) for node in graph.nodes.values()]
        starts = any(np.any(getattr(node, "v_reset", 0)) for node in graph.nodes.values())
        if FixedMap in kinds or starts:  # the interpreter lacks the one, and begins elsewhere
            continue
        expected = NirInterpreter(graph, DT).run(x)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], atol=1e-9)
        compared += any(value.any() for value in found.values())
    assert translated >= 3
    assert compared >= 1


@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_every_reset_is_said_or_refused(kind, reset):
    node = neurons(kind, (8,), threshold=2.0, metadata=reset_metadata(reset))
    graph = chain((6,), ("fc", nir.Linear(grid((8, 6)))), ("lif", node))
    plain = reset == SpikeReset(ResetMode.SUBTRACT)
    if plain and kind != "IF":
        with pytest.raises(
            UnsupportedNodeError, match="'lif': a spike takes the threshold .* late sub"
        ):
            bnm.from_nir(graph)
        return
    x = {"input": spikes((6,)).astype(float)}
    net = bnm.from_nir(graph, double=True)
    expected = NirInterpreter(graph, DT).run(x)["lif"]
    assert expected.any()
    np.testing.assert_array_equal(outputs_of(net, x)["output"], expected)
    other = chain((6,), ("fc", nir.Linear(grid((8, 6)) * 1.3)), ("lif", node))
    assert (outputs_of(bnm.from_nir(other, double=True), x)["output"] != expected).any()


@pytest.mark.parametrize("kind", ["IF", "Threshold"])
@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((6,), [("fc", nir.Affine(grid((8, 6)), grid((8,), 3)))]),
        (
            (2, 6, 5),
            [
                ("conv", nir.Conv2d((6, 5), grid((4, 1, 3, 2)), (1, 2), (1, 0), (1, 1), 2, np.zeros(4))),
                ("mid", neurons("IF", (4, 6, 2), metadata={"reset": "subtract"})),
                ("pool", nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1]))),
                ("flat", nir.Flatten({"input": np.array([4, 4, 2])}, 0, -1)),
                ("fc", nir.Linear(grid((5, 32)))),
            ],
        ),
        ((3, 9), [("conv", nir.Conv1d(9, grid((4, 3, 3)), 2, 1, 1, 1, np.zeros(4)))]),
    ],
)  # fmt: skip
def test_spikes_equal_those_of_the_integers(kind, shape, layers):
    sizes = {"fc": (8,) if len(shape) == 1 else (5,), "conv": (4, 5)}
    node = neurons(kind, sizes[layers[-1][0]], metadata={"reset": "zero"})
    nodes = {"input": nir.Input({"input": np.array(shape)}), **dict(layers), "out": node}
    nodes["output"] = nir.Output({"output": np.array(sizes[layers[-1][0]])})
    names = list(nodes)
    edges = [(names[i], names[i + 1]) for i in range(len(names) - 1)]
    graph = nir.NIRGraph(nodes, edges, metadata={"dt": DT}, type_check=False)
    x = spikes(shape)
    net = bnm.from_nir(graph)  # 32 bits are enough for integers / 64
    integers = simulate(lower(graph), x)["out"].s
    assert integers.any()
    found = outputs_of(net, {"input": x.astype(np.float32)})["output"]
    np.testing.assert_array_equal(found, integers)
    changed = lower(graph).with_node("out", vth=lower(graph).neurons["out"].vth // 2)
    assert (simulate(changed, x)["out"].s != integers).any()


def test_a_loop_waits_a_step_and_reset_forgets_it(tmp_path):
    recurrent = nir.Linear(-np.ones((3, 3)) * 4)
    recurrent.metadata = {"lag": 1}
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "fc": nir.Linear(5 * np.eye(3)),
        "lif.1": neurons("IF", (3,), metadata={"reset": "zero"}),
        "lif.1.recurrent": recurrent,
        "output": nir.Output({"output": np.array([3])}),
    }
    loop = [("lif.1", "lif.1.recurrent"), ("lif.1.recurrent", "lif.1")]
    edges = [("input", "fc"), ("fc", "lif.1"), *loop, ("lif.1", "output")]
    graph = nir.NIRGraph(nodes, edges, metadata={"dt": DT})
    write_nir(tmp_path / "loop.nir", graph)
    net = bnm.from_nir(tmp_path / "loop.nir")
    ones = np.ones((6, 1, 3), np.float32)
    found = outputs_of(net, {"input": ones})["output"]
    # 5 > 4, a spike; then 5 - 12, and 5 more each step: -7, -2, 3, 8, a spike
    assert found[:, 0, 0].tolist() == [1, 0, 0, 0, 1, 0]
    np.testing.assert_array_equal(outputs_of(net, {"input": ones})["output"], found)
    assert {name for name, _ in net.named_children()} == {"fc", "lif_1", "lif_1_recurrent"}
    same = lower(back(net, {"input": ones}))
    np.testing.assert_array_equal(simulate(same, ones.astype(int))["lif_1"].s, found)


def test_its_weights_train():
    graph = chain((6,), ("fc", nir.Linear(grid((8, 6)))), ("lif", neurons("LIF", (8,))))
    net = bnm.from_nir(graph, reset="zero")
    net.run(torch.from_numpy(spikes((6,)).astype(np.float32))).sum().backward()
    assert net.fc.weight.grad.abs().sum() > 0
    assert net.fc.weight.dtype == torch.float32


def test_the_coding_of_the_input_comes_back():
    net = bnm.build_model("mlp", bnm.ModelConfig(input_shape=(1, 4, 4), hidden=(6,)), seed=0)
    graph = to_nir(net, dt_s=DT)
    again = to_nir(bnm.from_nir(graph), torch.zeros(1, 1, 4, 4), dt_s=DT)
    assert again.nodes["input"].metadata == graph.nodes["input"].metadata
    assert lower(again).inputs["input"] == lower(graph).inputs["input"]


def test_what_torch_cannot_say_is_refused_by_name():
    delay = nir.Delay(DT * np.ones(6))
    leaky = neurons("CubaLIF", (8,), v_leak=np.ones(8), metadata={"reset": "zero"})
    graph = chain((6,), ("delay", delay), ("fc", nir.Linear(grid((8, 6)))), ("lif", leaky))
    with pytest.raises(
        UnsupportedNodeError, match="'delay' .Delay. has no layer in torch"
    ) as found:
        bnm.from_nir(graph)
    assert "node 'lif': v_leak differs from v_reset" in str(found.value)
    with pytest.raises(ConfigError, match="dt of the graph is missing"):
        bnm.from_nir(nir.NIRGraph(
            dict(chain((6,), ("lif", neurons("LIF", (6,)))).nodes),
            [("input", "lif"), ("lif", "output")],
        ))  # fmt: skip


def test_loops_over_several_populations_are_refused():
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "a": neurons("IF", (4,)),
        "ab": nir.Linear(np.eye(4)),
        "b": neurons("IF", (4,)),
        "ba": nir.Linear(np.eye(4)),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [("input", "a"), ("a", "ab"), ("ab", "b"), ("b", "ba"), ("ba", "a"), ("b", "output")]
    graph = nir.NIRGraph(nodes, edges, metadata={"dt": DT}, type_check=False)
    with pytest.raises(UnsupportedNodeError, match="has 2 populations of neurons; expected 1"):
        bnm.from_nir(graph, reset="zero")
