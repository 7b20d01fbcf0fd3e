"""netx (lava-dl 0.6.0) in Lava against read_netx and write_netx in hardware_sim: every integer."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from biril_nm.export import read_netx, with_input_bias, write_netx
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.optional import installed
from biril_nm.parity import check_parity
from tests.support.lava_runs import load_lava
from tests.support.netx_cases import CASES, even
from tests.support.netx_runs import in_netx, neuron, run_netx, write_file

pytestmark = pytest.mark.lava


@pytest.fixture(autouse=True, scope="module")
def lava_dl():
    """Required where Lava is: on Python 3.10 a missing lava-dl is a failure, not a skip."""
    if not installed("lava") or not installed("lava.lib.dl"):
        if sys.version_info[:2] == (3, 10):
            pytest.fail('lava-dl is missing: pip install "biril-nm[dev]" (make venv)')
        pytest.skip("lava-dl 0.6.0 runs on Python 3.10 only; use that version to run these tests")


def differences(path, graph, x, **kwargs):
    """Names of variables in which netx and the simulator differ, integers and spikes compared."""
    return differences_from(in_netx(path, graph, x, **kwargs), graph, x)


def differences_from(found, graph, x):
    """The same for what netx has computed."""
    trace = simulate(graph, x, record="s,u,v", n_threads=1)
    wrong, count, spikes = [], 0, 0
    for name, node in graph.neurons.items():
        integrates = int(np.max(node.vth)) == 131071 and np.all(node.du == 4095)
        for key in ("s", "v") if integrates else ("s", "u", "v"):
            ours = getattr(trace[name], key).astype(np.int64)
            count += ours.size
            if not np.array_equal(found[name][key], ours):
                wrong.append(f"{name}.{key}")
        spikes += int(found[name]["s"].sum())
    return wrong, count, spikes


def random_input(r, shape, n_steps=10, batch=2, bits=0):
    x = r.random((n_steps, batch, *shape)) < 0.5
    return x * (r.integers(1, 1 << bits, x.shape) if bits else 1)


@pytest.mark.parametrize("name", CASES)
def test_reading_gives_what_netx_runs(name, tmp_path):
    r = np.random.default_rng(11)
    layers, shape = CASES[name](r)
    path = write_file(tmp_path / "x.net", layers)
    graph = read_netx(path)
    assert not graph.metadata["netx"]["differs"]
    steps = 75 if name == "delay_per_synapse" else 10
    x = random_input(r, shape, steps, 1 if steps > 10 else 2)
    found = in_netx(path, graph, x)
    wrong, count, spikes = differences_from(found, graph, x)
    assert not wrong
    assert count > 0
    assert spikes > 0 or name == "integrator_with_bias"
    first = next(iter(graph.neurons))
    off = graph.with_node(first, bias_mant=graph.neurons[first].bias_mant + 1)
    wrong, *_ = differences_from(found, off, x)
    assert f"{first}.v" in wrong, "a register off by one is not seen"


def test_graded_input_and_conv_without_input_layer(tmp_path):
    r = np.random.default_rng(5)
    layers, shape = CASES["conv_stack"](r)
    layers = layers[1:3]
    for layer in layers:
        layer["neuron"]["vThMant"] = 9000
    path = write_file(tmp_path / "x.net", layers)
    graph = read_netx(path, input_message_bits=8, input_shape=shape)
    assert graph.inputs["input"] == Input(shape, 8)
    wrong, _, spikes = differences(path, graph, random_input(r, shape, bits=8), input_shape=shape)
    assert not wrong
    assert spikes > 0


def test_input_layers_with_neurons(tmp_path):
    """netx leaves it to the caller to set the bias of the input neurons: gain * x + bias."""
    r = np.random.default_rng(2)
    path = write_file(
        tmp_path / "x.net",
        [
            {
                "type": "input",
                "shape": [4],
                "weight": 30,
                "bias": 5,
                "neuron": neuron(900, 300, 70),
            },
            {"type": "dense", "shape": [3], "weight": even(r, (3, 4)), "neuron": neuron()},
        ],
    )
    graph = read_netx(path, input_message_bits=2)
    x = np.broadcast_to(np.array([0, 1, 2, 3]), (8, 1, 4))
    found = run_netx(path, x, drive_bias=lambda layer: layer["weight"] * x[0, 0] + layer["bias"])
    trace = simulate(graph, x, record="s,v")
    np.testing.assert_array_equal(trace["layer0"].v[:, 0], found[0]["v"])
    np.testing.assert_array_equal(trace["layer1"].v[:-1, 0], found[1]["v"][1:])
    assert 0 < trace["layer0"].s.sum() < x.size
    write_netx(graph, tmp_path / "y.net")
    assert read_netx(tmp_path / "y.net").nodes == graph.nodes
    with h5py.File(tmp_path / "y.net") as file:
        assert {k: int(file["layer/0"][k][()]) for k in ("weight", "bias")} == {
            "weight": 30,
            "bias": 5,
        }
        assert int(file["layer/0/neuron/iDecay"][()]) == 900


def test_pictures_set_the_bias_of_the_input_neurons(tmp_path):
    """Fractions and negative values, (C, H, W); netx's neurons count in Lava's order."""
    r = np.random.default_rng(21)
    shape = (2, 3, 4)
    path = write_file(
        tmp_path / "x.net",
        [
            {"type": "input", "shape": list(shape), "weight": 33, "bias": 4, "neuron": neuron(4096, 300, 25)},
            {
                "type": "conv", "shape": [3, 3, 4], "weight": even(r, (3, 2, 3, 3)), "stride": 1,
                "padding": 1, "dilation": 1, "groups": 1, "neuron": neuron(),
            },
        ],
    )  # fmt: skip
    graph, picture = read_netx(path), r.uniform(-0.875, 1, shape)
    silence = np.zeros((9, 1, *shape), dtype=int)
    trace = simulate(with_input_bias(graph, picture), silence, record="s,v")

    def drive(layer):
        return (layer["weight"] * picture + layer["bias"]).astype(np.int32).transpose()

    found = run_netx(path, silence[:, 0], drive_bias=drive)
    first, last = graph.neurons
    np.testing.assert_array_equal(trace[first].v[:, 0], found[0]["v"])
    np.testing.assert_array_equal(trace[last].v[:-1, 0], found[1]["v"][1:])
    assert 0 < trace[first].s.sum() < trace[first].s.size
    wrong = simulate(with_input_bias(graph, picture[..., ::-1]), silence, record="v")
    assert not np.array_equal(wrong[first].v[:, 0], found[0]["v"])


def test_a_last_layer_with_bias_runs_in_our_lava_too(tmp_path):
    layers, shape = CASES["integrator_with_bias"](np.random.default_rng(4))
    graph = read_netx(write_file(tmp_path / "x.net", layers))
    x = random_input(np.random.default_rng(5), shape)
    report = check_parity(graph, x, against=("sim", "lava"))
    assert report.ok
    assert not differences(tmp_path / "x.net", graph, x)[0]


CORRUPTED = {
    "halved": ([[-128, 0]], [[-64, 0]]),
    "off by one": ([[-64, -2]], [[-62, -2]]),
    "smallest": ([[-2, 0, -4]], [[-2, 0, -3]]),
    "clipped": ([[255, -256]], [[254, -256]]),
    "wiped out": ([[300, 2]], [[0, 0]]),
}


@pytest.mark.parametrize("name", CORRUPTED)
def test_what_netx_corrupts_is_kept_and_reported(name, tmp_path, caplog):
    weight, run = (np.array(w) for w in CORRUPTED[name])
    layer = {"type": "dense", "shape": [1], "weight": weight, "neuron": neuron(vth=131071)}
    path = write_file(tmp_path / "x.net", [layer])
    graph = read_netx(path)
    total = sum(
        np.left_shift(c.weight.astype(int), c.weight_exp) if c.weight_exp >= 0
        else c.weight >> -c.weight_exp
        for c in graph.connections.values()
    )  # fmt: skip
    np.testing.assert_array_equal(total, weight)
    assert "layer0" in caplog.text
    differs = graph.metadata["netx"]["differs"]["layer0"]
    first = int(np.argmax(weight != run))
    if name != "wiped out":
        assert f"from {weight[0, first]} to {run[0, first]}" in differs
    x = random_input(np.random.default_rng(0), (weight.shape[1],))
    as_run = LoihiGraph(
        {"in": Input((weight.shape[1],)), "w": Dense(run, weight_exp=0, sign_mode=_mode(run)),
         "n": graph.neurons["layer0"]},
        (("in", "w"), ("w", "n")),
    )  # fmt: skip
    assert not differences(path, as_run, x)[0]
    kept, lost = (simulate(g, x, record="v") for g in (graph, as_run))
    assert not np.array_equal(kept["layer0"].v, lost["n"].v)


def _mode(weight):
    from biril_nm.loihi.fixed_point import sign_mode_of

    return sign_mode_of(weight)


def slayer_blocks(biased):
    """Blocks of lava-dl's training library; each takes its own copy of the parameters.

    Biases, or delays and loops: see docs/netx.md, Time.
    """
    import torch
    from lava.lib.dl import slayer

    torch.manual_seed(3)
    neuron = {"threshold": 0.6, "current_decay": 0.25, "voltage_decay": 0.1}
    each = {"threshold": 0.6, "current_decay": [0.1, 0.9], "voltage_decay": [0.02, 0.4]}
    first = {**neuron, "norm": slayer.neuron.norm.MeanOnlyBatchNorm} if biased else dict(neuron)
    block = slayer.block.cuba
    return [
        block.Conv(first, 2, 4, (3, 2), padding=(1, 0), stride=(2, 1), groups=2, weight_scale=3),
        block.Flatten(),
        block.Dense({**each, "shared_param": False}, 84, 10, weight_norm=True, weight_scale=2),
        block.Dense(dict(neuron), 10, 8, delay=not biased, weight_norm=True, weight_scale=3),
        (block.Dense if biased else block.Recurrent)(dict(neuron), 8, 6, weight_scale=3),
        block.Affine(dict(neuron), 6, 3, dynamics=True, weight_scale=2),
    ]


def slayer_outputs(blocks, x):
    """Output of each block, (steps, neurons), from rest."""
    import torch

    y = torch.tensor(x[:, 0], dtype=torch.float32).movedim(0, -1)[None]
    outputs = []
    for block in blocks:
        neuron = getattr(block, "neuron", None)
        for state in ("current_state", "voltage_state"):
            if hasattr(neuron, state):
                getattr(neuron, state).zero_()
        y = block(y)
        outputs.append(y[0].detach().numpy().reshape(-1, y.shape[-1]).T)
    return outputs


@pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated")
@pytest.mark.parametrize("biased", [False, True])
def test_files_that_slayer_writes(biased, tmp_path):
    """Exported by lava-dl itself: slayer's quantised spikes, netx in Lava and the simulator agree."""
    load_lava()
    import torch

    blocks = slayer_blocks(biased)
    x = random_input(np.random.default_rng(1), (2, 6, 8), 16, 1)
    with torch.no_grad():
        slayer_outputs(blocks, x)  # settles shapes and the mean of the norm
        if not biased:
            blocks[3].delay.delay.data = torch.rand_like(blocks[3].delay.delay) * 4
        for block in blocks:
            block.eval()
        path = tmp_path / "slayer.net"
        with h5py.File(path, "w") as file:
            for index, block in enumerate(blocks):
                block.export_hdf5(file.create_group(f"layer/{index}"))
        outputs = slayer_outputs(blocks, x)
    graph = read_netx(path, input_shape=(2, 6, 8))
    assert int(graph.neurons["layer5"].vth) == 131071
    assert graph.neurons["layer2"].du.shape == (10,)
    assert np.any(graph.neurons["layer0"].bias_mant) == biased
    assert len({c.delay for c in graph.connections.values()}) == (1 if biased else 4)
    found = in_netx(path, graph, x, input_shape=(2, 6, 8))
    trace = simulate(graph, x, record="s,u,v")
    for name in graph.neurons:
        for key in ("s", "u", "v"):
            np.testing.assert_array_equal(found[name][key], getattr(trace[name], key))
        start, output = graph.latency[name], outputs[int(name[5:])]
        if name == "layer5":  # slayer's affine block returns v, and shifts no step
            start, output, ours = start - 1, output * 4096, trace[name].v
        else:
            ours = trace[name].s
            assert ours.sum() > 0
        ours = ours[: len(x) - start].reshape(-1, output.shape[1])
        np.testing.assert_array_equal(output[start:], ours, err_msg=name)


