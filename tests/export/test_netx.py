"""lava-dl files without lava-dl: weights, refusals, hostile files, NIR and the command line."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from biril_nm.errors import (
    ConfigError,
    FileFormatError,
    RangeError,
    UnsupportedNodeError,
)
from biril_nm.export import read_netx
from biril_nm.export.netx.weights import load_weights, represent, represent_kernel
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Sparse
from biril_nm.loihi.fixed_point import prepare_weights
from tests.support.netx_runs import conv, dense, neuron

# --- weights ------------------------------------------------------------------------------------


def test_weights_that_survive_act_as_written():
    """Property over ranges and sign modes: parts are what Lava keeps, and sum to the original."""
    r = np.random.default_rng(0)
    kept = 0
    for _ in range(500):
        low, high = sorted(int(n) for n in r.integers(-300, 300, 2))
        matrix = r.integers(low, high + 1, (2, 3)) * int(r.choice([1, 2, 4]))
        loaded = load_weights([matrix])
        if loaded.trouble:
            continue
        kept += 1
        (part,) = loaded.parts
        np.testing.assert_array_equal(part.weight >> -part.weight_exp, matrix)
        if part.weight_bits <= 8:
            again = prepare_weights(part.weight, part.weight_bits, part.sign_mode)
            np.testing.assert_array_equal(again, part.weight)
    assert 50 < kept < 500


@pytest.mark.parametrize(
    ("weights", "trouble"),
    [
        ([[-128, 0]], "from -128 to -64"),
        ([[-256, 0]], "from -256 to -128"),
        ([[-64, -2]], "from -64 to -62"),
        ([[-2, 0, -4]], "from -4 to -3"),
        ([[300, 2]], "shifts by -1"),
        ([[255, -256]], "from 255 to 254"),
        ([[0, 0]], "OverflowError"),
    ],
)
def test_weights_that_netx_corrupts(weights, trouble):
    assert trouble in load_weights([np.array(weights)]).trouble


def test_any_nine_bit_weights_are_held_by_at_most_two_connections():
    r = np.random.default_rng(1)
    for low, high in ((-256, 254), (-255, 255), (0, 255), (-510, 0), (-3, 3), (0, 0)):
        step = 2 if low == -510 else 1
        matrix = r.integers(low // step, high // step + 1, (4, 5)) * step
        parts = represent(matrix)
        assert 1 <= len(parts) <= 2
        np.testing.assert_array_equal(sum(p.weight << p.weight_exp for p in parts), matrix)
        for part in parts:
            np.testing.assert_array_equal(
                prepare_weights(part.weight, 8, part.sign_mode), part.weight
            )
    assert represent(np.array([[300, 3, -1]])) == ()
    assert represent_kernel(np.array([[600, -1200]])).weight_exp == 3
    assert represent_kernel(np.array([[601, -1]])).weight_exp == 0


# --- reading ------------------------------------------------------------------------------------


def test_delays_become_one_connection_each(netx):
    delay = np.array([[0, 5, 5], [62, 0, 0]])
    graph = read_netx(netx(dense(delay=delay)))
    found = np.zeros((2, 3), dtype=int)
    for link in graph.connections.values():
        assert isinstance(link, Sparse)
        rows, columns = link.weight.nonzero()
        found[rows, columns] = link.delay
    np.testing.assert_array_equal(found, [[0, 5, 5], [62, 0, 0]])
    per_row = read_netx(netx(dense(delay=[1.0, 2.0])))
    per_column = read_netx(netx(dense(delay=[1, 2, 3])))
    assert sorted(c.delay for c in per_row.connections.values()) == [1, 2]
    assert sorted(c.delay for c in per_column.connections.values()) == [1, 2, 3]
    assert [c.delay for c in read_netx(netx(dense(delay=7))).connections.values()] == [7]


def test_layers_can_be_left_out(netx):
    """num_layers and skip_layers of netx; the input takes the shape of the last layer skipped."""
    path = netx(
        *conv(), {"type": "flatten"}, dense(weight=np.full((2, 4), 6)), dense(weight=[[2, 4]] * 2)
    )
    graph = read_netx(path, num_layers=4)
    assert list(graph.neurons) == ["layer1", "layer3"]
    graph = read_netx(path, num_layers=4, skip_layers=2)
    assert list(graph.neurons) == ["layer3"]
    assert graph.inputs["input"].shape == (1, 2, 2)
    assert list(read_netx(path, skip_layers=1).neurons) == ["layer1", "layer3", "layer4"]
    for numbers in ({"num_layers": 6}, {"skip_layers": 5}, {"skip_layers": -1}, {"num_layers": 0}):
        with pytest.raises(ConfigError, match="expected 0 <= skip_layers < num_layers <= 5"):
            read_netx(path, **numbers)


def test_an_input_layer_may_leave_its_shape_open(netx):
    layers = [{"type": "input"}, *conv()[1:]]
    assert read_netx(netx(*layers), input_shape=(1, 3, 3)).inputs["input"].shape == (1, 3, 3)
    with pytest.raises(FileFormatError, match=r"Pass input_shape=\(C, H, W\)"):
        read_netx(netx(*layers))
    assert read_netx(netx({"type": "input"}, dense())).inputs["input"].shape == (3,)


def test_a_flatten_in_front_of_a_convolution_acts_behind_it(netx):
    """netx keeps it for the next dense layer."""
    flatten, last = {"type": "flatten"}, dense(weight=np.full((2, 4), 6))
    layers = conv()
    graph = read_netx(netx(layers[0], flatten, layers[1], last))
    assert [node.shape for node in graph.neurons.values()] == [(1, 2, 2), (2,)]


def test_a_layer_without_neurons_integrates(netx):
    graph = read_netx(netx(dense(neuron=None)))
    node = graph.neurons["layer0"]
    assert (int(node.du), int(node.dv), int(node.vth)) == (4095, 0, 131071)
    x = np.random.default_rng(0).integers(0, 2, (9, 2, 3))
    v = simulate(graph, x, record="v")["layer0"].v
    weight = np.array([[2, -4, 6], [8, 0, -2]])
    np.testing.assert_array_equal(v, np.cumsum(x @ weight.T, axis=0) * 64)


def test_ignored_settings_and_corrupted_layers_are_reported(netx, caplog):
    graph = read_netx(netx(dense(neuron=neuron(refDelay=3), weight=[[-128, 0, 0], [0, 0, 0]])))
    trouble = graph.metadata["netx"]
    assert trouble["notes"] == {"layer0": ["neuron/refDelay is 3, which netx ignores"]}
    assert "from -128 to -64" in trouble["differs"]["layer0"]
    assert "file's weights are kept" in caplog.text
    (link,) = graph.connections.values()
    assert link.weight.min() << link.weight_exp == -128


def test_fractions_are_cut_on_request_only(netx):
    path = netx(dense(weight=np.array([[2.7, -4.2, 6], [8, 0, -2]]), bias=[0.5, 1]))
    with pytest.raises(
        UnsupportedNodeError, match=r"weight: 2 of 6 values.*first 2\.7.*truncate=True"
    ):
        read_netx(path)
    graph = read_netx(path, truncate=True)
    (link,) = graph.connections.values()
    np.testing.assert_array_equal(link.weight >> -link.weight_exp, [[2, -4, 6], [8, 0, -2]])
    assert graph.neurons["layer0"].bias_mant.tolist() == [0, 1]


REFUSED = {
    "pool": ([{"type": "pool"}], "layer/0 is of type 'pool', which netx itself does not build"),
    "unknown": ([{"type": "lstm"}], "unknown type 'lstm'; expected input, flatten, conv"),
    "sdnn": ([dense(neuron=neuron(type="SDNN"))], "'SDNN', which sends graded.*slayer.block.cuba"),
    "rf": (
        [dense(neuron=neuron(type="RF"))],
        "is 'RF'; expected a CUBA-LIF compartment.*slayer.block.cuba",
    ),
    "graded": ([dense(neuron=neuron(messageBits=8))], "messageBits asks for graded.*Leave it out"),
    "conv delay": (conv(delay=[3]), "drops delays of a convolution.*delay=False"),
    "rec delay": (
        [dense(type="dense_rec", weight_rec=np.eye(2), delay=1)],
        "loses the weight exponent.*delay=False",
    ),
    "long delay": ([dense(delay=63)], "delay is 63 to 63; expected 0 to 62.*max_delay"),
    "decay": ([dense(neuron=neuron(i_decay=[3, 4097]))], "iDecay is 4097; expected 0 to 4096"),
    "threshold": ([dense(neuron=neuron(vth=-1))], "vThMant is -1; expected 0 or more"),
    "too wide": ([dense(weight=[[1 << 40, 2, 3], [1, 2, 3]])], "numbers of more than 32 bits"),
    "fraction": ([dense(neuron=neuron(vth=19.5))], r"vThMant: 1 of 1 values.*19\.5"),
    "wide": ([dense(), dense(weight=[[901, -2], [3, 4]])], r"weight spans -2 to 901.*Quantise"),
    "second input": (
        [dense(), {"type": "input", "shape": [2]}],
        r"layer/1 \(input\) is not the first",
    ),
    "gain": (
        [{"type": "input", "shape": [2], "weight": 257, "neuron": neuron()}, dense()],
        "gain of 257.*without neurons",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_layers(name, netx):
    layers, message = REFUSED[name]
    with pytest.raises((UnsupportedNodeError, RangeError), match=f"(?s)x.net.*{message}"):
        read_netx(netx(*layers))


def test_all_refused_layers_are_listed(netx):
    with pytest.raises(UnsupportedNodeError) as refused:
        read_netx(netx(dense(delay=99), dense(neuron=neuron(type="RF"))))
    assert "layer/0/delay" in str(refused.value)
    assert "layer/1/neuron/type" in str(refused.value)


def test_complex_weights_are_refused(tmp_path, netx):
    path = netx(dense(weight=None))
    with h5py.File(path, "a") as file:
        file["layer/0/weight/real"] = file["layer/0/weight/imag"] = np.eye(2)
    with pytest.raises(UnsupportedNodeError, match="complex.*resonate-and-fire.*cuba blocks"):
        read_netx(path)
