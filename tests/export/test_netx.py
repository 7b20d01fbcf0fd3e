"""lava-dl files without lava-dl: weights, refusals, hostile files, NIR and the command line."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from biril_nm.errors import (
    BirilError,
    ConfigError,
    FileFormatError,
    OutputExistsError,
    RangeError,
    UnsupportedNodeError,
)
from biril_nm.export import lower, read_netx, write_netx
from biril_nm.export.netx.weights import load_weights, represent, represent_kernel
from biril_nm.export.nir_files.exact_reading import exact_graph
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rules import RULES
from biril_nm.loihi.fixed_point import prepare_weights
from tests.cli.test_cli import biril, refused
from tests.support.netx_cases import CASES
from tests.support.netx_runs import neuron, write_file
from tests.support.random_graphs import random_graph


def dense(**changes):
    layer = {"type": "dense", "shape": [2], "weight": [[2, -4, 6], [8, 0, -2]], "neuron": neuron()}
    return {k: v for k, v in (layer | changes).items() if v is not None}


def conv(**changes):
    layer = {
        "type": "conv", "shape": [1, 2, 2], "weight": np.full((1, 1, 2, 2), 4), "stride": 1,
        "padding": 0, "dilation": 1, "groups": 1, "neuron": neuron(),
    }  # fmt: skip
    return [{"type": "input", "shape": [1, 3, 3]}, layer | changes]


@pytest.fixture
def netx(tmp_path):
    return lambda *layers: write_file(tmp_path / "x.net", list(layers))


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
    ("weights", "told"),
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
def test_weights_that_netx_corrupts(weights, told):
    assert told in load_weights([np.array(weights)]).trouble


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


def test_ignored_settings_and_corrupted_layers_are_told(netx, caplog):
    graph = read_netx(netx(dense(neuron=neuron(refDelay=3), weight=[[-128, 0, 0], [0, 0, 0]])))
    told = graph.metadata["netx"]
    assert told["notes"] == {"layer0": ["neuron/refDelay is 3, which netx ignores"]}
    assert "from -128 to -64" in told["differs"]["layer0"]
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


DAMAGED = {
    "no layers": ([], "layer is not a group"),
    "no weight": ([dense(weight=None)], "layer/0/weight is missing"),
    "no shape": ([dense(shape=None)], "layer/0/shape is missing"),
    "shape": ([dense(shape=[5])], r"expected \(5, inputs\)"),
    "huge": (
        [{"type": "input", "shape": [1 << 20, 1 << 20]}, dense()],
        "shape is .*67108864 neurons",
    ),
    "negative": ([{"type": "input", "shape": [-1, 3]}, dense()], "positive lengths"),
    "no neuron": (conv(neuron={"iDecay": np.zeros(0)}), "iDecay is empty"),
    "text": ([dense(weight="abc")], "weight is object; expected numbers"),
    "nan": ([dense(weight=np.full((2, 3), np.nan))], "weight holds numbers that are not finite"),
    "bias": ([dense(bias=[1, 2, 3])], "bias has shape"),
    "delay": ([dense(delay=[1, 2, 3, 4])], "delay has shape"),
    "decays": (
        [dense(neuron=neuron(i_decay=[1, 2, 3]))],
        r"iDecay has shape \(3,\); expected one",
    ),
    "inputs": ([dense(), dense()], "weights for 3 inputs; expected 2, as it receives shape"),
    "no input": (conv()[1:], r"no input layer.*input_shape=\(C, H, W\)"),
    "kernel": (conv(weight=np.ones((1, 1, 2))), "weight has shape"),
    "stride": (conv(stride=[1, 1, 1]), "stride has 3 numbers"),
    "zero stride": (conv(stride=0), "stride, dilation and groups start at 1"),
    "conv shape": (conv(shape=[1, 9, 9]), "layers do not fit"),
    "not flat": ([*conv(), dense(weight=np.ones((2, 4)))], "expected a flatten layer in front"),
    "only input": ([{"type": "input", "shape": [3]}], "no layer with neurons"),
    "recurrent": ([dense(type="dense_rec", weight_rec=np.ones((2, 3)))], "square matrix"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name, netx):
    layers, message = DAMAGED[name]
    with pytest.raises(FileFormatError, match=f"(?s)x.net.*{message}"):
        read_netx(netx(*layers))


def test_hostile_files(tmp_path, netx):
    good = netx(dense()).read_bytes()
    cases = {}
    names = (
        "truncated",
        "garbage",
        "external",
        "soft",
        "huge",
        "gap",
        "cycle",
        "ours",
        "twice",
        "again",
        "type",
    )
    for name in names:
        cases[name] = tmp_path / f"{name}.net"
        cases[name].write_bytes(good)
    cases["truncated"].write_bytes(good[:1500])
    cases["garbage"].write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 4000)
    edits = {
        "external": lambda f: f.__setitem__(
            "layer/0/bias", h5py.ExternalLink("/etc/hostname", "/")
        ),
        "soft": lambda f: f.__setitem__("layer/0/bias", h5py.SoftLink("/layer/0/weight")),
        "huge": lambda f: f.create_dataset(
            "x", shape=(1 << 20, 1 << 20), dtype="i4", chunks=(64, 64)
        ),
        "gap": lambda f: f.move("layer/0", "layer/7"),
        "cycle": lambda f: f.__setitem__("layer/0/again", f["layer"]),
        "ours": lambda f: f.create_dataset("biril_nm", data=np.bytes_(b"[" * 9999)),
        "twice": lambda f: f.create_dataset(
            "biril_nm",
            data=np.bytes_(b'{"input": "a", "output": "a", "layers": {}, "message_bits": 0}'),
        ),
        "again": lambda f: f.create_dataset(
            "biril_nm",
            data=np.bytes_(b'{"input": "layer0", "output": "o", "layers": {}, "message_bits": 0}'),
        ),
        "type": lambda f: f["layer/0/type"].__setitem__(0, b"\xff\xfe"),
    }
    for name, edit in edits.items():
        with h5py.File(cases[name], "a") as file:
            edit(file)
    messages = {
        "truncated": "not a readable netx file", "garbage": "not a readable netx file",
        "external": "bias' is a link", "soft": "bias' is a link", "huge": "declares 4398046511104 bytes",
        "gap": r"members \['7'\]", "cycle": "nest deeper", "ours": "biril_nm is not a text.*Remove it",
        "twice": "a name occurs twice.*Remove it", "again": "'layer0' is given twice",
        "type": "is not ASCII text",
    }  # fmt: skip
    for name, path in cases.items():
        with pytest.raises(FileFormatError, match=f"{name}.net.*{messages[name]}"):
            read_netx(path)
    with pytest.raises(FileFormatError, match="does not exist"):
        read_netx(tmp_path / "none.net")
    told = {"input": "a", "output": "o", "layers": {}, "message_bits": 0}
    for value, message in (
        (7, "is not a text of biril-nm; expected one. Remove it"),
        (np.bytes_(b" " * (1 << 20) + b"{}"), "longer than 1048576 bytes"),
        (np.bytes_(json.dumps({**told, "input": 7}).encode()), "names must be text"),
        (np.bytes_(json.dumps({**told, "message_bits": 99}).encode()), "message_bits is 99"),
    ):
        with h5py.File(netx(dense()), "a") as file:
            file["biril_nm"] = value
        with pytest.raises(FileFormatError, match=f"x.net.*{message}"):
            read_netx(tmp_path / "x.net")


def test_damaged_heaps_of_text_are_not_walked_for_ever(netx):
    """The HDF5 library loops in a heap whose free space has size 0."""
    path = netx(dense())
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="x.net.*damaged heap"):
        read_netx(path)
    data[heap : heap + 4] = b"XXXX"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="x.net.*no heap of text"):
        read_netx(path)


@pytest.mark.parametrize("name", ["conv_stack", "recurrent"])
def test_mutated_files_are_read_or_refused(name, tmp_path):
    path = write_file(tmp_path / "x.net", CASES[name](np.random.default_rng(1))[0])
    good = np.frombuffer(path.read_bytes(), np.uint8)
    r = np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        bad = good.copy()
        bad[r.integers(0, len(bad), 4)] = r.integers(0, 256, 4)
        path.write_bytes(bad.tobytes())
        try:
            read_netx(path)
        except BirilError:
            refused += 1
    assert 0 < refused < 60


# --- writing ------------------------------------------------------------------------------------


def chain(**changes):
    nodes = {
        "in": Input((3,)),
        "w1": Dense([[2, -4, 6], [8, 0, -2]]),
        "n1": Neurons((2,), vth=50, dv=100),
        "w2": Dense([[2, -4], [8, 0]]),
        "n2": Neurons((2,), vth=50),
        "out": Output(),
    }
    edges = [("in", "w1"), ("w1", "n1"), ("n1", "w2"), ("w2", "n2"), ("n2", "out")]
    edges += changes.pop("edges", [])
    return LoihiGraph(nodes | changes, tuple(edges))


UNWRITABLE = {
    "branch": (
        chain(skip=Dense([[2, 2, -4], [2, 2, 2]]), edges=[("in", "skip"), ("skip", "n2")]),
        ["'n2': receives from 2 nodes", "'in': feeds 2 nodes", "strictly sequential", "--to lava"],
    ),
    "loop": (
        chain(back=Dense([[2, -4], [8, 0]]), edges=[("n2", "back"), ("back", "n1")]),
        ["'n1': receives from 2 nodes"],
    ),
    "amid": (chain(tap=Output(), edges=[("n1", "tap")]), ["'tap': reads 'n1' amid the chain"]),
    "range": (
        chain(n1=Neurons((2,), vth=1 << 20, dv=[0, 4097])),
        ["vth is 1048576; expected 0 to 131071", "dv is 4097; expected 0 to 4096"],
    ),
    "bias": (
        chain(n1=Neurons((2,), vth=3, bias_mant=[64, 65])),
        ["multiples of 64, the first 65", "round_bias=True"],
    ),
    "exponent": (chain(w2=Dense([[2, -6], [8, 0]], weight_exp=-2)), ["'w2': has weight_exp -2"]),
    "corrupt": (chain(w2=Dense([[-128, 0], [0, 0]])), ["'n2': netx would not keep", "-128 to -64"]),
    "zero": (chain(w2=Dense([[0, 0], [0, 0]])), ["OverflowError"]),
    "two delays": (
        chain(w3=Dense([[2, -4], [8, 0]], delay=2), edges=[("n1", "w3"), ("w3", "n2")]),
        ["'n2': has synapses with two delays"],
    ),
    "rec delay": (
        chain(w3=Dense([[2, -4], [8, 0]], delay=2), edges=[("n2", "w3"), ("w3", "n2")]),
        ["'n2': has a loop and delays"],
    ),
    "inputs": (
        chain(more=Input((3,)), w3=Dense([[2, 2, 2]] * 2), edges=[("more", "w3"), ("w3", "n1")]),
        ["2 inputs"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_netx_cannot_say(name, tmp_path):
    graph, messages = UNWRITABLE[name]
    with pytest.raises(UnsupportedNodeError) as refused:
        write_netx(graph, tmp_path / "x.net")
    for message in messages:
        assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_convolutions_that_netx_cannot_say(tmp_path):
    graph = LoihiGraph(
        {
            "in": Input((1, 2, 2)),
            "c": Conv(np.full((1, 1, 1, 1), 4), delay=3),
            "n": Neurons((1, 2, 2), vth=9),
            "loop": Conv(np.full((1, 1, 1, 1), 4)),
            "d": Dense(np.full((4, 4), 2)),
            "m": Neurons((1, 2, 2), vth=9),
            "c2": Conv(np.full((1, 1, 1, 1), 4)),
            "o": Neurons((1, 2, 2), vth=9),
        },
        (("in", "c"), ("c", "n"), ("n", "loop"), ("loop", "n"), ("n", "d"), ("d", "m"), ("m", "c2"),
         ("c2", "o")),
    )  # fmt: skip
    with pytest.raises(UnsupportedNodeError) as refused:
        write_netx(graph, tmp_path / "x.net")
    for message in (
        "'c': is a convolution with delay 3",
        "'loop': is a loop",
        "'o': is a convolution behind",
    ):
        assert message in str(refused.value)


def test_all_findings_are_listed_at_once(tmp_path):
    graph = chain(w2=Dense([[0, 0], [0, 0]]), n1=Neurons((2,), vth=1 << 17, bias_mant=1))
    with pytest.raises(UnsupportedNodeError) as refused:
        write_netx(graph, tmp_path / "x.net")
    assert str(refused.value).count("\n  - ") == 3


def test_output_files(tmp_path):
    path = tmp_path / "x.net"
    graph = chain(n1=Neurons((2,), vth=3), n2=Neurons((2,), vth=3))
    write_netx(chain(), path)
    with pytest.raises(OutputExistsError, match="force"):
        write_netx(chain(), path)
    write_netx(graph, path, force=True)
    with pytest.raises(ConfigError, match=r"expected \.net"):
        write_netx(chain(), tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == [path]
    again = read_netx(path)
    assert list(again.nodes) == list(graph.nodes)
    x = np.random.default_rng(0).integers(0, 2, (8, 2, 3))
    for name in ("n1", "n2"):
        ours, theirs = (simulate(g, x, record="s,v")[name] for g in (graph, again))
        np.testing.assert_array_equal(ours.v, theirs.v)
        assert ours.s.sum() > 0


def test_biases_are_rounded_on_request(tmp_path):
    graph = chain(n1=Neurons((2,), vth=30, bias_mant=[95, -96]))
    write_netx(graph, tmp_path / "x.net", round_bias=True)
    node = read_netx(tmp_path / "x.net").neurons["n1"]
    assert (node.bias_mant << node.bias_exp).tolist() == [64, -128]


# --- NIR ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_netx_to_nir_and_back(name, tmp_path):
    layers, _ = CASES[name](np.random.default_rng(4))
    graph = read_netx(write_file(tmp_path / "x.net", layers))
    write_nir(tmp_path / "x.nir", exact_nir(graph, dt_s=0.0007))
    if name == "integrator_with_bias":
        with pytest.raises(RangeError, match="du is -1"):
            lower(read_nir(tmp_path / "x.nir"))
        return
    assert lower(read_nir(tmp_path / "x.nir")) == graph


def test_any_graph_survives_nir(tmp_path):
    kept = refused = 0
    for seed in range(60):
        graph = random_graph(seed)
        try:
            nir_graph = exact_nir(graph, dt_s=1e-3)
        except UnsupportedNodeError as error:
            assert "Save it as .loihi.npz" in str(error) or "bias_exp is -" in str(error)
            refused += 1
            continue
        write_nir(tmp_path / "x.nir", nir_graph, force=True)
        assert exact_graph(read_nir(tmp_path / "x.nir")) == graph
        kept += 1
    assert kept >= 20


def test_a_changed_file_is_lowered_anew(tmp_path, caplog):
    nir_graph = exact_nir(chain(), dt_s=1e-3)
    assert lower(nir_graph) == chain()
    nir_graph.nodes["w1"].weight[0, 0] = 2.5
    anew = lower(nir_graph)
    assert "was changed since its integers were written" in caplog.text
    assert anew.nodes["w1"].weight.max() > 200
    assert lower(exact_nir(chain(), dt_s=1e-3), weight_bits=4).nodes["w1"].weight_bits == 4


def test_nir_refusals():
    with pytest.raises(ConfigError, match=r"dt of the graph is missing; .*Pass dt_s \(--dt\)"):
        exact_nir(chain())
    with pytest.raises(ConfigError, match="expected a finite number of seconds above 0"):
        exact_nir(chain(), dt_s=-1)
    with pytest.raises(ConfigError, match="expected 0.001 s, with which the graph was made"):
        exact_nir(chain().with_metadata(dt_s=1e-3), dt_s=2e-3)
    rule = next(iter(RULES.values()))
    with pytest.raises(UnsupportedNodeError, match=r"'w2': NIR has no place for its learning rule"):
        exact_nir(chain(w2=Dense([[2, -4], [8, 0]], rule=rule)), dt_s=1e-3)


# --- command line -------------------------------------------------------------------------------


def test_the_command_line_goes_around(tmp_path, netx):
    layers = dense(bias=[1, 2]), dense(weight=[[2, -4], [6, 8]], delay=[1, 2])
    path = netx(*layers)
    graph = read_netx(path)
    refused(biril("export", path, "--to", "nir"), "--dt")
    steps = [("x.net", "nir", ["--dt", "1e-3"]), ("x.nir", "netx", ["-o", tmp_path / "y.net"])]
    for name, target, more in steps:
        done = biril("export", tmp_path / name, "--to", target, *more)
        assert done.returncode == 0, done.stderr
    assert read_netx(tmp_path / "y.net").nodes == graph.nodes
    done = biril("export", tmp_path / "y.net", "--to", "loihi", "--input-message-bits", 3)
    assert done.returncode == 0, done.stderr
    assert LoihiGraph.load(tmp_path / "y.loihi.npz").inputs["input"].message_bits == 3
    assert "layer1.weight.delay2" in biril("info", path).stdout
    assert json.loads(biril("info", path, "--json").stdout)["kind"] == "netx"


def test_the_command_line_asks_before_it_rounds(tmp_path, netx):
    path = netx(dense(weight=[[2.5, -4, 6], [8, 0, -2]], neuron=neuron(vth=60)))
    refused(biril("export", path, "--to", "loihi"), "--truncate", "layer/0/weight")
    assert biril("export", path, "--to", "loihi", "--truncate").returncode == 0
    graph = LoihiGraph.load(tmp_path / "x.loihi.npz")
    graph.with_node("layer0", bias_mant=3).save(tmp_path / "b.loihi.npz")
    refused(biril("export", tmp_path / "b.loihi.npz", "--to", "netx"), "--round-bias", "--to lava")
    done = biril("export", tmp_path / "b.loihi.npz", "--to", "netx", "--round-bias")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.net").is_file()