# --- writing ------------------------------------------------------------------------------------


def test_written_graphs_run_in_netx(tmp_path):
    """Names, exponents, sparse and parallel connections, loops, delays, graded input."""
    r = np.random.default_rng(8)
    a = even(r, (6, 60), 100)
    a[:, ::2] = 0
    nodes = {
        "image": Input((2, 5, 6), 4),
        "conv": Conv(even(r, (3, 2, 2, 2)), padding=(0, 0), weight_exp=1),
        "lif1": Neurons((3, 4, 5), vth=900, du=2000, dv=100, bias_mant=3, bias_exp=7),
        "now": Dense(a, weight_exp=1),
        "later": Sparse(even(r, (6, 60), 100) * (a == 0), delay=3),
        "lif2": Neurons((2, 3), vth=300, dv=50, bias_mant=r.integers(-9, 9, (2, 3)) * 64),
        "fc": Dense(even(r, (4, 6)) * 4, weight_exp=-2),
        "loop": Dense(even(r, (4, 4)), delay=0),
        "lif3": Neurons((4,), vth=40, du=1000),
        "result": Output(),
    }
    edges = [("image", "conv"), ("conv", "lif1"), ("lif1", "now"), ("lif1", "later"),
             ("now", "lif2"), ("later", "lif2"), ("lif2", "fc"), ("fc", "lif3"),
             ("lif3", "loop"), ("loop", "lif3"), ("lif3", "result")]  # fmt: skip
    graph = LoihiGraph(nodes, tuple(edges))
    path = tmp_path / "out.net"
    write_netx(graph, path)
    wrong, count, spikes = differences(path, graph, random_input(r, (2, 5, 6), 12, 2, bits=4))
    assert not wrong
    assert count > 1000
    assert spikes > 50
    again = read_netx(path)
    assert {"conv", "lif1", "lif2", "fc", "loop", "lif3", "result"} <= set(again.nodes)
    assert again.inputs == graph.inputs
    write_netx(again, tmp_path / "again.net")
    assert read_netx(tmp_path / "again.net").nodes == again.nodes


def random_file(r):
    """Layers of a random sequential net, and the shape of its input.

    Biases, or delays and loops: before a sample arrives, biased neurons of netx fire already, and
    what is under way then is not cleared.
    """
    biased = r.random() < 0.5
    shape = tuple(int(n) for n in (r.integers(1, 4), r.integers(3, 7), r.integers(3, 7)))
    layers, start = [{"type": "input", "shape": list(shape)}], shape
    if r.random() < 0.6:
        layers.append(random_conv(r, shape, biased))
        shape = tuple(layers[-1]["shape"])
    layers.append({"type": "flatten"})
    size = int(np.prod(shape))
    for _ in range(int(r.integers(1, 4))):
        layers.append(random_dense(r, size, biased))
        size = layers[-1]["shape"][0]
    return layers, start


def random_neuron(r, first=0):
    return neuron(
        *(int(n) for n in (r.integers(first, 4097), r.integers(0, 4097), r.integers(1, 300)))
    )


def random_conv(r, shape, biased):
    k, s, p = r.integers(1, 4, 2), r.integers(1, 3, 2), r.integers(0, 2, 2)
    size = [(n + 2 * b - c) // d + 1 for n, b, c, d in zip(shape[1:], p, k, s)]
    channels = int(r.integers(1, 4))
    layer = {
        "type": "conv", "shape": [channels, *size], "stride": s, "padding": p, "dilation": 1,
        "groups": 1, "weight": r.integers(-99, 200, (channels, shape[0], *k)),
        "neuron": random_neuron(r),
    }  # fmt: skip
    return layer | {"bias": r.integers(-40, 90, channels)} if biased else layer


def random_dense(r, size, biased):
    out = int(r.integers(1, 9))
    low, high = int(r.choice([-200, -30, -3, 1])), int(r.choice([3, 30, 120, 250]))
    layer = {"type": "dense", "shape": [out], "weight": r.integers(low, high, (out, size)),
             "neuron": random_neuron(r)}  # fmt: skip
    if biased:
        return layer | {"bias": r.integers(-60, 90, out)}
    kind = r.random()
    if kind < 0.3:
        return layer | {"type": "dense_rec", "weight_rec": r.integers(low, high, (out, out))}
    if kind < 0.7:
        choice = [np.array(3), r.integers(0, 9, out), r.integers(0, 9, (out, size))]
        return layer | {"delay": choice[int(r.integers(0, 3))]}
    return layer


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 63))]
)
def test_random_files(seed, tmp_path):
    """read_netx against netx, then write_netx of the graph against netx again."""
    r = np.random.default_rng(seed)
    layers, shape = random_file(r)
    path = write_file(tmp_path / "x.net", layers)
    graph = read_netx(path)
    x = random_input(r, shape, 8, 1)
    if not graph.metadata["netx"]["differs"]:
        write_netx(graph, tmp_path / "y.net")
        for name in ("x.net", "y.net"):
            wrong, count, spikes = differences(tmp_path / name, graph, x)
            print(f"seed {seed}, {name}: {count} integers equal, {spikes} spikes")
            assert not wrong
            assert spikes > 0 or seed > 2
